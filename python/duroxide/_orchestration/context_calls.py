"""Methods of the orchestration context whose parameters are those of the earlier SDK.

The native methods do the work. The native half declares parameters of its own; these methods put the earlier SDK's names
and positions before them.
"""

from __future__ import annotations

import inspect
from typing import Any

from duroxide._native import OrchestrationContext
from duroxide._values.parameter_names import also_named

_native: Any = OrchestrationContext
_schedule_activity = _native.schedule_activity
_schedule_timer = _native.schedule_timer
_dequeue_event = _native.dequeue_event
_schedule_sub_orchestration_versioned = _native.schedule_sub_orchestration_versioned
_all = _native.all
_gather = _native.gather


class _Methods:
    def schedule_activity(
        self,
        name: Any,
        input: object = None,
        session_id: str | None = None,
        *,
        tag: str | None = None,
        retry: Any = None,
        result_type: Any = None,
    ) -> Any:
        """Run an activity.

        Args:
            name: Name of the activity, or the declared activity itself.
            input: Its input, any value that can be written as JSON; default ``None``.
            session_id: Session whose worker must run it; default ``None``, any worker.
            tag: Tag that its worker must serve; default ``None``, a worker for activities without one.
            retry: How it is tried again, a ``RetryPolicy`` or a dictionary; default ``None``, it is not.
            result_type: Type to convert the result to; default ``None``, the annotation of the activity if this process
                has registered it.

        Returns:
            A task with the result.

        Raises:
            CodecError: The input cannot be written as JSON.
            LimitExceeded: A name or the input is too long.
            ActivityFailed: Where the task is yielded: the activity raised.
            ActivityTimedOut: Where the task is yielded: a timeout of ``retry`` passed.
        """
        return _schedule_activity(
            self, name, input, session_id=session_id, tag=tag, retry=retry, result_type=result_type
        )

    @also_named(delay="delay_ms")
    def schedule_timer(self, delay_ms: Any) -> Any:
        """Wait for a time that survives restarts.

        Args:
            delay_ms: Milliseconds or a ``timedelta``, from zero to ten years.

        Raises:
            ValueError: The time is negative or too long.
        """
        return _schedule_timer(self, delay_ms)

    @also_named(queue="queue_name")
    def dequeue_event(self, queue_name: str, *, result_type: Any = None) -> Any:
        """Take the oldest message of a queue of this instance, waiting for one if it is empty.

        Args:
            queue_name: Name of the queue.
            result_type: Type to convert the message to, read as JSON; default ``None``, the text as it was sent.

        Returns:
            A task with the message.
        """
        return _dequeue_event(self, queue_name, result_type=result_type)

    def schedule_sub_orchestration_versioned(
        self, name: Any, version: str | None = None, input: object = None, *, result_type: Any = None
    ) -> Any:
        """Run one version of another orchestration; otherwise as ``schedule_sub_orchestration``."""
        return _schedule_sub_orchestration_versioned(self, name, version, input, result_type=result_type)

    def all(self, *several: Any, tasks: Any = ()) -> Any:
        """Run tasks side by side and wait for all of them.

        Args:
            several: Tasks, generators or coroutines, any number of them, one by one or as a list.
            tasks: The same as a list.

        Returns:
            A task with one outcome for each, in order: ``{"ok": value}`` or ``{"err": failure}``.
        """
        return _all(self, *several, *tasks)

    def all_typed(self, *several: Any, tasks: Any = ()) -> Any:
        """As ``gather``."""
        return _gather(self, *several, *tasks)

    def start_orchestration_versioned(
        self: Any, name: Any, version: str | None, instance_id: str, input: object = None
    ) -> Any:
        """Start one version of another orchestration that runs on its own; otherwise as ``start_orchestration``."""
        return self.start_orchestration(name, instance_id, input, version=version)

    def continue_as_new_versioned(self: Any, input: object, version: str | None = None) -> Any:
        """End this execution and start ``version`` of the orchestration again with ``input`` and an empty history."""
        return self.continue_as_new(input, version=version)


def install() -> None:
    """Put the methods on the context; called once, when the package is imported."""
    for name, method in vars(_Methods).items():
        if inspect.isfunction(method):
            method.__qualname__ = f"{OrchestrationContext.__name__}.{name}"
            setattr(OrchestrationContext, name, method)
