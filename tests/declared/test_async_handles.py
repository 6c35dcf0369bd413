"""Awaited handles: the same operations as those of the blocking client, without blocking the loop."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

import duroxide
from declared.conftest import Serve
from duroxide import (
    ActivityFailed,
    AsyncClient,
    AsyncHandle,
    Backoff,
    Client,
    Handle,
    OrchestrationCancelled,
    OrchestrationFailed,
    Provider,
    RetryPolicy,
    SubOrchestrationFailed,
    WaitTimedOut,
    activity,
    orchestration,
)


@dataclass
class Order:
    id: str
    total: Decimal


ORDER = Order("order-7", Decimal("9.90"))


@orchestration
async def echo(order: Order, note: str = "none") -> Order:
    return Order(f"{order.id} {note}", order.total)


@orchestration
async def listen() -> list[Any]:
    duroxide.context().set_custom_status("listens")
    return [await duroxide.wait_for_event("go", int), await duroxide.dequeue_event("inbox", str)]


@activity(retry=RetryPolicy(max_attempts=2, backoff=Backoff.none()))
def decline() -> None:
    raise ValueError("no money")


@orchestration
async def pay() -> None:
    await decline()


@orchestration
async def fulfil() -> None:
    await pay()


@pytest.fixture
def awaited_client(provider: Provider) -> AsyncClient:
    return AsyncClient(provider)


def operations(kind: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(each) for name, each in inspect.getmembers(kind, inspect.isfunction) if name[0] != "_"
    }


def test_both_handles_have_the_same_operations() -> None:
    assert operations(AsyncHandle) == operations(Handle)
    assert all(inspect.iscoroutinefunction(getattr(AsyncHandle, name)) for name in operations(Handle))
    for name in operations(Handle):
        assert inspect.getdoc(getattr(AsyncHandle, name)) == inspect.getdoc(getattr(Handle, name))


def test_both_clients_take_the_same_arguments_for_a_start() -> None:
    for name in ("start", "handle"):
        assert inspect.signature(getattr(AsyncClient, name)) == inspect.signature(getattr(Client, name))


def test_result_has_the_annotated_type(serve: Serve, awaited_client: AsyncClient) -> None:
    serve(echo)

    async def main() -> None:
        handle = await awaited_client.start(echo, ORDER, "quick", id="a")
        assert (handle.id, repr(handle)) == ("a", "<AsyncHandle of instance 'a'>")
        assert await handle.result(60) == Order("order-7 quick", Decimal("9.90"))
        assert await awaited_client.handle("a", echo).result() == Order("order-7 quick", Decimal("9.90"))
        assert await awaited_client.handle("a").result() == {"id": "order-7 quick", "total": "9.90"}
        assert await (await awaited_client.start(echo.options(instance_id="b"), ORDER)).result() == Order(
            "order-7 none", Decimal("9.90")
        )
        assert (await (await awaited_client.start("echo", ORDER)).wait()).status == "Completed"

    asyncio.run(main())


def test_handle_sends_messages_and_reads_values(serve: Serve, awaited_client: AsyncClient) -> None:
    serve(listen)

    async def main() -> None:
        handle = await awaited_client.start(listen)
        await awaited_client.wait_for_status_change(handle.id, 0)
        assert (await handle.status()).custom_status == "listens"
        with pytest.raises(WaitTimedOut):
            await handle.result(0.05)
        await handle.raise_event("go", 5)
        await handle.enqueue("inbox", "5")
        assert await handle.result() == [5, "5"]
        assert (await handle.history())[0].kind == "OrchestrationStarted"

    asyncio.run(main())


def test_failure_names_the_activity_as_its_cause(serve: Serve, awaited_client: AsyncClient) -> None:
    serve(fulfil, pay, decline)

    async def main() -> None:
        with pytest.raises(OrchestrationFailed) as failed:
            await (await awaited_client.start(fulfil)).result()
        child = failed.value.__cause__
        assert isinstance(child, SubOrchestrationFailed)
        assert isinstance(child.__cause__, ActivityFailed)
        assert (child.__cause__.activity_name, child.__cause__.attempts) == ("decline", 2)

    asyncio.run(main())


def test_result_of_a_cancelled_instance_raises_with_the_reason(serve: Serve, awaited_client: AsyncClient) -> None:
    serve(listen)

    async def main() -> None:
        handle = await awaited_client.start(listen)
        await handle.cancel("not needed")
        with pytest.raises(OrchestrationCancelled, match="not needed"):
            await handle.result()

    asyncio.run(main())


def test_attaching_with_another_input_is_said(serve: Serve, provider: Provider) -> None:
    serve(echo)

    async def main() -> list[Any]:
        client = AsyncClient(provider)
        first = await client.start(echo, ORDER, id="a")
        await first.result()
        other = await client.start(echo, Order("other", Decimal(1)), id="a")
        return [first.is_new, first.has_other_input, other.is_new, other.has_other_input]

    assert asyncio.run(main()) == [True, False, False, True]
