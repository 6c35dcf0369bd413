"""The client of programs that run on an event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from datetime import datetime, timedelta
from typing import Any, ParamSpec, TypeVar, overload

from duroxide import _native
from duroxide._client import async_handles
from duroxide._client.async_handles import AsyncHandle
from duroxide._client.calls import awaited
from duroxide._client.client import Client, check_provider
from duroxide._client.handles import result_type_of
from duroxide._client.listing import InstanceSummary, Order, Span
from duroxide._client.start import IfExists, StartOptions, describe_start
from duroxide._client.startable import Startable0, Startable1, Startable2, Startable3, Startable4, Startable5
from duroxide._declare.declarations import Orchestration
from duroxide._store.providers import Provider

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
Result = TypeVar("Result")


class AsyncClient:
    """Access to the orchestrations of one store, awaited on an event loop of ``asyncio``.

    It has the operations of ``Client``, with the same names, arguments, defaults, results and errors. None of them
    blocks the loop or holds a thread, however long it waits: a thousand waits are a thousand coroutines. Several loops
    may share a client.

    A cancelled task ends its wait at once. The store may still record a write that the task had begun. To find out,
    start the instance again under the same id.

    Times are in milliseconds, as in ``Client``; the times of a handle are in seconds.

    Args:
        provider: The opened store; a runtime in this or another process does the work.

    Raises:
        TypeError: ``provider`` is not a provider.
        NotAllowedInOrchestration: An orchestration calls, in any operation.
        ProviderError: The store fails, in any operation.
    """

    def __init__(self, provider: Provider) -> None:
        check_provider(provider)
        self._provider = provider
        self._native = _native.Client(provider._store)
        self._queue: _native.LoopQueue | None = None

    def __repr__(self) -> str:
        return f"<AsyncClient of {self._provider!r}>"

    def _begin(self, call: _native.Call[Result]) -> _native.Awaited[Result]:
        queue = self._queue = _native.LoopQueue.of_running_loop(self._queue)
        return call.begin(queue)

    # One instance, with a declared orchestration

    @overload
    async def start(
        self, orchestration: Orchestration[P, T], /, *arguments: P.args, **named: P.kwargs
    ) -> AsyncHandle[T]: ...
    @overload
    async def start(
        self,
        orchestration: Startable0[T],
        /,
        *,
        id: str | None = None,
        version: str | None = None,
        if_exists: IfExists | None = None,
        at: datetime | int | None = None,
        delay: timedelta | int | None = None,
    ) -> AsyncHandle[T]: ...
    @overload
    async def start(
        self,
        orchestration: Startable1[A, T],
        a: A,
        /,
        *,
        id: str | None = None,
        version: str | None = None,
        if_exists: IfExists | None = None,
        at: datetime | int | None = None,
        delay: timedelta | int | None = None,
    ) -> AsyncHandle[T]: ...
    @overload
    async def start(
        self,
        orchestration: Startable2[A, B, T],
        a: A,
        b: B,
        /,
        *,
        id: str | None = None,
        version: str | None = None,
        if_exists: IfExists | None = None,
        at: datetime | int | None = None,
        delay: timedelta | int | None = None,
    ) -> AsyncHandle[T]: ...
    @overload
    async def start(
        self,
        orchestration: Startable3[A, B, C, T],
        a: A,
        b: B,
        c: C,
        /,
        *,
        id: str | None = None,
        version: str | None = None,
        if_exists: IfExists | None = None,
        at: datetime | int | None = None,
        delay: timedelta | int | None = None,
    ) -> AsyncHandle[T]: ...
    @overload
    async def start(
        self,
        orchestration: Startable4[A, B, C, D, T],
        a: A,
        b: B,
        c: C,
        d: D,
        /,
        *,
        id: str | None = None,
        version: str | None = None,
        if_exists: IfExists | None = None,
        at: datetime | int | None = None,
        delay: timedelta | int | None = None,
    ) -> AsyncHandle[T]: ...
    @overload
    async def start(
        self,
        orchestration: Startable5[A, B, C, D, E, T],
        a: A,
        b: B,
        c: C,
        d: D,
        e: E,
        /,
        *,
        id: str | None = None,
        version: str | None = None,
        if_exists: IfExists | None = None,
        at: datetime | int | None = None,
        delay: timedelta | int | None = None,
    ) -> AsyncHandle[T]: ...
    @overload
    async def start(
        self,
        orchestration: str,
        input: object = None,
        /,
        *,
        id: str | None = None,
        version: str | None = None,
        if_exists: IfExists | None = None,
        at: datetime | int | None = None,
        delay: timedelta | int | None = None,
    ) -> AsyncHandle[Any]: ...
    async def start(  # type: ignore[misc]  # the parameters of an orchestration may be called as the options are
        self,
        orchestration: Any,
        /,
        *arguments: Any,
        id: str | None = None,
        version: str | None = None,
        if_exists: IfExists | None = None,
        at: datetime | int | None = None,
        delay: timedelta | int | None = None,
        **named: Any,
    ) -> Any:
        """Start an orchestration with the arguments of a call; the start is recorded when the call ends.

        Type checkers check every argument if the call has no options, or if ``.options`` of the orchestration gives
        them. Beside options of this call they check up to five arguments by position, and refuse arguments by name: write
        ``client.start(fulfil.options(instance_id="order-7"), order=order)`` for those.

        Args:
            orchestration: A declared orchestration, or a name, which takes at most one argument, the input.
            arguments: The arguments.
            id: Id of the new instance, 1 to 1,024 bytes; default ``None``, a new random one.
            version: Version to start; default ``None``, the newest one that the executing runtime has.
            if_exists: What to do when an instance of the same orchestration has the id: ``"attach"``, the default,
                leaves that instance as it is and returns a handle of it; ``"raise"`` refuses; ``"restart"`` runs it again
                from the beginning if it has ended, and ``"restart_failed"`` only if it has failed or was cancelled.
            at: When the instance begins, an aware ``datetime`` or milliseconds since 1970; default ``None``, at once. The
                store keeps the events and messages that come before.
            delay: How long after the call it begins, a ``timedelta`` or milliseconds, in place of ``at``; default
                ``None``.
            named: Arguments by name. Give an argument by position if its parameter has the name of an option.

        Returns:
            A handle of the instance.

        Raises:
            TypeError: The arguments do not fit, ``orchestration`` is neither, or both ``at`` and ``delay`` are given.
            ValueError: ``at`` has no time zone.
            InstanceAlreadyExists: An instance of another orchestration has the id; with ``if_exists="raise"``, any
                instance.
            CodecError: An argument cannot be written as JSON.
            LimitExceeded: The id or the input is too long, or the delay is longer than ten years.
        """
        options = StartOptions(id, version, if_exists, at, delay)
        chosen, value, options = describe_start(orchestration, arguments, named, options)
        answer = await self._start_and_compare(chosen, orchestration, value, options)
        handle = self.handle(chosen, orchestration)
        handle._start = answer
        return handle

    @overload
    def handle(self, id: str, orchestration: Orchestration[..., T]) -> AsyncHandle[T]: ...
    @overload
    def handle(self, id: str, orchestration: str | None = None) -> AsyncHandle[Any]: ...
    def handle(self, id: str, orchestration: Any = None) -> Any:
        """Return a handle of an instance, which need not exist yet; this call does not read the store.

        Args:
            id: The instance.
            orchestration: Its orchestration, whose annotation types and converts the result; default ``None``, the
                result is the JSON value.
        """
        handle: AsyncHandle[Any] = AsyncHandle(self, id, result_type_of(orchestration))
        return handle

    # One instance

    _start_and_compare = awaited(Client._start_and_compare)
    start_orchestration = awaited(Client.start_orchestration)
    start_orchestration_versioned = awaited(Client.start_orchestration_versioned)
    raise_event = awaited(Client.raise_event)
    enqueue_event = awaited(Client.enqueue_event)
    cancel_instance = awaited(Client.cancel_instance)
    restart = awaited(Client.restart)
    terminate = awaited(Client.terminate)
    get_status = awaited(Client.get_status)
    get_orchestration_status = awaited(Client.get_orchestration_status)
    wait_for_orchestration = awaited(Client.wait_for_orchestration)
    wait_for_status_change = awaited(Client.wait_for_status_change)
    get_kv_value = awaited(Client.get_kv_value)
    get_kv_all_values = awaited(Client.get_kv_all_values)
    wait_for_kv_value = awaited(Client.wait_for_kv_value)

    # One instance, with JSON on both sides

    start_orchestration_typed = awaited(Client.start_orchestration_typed)
    start_orchestration_versioned_typed = awaited(Client.start_orchestration_versioned_typed)
    raise_event_typed = awaited(Client.raise_event_typed)
    enqueue_event_typed = awaited(Client.enqueue_event_typed)
    wait_for_orchestration_typed = awaited(Client.wait_for_orchestration_typed)
    get_kv_value_typed = awaited(Client.get_kv_value_typed)
    wait_for_kv_value_typed = awaited(Client.wait_for_kv_value_typed)

    # Many instances, all of them or none

    start_orchestrations = awaited(Client.start_orchestrations)
    raise_events = awaited(Client.raise_events)
    enqueue_events = awaited(Client.enqueue_events)

    # Administration

    async def has_management_capability(self) -> bool:
        """Tell whether the store supports the operations below; every store of this package does."""
        return True

    list = awaited(Client.list)
    count = awaited(Client.count)
    count_by_name = awaited(Client.count_by_name)

    async def iterate(
        self,
        *,
        status: str | Iterable[str] | None = None,
        name: str | None = None,
        version: str | None = None,
        id_prefix: str | None = None,
        parent: str | None = None,
        created: Span | None = None,
        ended: Span | None = None,
        has_mismatch: bool | None = None,
        order: Order = "newest",
        page_size: int = 1_000,
    ) -> AsyncIterator[InstanceSummary]:
        """Iterate over the instances of all pages of ``list``, as ``Client.iterate`` does.

        Args:
            status: As in ``list``; so are the other conditions and ``order``.
            name: The same.
            version: The same.
            id_prefix: The same.
            parent: The same.
            created: The same.
            ended: The same.
            has_mismatch: The same.
            order: The same.
            page_size: The largest number of summaries in a page, 1 to 10,000; default 1,000.

        Yields:
            The summaries.
        """
        cursor: str | None = None
        while True:
            page = await self.list(
                status=status,
                name=name,
                version=version,
                id_prefix=id_prefix,
                parent=parent,
                created=created,
                ended=ended,
                has_mismatch=has_mismatch,
                order=order,
                limit=page_size,
                cursor=cursor,
            )
            for summary in page:
                yield summary
            cursor = page.cursor
            if cursor is None:
                return

    list_all_instances = awaited(Client.list_all_instances)
    list_instances_by_status = awaited(Client.list_instances_by_status)
    get_instance_info = awaited(Client.get_instance_info)
    describe = awaited(Client.describe)
    get_execution_info = awaited(Client.get_execution_info)
    list_executions = awaited(Client.list_executions)
    read_execution_history = awaited(Client.read_execution_history)
    get_orchestration_stats = awaited(Client.get_orchestration_stats)
    get_system_metrics = awaited(Client.get_system_metrics)
    get_queue_depths = awaited(Client.get_queue_depths)
    get_instance_tree = awaited(Client.get_instance_tree)
    delete_instance = awaited(Client.delete_instance)
    delete_instance_bulk = awaited(Client.delete_instance_bulk)
    prune_executions = awaited(Client.prune_executions)
    prune_executions_bulk = awaited(Client.prune_executions_bulk)


# Type hints of a handle name the client, which imports the handles.
setattr(async_handles, "AsyncClient", AsyncClient)  # noqa: B010  (for the type checkers the name is there)
