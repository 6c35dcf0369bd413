"""The causes of an orchestration's failure. Its history records the failure of an activity or child as an event."""

from __future__ import annotations

import bisect
import contextlib
import json
import math
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from duroxide._client.records import OrchestrationResult, read_history
from duroxide._values.failures import FailureRecord
from duroxide._values.validation import check_id
from duroxide.exceptions import (
    ActivityTimedOut,
    TaskFailed,
    activity_failed,
    sub_orchestration_failed,
)

if TYPE_CHECKING:
    from duroxide import _native
    from duroxide._client.records import Event
    from duroxide._native import Call
    from duroxide.exceptions import OrchestrationFailed

Status = TypeVar("Status", bound=OrchestrationResult | None)

# If the engine named a child, history has only the end of its id; the beginning is the id of its parent.
_DERIVED = "sub::"

# The chain of causes ends here in a deeper tree.
_MOST_LEVELS = 32


class HasNative(Protocol):
    """A client."""

    _native: _native.Client


def find_causes(failure: OrchestrationFailed) -> Generator[str, list[Event] | None, None]:
    """Set ``__cause__`` of ``failure`` to the failure of an activity or child, if the orchestration did not catch that.

    The failure of a child gets its own cause, and so on.

    Args:
        failure: The failure of an instance.

    Yields:
        An instance. The caller sends its newest history, or ``None`` if it cannot read that.
    """
    outer: OrchestrationFailed | TaskFailed = failure
    instance_id = failure.instance_id
    record = FailureRecord.from_exception(failure)
    for _ in range(_MOST_LEVELS):
        history = None if instance_id is None else (yield instance_id)
        cause = None if history is None or instance_id is None else _cause(history, record, instance_id)
        if cause is None:
            return
        outer.__cause__ = outer = cause
        instance_id = getattr(cause, "instance_id", None)


def with_causes(client: HasNative, status: Status) -> Generator[Call[list[Event]], list[Event] | None, Status]:
    """Set the causes of the failure of ``status`` as ``find_causes`` does, from the histories in a store.

    A history that cannot be read ends the chain: the failure itself matters more than its cause.

    Args:
        client: The client that has read the status.
        status: The status of an instance, or ``None``.

    Yields:
        A call that reads a history.

    Returns:
        The same status.
    """
    if status is None or status.failure is None:
        return status
    steps = find_causes(status.failure)
    with contextlib.suppress(StopIteration):
        instance_id = next(steps)
        while True:
            history = yield client._native.history(check_id(instance_id), None).then(read_history)
            instance_id = steps.send(history)
    return status


def _cause(history: list[Event], record: FailureRecord, instance_id: str) -> TaskFailed | None:
    events = {event.event_id: event for event in history}
    for event in reversed(history):
        if event.kind not in ("ActivityFailed", "SubOrchestrationFailed") or event.source_event_id not in events:
            continue
        text = _failure_text(event)
        if text is None or FailureRecord.from_text(text) not in (record, *record.failures):
            continue
        scheduled = json.loads(events[event.source_event_id].data)
        if event.kind == "SubOrchestrationFailed":
            child = scheduled["instance"]
            child = f"{instance_id}::{child}" if child.startswith(_DERIVED) else child
            return sub_orchestration_failed(text, scheduled["name"], child)
        attempts = _count_attempts(history, events[event.source_event_id])
        return activity_failed(text, scheduled["name"], event.source_event_id, attempts)
    return _timed_out(history, events, record) if record.error_type == ActivityTimedOut.__name__ else None


def _timed_out(history: list[Event], events: dict[int, Event], record: FailureRecord) -> ActivityTimedOut | None:
    """Find the activity that timed out.

    The record of its failure counts no attempts. After a total timeout, history has only the request to cancel it.
    """
    for event in reversed(history):
        if event.kind not in ("ActivityCancelRequested", "ActivityFailed") or event.source_event_id not in events:
            continue
        scheduled = json.loads(events[event.source_event_id].data)
        # Other activities may have been given up since.
        if f"'{scheduled['name']}'" not in record.message:
            continue
        failure = ActivityTimedOut(record.error_type, record.message, record.details, retryable=record.retryable)
        failure.activity_name, failure.activity_id = scheduled["name"], event.source_event_id
        failure.attempts = _count_attempts(history, events[event.source_event_id])
        return failure
    return None


def _count_attempts(history: list[Event], last: Event) -> int:
    """Count the attempts up to ``last``: each retry is a new scheduling of the same activity with the same input.

    The attempt before a retry failed earlier, or was given up in the same turn; history then has that event a little
    later. An attempt that succeeded belongs to another call, and one that was still running ran beside this call.
    """
    wanted = _call(last)
    ends: dict[int, Event] = {}
    arrivals: list[int] = []
    for event in history:
        if event.source_event_id is not None:
            if event.kind in ("ActivityCompleted", "ActivityFailed", "ActivityCancelRequested"):
                ends.setdefault(event.source_event_id, event)
            if not event.kind.endswith("CancelRequested"):
                arrivals.append(event.event_id)
    count = 1
    for event in reversed(history):
        if event.kind != "ActivityScheduled" or event.event_id >= last.event_id or _call(event) != wanted:
            continue
        end = ends.get(event.event_id)
        next_turn = bisect.bisect(arrivals, last.event_id)
        if end is None or end.event_id >= (arrivals[next_turn] if next_turn < len(arrivals) else math.inf):
            continue
        if end.kind == "ActivityCompleted":
            break
        count += 1
        last = event
    return count


def _call(scheduled: Event) -> tuple[str, Any]:
    data = json.loads(scheduled.data)
    return data["name"], data["input"]


def _failure_text(event: Event) -> str | None:
    details: Any = json.loads(event.data).get("details")
    for kind in cast("dict[str, Any]", details).values() if isinstance(details, dict) else ():
        text = kind.get("message")
        if isinstance(text, str):
            return text
    return None
