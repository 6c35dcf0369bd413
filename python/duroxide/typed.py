"""The ``*_typed`` names of the client: the same operations with JSON on both sides.

Those of the orchestration context are native, and listed in ``_native.pyi``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from duroxide.codec import convert, decode
from duroxide.instances import DEFAULT_WAIT_MS, InstanceOperations

if TYPE_CHECKING:
    from datetime import timedelta


class TypedOperations(InstanceOperations):
    """The ``*_typed`` names of ``Client``.

    ========================================== ==================================================
    name                                       differs from the plain one in
    ========================================== ==================================================
    ``start_orchestration_typed``              nothing
    ``start_orchestration_versioned_typed``    nothing
    ``raise_event_typed``                      nothing
    ``enqueue_event_typed``                    a ``str`` is encoded as JSON too
    ``wait_for_orchestration_typed``           the output itself; a failure is raised
    ``get_kv_value_typed``                     the value is decoded from JSON
    ``wait_for_kv_value_typed``                the value is decoded from JSON
    ========================================== ==================================================
    """

    start_orchestration_typed = InstanceOperations.start_orchestration
    start_orchestration_versioned_typed = InstanceOperations.start_orchestration_versioned
    raise_event_typed = InstanceOperations.raise_event

    def enqueue_event_typed(self, instance_id: str, queue: str, data: object) -> None:
        """Append a message to a queue as JSON, for ``ctx.dequeue_event_typed``; otherwise as ``enqueue_event``."""
        self._enqueue_json(instance_id, queue, data)

    def wait_for_orchestration_typed(
        self, instance_id: str, timeout_ms: int | timedelta = DEFAULT_WAIT_MS, *, result_type: Any = None
    ) -> Any:
        """Wait until an instance has ended, and return its output.

        Args:
            instance_id: The instance; it need not exist yet.
            timeout_ms: Longest time to wait, in milliseconds or as a ``timedelta``; default 30,000.
            result_type: Type to convert the output to; default ``None``, as JSON has it.

        Returns:
            The output.

        Raises:
            OrchestrationFailed: The orchestration failed.
            OrchestrationCancelled: It was cancelled.
            WaitTimedOut: The time passed first.
            CodecError: The output does not fit ``result_type``.
        """
        return convert(self.wait_for_orchestration(instance_id, timeout_ms).result(), result_type)

    def get_kv_value_typed(self, instance_id: str, key: str) -> Any:
        """Read one value of an instance's key-value store and decode it from JSON; otherwise as ``get_kv_value``."""
        text = self.get_kv_value(instance_id, key)
        return None if text is None else decode(text)

    def wait_for_kv_value_typed(self, instance_id: str, key: str, timeout_ms: int | timedelta = DEFAULT_WAIT_MS) -> Any:
        """Wait until an instance has set a key, and decode its value; otherwise as ``wait_for_kv_value``."""
        return decode(self.wait_for_kv_value(instance_id, key, timeout_ms))
