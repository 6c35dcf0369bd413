"""What an orchestration failed of: read from its history, where the failure of an activity or child stands by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from duroxide.exceptions import (
    ActivityTimedOut,
    InstanceNotFound,
    TaskFailed,
    activity_failed,
    sub_orchestration_failed,
)
from duroxide.failures import FailureRecord

if TYPE_CHECKING:
    from duroxide.exceptions import OrchestrationFailed
    from duroxide.management import ManagementOperations
    from duroxide.records import Event

# Of a child that the engine named, history has the end of the id; the beginning is that of its parent.
_DERIVED = "sub::"

# A tree that is deeper is told as far as this.
_MOST_LEVELS = 32


def add_causes(client: ManagementOperations, failure: OrchestrationFailed) -> None:
    """Set ``__cause__`` of ``failure`` to the failure of the activity or child that its code let through, if there was one.

    Args:
        client: The client of its store.
        failure: The failure of an instance; that of a child has its own cause, and so on.
    """
    outer: OrchestrationFailed | TaskFailed = failure
    instance_id = failure.instance_id
    record = _record(failure)
    for _ in range(_MOST_LEVELS):
        if instance_id is None:
            return
        try:
            history = client.read_execution_history(instance_id)
        except InstanceNotFound:  # deleted meanwhile
            return
        cause = _cause(history, record, instance_id)
        if cause is None:
            return
        outer.__cause__ = outer = cause
        instance_id = getattr(cause, "instance_id", None)


def _cause(history: list[Event], record: FailureRecord, instance_id: str) -> TaskFailed | None:
    events = {event.event_id: event for event in history}
    if record.error_type == ActivityTimedOut.__name__:
        cancelled = [event for event in history if event.kind == "ActivityCancelRequested"]
        return _timed_out(history, events, record, cancelled[-1]) if cancelled else None
    for event in reversed(history):
        if event.kind not in ("ActivityFailed", "SubOrchestrationFailed") or event.source_event_id not in events:
            continue
        text = _failure_text(event)
        if text is None or FailureRecord.from_text(text) != record:
            continue
        scheduled = json.loads(events[event.source_event_id].data)
        if event.kind == "SubOrchestrationFailed":
            child = scheduled["instance"]
            child = f"{instance_id}::{child}" if child.startswith(_DERIVED) else child
            return sub_orchestration_failed(text, scheduled["name"], child)
        attempts = sum(1 for _ in _attempts(history, scheduled, event.event_id))
        return activity_failed(text, scheduled["name"], event.source_event_id, attempts)
    return None


def _timed_out(
    history: list[Event], events: dict[int, Event], record: FailureRecord, cancelled: Event
) -> ActivityTimedOut | None:
    source = cancelled.source_event_id
    if source is None or source not in events:
        return None
    scheduled = json.loads(events[source].data)
    failure = ActivityTimedOut(record.error_type, record.message, record.details, retryable=record.retryable)
    failure.activity_name, failure.activity_id = scheduled["name"], source
    failure.attempts = sum(1 for _ in _attempts(history, scheduled, cancelled.event_id))
    return failure


def _attempts(history: list[Event], scheduled: dict[str, Any], until: int) -> Iterator[Event]:
    """Find the schedulings of one activity with one input: an attempt again is a new one."""
    for event in history:
        if event.kind == "ActivityScheduled" and event.event_id < until:
            other = json.loads(event.data)
            if (other["name"], other["input"]) == (scheduled["name"], scheduled["input"]):
                yield event


def _record(failure: OrchestrationFailed) -> FailureRecord:
    return FailureRecord(failure.error_type, failure.message, failure.details, failure.retryable)


def _failure_text(event: Event) -> str | None:
    details: Any = json.loads(event.data).get("details")
    for kind in cast("dict[str, Any]", details).values() if isinstance(details, dict) else ():
        text = kind.get("message")
        if isinstance(text, str):
            return text
    return None
