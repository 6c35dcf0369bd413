"""Methods of the orchestration context that the native half leaves to Python.

Parameters that have two names, that of the earlier SDK and that of earlier versions, and methods that are made of others.
"""

from __future__ import annotations

import inspect
from typing import Any

from duroxide._native import OrchestrationContext
from duroxide._values.parameter_names import also_named

_native: Any = OrchestrationContext
_schedule_timer = _native.schedule_timer
_dequeue_event = _native.dequeue_event
_gather = _native.gather


class _Methods:
    @also_named(delay="delay_ms")
    def schedule_timer(self, delay_ms: Any) -> Any:
        """Wait for a durable timer, which survives restarts.

        Args:
            delay_ms: Time to wait, in milliseconds or as a ``timedelta``, from zero to ten years.

        Raises:
            ValueError: The time is negative or too long.
        """
        return _schedule_timer(self, delay_ms)

    @also_named(queue="queue_name")
    def dequeue_event(self, queue_name: str, *, result_type: Any = None) -> Any:
        """Take the oldest message of a queue of this instance; wait for a message if the queue is empty.

        Args:
            queue_name: Name of the queue.
            result_type: Type to convert the message to, read as JSON; default ``None``, the text as it was sent.

        Returns:
            A task with the message.
        """
        return _dequeue_event(self, queue_name, result_type=result_type)

    def all_typed(self, *several: Any, tasks: Any = ()) -> Any:
        """As ``gather``."""
        return _gather(self, *several, *tasks)

    def start_orchestration_versioned(
        self: Any, name: Any, version: str | None, instance_id: str, input: object = None
    ) -> Any:
        """Start one version of another orchestration that runs independently; otherwise as ``start_orchestration``."""
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
