"""A handle of one instance: the calls of a client on it, typed by its orchestration."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from duroxide._client.descriptions import InstanceDescription
from duroxide._client.records import Event, OrchestrationResult
from duroxide._declare.declarations import Orchestration
from duroxide._values.codec import convert
from duroxide._values.validation import check_id, check_seconds

if TYPE_CHECKING:
    from duroxide._client.client import Client

T_co = TypeVar("T_co", covariant=True)

DEFAULT_WAIT_SECONDS = 30.0
"""The default of how long a handle waits, in seconds."""


class InstanceReference(Generic[T_co]):
    """The instance of a handle, and the type of its result.

    Args:
        instance_id: The instance.
        result_type: Type to convert the result to; ``None`` for the JSON value.
    """

    def __init__(self, instance_id: str, result_type: Any) -> None:
        self._id = check_id(instance_id)
        self._result_type = result_type
        self._start: tuple[bool, bool] | None = None

    @property
    def is_new(self) -> bool | None:
        """True if ``start`` started the instance, False if it attached; ``None`` for a handle of ``client.handle``."""
        return None if self._start is None else self._start[0]

    @property
    def has_other_input(self) -> bool:
        """True if ``start`` attached to an instance that was started with another input and has begun."""
        return self._start is not None and self._start[1]

    @property
    def id(self) -> str:
        """Id of the instance."""
        return self._id

    def _value(self, result: OrchestrationResult) -> Any:
        return convert(result.result(), self._result_type)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of instance '{self._id}'>"


class Handle(InstanceReference[T_co]):
    """One instance of an orchestration, which need not exist yet; made by ``client.start`` and ``client.handle``.

    Calls block as the client's calls do, and are refused inside an orchestration. Times are in seconds.
    """

    def __init__(self, client: Client, instance_id: str, result_type: Any = None) -> None:
        super().__init__(instance_id, result_type)
        self._client = client

    def result(self, timeout: float | timedelta | None = DEFAULT_WAIT_SECONDS) -> T_co:
        """Wait for the end of the orchestration and return its result.

        Args:
            timeout: Longest time to wait, in seconds or as a ``timedelta``; ``None`` for no limit. Default 30 seconds.

        Returns:
            The orchestration's return value, as the type of its annotation.

        Raises:
            OrchestrationFailed: It failed. If the failure of an activity or child caused that, this failure is the
                ``__cause__``, with its name, its attempts and the type of the original exception.
            OrchestrationCancelled: It was cancelled.
            OrchestrationTerminated: It was terminated.
            WaitTimedOut: The instance did not end within ``timeout``.
            InstanceNotFound: The instance was deleted during the wait.
            CodecError: The result does not fit the annotation.
        """
        value: T_co = self._value(self.wait(timeout))
        return value

    def wait(self, timeout: float | timedelta | None = DEFAULT_WAIT_SECONDS) -> OrchestrationResult:
        """Wait for the end of the orchestration, and return its status; a failure is not raised.

        Args:
            timeout: Longest time to wait, in seconds or as a ``timedelta``; ``None`` for no limit. Default 30 seconds.

        Raises:
            WaitTimedOut: The instance did not end within ``timeout``.
            InstanceNotFound: The instance was deleted during the wait.
        """
        return self._client.wait_for_orchestration(self._id, check_seconds(timeout, "timeout"))

    def status(self) -> OrchestrationResult:
        """Read the status of the instance, its ``custom_status`` included, without waiting."""
        return self._client.get_status(self._id)

    def describe(self) -> InstanceDescription:
        """Say what the instance waits for, since when, and what stands in its way.

        Raises:
            InstanceNotFound: The store does not have the instance.
        """
        return self._client.describe(self._id)

    def cancel(self, reason: str = "") -> bool:
        """Request the cancellation of the instance and its children; it fails with ``canceled: reason``.

        Args:
            reason: Why it is cancelled; default empty.

        Returns:
            True if the cancellation was requested, False if the instance had ended and stays as it is.

        Raises:
            InstanceNotFound: The instance was never started, or was deleted.
        """
        return self._client.cancel_instance(self._id, reason)

    def restart(self, *, input: object = ..., version: str | None = None) -> bool:
        """Run the instance from the beginning again, as a new execution, if it has ended.

        Args:
            input: Another input, any value that can be written as JSON; without it, the input of the run.
            version: Version to run; default ``None``, the newest one that the executing runtime has.

        Returns:
            True if the call began a run, False if the instance has not ended.

        Raises:
            InstanceNotFound: The instance was never started, or was deleted.
            ClientError: The history with its input was pruned, and no input is given.
            CodecError: The input cannot be written as JSON.
            LimitExceeded: The input is too long.
        """
        return self._client.restart(self._id, input=input, version=version)

    def terminate(self, reason: str = "", *, output: object = None, recursive: bool = True) -> bool:
        """End the instance at once, without another step of its code; it fails with ``canceled: reason``.

        See ``Client.terminate``.

        Args:
            reason: Why it is terminated; default empty.
            output: What the instance leaves as its output, any value that can be written as JSON; default ``None``,
                nothing.
            recursive: Whether the sub-orchestrations that run below it are terminated, too; default True.

        Returns:
            True if this call has ended the instance, False if the instance had ended and stays as it is.

        Raises:
            InstanceNotFound: The instance was never started, or was deleted.
            CodecError: The output cannot be written as JSON.
            LimitExceeded: The reason or the output is too long.
        """
        return self._client.terminate(self._id, reason, output=output, recursive=recursive)

    def raise_event(self, name: str, data: object = None) -> bool:
        """Raise an event for an orchestration that waits for it with ``wait_for_event``.

        Args:
            name: Name of the event.
            data: Any value that can be written as JSON; default ``None``.

        Returns:
            True if the event was sent, False if the instance had ended, which makes the event useless.

        Raises:
            CodecError: The data cannot be written as JSON.
            LimitExceeded: The name or the data is too long.
        """
        return self._client.raise_event(self._id, name, data)

    def enqueue(self, queue: str, data: object) -> bool:
        """Append a message, as JSON, to a queue that the orchestration reads with ``duroxide.dequeue_event``.

        Args:
            queue: Name of the queue.
            data: Any value that can be written as JSON, also a ``str``.

        Returns:
            True if the message was sent, False if the instance had ended, which makes the message useless.

        Raises:
            CodecError: The data cannot be written as JSON.
            LimitExceeded: The name or the data is too long.
        """
        return self._client.enqueue_event_typed(self._id, queue, data)

    def history(self, execution_id: int | None = None) -> list[Event]:
        """Read the events of one execution.

        Args:
            execution_id: Number of the execution, counted from 1; default ``None``, the newest.

        Returns:
            The events, in order; empty until a runtime has fetched the start.

        Raises:
            InstanceNotFound: The store does not have the instance or the execution.
        """
        return self._client.read_execution_history(self._id, execution_id)


def result_type_of(orchestration: Orchestration[..., Any] | str | None) -> Any:
    """Return the type to convert the results of an orchestration to; ``None`` if only its name is known."""
    return None if orchestration is None or isinstance(orchestration, str) else orchestration.result_type
