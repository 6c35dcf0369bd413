"""The operation that ends an instance at once."""

from __future__ import annotations

from duroxide import _native
from duroxide._client.calls import blocking
from duroxide._client.payloads import encode_value
from duroxide._native import Call
from duroxide._values.validation import check_id, check_size, check_text


class TerminationOperations:
    """The operation of ``Client`` that terminates instances."""

    _native: _native.Client

    @blocking
    def terminate(
        self, instance_id: str, reason: str | None = None, *, output: object = None, recursive: bool = True
    ) -> Call[bool]:
        """End an instance at once, without another step of its code; it fails with ``canceled: reason``.

        ``cancel_instance`` lets the code clean up, and ``terminate`` does not. Activities that run are told, as in a
        cancellation. If a parent waits for the instance, its code gets the failure of a cancelled child.

        Args:
            instance_id: The instance.
            reason: Why it is terminated; default ``None``, no reason.
            output: What the instance leaves as its output, any value that can be written as JSON; default ``None``,
                nothing. ``OrchestrationTerminated`` has it.
            recursive: Whether the sub-orchestrations that run below it are terminated, too; default True.

        Returns:
            True if this call has ended the instance, False if the instance had ended and stays as it is. Then its
            sub-orchestrations stay as they are, too.

        Raises:
            InstanceNotFound: The instance was never started, or was deleted.
            CodecError: The output cannot be written as JSON.
            LimitExceeded: The id, the reason or the output is too long.
        """
        if not isinstance(recursive, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"recursive must be a bool, not {type(recursive).__name__}")
        return self._native.terminate(
            check_id(instance_id),
            check_size(check_text("" if reason is None else reason, "the reason"), "the reason"),
            None if output is None else encode_value(output, "the output"),
            recursive,
        )
