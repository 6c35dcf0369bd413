"""The orchestrations of the application in these tests."""

from __future__ import annotations

from typing import Any

from duroxide import activity, dequeue_event, orchestration, wait_for_event

WAIT_SECONDS = 20


@activity
def pack(number: int) -> str:
    return f"packed {number}"


@orchestration
def fulfil(number: int) -> Any:
    return (yield pack(number))


@orchestration
def paid(number: int) -> Any:
    amount = yield wait_for_event("paid", int)
    return [number, amount]


@orchestration
def listen(count: int) -> Any:
    received = [0] * count
    for place in range(count):
        received[place] = yield dequeue_event("inbox", int)
    return received


FUNCTIONS = [pack, fulfil, paid, listen]
