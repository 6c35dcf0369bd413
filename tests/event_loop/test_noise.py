"""A forgotten task is logged once; suspended, evicted and ended code logs nothing, and its memory is freed."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from conftest import StartRuntime
from duroxide import Client, OrchestrationContext, RuntimeOptions
from event_loop.conftest import ACTIVITIES, Play
from support.waiting import wait_until

LONG = 3600


@pytest.fixture
def unexpected(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Unexpected output: warnings logged by asyncio and this package, and unraisable exceptions."""
    unexpected: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: unexpected.append(repr(unraisable.exc_value)))
    with caplog.at_level(logging.WARNING), warnings.catch_warnings():
        warnings.simplefilter("error")
        yield unexpected
        gc.collect()
    unexpected += [record.getMessage() for record in caplog.records if record.name.startswith(("asyncio", "duroxide"))]


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The messages that the loop and asyncio have logged."""
    names = ("asyncio", "duroxide.orchestration")
    return [record.getMessage() for record in caplog.records if record.name in names]


async def busy(ctx: OrchestrationContext, _: Any) -> Any:
    """Begin steps, tasks and async generators of each kind, then wait."""

    async def step() -> Any:
        try:
            return await ctx.wait_for_event("never")
        finally:
            await asyncio.sleep(0)
            await ctx.schedule_activity("echo", "clean")

    async def numbers() -> Any:
        try:
            yield 1
            await asyncio.sleep(LONG)
        finally:
            await asyncio.sleep(0)

    async def iterate() -> None:
        async for _number in numbers():
            pass

    async def raises() -> None:
        raise LookupError("retrieved later")

    lock, event, queue = asyncio.Lock(), asyncio.Event(), asyncio.Queue[Any]()
    failed = asyncio.create_task(raises())
    kept = [asyncio.create_task(each) for each in (step(), iterate(), event.wait(), queue.get())]
    async with asyncio.TaskGroup() as group, lock, asyncio.timeout(LONG):
        kept.append(group.create_task(lock.acquire()))
        kept.append(group.create_task(step()))
        shielded = asyncio.shield(kept[0])
        gathered = asyncio.gather(step(), asyncio.sleep(LONG))
        branch = ctx.spawn(step())
        await ctx.wait_for_event("go")
        for each in (*kept, gathered, shielded):
            each.cancel()
    with pytest.raises(LookupError):
        await failed
    await asyncio.wait(kept)
    assert branch is not None
    return await ctx.schedule_activity("echo", "over")


def is_waiting(client: Client, instance: str) -> bool:
    if client.get_status(instance).status == "NotFound":
        return False
    return any('"go"' in event.data for event in client.read_execution_history(instance))


def test_the_exception_of_a_forgotten_task_is_logged_once(
    runtime_factory: StartRuntime, client: Client, options: RuntimeOptions, caplog: pytest.LogCaptureFixture
) -> None:
    async def forgets(ctx: OrchestrationContext, _: Any) -> Any:
        async def raises() -> None:
            raise LookupError("never retrieved")

        task = asyncio.create_task(raises(), name="forgotten")
        await asyncio.sleep(0.001)
        del task
        gc.collect()
        for number in range(3):
            await ctx.schedule_activity("echo", number)
        return "over"

    runtime_factory(ACTIVITIES, {"forgets": forgets}, options)
    client.start_orchestration("forgets", "forgets")
    assert client.wait_for_orchestration("forgets").result() == "over"
    gc.collect()
    wait_until(lambda: messages(caplog))
    assert messages(caplog) == ["orchestration 'forgets': the exception of task 'forgotten' was never retrieved"]


def test_suspended_replayed_and_ended_code_logs_nothing(
    runtime_factory: StartRuntime,
    client: Client,
    options: RuntimeOptions,
    unexpected: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    runtime = runtime_factory(ACTIVITIES, {"busy": busy}, options)
    client.start_orchestration("busy", "busy")
    wait_until(lambda: is_waiting(client, "busy"))
    client.raise_event("busy", "other")
    client.raise_event("busy", "go")
    assert client.wait_for_orchestration("busy").result() == "over"
    runtime.shutdown()
    gc.collect()
    assert (unexpected, messages(caplog)) == ([], [])


def test_evicted_code_logs_nothing(
    runtime_factory: StartRuntime, client: Client, unexpected: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    runtime_factory(ACTIVITIES, {"busy": busy}, RuntimeOptions(max_sticky_orchestrations=1))
    names = [f"busy-{number}" for number in range(4)]
    for name in names:
        client.start_orchestration(name, "busy")
    wait_until(lambda: all(is_waiting(client, name) for name in names))
    for name in names:
        client.raise_event(name, "go")
    assert [client.wait_for_orchestration(name).result() for name in names] == ["over"] * 4
    gc.collect()
    assert (unexpected, messages(caplog)) == ([], [])


def test_code_closed_by_a_shutdown_logs_nothing(
    runtime_factory: StartRuntime,
    client: Client,
    options: RuntimeOptions,
    unexpected: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    runtime = runtime_factory(ACTIVITIES, {"busy": busy}, options)
    client.start_orchestration("busy", "busy")
    wait_until(lambda: is_waiting(client, "busy"))
    runtime.shutdown()
    gc.collect()
    assert (unexpected, messages(caplog)) == ([], [])


def test_tasks_left_at_the_end_log_nothing(
    runtime_factory: StartRuntime,
    client: Client,
    options: RuntimeOptions,
    unexpected: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def leaves(ctx: OrchestrationContext, _: Any) -> Any:
        cleaned: list[Any] = []

        async def careful() -> None:
            try:
                await asyncio.sleep(LONG)
            finally:
                cleaned.append(await ctx.schedule_activity("echo", "after the end"))

        tasks = [asyncio.create_task(careful()), asyncio.create_task(asyncio.sleep(LONG))]
        await ctx.schedule_activity("echo", 1)
        return [len(tasks), cleaned]

    runtime_factory(ACTIVITIES, {"leaves": leaves}, options)
    client.start_orchestration("leaves", "leaves")
    assert client.wait_for_orchestration("leaves").result() == [2, []]
    assert "after the end" not in str(client.read_execution_history("leaves"))
    gc.collect()
    assert (unexpected, messages(caplog)) == ([], [])


def test_continuing_as_new_logs_nothing(
    runtime_factory: StartRuntime,
    client: Client,
    options: RuntimeOptions,
    unexpected: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def rounds(ctx: OrchestrationContext, left: int) -> Any:
        task = asyncio.create_task(asyncio.sleep(LONG))
        await ctx.schedule_activity("echo", left)
        if left > 0:
            await ctx.continue_as_new(left - 1)
        return task.done()

    runtime_factory(ACTIVITIES, {"rounds": rounds}, options)
    client.start_orchestration("rounds", "rounds", 3)
    assert client.wait_for_orchestration("rounds").result() is False
    gc.collect()
    assert (unexpected, messages(caplog)) == ([], [])


def test_loops_and_tasks_do_not_stay_in_memory(
    runtime_factory: StartRuntime, client: Client, options: RuntimeOptions
) -> None:
    loops: list[weakref.ref[Any]] = []

    async def short(ctx: OrchestrationContext, number: int) -> Any:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        async with asyncio.TaskGroup() as group, asyncio.timeout(LONG):
            group.create_task(asyncio.sleep(0))
            return await ctx.schedule_activity("echo", number)

    runtime = runtime_factory(ACTIVITIES, {"short": short}, options)
    for number in range(1000):
        client.start_orchestration(f"short-{number}", "short", number)
    for number in range(1000):
        assert client.wait_for_orchestration(f"short-{number}").result() == number
    gc.collect()
    wait_until(lambda: gc.collect() >= 0 and sum(loop() is not None for loop in loops) == 0)
    assert len(loops) >= 1000
    runtime.shutdown()


def test_a_cancelled_task_group_logs_nothing(
    play: Play, unexpected: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def grouped(ctx: OrchestrationContext, _: Any) -> Any:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(LONG))
                await ctx.schedule_activity("fail", "no")
        except BaseExceptionGroup as errors:
            return len(errors.exceptions)

    assert play(grouped) == 1
    gc.collect()
    assert (unexpected, messages(caplog)) == ([], [])


async def waits(awaited: Any) -> Any:
    return await awaited


def test_coroutines_made_while_a_turn_is_closed_log_nothing(
    runtime_factory: StartRuntime, client: Client, unexpected: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def cleans_up(ctx: OrchestrationContext, _: Any) -> Any:
        try:
            return await ctx.wait_for_event("go")
        finally:
            step = waits(ctx.schedule_activity("echo", 1))
            try:
                await asyncio.gather(step, waits(asyncio.sleep(LONG)))
            finally:
                parts = [waits(asyncio.sleep(LONG)), waits(waits(asyncio.sleep(LONG)))]
                async with asyncio.TaskGroup() as group, asyncio.timeout(LONG):
                    for part in parts:
                        group.create_task(part)

    runtime = runtime_factory(ACTIVITIES, {"cleans_up": cleans_up}, RuntimeOptions(sticky=False))
    client.start_orchestration("cleans_up", "cleans_up")
    wait_until(lambda: is_waiting(client, "cleans_up"))
    runtime.shutdown()
    gc.collect()
    assert (unexpected, messages(caplog)) == ([], [])


def test_coroutines_that_never_ran_log_nothing(
    runtime_factory: StartRuntime, client: Client, unexpected: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def one_by_one(ctx: OrchestrationContext, _: Any) -> Any:
        async def each(some: list[Any]) -> Any:
            for part in some:
                yield await part

        named = {"go": waits(ctx.wait_for_event("go")), "never": waits(waits(asyncio.sleep(LONG)))}
        parts = [waits(asyncio.sleep(0)), *named.values()]
        del named
        task = asyncio.create_task(waits(waits(asyncio.sleep(LONG))))
        return [result async for result in each(parts)], task

    runtime = runtime_factory(ACTIVITIES, {"one_by_one": one_by_one}, RuntimeOptions(sticky=False))
    client.start_orchestration("one_by_one", "one_by_one")
    wait_until(lambda: is_waiting(client, "one_by_one"))
    runtime.shutdown()
    gc.collect()
    assert (unexpected, messages(caplog)) == ([], [])


def test_code_that_swallows_every_exception_is_closed_where_it_sleeps(
    runtime_factory: StartRuntime, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    async def swallows(ctx: OrchestrationContext, _: Any) -> Any:
        ended = False
        while not ended:
            try:
                await asyncio.sleep(LONG)
                ended = await ctx.schedule_activity("echo", True)
            except BaseException:
                continue

    runtime_factory(ACTIVITIES, {"swallows": swallows}, RuntimeOptions(sticky=False))
    client.start_orchestration("swallows", "swallows")
    wait_until(lambda: any("does not let itself be closed" in message for message in messages(caplog)))
