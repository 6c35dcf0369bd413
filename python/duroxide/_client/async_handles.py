"""A handle of one instance for asyncio: the operations of ``Handle``, awaited."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from duroxide._client.descriptions import InstanceDescription
from duroxide._client.handles import DEFAULT_WAIT_SECONDS, InstanceReference
from duroxide._client.records import Event, OrchestrationResult
from duroxide._values.validation import check_seconds

if TYPE_CHECKING:
    from duroxide._client.async_client import AsyncClient

T_co = TypeVar("T_co", covariant=True)


class AsyncHandle(InstanceReference[T_co]):
    """One instance of an orchestration, which need not exist yet; made by ``start`` and ``handle`` of ``AsyncClient``.

    It has the operations of ``Handle``, awaited on an event loop. Times are in seconds.
    """

    def __init__(self, client: AsyncClient, instance_id: str, result_type: Any = None) -> None:
        super().__init__(instance_id, result_type)
        self._client = client

    async def result(self, timeout: float | timedelta | None = DEFAULT_WAIT_SECONDS) -> T_co:
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
        value: T_co = self._value(await self.wait(timeout))
        return value

    async def wait(self, timeout: float | timedelta | None = DEFAULT_WAIT_SECONDS) -> OrchestrationResult:
        """Wait for the end of the orchestration, and return its status; a failure is not raised.

        Args:
            timeout: Longest time to wait, in seconds or as a ``timedelta``; ``None`` for no limit. Default 30 seconds.

        Raises:
            WaitTimedOut: The instance did not end within ``timeout``.
            InstanceNotFound: The instance was deleted during the wait.
        """
        return await self._client.wait_for_orchestration(self._id, check_seconds(timeout, "timeout"))

    async def status(self) -> OrchestrationResult:
        """Read the status of the instance, its ``custom_status`` included, without waiting."""
        return await self._client.get_status(self._id)

    async def describe(self) -> InstanceDescription:
        """Say what the instance waits for, since when, and what stands in its way.

        Raises:
            InstanceNotFound: The store does not have the instance.
        """
        return await self._client.describe(self._id)

    async def cancel(self, reason: str = "") -> bool:
        """Request the cancellation of the instance and its children; it fails with ``canceled: reason``.

        Args:
            reason: Why it is cancelled; default empty.

        Returns:
            True if the cancellation was requested, False if the instance had ended and stays as it is.

        Raises:
            InstanceNotFound: The instance was never started, or was deleted.
        """
        return await self._client.cancel_instance(self._id, reason)

    async def restart(self, *, input: object = ..., version: str | None = None) -> bool:
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
        return await self._client.restart(self._id, input=input, version=version)

    async def terminate(self, reason: str = "", *, output: object = None, recursive: bool = True) -> bool:
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
        return await self._client.terminate(self._id, reason, output=output, recursive=recursive)

    async def raise_event(self, name: str, data: object = None) -> bool:
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
        return await self._client.raise_event(self._id, name, data)

    async def enqueue(self, queue: str, data: object) -> bool:
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
        return await self._client.enqueue_event_typed(self._id, queue, data)

    async def history(self, execution_id: int | None = None) -> list[Event]:
        """Read the events of one execution.

        Args:
            execution_id: Number of the execution, counted from 1; default ``None``, the newest.

        Returns:
            The events, in order; empty until a runtime has fetched the start.

        Raises:
            InstanceNotFound: The store does not have the instance or the execution.
        """
        return await self._client.read_execution_history(self._id, execution_id)
