"""The awaited client: the same operations, on an event loop and without a thread for each wait."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import uuid
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from conftest import Run, StartRuntime
from duroxide import (
    ActivityContext,
    AsyncClient,
    Client,
    EventToRaise,
    InstanceFilter,
    InstanceNotFound,
    LimitExceeded,
    OrchestrationContext,
    OrchestrationFailed,
    Provider,
    ProviderError,
    QueueMessage,
    SqliteProvider,
    StartRequest,
    WaitTimedOut,
)

Steps = Generator[Any, Any, Any]
WAIT_MS = 20_000


def echo(ctx: OrchestrationContext, input: Any) -> Any:
    return input


def wait_for_go(ctx: OrchestrationContext, input: Any) -> Steps:
    return (yield ctx.wait_for_event("go"))


def boom(ctx: OrchestrationContext, input: Any) -> Any:
    raise ValueError("email is required")


def new_id() -> str:
    return f"async-{uuid.uuid4().hex}"


@pytest.fixture
def awaited_client(provider: Provider) -> AsyncClient:
    return AsyncClient(provider)


def threads() -> list[Path]:
    return list(Path("/proc/self/task").iterdir())  # includes native threads


def public_names(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


# Each handle belongs to one kind of client: see tests/declared/test_async_handles.py.
OPERATIONS = public_names(Client) - {"start", "handle", "iterate"}


def test_both_clients_have_the_same_operations() -> None:
    assert public_names(AsyncClient) == public_names(Client)


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_an_operation_takes_and_gives_the_same_in_both_clients(name: str) -> None:
    blocking, awaited = getattr(Client, name), getattr(AsyncClient, name)

    assert inspect.signature(awaited) == inspect.signature(blocking)
    assert inspect.getdoc(awaited) == inspect.getdoc(blocking)
    assert inspect.iscoroutinefunction(awaited)
    assert not inspect.iscoroutinefunction(blocking)


def test_both_clients_iterate_with_the_same_conditions() -> None:
    blocking, awaited = inspect.signature(Client.iterate), inspect.signature(AsyncClient.iterate)

    assert awaited.parameters == blocking.parameters
    assert awaited.return_annotation == f"Async{blocking.return_annotation}"
    assert inspect.isasyncgenfunction(AsyncClient.iterate)


def test_an_orchestration_is_started_and_awaited(runtime_factory: StartRuntime, awaited_client: AsyncClient) -> None:
    runtime_factory(orchestrations={"echo": echo})
    instance = new_id()

    async def main() -> Any:
        assert await awaited_client.start_orchestration(instance, "echo", {"n": 1}) is True
        assert await awaited_client.start_orchestration(instance, "echo", {"n": 1}) is False
        return (await awaited_client.wait_for_orchestration(instance, WAIT_MS)).result()

    assert asyncio.run(main()) == {"n": 1}


def test_messages_values_and_status_are_awaited(runtime_factory: StartRuntime, awaited_client: AsyncClient) -> None:
    def talk(ctx: OrchestrationContext, input: Any) -> Steps:
        ctx.set_custom_status("waiting")
        order = yield ctx.dequeue_event_typed("orders")
        ctx.set_kv_value_typed("order", order)
        return (yield ctx.wait_for_event("go"))

    runtime_factory(orchestrations={"talk": talk})
    instance = new_id()

    async def main() -> None:
        await awaited_client.start_orchestration_versioned(instance, "talk", None, "1.0.0")
        changed = await awaited_client.wait_for_status_change(instance, timeout_ms=WAIT_MS)
        assert changed is not None
        assert changed.custom_status == "waiting"
        await awaited_client.enqueue_event_typed(instance, "orders", "four")
        assert await awaited_client.wait_for_kv_value_typed(instance, "order", WAIT_MS) == "four"
        assert await awaited_client.get_kv_value(instance, "order") == '"four"'
        assert await awaited_client.get_kv_all_values(instance) == {"order": '"four"'}
        assert (await awaited_client.get_status(instance)).status == "Running"
        await awaited_client.raise_event(instance, "go", 4)
        assert await awaited_client.wait_for_orchestration_typed(instance, WAIT_MS, result_type=int) == 4

    asyncio.run(main())


def test_many_instances_are_started_and_sent_messages_in_one_call(
    runtime_factory: StartRuntime, awaited_client: AsyncClient
) -> None:
    def take_both(ctx: OrchestrationContext, input: Any) -> Steps:
        event = ctx.spawn(ctx.wait_for_event("go"))
        ctx.set_custom_status("waits")  # on PostgreSQL, an event needs a wait that exists already
        message = yield ctx.dequeue_event("inbox")
        return [(yield event), message]

    runtime_factory(orchestrations={"take_both": take_both})
    instances = [new_id() for _ in range(3)]

    async def main() -> list[Any]:
        started = await awaited_client.start_orchestrations([StartRequest(each, "take_both") for each in instances])
        assert started == [True, True, True]
        for each in instances:
            assert await awaited_client.wait_for_status_change(each, timeout_ms=WAIT_MS) is not None
        await awaited_client.raise_events([EventToRaise(each, "go", 1) for each in instances])
        await awaited_client.enqueue_events([QueueMessage(each, "inbox", "two") for each in instances])
        ends = await asyncio.gather(*(awaited_client.wait_for_orchestration(each, WAIT_MS) for each in instances))
        return [end.output for end in ends]

    assert asyncio.run(main()) == [[1, "two"]] * 3


def test_the_store_is_managed(runtime_factory: StartRuntime, awaited_client: AsyncClient) -> None:
    runtime_factory(orchestrations={"echo": echo})
    instance = new_id()

    async def main() -> None:
        await awaited_client.start_orchestration(instance, "echo", 1)
        await awaited_client.wait_for_orchestration(instance, WAIT_MS)
        assert await awaited_client.has_management_capability()
        assert await awaited_client.list_all_instances() == [instance]
        assert await awaited_client.list_instances_by_status("Completed") == [instance]
        assert await awaited_client.list_executions(instance) == [1]
        assert (await awaited_client.get_instance_info(instance)).orchestration_name == "echo"
        assert (await awaited_client.get_execution_info(instance, 1)).status == "Completed"
        history = await awaited_client.read_execution_history(instance)
        assert [event.kind for event in history] == ["OrchestrationStarted", "OrchestrationCompleted"]
        stats = await awaited_client.get_orchestration_stats(instance)
        assert stats is not None
        assert stats.history_event_count == 2
        assert (await awaited_client.get_system_metrics()).total_instances == 1
        assert (await awaited_client.get_queue_depths()).worker_queue == 0
        assert (await awaited_client.get_instance_tree(instance)).root_id == instance
        deleted = await awaited_client.delete_instance_bulk(InstanceFilter(instance_ids=[instance]))
        assert deleted.instances_deleted == 1

    asyncio.run(main())


def test_a_failure_keeps_its_type(runtime_factory: StartRuntime, awaited_client: AsyncClient) -> None:
    runtime_factory(orchestrations={"boom": boom})
    instance = new_id()

    async def main() -> None:
        await awaited_client.start_orchestration(instance, "boom")
        await awaited_client.wait_for_orchestration_typed(instance, WAIT_MS)

    with pytest.raises(OrchestrationFailed, match="ValueError: email is required") as caught:
        asyncio.run(main())
    assert caught.value.is_caused_by(ValueError)


def test_an_operation_raises_where_it_is_awaited(awaited_client: AsyncClient) -> None:
    async def main() -> None:
        wrong = awaited_client.start_orchestration("", "echo")
        with pytest.raises(LimitExceeded):
            await wrong
        with pytest.raises(InstanceNotFound, match="'unknown'"):
            await awaited_client.get_instance_info("unknown")
        with pytest.raises(WaitTimedOut, match="'unknown' does not exist") as caught:
            await awaited_client.wait_for_orchestration("unknown", timeout_ms=1)
        assert isinstance(caught.value, TimeoutError)

    asyncio.run(main())


def test_a_thousand_waits_need_no_thread(
    store: str, runtime_factory: StartRuntime, awaited_client: AsyncClient
) -> None:
    runtime_factory(orchestrations={"wait_for_go": wait_for_go})
    # On PostgreSQL, each wait still polls.
    instances = [f"{index:04}" for index in range(100 if store == "postgres" else 1_000)]

    async def main() -> list[Any]:
        await awaited_client.start_orchestrations([StartRequest(each, "wait_for_go") for each in instances])
        before = len(threads())
        waits = [asyncio.create_task(awaited_client.wait_for_orchestration(each, 60_000)) for each in instances]
        await asyncio.sleep(0)  # every task has reached its wait
        during = len(threads())
        assert during <= before
        for each in instances:
            await awaited_client.cancel_instance(each, "enough")
        return [end.error for end in await asyncio.gather(*waits)]

    assert asyncio.run(main()) == ["canceled: enough"] * len(instances)


def test_the_loop_runs_other_tasks_during_a_wait(runtime_factory: StartRuntime, awaited_client: AsyncClient) -> None:
    runtime_factory(orchestrations={"wait_for_go": wait_for_go})

    async def main() -> Any:
        await awaited_client.start_orchestration("one", "wait_for_go")
        await awaited_client.start_orchestration("two", "wait_for_go")
        wait = asyncio.create_task(awaited_client.wait_for_orchestration("one", WAIT_MS))
        await asyncio.sleep(0)
        await awaited_client.cancel_instance("two")
        await awaited_client.wait_for_orchestration("two", WAIT_MS)
        assert not wait.done()
        await awaited_client.cancel_instance("one")
        return (await wait).status

    assert asyncio.run(main()) == "Failed"


def test_cancelling_a_task_ends_its_wait(awaited_client: AsyncClient) -> None:
    async def main() -> None:
        wait = asyncio.create_task(awaited_client.wait_for_orchestration("unknown", 3_600_000))
        await asyncio.sleep(0)
        wait.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wait
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(awaited_client.wait_for_orchestration("unknown", 3_600_000), 0.01)
        assert (await awaited_client.get_status("unknown")).status == "NotFound"

    asyncio.run(main())


def test_closing_the_loop_during_a_wait_logs_nothing(
    runtime_factory: StartRuntime,
    awaited_client: AsyncClient,
    client: Client,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    runtime_factory(orchestrations={"echo": echo})

    async def begin() -> Any:
        return awaited_client._begin(awaited_client._native.wait("late", WAIT_MS))

    with caplog.at_level(logging.DEBUG):
        pending = asyncio.run(begin())
        client.start_orchestration("late", "echo")
        client.wait_for_orchestration("late", WAIT_MS)
        pending.abort()

    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert capfd.readouterr() == ("", "")


def test_one_client_serves_several_loops(runtime_factory: StartRuntime, awaited_client: AsyncClient) -> None:
    runtime_factory(orchestrations={"wait_for_go": wait_for_go})
    ends: list[str] = []
    waiting = threading.Barrier(3)

    async def wait(instance: str) -> None:
        await awaited_client.start_orchestration(instance, "wait_for_go")
        task = asyncio.create_task(awaited_client.wait_for_orchestration(instance, WAIT_MS))
        await asyncio.sleep(0)
        waiting.wait()
        ends.append((await task).status)

    threads = [threading.Thread(target=asyncio.run, args=(wait(each),)) for each in ("one", "two")]
    for thread in threads:
        thread.start()
    waiting.wait()
    for each in ("one", "two"):
        asyncio.run(awaited_client.cancel_instance(each))
    for thread in threads:
        thread.join()

    assert ends == ["Failed", "Failed"]


def test_an_async_activity_may_use_it(run: Run, awaited_client: AsyncClient) -> None:
    async def look(ctx: ActivityContext, input: Any) -> str:
        return (await awaited_client.get_status(ctx.instance_id)).status

    def ask(ctx: OrchestrationContext, input: Any) -> Steps:
        return (yield ctx.schedule_activity("look"))

    assert run(ask, activities={"look": look}) == "Running"


@pytest.mark.task_groups
def test_an_orchestration_may_not_use_it(run: Run, awaited_client: AsyncClient) -> None:
    async def ask(ctx: OrchestrationContext, input: Any) -> Any:
        return (await awaited_client.get_status("unknown")).status

    with pytest.raises(OrchestrationFailed, match="NotAllowedInOrchestration: a call of the client"):
        run(ask)


def test_a_call_on_a_closed_store_is_refused() -> None:
    provider = SqliteProvider.in_memory()
    client = AsyncClient(provider)
    provider.close()

    with pytest.raises(ProviderError, match="closed"):
        asyncio.run(client.get_status("unknown"))


def test_the_client_needs_a_provider() -> None:
    with pytest.raises(TypeError, match="provider must be"):
        AsyncClient("orders.db")  # type: ignore[arg-type]
