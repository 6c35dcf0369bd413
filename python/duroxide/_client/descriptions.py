"""What ``describe`` returns: the state of an instance, its waits, and what stands in its way."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal

from duroxide._client.records import Record
from duroxide._values.failures import describe_failure

ObstacleKind = Literal["no_runtime", "no_code", "no_worker", "session_limit", "busy", "mismatch", "refused"]
WaitKind = Literal["activity", "timer", "event", "queue", "child"]
ActivityState = Literal["queued", "running", "retrying", "ended"]


@dataclass(frozen=True, slots=True)
class Obstacle(Record):
    """A fact that keeps work from going on, which an operator can change.

    Attributes:
        kind: ``"no_runtime"``: no runtime works on the store. ``"no_code"``: no runtime has the function, or the version.
            ``"no_worker"``: no runtime with the activity takes its tag. ``"session_limit"``: the runtimes hold as many
            sessions as they may. ``"busy"``: all slots that could run the activity are in use. ``"mismatch"``: the code
            does not fit the history. ``"refused"``: the store refuses to record a turn.
        message: The fact, and the way out.
        since: Since when, in milliseconds since 1970; ``None`` if that is not known.
    """

    kind: ObstacleKind
    message: str
    since: int | None = None

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True)
class Wait(Record):
    """One step that an instance waits for; each kind is a subclass.

    Attributes:
        event_id: Number of the event that began the step.
        since: When the step began, in milliseconds since 1970.
        name: Name of the activity, event, queue or orchestration; ``None`` for a timer.
        kind: ``"activity"``, ``"timer"``, ``"event"``, ``"queue"`` or ``"child"``.
        obstacle: What stands in its way, or ``None``.
    """

    event_id: int
    since: int
    name: str | None
    kind: WaitKind
    obstacle: Obstacle | None

    def __str__(self) -> str:
        name = "" if self.name is None else f" '{self.name}'"
        obstacle = "" if self.obstacle is None else f"; {self.obstacle}"
        return f"{self.kind}{name} since {_show(self.since)}{self._details()}{obstacle}"

    def _details(self) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class ActivityWait(Wait):
    """An activity that an instance waits for.

    Attributes:
        state: ``"queued"``: it waits for a worker. ``"running"``: a node has it. ``"retrying"``: the last try failed,
            and the next one is not due yet. ``"ended"``: its result waits for the next turn.
        attempt: Number of the try of its retry policy, counted from 1; of the next try while it is ``"retrying"``.
        deliveries: How often this try was handed to a worker; more than 1 if a worker lost it.
        next_attempt: When it is tried again, in milliseconds since 1970; ``None`` unless it is ``"retrying"``.
        last_failure: The failure of the try before, as text, or ``None``.
        node: Name of the node that runs it, or ``None``.
        running_since: When that node began, in milliseconds since 1970; ``None`` if that is not known.
        tag: Its tag, or ``None``.
        session_id: Its session, or ``None``.
    """

    state: ActivityState
    attempt: int
    deliveries: int
    next_attempt: int | None
    last_failure: str | None
    node: str | None
    running_since: int | None
    tag: str | None
    session_id: str | None

    def _details(self) -> str:
        parts = [f": {self.state}, attempt {self.attempt}"]
        if self.node is not None:
            parts.append(f"on {self.node}")
        if self.running_since is not None:
            parts.append(f"running since {_show(self.running_since)}")
        if self.next_attempt is not None:
            parts.append(f"next try {_show(self.next_attempt)}")
        if self.last_failure is not None:
            parts.append(f"last failure {self.last_failure}")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class TimerWait(Wait):
    """A timer that an instance waits for.

    Attributes:
        due: When it fires, in milliseconds since 1970.
    """

    due: int

    def _details(self) -> str:
        return f": due {_show(self.due)}"


@dataclass(frozen=True, slots=True)
class EventWait(Wait):
    """An event that an instance waits for."""


@dataclass(frozen=True, slots=True)
class QueueWait(Wait):
    """A message of a queue that an instance waits for."""


@dataclass(frozen=True, slots=True)
class ChildWait(Wait):
    """A sub-orchestration that an instance waits for.

    Attributes:
        instance_id: Its instance, which ``describe`` takes.
    """

    instance_id: str

    def _details(self) -> str:
        return f": instance '{self.instance_id}'"


@dataclass(frozen=True, slots=True)
class UnreadMessages(Record):
    """Events or messages under one name that an instance has not read.

    Attributes:
        kind: ``"event"`` or ``"queue"``.
        name: Name of the event or of the queue.
        count: How many there are.
    """

    kind: Literal["event", "queue"]
    name: str
    count: int


@dataclass(frozen=True, slots=True)
class InstanceDescription(Record):
    """The state of an instance, what it waits for, and what stands in its way. ``str`` gives lines for people.

    Attributes:
        instance_id: The instance.
        orchestration_name: Name of its orchestration.
        orchestration_version: Version of its orchestration; ``"unknown"`` before the first turn unless the start named one.
        status: ``"Running"``, ``"Completed"``, ``"Failed"``, ``"Cancelled"`` or ``"Terminated"``.
        execution_id: Number of its newest execution, counted from 1.
        has_begun: Whether a runtime has recorded its first turn.
        starts_at: When its first turn is due, in milliseconds since 1970; ``None`` if it has begun or may begin now.
        created_at: When it was created, in milliseconds since 1970.
        updated_at: When it last changed, in milliseconds since 1970.
        parent_instance_id: Instance that started it as a sub-orchestration, or ``None`` for a root.
        custom_status: The text that the orchestration last set, or ``None``.
        turn_node: Name of the node that runs its code now, or ``None``.
        waits: The open steps, in the order of their events; empty after its end.
        obstacle: What keeps the instance itself from its next turn, or ``None``.
        unread: Events and messages that it has not read.
    """

    instance_id: str
    orchestration_name: str
    orchestration_version: str
    status: str
    execution_id: int
    has_begun: bool
    starts_at: int | None
    created_at: int
    updated_at: int
    parent_instance_id: str | None
    custom_status: str | None
    turn_node: str | None
    waits: tuple[Wait, ...]
    obstacle: Obstacle | None
    unread: tuple[UnreadMessages, ...]

    @property
    def obstacles(self) -> tuple[Obstacle, ...]:
        """Everything that stands in the way, of the instance itself first."""
        found = (self.obstacle, *(each.obstacle for each in self.waits))
        return tuple(each for each in found if each is not None)

    def __str__(self) -> str:
        code = f"orchestration '{self.orchestration_name}' {self.orchestration_version}"
        lines = [f"instance '{self.instance_id}': {self.status}, {code}, execution {self.execution_id}"]
        if not self.has_begun:
            lines.append(f"has not begun; started {_show(self.created_at)}")
        if self.starts_at is not None:
            lines.append(f"begins {_show(self.starts_at)}")
        if self.custom_status is not None:
            lines.append(f"custom status: {self.custom_status}")
        if self.turn_node is not None:
            lines.append(f"its code runs on {self.turn_node}")
        if self.obstacle is not None:
            lines.append(f"stands still: {self.obstacle}")
        lines += [f"waits for {each}" for each in self.waits]
        lines += [f"has not read {each.count} of {each.kind} '{each.name}'" for each in self.unread]
        return "\n  ".join(lines)


def read_description(text: str) -> InstanceDescription:
    """Build the description of what the native client answered."""
    fields: dict[str, Any] = json.loads(text)
    fields["waits"] = tuple(_read_wait(each) for each in fields["waits"])
    fields["obstacle"] = _read_obstacle(fields["obstacle"])
    fields["unread"] = tuple(UnreadMessages(**each) for each in fields["unread"])
    return InstanceDescription(**fields)


def _read_obstacle(fields: dict[str, Any] | None) -> Obstacle | None:
    return None if fields is None else Obstacle(**fields)


def _read_wait(fields: dict[str, Any]) -> Wait:
    common: dict[str, Any] = {name: fields[name] for name in ("event_id", "since", "name", "kind")}
    common["obstacle"] = _read_obstacle(fields["obstacle"])
    match fields["kind"]:
        case "activity":
            failure = fields["last_failure"]
            return ActivityWait(
                **common,
                state=fields["state"],
                attempt=fields["attempt"] or 1,
                deliveries=fields["deliveries"] or 0,
                next_attempt=fields["due"],
                last_failure=None if failure is None else describe_failure(failure),
                node=fields["node"],
                running_since=fields["running_since"],
                tag=fields["tag"],
                session_id=fields["session_id"],
            )
        case "timer":
            return TimerWait(**common, due=fields["due"])
        case "queue":
            return QueueWait(**common)
        case "child":
            return ChildWait(**common, instance_id=fields["instance_id"])
        case _:
            return EventWait(**common)


def _show(moment_ms: int) -> str:
    moment = datetime.fromtimestamp(moment_ms / 1000, timezone.utc)
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
