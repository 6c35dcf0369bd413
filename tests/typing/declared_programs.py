"""Programs of declared functions that both type checkers accept, with the inferred types. Nothing here runs."""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import asyncio
from collections.abc import Generator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from typing_extensions import assert_type

import duroxide
from duroxide import (
    Activity,
    ActivityContext,
    AsyncClient,
    AsyncHandle,
    Client,
    Event,
    Handle,
    Orchestration,
    OrchestrationContext,
    OrchestrationResult,
    RetryPolicy,
    Runtime,
    SqliteProvider,
    StartRequest,
    Task,
    TransactionClient,
    activity,
    orchestration,
    wait_for_event,
)


class CardDeclined(Exception):
    """An error that is not retried."""


@dataclass
class Order:
    """An input."""

    total: Decimal


@dataclass
class Receipt:
    """A result."""

    amount: Decimal


@activity(retry=RetryPolicy(max_attempts=5, non_retryable=[CardDeclined]), tag="payments")
async def charge(order: Order, amount: Decimal) -> Receipt:
    """Be async."""
    return Receipt(min(order.total, amount))


@activity
def ship(order: Order, express: bool = False, *, note: str = "") -> str:
    """Be sync, with defaults."""
    return f"{order} {express} {note}"


@activity(name="weigh", session="scales")
def weigh(ctx: ActivityContext, order: Order) -> int:
    """Take the context, which is not an argument."""
    return len(f"{ctx.instance_id} {order}")


@activity
async def ping(ctx: ActivityContext) -> None:
    """Take nothing."""
    ctx.trace_info("ping")


@activity
def anything(value: object) -> str:
    """Take any value, and no context."""
    return str(value)


@orchestration
async def fulfil(order: Order, express: bool = False) -> str:
    """Await calls."""
    receipt = await charge(order, amount=order.total)
    assert_type(receipt, Receipt)
    assert_type(ship(order, express, note="quick"), Task[str])
    assert_type(await weigh(order), int)
    assert_type(await weigh.options(session=None, retry={"max_attempts": 3})(order), int)
    await ping()
    assert_type(await anything(5), str)
    approval = await wait_for_event("approval", Receipt)
    assert_type(approval, Receipt)
    assert_type(await wait_for_event("whatever"), Any)
    assert_type(await duroxide.dequeue_event("inbox", Order), Order)
    parcels = await asyncio.gather(*(ship(part) for part in (order, order)))
    assert_type(parcels, list[str])
    both = await asyncio.gather(ship(order), weigh(order))
    assert_type(both, tuple[str, int])
    started = asyncio.create_task(ship(order))
    assert_type(await started, str)
    assert_type(await asyncio.wait_for(ship(order), 60), str)
    assert_type(duroxide.context(OrchestrationContext).instance_id, str)
    if express:
        await fulfil.continue_as_new(order, express=False)
    return " ".join(parcels)


@orchestration(version="1.1.0")
def steps(ctx: OrchestrationContext, order: Order) -> Generator[Task[object], Any, int]:
    """Yield calls; ``yield from`` knows their types, ``yield`` does not."""
    receipt = yield from charge(order, order.total)
    assert_type(receipt, Receipt)
    untyped = yield ship(order)
    assert_type(untyped, Any)
    weight = yield from ctx.schedule_activity(weigh, order)
    assert_type(weight, int)
    text = yield from ctx.schedule_sub_orchestration(fulfil, order)
    assert_type(text, str)
    yield ctx.start_orchestration(fulfil, "other", order)
    child = yield from fulfil.options(instance_id="child", version="1.0.0")(order)
    assert_type(child, str)
    return weight


@orchestration
async def nothing() -> list[Receipt]:
    """Take nothing."""
    return []


assert_type(ship.fn(Order(Decimal(1))), Any)
named: Activity[..., str] = ship
orchestrations: list[Orchestration[..., Any]] = [fulfil, nothing]

with Runtime(SqliteProvider.in_memory(), functions=[fulfil, nothing, charge, ship, asyncio]) as runtime:
    client: Client = runtime.client
    order = Order(Decimal(1))
    assert_type(client.start(fulfil, order), Handle[str])
    assert_type(client.start(fulfil, order, True), Handle[str])
    assert_type(client.start(fulfil, order=order, express=True), Handle[str])
    assert_type(client.start(fulfil, order, id="order-7"), Handle[str])
    assert_type(client.start(fulfil, order, True, id="order-7", version="1.0.0", if_exists="raise"), Handle[str])
    assert_type(client.start(fulfil.options(instance_id="order-7"), order=order), Handle[str])
    assert_type(client.start(fulfil.options(instance_id="order-7"), order, express=True), Handle[str])
    assert_type(client.start(nothing), Handle[list[Receipt]])
    assert_type(client.start(nothing, id="empty"), Handle[list[Receipt]])
    assert_type(client.start("fulfil", {"total": 1}, id="order-7"), Handle[Any])
    handle = client.handle("order-7", fulfil)
    assert_type(handle, Handle[str])
    assert_type(client.handle("order-7"), Handle[Any])
    transaction = TransactionClient(None)
    assert_type(transaction.start(fulfil, order), str)
    assert_type(transaction.start(fulfil, order, True, id="order-7", version="1.0.0"), str)
    assert_type(transaction.start(fulfil.options(instance_id="order-7"), order=order), str)
    assert_type(transaction.start("fulfil", {"total": 1}, id="order-7"), str)
    assert_type(handle.result(timeout=60), str)
    assert_type(handle.result(timedelta(minutes=1)), str)
    assert_type(handle.wait(None), OrchestrationResult)
    assert_type(handle.status(), OrchestrationResult)
    assert_type(handle.history(), list[Event])
    handle.raise_event("approval", Receipt(Decimal(1)))
    handle.enqueue("inbox", order)
    handle.cancel("not needed")
    client.start_orchestration("order-7", fulfil, order)
    client.start_orchestrations([StartRequest("order-7", fulfil, order)])


async def serve(client: AsyncClient) -> None:
    """Await the other client."""
    order = Order(Decimal(1))
    handle = await client.start(fulfil, order)
    assert_type(handle, AsyncHandle[str])
    assert_type(await client.start(fulfil, order, id="order-7"), AsyncHandle[str])
    assert_type(await client.start(fulfil.options(instance_id="order-7"), order=order), AsyncHandle[str])
    assert_type(await client.start(nothing), AsyncHandle[list[Receipt]])
    assert_type(client.handle("order-7", fulfil), AsyncHandle[str])
    assert_type(await handle.result(timeout=60), str)
    assert_type(await handle.history(), list[Event])
