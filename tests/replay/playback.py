"""Plays a program on a store, stops the runtime where the test says, and continues in a new one."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from duroxide import ActivityContext, Client, PostgresProvider, Runtime, RuntimeOptions, SqliteProvider, TagFilter
from replay.programs import Event, Message, Program, Worker

Provider = SqliteProvider | PostgresProvider

DEADLINE_SECONDS = 60
POLL_SECONDS = 0.003

# Events that begin an operation which ends without the test, and the events that end it.
ENDINGS = {
    "ActivityScheduled": ("ActivityCompleted", "ActivityFailed", "ActivityCancelRequested"),
    "SubOrchestrationScheduled": (
        "SubOrchestrationCompleted",
        "SubOrchestrationFailed",
        "SubOrchestrationCancelRequested",
    ),
    "TimerCreated": ("TimerFired",),
}
# Less than the time that a cancelled coroutine has for its clean-up.
LONG_TIMER_MS = 20_000
ENDS = ("OrchestrationCompleted", "OrchestrationFailed")

Record = tuple[int, str, str]
"""Execution, kind and data of one event, without the parts that depend on the clock and on chance."""


@dataclass
class Calls:
    """Counts which activities ran, by instance."""

    seen: list[tuple[str, int | None, str]] = field(default_factory=list)
    third_time: Counter[str] = field(default_factory=Counter)

    def echo(self, ctx: ActivityContext, input: Any) -> Any:
        """Return the input."""
        self.seen.append((ctx.instance_id, ctx.execution_id * 1000 + (ctx.activity_id or 0), "echo"))
        return input

    def fail(self, ctx: ActivityContext, input: Any) -> Any:
        """Raise the input."""
        self.seen.append((ctx.instance_id, ctx.execution_id * 1000 + (ctx.activity_id or 0), "fail"))
        raise ValueError(str(input))

    def succeed_the_third_time(self, ctx: ActivityContext, key: str) -> int:
        """Raise twice for a key, then return."""
        self.seen.append((ctx.instance_id, ctx.execution_id * 1000 + (ctx.activity_id or 0), "third_time"))
        self.third_time[key] += 1
        if self.third_time[key] < 3:
            raise ConnectionError("not yet")
        return self.third_time[key]

    def stall(self, ctx: ActivityContext, _: Any) -> None:
        """Run until it is cancelled."""
        while not ctx.is_cancelled():
            time.sleep(POLL_SECONDS)

    def repeated(self) -> list[tuple[str, int | None, str]]:
        """The activities that ran more than once."""
        return [call for call, count in Counter(self.seen).items() if count > 1]


@dataclass(frozen=True)
class Playback:
    """The end of a program: its status, its output or error, and its history."""

    status: str
    output: Any
    custom_status: str | None
    key_values: dict[str, str]
    history: list[Record]


class Player:
    """Plays one program on one store.

    Args:
        open_provider: Opens the store; called again after each stop when ``reopens``.
        program: The program to play.
        reopens: Whether the store is closed and opened again at each stop.
        sticky: Whether suspended orchestrations stay in the sticky cache between two stops.
    """

    def __init__(
        self, open_provider: Callable[[], Provider], program: Program, *, reopens: bool, sticky: bool = True
    ) -> None:
        self._open = open_provider
        self._reopens = reopens
        self.sticky = sticky
        self.program = program
        self.calls = Calls()
        self._tags: tuple[str, ...] = ()
        self._provider = open_provider()
        self._client = Client(self._provider)
        self._runtime: Runtime | None = None

    def close(self) -> None:
        """Stop the runtime and close the store."""
        self._stop()
        self._provider.close()

    def play(self, instance: str, stop_after: Callable[[int], bool]) -> Playback:
        """Play the program to its end.

        Args:
            instance: The id of the instance to start.
            stop_after: Called with the number of recorded events whenever it has grown; returns whether to stop now.
        """
        self._tags = ()
        self._start()
        self._client.start_orchestration(instance, self.program.name, self.program.input)
        asked = 0
        stimuli = list(self.program.stimuli)
        deadline = time.monotonic() + DEADLINE_SECONDS
        waiting_for = 0
        while True:
            events = self._events(instance)
            if len(events) > asked:
                asked = len(events)
                if stop_after(asked):
                    self._restart()
            if has_ended(events):
                break
            if len(events) > waiting_for and is_settled(events, self._tags) and stimuli:
                waiting_for = len(events)
                self._apply(instance, stimuli.pop(0))
            elif time.monotonic() > deadline:
                kinds = [event.kind for event in events]
                raise AssertionError(f"{instance} does not continue after {kinds}, with {stimuli} to come")
            time.sleep(POLL_SECONDS)
        status = self._client.get_status(instance)
        playback = Playback(
            status.status,
            status.error if status.output is None else status.output,
            status.custom_status,
            self._client.get_kv_all_values(instance),
            [(event.execution_id, event.kind, mask(event.data, instance)) for event in events],
        )
        self._stop()
        return playback

    def _events(self, instance: str) -> list[Any]:
        if self._client.get_status(instance).status == "NotFound":
            return []
        return [
            event
            for execution in self._client.list_executions(instance)
            for event in self._client.read_execution_history(instance, execution)
        ]

    def _apply(self, instance: str, stimulus: Event | Message | Worker) -> None:
        match stimulus:
            case Event(name, data):
                self._client.raise_event(instance, name, data)
            case Message(queue, data):
                self._client.enqueue_event(instance, queue, data)
            case Worker(tag):
                self._tags = (*self._tags, tag)
                self._restart()

    def _start(self) -> None:
        options = RuntimeOptions(
            dispatcher_poll_interval_ms=10,
            sticky=self.sticky,
            worker_node_id="player",
            worker_tag_filter=TagFilter.default_and(*self._tags) if self._tags else TagFilter.default_only(),
        )
        runtime = Runtime(self._provider, options)
        runtime.register_activity("echo", self.calls.echo)
        runtime.register_activity("fail", self.calls.fail)
        runtime.register_activity("stall", self.calls.stall)
        runtime.register_activity("third_time", self.calls.succeed_the_third_time)
        for name, function in {self.program.name: self.program.main, **self.program.children}.items():
            runtime.register_orchestration(name, function)
        runtime.start()
        self._runtime = runtime

    def _stop(self) -> None:
        if self._runtime is not None:
            self._runtime.shutdown(10_000)
            self._runtime = None

    def _restart(self) -> None:
        self._stop()
        if self._reopens:
            self._provider.close()
            self._provider = self._open()
            self._client = Client(self._provider)
        self._start()


def has_ended(events: list[Any]) -> bool:
    """Whether the orchestration has ended; the ends of abandoned operations may be recorded after its end."""
    return any(event.kind in ENDS for event in events)


def is_settled(events: list[Any], tags: tuple[str, ...]) -> bool:
    """Whether the orchestration only waits for the test: every operation has ended or needs something from outside."""
    if has_ended(events):
        return True
    current = [event for event in events if event.execution_id == events[-1].execution_id]
    ended = {(event.kind, event.source_event_id) for event in current}
    for event in current:
        data = json.loads(event.data)
        waits = data.get("tag") not in (None, *tags) or data.get("fire_at_ms", 0) > time.time() * 1000 + LONG_TIMER_MS
        endings = ENDINGS.get(event.kind, ())
        if endings and not waits and not any((kind, event.event_id) in ended for kind in endings):
            return False
    return all(event.kind != "OrchestrationContinuedAsNew" for event in current)


_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00")
_MILLISECONDS = re.compile(r"\b1[6-9]\d{11}\b")
_FRACTION = re.compile(r"0\.\d{12,}(e-\d+)?|\d\.\d{9,}e-\d+")


def mask(data: str, instance: str) -> str:
    """Replace in an event's data the parts that depend on the clock, on chance and on the name of the instance."""
    text = data.replace(instance, "<instance>")
    for pattern, name in (
        (_ID, "<uuid>"),
        (_TIME, "<time>"),
        (_MILLISECONDS, "<milliseconds>"),
        (_FRACTION, "<random>"),
    ):
        text = pattern.sub(name, text)
    return text
