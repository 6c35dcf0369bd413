"""Mistakes with declared functions that both type checkers must refuse. Nothing here runs."""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from typing import Any

import duroxide
from duroxide import (
    ActivityContext,
    Client,
    Handle,
    OrchestrationContext,
    Runtime,
    SqliteProvider,
    Task,
    TransactionClient,
    activity,
    orchestration,
    wait_for_event,
)


@activity
async def charge(order: int, amount: int = 0) -> str:
    """Be async."""
    return f"{order} {amount}"


@activity
def ship(ctx: ActivityContext, order: int) -> int:
    """Take the context."""
    return order


@orchestration
async def fulfil(order: int, note: str = "") -> str:
    """Misuse calls."""
    charge("5")  # type: ignore[arg-type]
    charge(5, price=3)  # type: ignore[call-arg]
    charge()  # type: ignore[call-arg]
    ship(duroxide.context(ActivityContext), 5)  # type: ignore[call-arg, arg-type]
    number: int = await charge(order)  # type: ignore[assignment]
    text: str = charge(order)  # type: ignore[assignment]
    charge(order).upper()  # type: ignore[attr-defined]
    length = 1 + ship(order)  # type: ignore[operator]
    event: int = await wait_for_event("paid", str)  # type: ignore[arg-type]
    numbers: list[int] = await asyncio.gather(*(charge(each) for each in range(3)))  # type: ignore[assignment]
    charge.options(instance_id="a")  # type: ignore[call-arg]
    charge.options(retry=3)  # type: ignore[arg-type]
    fulfil.options(tag="gpu")  # type: ignore[call-arg]
    fulfil.continue_as_new("5")  # type: ignore[arg-type]
    return f"{number} {text} {length} {event} {numbers} {note}"


@orchestration
def steps(ctx: OrchestrationContext, order: int) -> Generator[Task[object], Any, int]:
    """Misuse tasks."""
    number: int = yield from charge(order)  # type: ignore[assignment]
    weight: str = yield from ctx.schedule_activity(ship, order)  # type: ignore[assignment]
    ctx.schedule_activity(fulfil, order)  # type: ignore[call-overload]
    ctx.schedule_sub_orchestration(charge, order)  # type: ignore[call-overload]
    length: int = ship(order)  # type: ignore[assignment]
    return number + len(weight) + length


@orchestration  # type: ignore[arg-type]
async def stream(order: int) -> AsyncIterator[int]:
    """Be an async generator."""
    yield order


@orchestration  # type: ignore[arg-type]
def forgotten(order: int) -> int:
    """Have no step at all, as if a yield was forgotten."""
    return order


@activity(retries=3)  # type: ignore[call-overload, untyped-decorator]
def retried(order: int) -> int:
    """Have an unknown option."""
    return order


client = Client(SqliteProvider.in_memory())
client.start(fulfil, "5")  # type: ignore[misc]
client.start(fulfil, "5", id="order-7")  # type: ignore[arg-type, call-arg]
client.start(fulfil)  # type: ignore[arg-type]
client.start(fulfil, id="order-7")  # type: ignore[arg-type]
client.start(fulfil.options(instance_id="order-7"))  # type: ignore[arg-type]
client.start(fulfil, 5, "quick", "twice")  # type: ignore[arg-type]
client.start(fulfil, 5, if_exists="replace")  # type: ignore[call-arg]
client.start(charge, 5)  # type: ignore[call-overload]
client.start(fulfil.fn, 5)  # type: ignore[call-overload]
client.start(len, "5")  # type: ignore[call-overload]
client.start_orchestration("order-7", charge, 5)  # type: ignore[arg-type]
transaction = TransactionClient(None)
transaction.start(fulfil, "5", id="order-7")  # type: ignore[arg-type, call-arg]
transaction.start(fulfil, id="order-7")  # type: ignore[arg-type]
transaction.start(fulfil, 5, if_exists="raise")  # type: ignore[call-arg]
handle: Handle[int] = client.start(fulfil, 5)  # type: ignore[arg-type]
length: int = client.handle("order-7", fulfil).result()  # type: ignore[assignment]
client.handle("order-7", charge)  # type: ignore[call-overload]
handle.result("1 s")  # type: ignore[arg-type]
handle.raise_event()  # type: ignore[call-arg]
Runtime(SqliteProvider.in_memory(), functions=["charge"])  # type: ignore[list-item]
