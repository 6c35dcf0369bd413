"""Sleep, timeouts and the clock are durable, and follow the history."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from conftest import Function, StartRuntime
from duroxide import Client, OrchestrationContext, RuntimeOptions
from event_loop.conftest import ACTIVITIES, Play

LONG = 3600


def test_a_timeout_that_expires_raises(play: Play) -> None:
    async def late(ctx: OrchestrationContext, _: Any) -> Any:
        try:
            async with asyncio.timeout(0.01) as scope:
                await ctx.wait_for_event("never")
        except TimeoutError:
            return [await ctx.schedule_activity("echo", "too late"), scope.expired()]

    assert play(late) == ["too late", True]


def test_a_timeout_that_does_not_expire_changes_nothing(play: Play) -> None:
    async def in_time(ctx: OrchestrationContext, _: Any) -> Any:
        async with asyncio.timeout(LONG) as scope:
            value = await ctx.schedule_activity("echo", "in time")
        return [value, scope.expired()]

    assert play(in_time) == ["in time", False]


def test_the_inner_of_two_timeouts_expires_alone(play: Play) -> None:
    async def nested(ctx: OrchestrationContext, _: Any) -> Any:
        async with asyncio.timeout(LONG) as outer:
            try:
                async with asyncio.timeout(0.01):
                    await asyncio.sleep(LONG)
            except TimeoutError:
                return [await ctx.schedule_activity("echo", "inner"), outer.expired()]

    assert play(nested) == ["inner", False]


def test_timeout_at_takes_a_time_of_the_loop(play: Play) -> None:
    async def late(ctx: OrchestrationContext, _: Any) -> Any:
        loop = asyncio.get_running_loop()
        when = loop.time() + 0.02
        try:
            async with asyncio.timeout_at(when):
                await asyncio.sleep(LONG)
        except TimeoutError:
            return loop.time() >= when

    assert play(late) is True


def test_a_timeout_may_be_rescheduled(play: Play) -> None:
    async def rescheduled(ctx: OrchestrationContext, _: Any) -> Any:
        async with asyncio.timeout(0.01) as scope:
            scope.reschedule(asyncio.get_running_loop().time() + LONG)
            await asyncio.sleep(0.05)
        return scope.expired()

    assert play(rescheduled) is False


def test_a_timeout_of_zero_expires_at_once(play: Play) -> None:
    async def at_once(ctx: OrchestrationContext, _: Any) -> Any:
        seen = []
        for delay in (0, -1):
            try:
                async with asyncio.timeout(delay):
                    await ctx.wait_for_event("never")
            except TimeoutError:
                seen.append(await ctx.schedule_activity("echo", delay))
        return seen

    assert play(at_once) == [0, -1]


def test_wait_for_returns_the_value_or_raises(play: Play) -> None:
    async def waits(ctx: OrchestrationContext, _: Any) -> Any:
        value = await asyncio.wait_for(ctx.schedule_activity("echo", "value"), LONG)
        try:
            await asyncio.wait_for(ctx.wait_for_event("never"), 0.01)
        except TimeoutError:
            return [value, "too late"]

    assert play(waits) == ["value", "too late"]


def test_wait_for_waits_for_the_clean_up_of_the_task_that_it_cancels(play: Play) -> None:
    async def waits(ctx: OrchestrationContext, _: Any) -> Any:
        cleaned = []

        async def careful() -> None:
            try:
                await asyncio.sleep(LONG)
            finally:
                cleaned.append(await ctx.schedule_activity("echo", "clean"))

        try:
            await asyncio.wait_for(careful(), 0.01)
        except TimeoutError:
            return cleaned

    assert play(waits) == ["clean"]


def test_sleep_is_a_durable_timer(runtime_factory: StartRuntime, client: Client, options: RuntimeOptions) -> None:
    async def sleeps(ctx: OrchestrationContext, _: Any) -> Any:
        await asyncio.sleep(0)
        return await asyncio.sleep(0.02, "slept")

    runtime_factory(ACTIVITIES, {"sleeps": sleeps}, options)
    client.start_orchestration("sleeps", "sleeps")
    assert client.wait_for_orchestration("sleeps").result() == "slept"
    kinds = [event.kind for event in client.read_execution_history("sleeps")]
    assert (kinds.count("TimerCreated"), kinds.count("TimerFired")) == (1, 1)


def recorded_by(
    orchestration: Function, runtime_factory: StartRuntime, client: Client, options: RuntimeOptions
) -> list[str]:
    """Run an orchestration to its end, and return the kinds of its recorded events about timers and activities."""
    runtime_factory(ACTIVITIES, {"timed": orchestration}, options)
    client.start_orchestration("timed", "timed")
    client.wait_for_orchestration("timed").result()
    kinds = [event.kind for event in client.read_execution_history("timed")]
    return [kind for kind in kinds if kind.startswith(("Timer", "Activity"))]


ONE_ACTIVITY = ["ActivityScheduled", "ActivityCompleted"]


def test_a_timer_of_no_length_records_nothing(
    runtime_factory: StartRuntime, client: Client, options: RuntimeOptions
) -> None:
    async def hurries(ctx: OrchestrationContext, _: Any) -> Any:
        loop, called = asyncio.get_running_loop(), asyncio.Event()
        await asyncio.sleep(0)
        loop.call_later(0, called.set)
        await called.wait()
        for when in (loop.time(), loop.time() - 1):
            called.clear()
            loop.call_at(when, called.set)
            await called.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        return await ctx.schedule_activity("echo", "done")

    assert recorded_by(hurries, runtime_factory, client, options) == ONE_ACTIVITY


def test_a_timer_that_was_cancelled_does_nothing_and_records_nothing_more(
    runtime_factory: StartRuntime, client: Client, options: RuntimeOptions
) -> None:
    async def cancels(ctx: OrchestrationContext, _: Any) -> Any:
        loop, called = asyncio.get_running_loop(), []
        at_once = loop.call_later(LONG, called.append, "at once")
        at_once.cancel()
        at_once.cancel()
        loop.call_later(0, called.append, "of no length").cancel()
        later = loop.call_later(0.02, called.append, "later")
        await ctx.schedule_activity("echo", "a turn between")
        later.cancel()
        await asyncio.sleep(0.05)
        return await ctx.schedule_activity("echo", called)

    recorded = recorded_by(cancels, runtime_factory, client, options)
    # The two that were cancelled, and the sleep.
    assert recorded.count("TimerCreated") == 3
    assert client.get_status("timed").output == []


def test_the_time_of_the_loop_is_that_of_the_history(play: Play) -> None:
    async def times(ctx: OrchestrationContext, _: Any) -> Any:
        loop = asyncio.get_running_loop()
        began, now = loop.time(), ctx.now()
        await asyncio.sleep(0.05)
        passed = loop.time() - began
        # Recorded, so that another time at replay would not match.
        await ctx.schedule_activity("echo", [began, passed])
        return [began, passed >= 0.05, abs((ctx.now() - now).total_seconds() - passed) < 0.001 or loop.time() - began]

    began, slept, _ = play(times)
    assert (began, slept) == (0, True)


def test_call_later_runs_its_callback_unless_cancelled(play: Play) -> None:
    async def calls(ctx: OrchestrationContext, _: Any) -> Any:
        loop = asyncio.get_running_loop()
        called: list[str] = []
        loop.call_soon(called.append, "soon")
        loop.call_later(0.01, called.append, "later")
        loop.call_at(loop.time() + 0.01, called.append, "never").cancel()
        await asyncio.sleep(0.03)
        return await ctx.schedule_activity("echo", called)

    assert play(calls) == ["soon", "later"]
