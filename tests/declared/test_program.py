"""The model program of declared functions, whole."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from duroxide import RetryPolicy, Runtime, SqliteProvider, activity, orchestration, wait_for_event


@dataclass
class Order:
    id: str
    total: Decimal
    lines: list[str] = field(default_factory=list)

    def split(self) -> list[Order]:
        return [Order(f"{self.id}-{line}", self.total, [line]) for line in self.lines]


@dataclass
class Receipt:
    order: str
    amount: Decimal


@dataclass
class Approval:
    by: str


@dataclass
class Parcel:
    lines: list[str]


class CardDeclined(Exception):
    pass


def merge(parcels: list[Parcel]) -> Parcel:
    return Parcel([line for parcel in parcels for line in parcel.lines])


@activity(retry=RetryPolicy(max_attempts=5, non_retryable=[CardDeclined]))
async def charge(order: Order, amount: Decimal) -> Receipt:
    return Receipt(order.id, amount)


@activity
def ship(order: Order) -> Parcel:
    return Parcel(order.lines)


@orchestration
async def fulfil(order: Order) -> Parcel:
    receipt = await charge(order, amount=order.total)
    async with asyncio.timeout(3600):
        approval = await wait_for_event("approval", Approval)
    parcels = await asyncio.gather(*(ship(part) for part in order.split()))
    assert (receipt.amount, approval.by) == (order.total, "Ada")
    return merge(parcels)


def test_order_is_fulfilled(tmp_path: Path) -> None:
    order = Order("order-7", Decimal("9.90"), ["cup", "pot"])
    with (
        SqliteProvider.open(str(tmp_path / "shop.db")) as provider,
        Runtime(provider, functions=[fulfil, charge, ship]) as runtime,
    ):
        handle = runtime.client.start(fulfil, order, id="order-7")
        handle.raise_event("approval", Approval("Ada"))
        parcel = handle.result(timeout=60)

    assert parcel == Parcel(["cup", "pot"])


def test_another_orchestration_of_the_same_name_takes_one_step_at_a_time(tmp_path: Path) -> None:
    @orchestration(name="fulfil")
    async def one_by_one(order: Order) -> Parcel:
        receipt = await charge(order, amount=order.total)
        approval = await wait_for_event("approval", Approval)
        assert (receipt.amount, approval.by) == (order.total, "Ada")
        return merge([await ship(part) for part in order.split()])

    order = Order("order-7", Decimal("9.90"), ["cup", "pot"])
    with (
        SqliteProvider.open(str(tmp_path / "shop.db")) as provider,
        Runtime(provider, functions=[one_by_one, charge, ship]) as runtime,
    ):
        handle = runtime.client.start(one_by_one, order, id="order-7")
        handle.raise_event("approval", Approval("Ada"))

        assert handle.result(timeout=60) == Parcel(["cup", "pot"])
