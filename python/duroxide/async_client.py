"""The client of programs that run on an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from duroxide import _native
from duroxide.client import Client, check_provider
from duroxide.operations import awaited

if TYPE_CHECKING:
    from duroxide.providers import Provider

Result = TypeVar("Result")


class AsyncClient:
    """Access to the orchestrations of one store, awaited on an event loop of ``asyncio``.

    It has the operations of ``Client``, with the same names, arguments, defaults, results and errors. None of them blocks
    the loop or holds a thread, however long it waits: a thousand waits are a thousand coroutines. A client may be used on
    several loops.

    A task that is cancelled gives its wait up at once. What it had begun to write may be recorded all the same: start an
    instance again under the same id, and find out.

    Args:
        provider: The opened store; a runtime in this or another process does the work.

    Raises:
        TypeError: ``provider`` is something else.
        NotAllowedInOrchestration: It is used inside an orchestration, in any operation.
        ProviderError: The store fails, in any operation.
    """

    def __init__(self, provider: Provider) -> None:
        check_provider(provider)
        self._provider = provider
        self._native = _native.Client(provider._store)
        self._mailbox: _native.Mailbox | None = None

    def __repr__(self) -> str:
        return f"<AsyncClient of {self._provider!r}>"

    def _begin(self, call: _native.Call[Result]) -> _native.Awaited[Result]:
        mailbox = self._mailbox = _native.Mailbox.of_running_loop(self._mailbox)
        return call.begin(mailbox)

    # One instance

    start_orchestration = awaited(Client.start_orchestration)
    start_orchestration_versioned = awaited(Client.start_orchestration_versioned)
    raise_event = awaited(Client.raise_event)
    enqueue_event = awaited(Client.enqueue_event)
    cancel_instance = awaited(Client.cancel_instance)
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

    # For those who run the system

    async def has_management_capability(self) -> bool:
        """Tell whether the store supports the operations below; every store of this package does."""
        return True

    list_all_instances = awaited(Client.list_all_instances)
    list_instances_by_status = awaited(Client.list_instances_by_status)
    get_instance_info = awaited(Client.get_instance_info)
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
