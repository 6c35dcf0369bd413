"""The context inside a coroutine orchestration: combinators, generators and effects."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from typing import Any

import pytest

from conftest import StartRuntime
from duroxide import ActivityFailed, Client, OrchestrationContext, RuntimeOptions
from event_loop.conftest import ACTIVITIES, Play

LONG = 3600


def test_combinators_of_the_context_take_coroutines_generators_and_steps(play: Play) -> None:
    async def mixed(ctx: OrchestrationContext, _: Any) -> Any:
        async def coroutine() -> Any:
            await asyncio.sleep(0.001)
            return await ctx.schedule_activity("echo", "coroutine")

        def generator() -> Generator[Any, Any, Any]:
            return (yield ctx.schedule_activity("echo", "generator"))

        gathered = await ctx.gather(coroutine(), generator(), ctx.schedule_activity("echo", "step"))
        outcomes = await ctx.all([coroutine(), ctx.schedule_activity("fail", "no")])
        winner = await ctx.race(ctx.wait_for_event("never"), generator())
        spawned = ctx.spawn(coroutine())
        return [gathered, outcomes[0], list(outcomes[1]), winner, await spawned]

    assert play(mixed) == [
        ["coroutine", "generator", "step"],
        {"ok": "coroutine"},
        ["err"],
        {"index": 1, "value": "generator"},
        "coroutine",
    ]


def test_a_coroutine_that_loses_a_race_is_cancelled_and_may_clean_up(play: Play) -> None:
    async def races(ctx: OrchestrationContext, _: Any) -> Any:
        cleaned: list[str] = []

        async def loser() -> None:
            try:
                await asyncio.sleep(LONG)
            finally:
                cleaned.append(await ctx.schedule_activity("echo", "clean"))

        winner = await ctx.race(loser(), ctx.schedule_timer(5))
        await ctx.schedule_activity("echo", "continue")
        await asyncio.sleep(0.01)
        return [winner["index"], cleaned]

    assert play(races) == [1, ["clean"]]


def test_awaiting_a_combinator_raises_the_failure_of_its_coroutine(play: Play) -> None:
    async def fails(ctx: OrchestrationContext, _: Any) -> Any:
        async def coroutine() -> None:
            await ctx.schedule_activity("fail", "inside")

        try:
            await ctx.gather(coroutine(), ctx.wait_for_event("never"))
        except ActivityFailed as error:
            return str(error)

    assert play(fails) == "ValueError: inside"


def test_asyncio_takes_combinators_of_the_context(play: Play) -> None:
    async def mixed(ctx: OrchestrationContext, _: Any) -> Any:
        both = asyncio.create_task(ctx.gather(*[ctx.schedule_activity("echo", number) for number in range(2)]))
        return await asyncio.gather(both, ctx.race(ctx.schedule_activity("echo", "won"), ctx.wait_for_event("never")))

    assert play(mixed) == [[0, 1], {"index": 0, "value": "won"}]


def test_a_timeout_cancels_a_coroutine_and_the_step_that_it_awaits(
    runtime_factory: StartRuntime, client: Client, options: RuntimeOptions
) -> None:
    async def given_up(ctx: OrchestrationContext, _: Any) -> Any:
        try:
            async with asyncio.timeout(0.01):
                await ctx.gather(ctx.wait_for_event("a"), ctx.wait_for_event("b"))
        except TimeoutError:
            return await ctx.schedule_activity("echo", "given up")

    runtime_factory(ACTIVITIES, {"given_up": given_up}, options)
    client.start_orchestration("given_up", "given_up")
    assert client.wait_for_orchestration("given_up").result() == "given up"
    kinds = [event.kind for event in client.read_execution_history("given_up")]
    assert kinds.count("ExternalSubscribedCancelled") == 2


def test_messages_reach_the_waits_in_the_order_in_which_these_began(
    runtime_factory: StartRuntime, client: Client, options: RuntimeOptions
) -> None:
    async def takes(ctx: OrchestrationContext, _: Any) -> Any:
        async def take(name: str) -> list[Any]:
            return [name, await ctx.dequeue_event("inbox"), await ctx.dequeue_event("inbox")]

        return await asyncio.gather(take("a"), take("b"))

    runtime_factory(ACTIVITIES, {"takes": takes}, options)
    client.start_orchestration("takes", "takes")
    for number in range(4):
        client.enqueue_event("takes", "inbox", str(number))
    assert client.wait_for_orchestration("takes").result() == [["a", "0", "2"], ["b", "1", "3"]]


@pytest.mark.alone
@pytest.mark.slow
def test_a_fan_out_of_ten_times_as_many_takes_about_ten_times_as_long(
    runtime_factory: StartRuntime, client: Client
) -> None:
    async def wide(ctx: OrchestrationContext, width: int) -> int:
        return sum(await asyncio.gather(*[ctx.schedule_activity("echo", number) for number in range(width)]))

    runtime_factory(ACTIVITIES, {"wide": wide})

    def seconds(name: str, width: int) -> float:
        began = time.perf_counter()
        client.start_orchestration(name, "wide", width)
        assert client.wait_for_orchestration(name, 100_000).result() == sum(range(width))
        return time.perf_counter() - began

    seconds("warm", 100)
    few = min(seconds(f"few-{number}", 1_000) for number in range(3))
    many = min(seconds(f"many-{number}", 10_000) for number in range(2))
    # A quadratic cost would be a hundred times as long; garbage collections make it a little more than ten.
    assert many < 70 * few
