"""A program of declared functions, in a process that is killed: ``shop.py STORE LEDGER``, with the store as JSON."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from decimal import Decimal

from crash.worker import OPTIONS, open_store
from duroxide import RetryPolicy, Runtime, activity, orchestration, wait_for_event


@dataclass(frozen=True)
class Order:
    id: str
    total: Decimal
    lines: tuple[str, ...]

    def split(self) -> list[Order]:
        return [Order(f"{self.id}-{line}", self.total, (line,)) for line in self.lines]


@dataclass(frozen=True)
class Receipt:
    order: str
    amount: Decimal


@dataclass(frozen=True)
class Approval:
    by: str


@dataclass(frozen=True)
class Parcel:
    lines: tuple[str, ...]
    paid: Decimal = Decimal(0)
    approved_by: str = ""


class CardDeclined(Exception):
    pass


ORDER = Order("order-7", Decimal("9.90"), tuple(f"line {number}" for number in range(12)))


def note(what: str) -> None:
    """Append a line to the ledger, in one write."""
    ledger = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(ledger, f"{what}\n".encode())
    os.close(ledger)


@activity(retry=RetryPolicy(max_attempts=5, non_retryable=(CardDeclined,)))
async def charge(order: Order, amount: Decimal) -> Receipt:
    note(f"charged {order.id}")
    return Receipt(order.id, amount)


@activity
def ship(order: Order) -> Parcel:
    note(f"shipped {order.id}")
    return Parcel(order.lines)


@orchestration
async def fulfil(order: Order) -> Parcel:
    receipt = await charge(order, amount=order.total)
    async with asyncio.timeout(3600):
        approval = await wait_for_event("approval", Approval)
    parcels: list[Parcel] = []
    for first in range(0, len(order.lines), 3):
        parcels += await asyncio.gather(*(ship(part) for part in order.split()[first : first + 3]))
    lines = tuple(line for parcel in parcels for line in parcel.lines)
    return Parcel(lines, receipt.amount, approval.by)


def main() -> None:
    with (
        open_store(json.loads(sys.argv[1])) as provider,
        Runtime(provider, OPTIONS, functions=[fulfil, charge, ship]) as runtime,
    ):
        handle = runtime.client.start(fulfil, ORDER, id=ORDER.id)
        print(handle.result(timeout=60), flush=True)


if __name__ == "__main__":
    main()
