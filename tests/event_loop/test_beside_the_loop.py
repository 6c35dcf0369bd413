"""The loop together with work that it does not run: combinators, generators beside it, and the end."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

from conftest import StartRuntime
from duroxide import Client, DuroxideError, OrchestrationContext, RuntimeOptions
from event_loop.conftest import ACTIVITIES, Play
from support.waiting import wait_for_event_kind

Steps = Generator[Any, Any, Any]


def test_a_step_that_loses_a_race_fails_for_its_other_waiters(play: Play) -> None:
    async def orchestration(ctx: OrchestrationContext, _: Any) -> list[str]:
        shared = ctx.wait_for_event("never")

        async def watch() -> str:
            try:
                await shared
            except DuroxideError as error:
                return str(error)
            return "no failure"

        watcher = asyncio.create_task(watch())
        await asyncio.sleep(0)
        winner = await ctx.race(ctx.schedule_activity("echo", "fast"), shared)
        return [winner["value"], await watcher]

    value, failure = play(orchestration)
    assert value == "fast"
    assert "was cancelled" in failure


def test_the_clean_up_of_a_race_loser_can_wake_the_orchestration(play: Play) -> None:
    async def orchestration(ctx: OrchestrationContext, _: Any) -> str:
        closed = asyncio.Event()

        async def loser() -> None:
            try:
                await ctx.wait_for_event("never")
            finally:
                closed.set()

        async def race() -> None:
            await ctx.race(loser(), ctx.schedule_activity("echo", 1))
            await ctx.wait_for_event("never either")

        racing = asyncio.create_task(race())
        await closed.wait()
        return f"woken while {racing.get_name()} waits"

    assert play(orchestration).startswith("woken")


def test_a_generator_beside_the_loop_wakes_its_waiter_at_once(play: Play) -> None:
    async def orchestration(ctx: OrchestrationContext, _: Any) -> list[Any]:
        event = asyncio.Event()

        def sets_it() -> Steps:
            yield ctx.schedule_activity("echo", 1)
            event.set()

        began = ctx.now()
        beside = ctx.spawn(sets_it())
        later = ctx.spawn(ctx.schedule_timer(60_000))
        await event.wait()
        await beside
        return [repr(later).startswith("<Task timer"), (ctx.now() - began).total_seconds() < 30]

    assert play(orchestration) == [True, True]


def test_a_task_that_swallows_its_cancellation_does_not_outlive_the_orchestration(play: Play) -> None:
    async def orchestration(ctx: OrchestrationContext, _: Any) -> str:
        async def polls() -> None:
            while True:
                try:
                    await ctx.schedule_activity("echo", 1)
                    await asyncio.sleep(0.01)
                except BaseException:
                    continue

        polling = asyncio.create_task(polls())
        await ctx.schedule_activity("echo", 2)
        return f"done beside {polling.get_name()}"

    assert play(orchestration).startswith("done")


def test_tasks_left_at_the_end_record_nothing(
    runtime_factory: StartRuntime, client: Client, options: RuntimeOptions
) -> None:
    async def orchestration(ctx: OrchestrationContext, _: Any) -> str:
        async def leftover() -> None:
            try:
                await ctx.wait_for_event("never")
            finally:
                ctx.set_custom_status("too late")

        task = asyncio.create_task(leftover())
        await asyncio.sleep(0)
        return task.get_name()

    runtime_factory(ACTIVITIES, {"tested": orchestration}, options=options)
    client.start_orchestration("tested", "tested")

    assert client.wait_for_orchestration("tested").custom_status is None


def test_a_function_that_takes_a_step_before_it_returns_its_coroutine_is_replayed(
    runtime_factory: StartRuntime, client: Client, options: RuntimeOptions
) -> None:
    def orchestration(ctx: OrchestrationContext, _: Any) -> Any:
        ctx.set_custom_status("prepared")

        async def rest() -> list[Any]:
            return [await ctx.schedule_activity("echo", 1), await ctx.wait_for_event("go")]

        return rest()

    runtime_factory(ACTIVITIES, {"tested": orchestration}, options=options)
    client.start_orchestration("tested", "tested")
    wait_for_event_kind(client, "tested", "ExternalSubscribed")
    client.raise_event("tested", "go", 2)

    assert client.wait_for_orchestration("tested").output == [1, 2]
