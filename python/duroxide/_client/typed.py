"""The ``*_typed`` names of the client: the same operations with JSON on both sides.

``typed_context`` puts the typed names of the orchestration context on its native class when the package is imported;
``_native.pyi`` lists them.
"""

from __future__ import annotations

from collections.abc import Generator
from datetime import timedelta
from typing import Any

from duroxide._client.calls import blocking, completed_by
from duroxide._client.failure_causes import HasNative, with_causes
from duroxide._client.instances import DEFAULT_WAIT_MS, InstanceOperations, enqueue, kv_value, wait_for_end, wait_for_kv
from duroxide._client.payloads import encode_value
from duroxide._client.records import Event, OrchestrationResult
from duroxide._native import Call
from duroxide._values.codec import convert, decode
from duroxide._values.parameter_names import also_named


def _read_output(
    client: HasNative, answer: tuple[OrchestrationResult, Any]
) -> Generator[Call[list[Event]], list[Event] | None, Any]:
    status, result_type = answer
    yield from with_causes(client, status)
    return convert(status.result(), result_type)


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

    The names that differ in nothing are defined beside the plain ones.
    """

    @blocking
    @also_named(queue="queue_name")
    def enqueue_event_typed(self, instance_id: str, queue_name: str, data: object = None) -> Call[bool]:
        """Append a message to a queue as JSON, for ``ctx.dequeue_event_typed``; otherwise as ``enqueue_event``."""
        return enqueue(self._native, instance_id, queue_name, encode_value(data, "the message"))

    @blocking
    @completed_by(_read_output)
    def wait_for_orchestration_typed(
        self, instance_id: str, timeout_ms: int | timedelta = DEFAULT_WAIT_MS, *, result_type: Any = None
    ) -> Call[Any]:
        """Wait until an instance has ended, and return its output.

        Args:
            instance_id: The instance; it need not exist yet.
            timeout_ms: Longest time to wait, in milliseconds or as a ``timedelta``; default 30,000.
            result_type: Type to convert the output to; default ``None``, the JSON value as it is.

        Returns:
            The output.

        Raises:
            OrchestrationFailed: The orchestration failed.
            OrchestrationCancelled: It was cancelled.
            OrchestrationTerminated: It was terminated.
            WaitTimedOut: The instance did not end within ``timeout_ms``.
            InstanceNotFound: The instance was deleted during the wait.
            CodecError: The output does not fit ``result_type``.
        """
        wait = wait_for_end(self._native, instance_id, timeout_ms)
        return wait.then(lambda status: (status, result_type))

    @blocking
    def get_kv_value_typed(self, instance_id: str, key: str) -> Call[Any]:
        """Read one value of an instance's key-value store and decode it from JSON; otherwise as ``get_kv_value``."""
        value = kv_value(self._native, instance_id, key)
        return value.then(lambda text: None if text is None else decode(text))

    @blocking
    def wait_for_kv_value_typed(
        self, instance_id: str, key: str, timeout_ms: int | timedelta = DEFAULT_WAIT_MS
    ) -> Call[Any]:
        """Wait until an instance has set a key, and decode its value; otherwise as ``wait_for_kv_value``."""
        return wait_for_kv(self._native, instance_id, key, timeout_ms).then(decode)
