"""The programs of W1 to W3 as functions that are declared and called: with ``yield from`` and with ``await``."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Generator
from typing import Any

from duroxide import Orchestration, OrchestrationContext, Task, activity, context, orchestration

DECLARED = "declared"
ASYNC = "async"


@activity
def touch(number: int) -> int:
    return number


@activity
def step(number: int) -> int:
    return number + 1


@activity
def square(number: int) -> int:
    return number * number


@orchestration(name="one_activity")
def one_activity(number: int) -> Generator[Task[Any], Any, int]:
    return (yield from touch(number))


@orchestration(name="chain")
def chain(length: int) -> Generator[Task[Any], Any, int]:
    number = 0
    for _ in range(length):
        number = yield from step(number)
    return number


@orchestration(name="fan")
def fan(width: int) -> Generator[Task[Any], Any, int]:
    results = yield from context(OrchestrationContext).gather([square(number) for number in range(width)])
    return sum(results)


@orchestration(name="one_activity")
async def awaited_activity(number: int) -> int:
    return await touch(number)


@orchestration(name="chain")
async def awaited_chain(length: int) -> int:
    number = 0
    for _ in range(length):
        number = await step(number)
    return number


@orchestration(name="fan")
async def awaited_fan(width: int) -> int:
    return sum(await asyncio.gather(*(square(number) for number in range(width))))


BURST = {DECLARED: one_activity, ASYNC: awaited_activity}
CHAIN = {DECLARED: chain, ASYNC: awaited_chain}
FAN = {DECLARED: fan, ASYNC: awaited_fan}

ACTIVITIES = [touch, step, square]


def plays(
    styles: dict[str, Orchestration[..., Any]], play: Callable[[Orchestration[..., Any]], list[float]]
) -> dict[str, Callable[[], list[float]]]:
    """What plays each style: ``play`` with its orchestration."""
    return {name: functools.partial(play, written) for name, written in styles.items()}
