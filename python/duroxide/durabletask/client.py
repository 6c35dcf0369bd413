"""The clients: they start orchestrations, send to them, wait for them and read them."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from duroxide import AsyncClient, Client, Provider
from duroxide.durabletask._client import operations
from duroxide.durabletask._client.operations import Operation, Pause
from duroxide.durabletask._client.state import (
    OrchestrationFailedError,
    OrchestrationState,
    OrchestrationStatus,
    PurgeInstancesResult,
)
from duroxide.durabletask._logging import choose_logger
from duroxide.durabletask._store.location import Location
from duroxide.durabletask._store.opened import acquire, place_of, release
from duroxide.durabletask.serialization import DEFAULT_DATA_CONVERTER, DataConverter

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "AsyncTaskHubGrpcClient",
    "OrchestrationFailedError",
    "OrchestrationState",
    "OrchestrationStatus",
    "PurgeInstancesResult",
    "TaskHubGrpcClient",
]

T = TypeVar("T")

DEFAULT_TIMEOUT = 60.0
"""The default of how long a wait lasts, in seconds."""


class _Connection:
    """The store of a client, which is opened at its first use."""

    def __init__(
        self,
        *,
        host_address: str | None = None,
        metadata: Sequence[tuple[str, str]] | None = None,
        log_handler: logging.Handler | None = None,
        log_formatter: logging.Formatter | None = None,
        logger: logging.Logger | None = None,
        channel: Any = None,
        secure_channel: bool = False,
        interceptors: Sequence[Any] | None = None,
        channel_options: Any = None,
        resiliency_options: Any = None,
        default_version: str | None = None,
        payload_store: Any = None,
        data_converter: DataConverter | None = None,
        emit_trace_spans: bool = True,
    ) -> None:
        del metadata, channel, secure_channel, interceptors, channel_options, resiliency_options, default_version
        del payload_store, emit_trace_spans
        self._host_address = host_address
        self._task_hub: str | None = None
        self._logger = choose_logger(logger, log_handler, log_formatter)
        self._converter = DEFAULT_DATA_CONVERTER if data_converter is None else data_converter
        self._opening = threading.Lock()
        self._location: Location | None = None
        self._provider: Provider | None = None

    def _open(self) -> Provider:
        with self._opening:
            if self._provider is None:
                self._location = place_of(self._host_address, self._task_hub)
                self._provider = acquire(self._location)
            return self._provider

    def _release(self) -> None:
        with self._opening:
            if self._location is not None:
                release(self._location)
            self._location = self._provider = None


class TaskHubGrpcClient(_Connection):
    """Starts orchestrations on a store and communicates with them. ``with`` closes it at its end.

    Arguments that configure a connection to a server are accepted for durabletask's programs and have no effect.

    Args:
        host_address: Where the store is, as for ``TaskHubGrpcWorker``; default ``None``, durabletask's own default address.
        metadata: Without effect; default ``None``.
        log_handler: Handler for the logger of the client; default ``None``.
        log_formatter: Formatter for that handler; default ``None``.
        logger: Logger of the client; default ``None``, ``duroxide.durabletask``.
        channel: Without effect; default ``None``.
        secure_channel: Without effect; default False.
        interceptors: Without effect; default ``None``.
        channel_options: Without effect; default ``None``.
        resiliency_options: Without effect; default ``None``.
        default_version: Without effect; default ``None``.
        payload_store: Without effect; default ``None``.
        data_converter: Converts inputs and events; default ``None``, ``DEFAULT_DATA_CONVERTER``.
        emit_trace_spans: Without effect; default True.

    Raises:
        ValueError: ``logger`` is given together with a handler or a formatter.
    """

    def close(self) -> None:
        """Release the store. The client opens it again at its next use."""
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def schedule_new_orchestration(
        self,
        orchestrator: Callable[..., Any] | str,
        *,
        input: Any = None,
        instance_id: str | None = None,
        start_at: datetime | None = None,
        reuse_id_policy: Any = None,
        tags: dict[str, str] | None = None,
        version: str | None = None,
    ) -> str:
        """Start an orchestration; the start is recorded when the call returns.

        Args:
            orchestrator: The function, or its name.
            input: Its input; default ``None``.
            instance_id: Id of the new instance; default ``None``, a random one.
            start_at: When it begins; a time without a zone is in UTC. Default ``None``, at once.
            reuse_id_policy: Must be ``None``, the default: an id is used once.
            tags: Accepted for durabletask's programs; the store does not record them. Default ``None``.
            version: Must be ``None``, the default: workers have one version of an orchestrator.

        Returns:
            The id of the instance.

        Raises:
            RpcError: An instance with the id exists; its code is ``ALREADY_EXISTS``.
            NotImplementedError: ``reuse_id_policy`` or ``version`` is given.
        """
        del tags
        operations.check_absent(reuse_id_policy=reuse_id_policy, version=version)
        return self._run(operations.schedule(orchestrator, input, instance_id, start_at, self._converter))

    def get_orchestration_state(self, instance_id: str, *, fetch_payloads: bool = True) -> OrchestrationState | None:
        """Read the state of an instance.

        Args:
            instance_id: The instance.
            fetch_payloads: Whether to read its input, output and custom status; default True.

        Returns:
            The state, or ``None`` if the instance does not exist.
        """
        return self._run(operations.read_state(instance_id, self._converter, fetch_payloads=fetch_payloads))

    def wait_for_orchestration_start(
        self, instance_id: str, *, fetch_payloads: bool = False, timeout: float = DEFAULT_TIMEOUT
    ) -> OrchestrationState | None:
        """Wait until an instance has begun.

        Args:
            instance_id: The instance; it need not exist yet.
            fetch_payloads: Whether to read its input, output and custom status; default False.
            timeout: Longest time to wait, in seconds; default 60.

        Returns:
            The state of the instance.

        Raises:
            TimeoutError: It did not begin in time.
        """
        return self._run(
            operations.wait_for_start(instance_id, self._converter, timeout, fetch_payloads=fetch_payloads)
        )

    def wait_for_orchestration_completion(
        self, instance_id: str, *, fetch_payloads: bool = True, timeout: float = DEFAULT_TIMEOUT
    ) -> OrchestrationState | None:
        """Wait until an instance has completed or failed, or was terminated.

        Args:
            instance_id: The instance; it need not exist yet.
            fetch_payloads: Whether to read its input, output and custom status; default True.
            timeout: Longest time to wait, in seconds; default 60.

        Returns:
            The state of the instance; ``None`` if it was deleted during the wait.

        Raises:
            TimeoutError: It did not end in time.
        """
        return self._run(
            operations.wait_for_completion(instance_id, self._converter, timeout, fetch_payloads=fetch_payloads)
        )

    def raise_orchestration_event(self, instance_id: str, event_name: str, *, data: Any = None) -> None:
        """Send an event to an instance, which waits for it with ``ctx.wait_for_external_event``.

        Args:
            instance_id: The instance.
            event_name: Name of the event, without regard to case.
            data: The event's data; default ``None``.

        Raises:
            RpcError: The instance does not exist; the code is ``NOT_FOUND``.
        """
        self._run(operations.raise_event(instance_id, event_name, data, self._converter))

    def terminate_orchestration(self, instance_id: str, *, output: Any = None, recursive: bool = True) -> None:
        """End an instance that runs, with its sub-orchestrations. One that does not exist or has ended stays as it is.

        Args:
            instance_id: The instance.
            output: Its output; default ``None``.
            recursive: Must be True, the default: the sub-orchestrations always end too.

        Raises:
            NotImplementedError: ``recursive`` is False.
        """
        operations.check_recursive(recursive)
        self._run(operations.terminate(instance_id, output, self._converter))

    def purge_orchestration(self, instance_id: str, recursive: bool = True) -> PurgeInstancesResult:
        """Delete an instance that has ended, with its sub-orchestrations.

        Args:
            instance_id: The instance.
            recursive: Must be True, the default: the sub-orchestrations are always deleted too.

        Returns:
            How many instances were deleted: 0 if the instance does not exist or runs.

        Raises:
            NotImplementedError: ``recursive`` is False.
        """
        operations.check_recursive(recursive)
        return self._run(operations.purge(instance_id))

    def _run(self, operation: Operation[T]) -> T:
        client = Client(self._open())
        answer: Any = None
        error: BaseException | None = None
        while True:
            try:
                request = operation.send(answer) if error is None else operation.throw(error)
            except StopIteration as end:
                result: T = end.value
                return result
            answer = error = None
            try:
                if isinstance(request, Pause):
                    time.sleep(request.seconds)
                else:
                    answer = getattr(client, request.method)(*request.arguments, **request.options)
            except Exception as raised:  # noqa: BLE001  (the operation decides)
                error = raised


class AsyncTaskHubGrpcClient(_Connection):
    """The client for programs on asyncio: the operations of ``TaskHubGrpcClient``, awaited. ``async with`` closes it.

    Arguments that configure a connection to a server are accepted for durabletask's programs and have no effect.

    Args:
        host_address: Where the store is, as for ``TaskHubGrpcWorker``; default ``None``, durabletask's own default address.
        metadata: Without effect; default ``None``.
        log_handler: Handler for the logger of the client; default ``None``.
        log_formatter: Formatter for that handler; default ``None``.
        logger: Logger of the client; default ``None``, ``duroxide.durabletask``.
        channel: Without effect; default ``None``.
        secure_channel: Without effect; default False.
        interceptors: Without effect; default ``None``.
        channel_options: Without effect; default ``None``.
        resiliency_options: Without effect; default ``None``.
        default_version: Without effect; default ``None``.
        payload_store: Without effect; default ``None``.
        data_converter: Converts inputs and events; default ``None``, ``DEFAULT_DATA_CONVERTER``.
        emit_trace_spans: Without effect; default True.

    Raises:
        ValueError: ``logger`` is given together with a handler or a formatter.
    """

    async def close(self) -> None:
        """Release the store. The client opens it again at its next use."""
        await asyncio.to_thread(self._release)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def schedule_new_orchestration(
        self,
        orchestrator: Callable[..., Any] | str,
        *,
        input: Any = None,
        instance_id: str | None = None,
        start_at: datetime | None = None,
        reuse_id_policy: Any = None,
        tags: dict[str, str] | None = None,
        version: str | None = None,
    ) -> str:
        """Start an orchestration; the start is recorded when the call returns.

        Args:
            orchestrator: The function, or its name.
            input: Its input; default ``None``.
            instance_id: Id of the new instance; default ``None``, a random one.
            start_at: When it begins; a time without a zone is in UTC. Default ``None``, at once.
            reuse_id_policy: Must be ``None``, the default: an id is used once.
            tags: Accepted for durabletask's programs; the store does not record them. Default ``None``.
            version: Must be ``None``, the default: workers have one version of an orchestrator.

        Returns:
            The id of the instance.

        Raises:
            RpcError: An instance with the id exists; its code is ``ALREADY_EXISTS``.
            NotImplementedError: ``reuse_id_policy`` or ``version`` is given.
        """
        del tags
        operations.check_absent(reuse_id_policy=reuse_id_policy, version=version)
        return await self._run(operations.schedule(orchestrator, input, instance_id, start_at, self._converter))

    async def get_orchestration_state(
        self, instance_id: str, *, fetch_payloads: bool = True
    ) -> OrchestrationState | None:
        """Read the state of an instance.

        Args:
            instance_id: The instance.
            fetch_payloads: Whether to read its input, output and custom status; default True.

        Returns:
            The state, or ``None`` if the instance does not exist.
        """
        return await self._run(operations.read_state(instance_id, self._converter, fetch_payloads=fetch_payloads))

    async def wait_for_orchestration_start(
        self, instance_id: str, *, fetch_payloads: bool = False, timeout: float = DEFAULT_TIMEOUT
    ) -> OrchestrationState | None:
        """Wait until an instance has begun.

        Args:
            instance_id: The instance; it need not exist yet.
            fetch_payloads: Whether to read its input, output and custom status; default False.
            timeout: Longest time to wait, in seconds; default 60.

        Returns:
            The state of the instance.

        Raises:
            TimeoutError: It did not begin in time.
        """
        return await self._run(
            operations.wait_for_start(instance_id, self._converter, timeout, fetch_payloads=fetch_payloads)
        )

    async def wait_for_orchestration_completion(
        self, instance_id: str, *, fetch_payloads: bool = True, timeout: float = DEFAULT_TIMEOUT
    ) -> OrchestrationState | None:
        """Wait until an instance has completed or failed, or was terminated.

        Args:
            instance_id: The instance; it need not exist yet.
            fetch_payloads: Whether to read its input, output and custom status; default True.
            timeout: Longest time to wait, in seconds; default 60.

        Returns:
            The state of the instance; ``None`` if it was deleted during the wait.

        Raises:
            TimeoutError: It did not end in time.
        """
        return await self._run(
            operations.wait_for_completion(instance_id, self._converter, timeout, fetch_payloads=fetch_payloads)
        )

    async def raise_orchestration_event(self, instance_id: str, event_name: str, *, data: Any = None) -> None:
        """Send an event to an instance, which waits for it with ``ctx.wait_for_external_event``.

        Args:
            instance_id: The instance.
            event_name: Name of the event, without regard to case.
            data: The event's data; default ``None``.

        Raises:
            RpcError: The instance does not exist; the code is ``NOT_FOUND``.
        """
        await self._run(operations.raise_event(instance_id, event_name, data, self._converter))

    async def terminate_orchestration(self, instance_id: str, *, output: Any = None, recursive: bool = True) -> None:
        """End an instance that runs, with its sub-orchestrations. One that does not exist or has ended stays as it is.

        Args:
            instance_id: The instance.
            output: Its output; default ``None``.
            recursive: Must be True, the default: the sub-orchestrations always end too.

        Raises:
            NotImplementedError: ``recursive`` is False.
        """
        operations.check_recursive(recursive)
        await self._run(operations.terminate(instance_id, output, self._converter))

    async def purge_orchestration(self, instance_id: str, recursive: bool = True) -> PurgeInstancesResult:
        """Delete an instance that has ended, with its sub-orchestrations.

        Args:
            instance_id: The instance.
            recursive: Must be True, the default: the sub-orchestrations are always deleted too.

        Returns:
            How many instances were deleted: 0 if the instance does not exist or runs.

        Raises:
            NotImplementedError: ``recursive`` is False.
        """
        operations.check_recursive(recursive)
        return await self._run(operations.purge(instance_id))

    async def _run(self, operation: Operation[T]) -> T:
        provider = self._provider
        if provider is None:
            provider = await asyncio.to_thread(self._open)
        client = AsyncClient(provider)
        answer: Any = None
        error: BaseException | None = None
        while True:
            try:
                request = operation.send(answer) if error is None else operation.throw(error)
            except StopIteration as end:
                result: T = end.value
                return result
            answer = error = None
            try:
                if isinstance(request, Pause):
                    await asyncio.sleep(request.seconds)
                else:
                    answer = await getattr(client, request.method)(*request.arguments, **request.options)
            except Exception as raised:  # noqa: BLE001  (the operation decides)
                error = raised
