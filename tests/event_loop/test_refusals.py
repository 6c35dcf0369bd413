"""Calls that cannot be replayed are refused with the way out; code that never ends is reported."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import signal
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from conftest import StartRuntime
from duroxide import (
    ActivityContext,
    Client,
    ConfigurationError,
    NotAllowedInOrchestration,
    OrchestrationContext,
    OrchestrationFailed,
    RuntimeOptions,
)
from duroxide._orchestration.event_loop import OrchestrationLoop
from event_loop.conftest import ACTIVITIES, Play

LONG = 3600


async def in_thread() -> None:
    await asyncio.to_thread(print)


async def in_executor() -> None:
    await asyncio.get_running_loop().run_in_executor(None, print)


async def connection() -> None:
    await asyncio.open_connection("localhost", 1)


async def server() -> None:
    await asyncio.start_server(lambda reader, writer: None, "localhost", 0)


async def name() -> None:
    await asyncio.get_running_loop().getaddrinfo("localhost", 1)


async def a_socket() -> None:
    nothing: Any = None
    await asyncio.get_running_loop().sock_recv(nothing, 1)


async def process() -> None:
    await asyncio.create_subprocess_exec("true")


async def shell() -> None:
    await asyncio.create_subprocess_shell("true")


async def a_signal() -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, print)


async def another_thread() -> None:
    asyncio.get_running_loop().call_soon_threadsafe(print)


async def file_descriptor() -> None:
    asyncio.get_running_loop().add_reader(0, print)


async def end_of_the_loop() -> None:
    asyncio.get_running_loop().stop()


async def task_factory() -> None:
    asyncio.get_running_loop().set_task_factory(None)


REFUSED: dict[Callable[[], Any], str] = {
    in_thread: "the loop's run_in_executor() runs a thread or an executor",
    in_executor: "the loop's run_in_executor() runs a thread or an executor",
    connection: "the loop's create_connection() opens a connection",
    server: "the loop's create_server() opens a connection",
    name: "the loop's getaddrinfo() resolves a name",
    a_socket: "the loop's sock_recv() uses a socket",
    process: "the loop's subprocess_exec() starts a process",
    shell: "the loop's subprocess_shell() starts a process",
    a_signal: "the loop's add_signal_handler() handles a signal",
    another_thread: "the loop's call_soon_threadsafe() is called from another thread",
    file_descriptor: "the loop's add_reader() waits for a file descriptor",
    end_of_the_loop: "the loop's stop() is for the owner of the loop, which is the runtime",
    task_factory: "the loop's set_task_factory() is for the owner of the loop, which is the runtime",
}


@pytest.mark.parametrize("refused", REFUSED, ids=lambda refused: refused.__name__)
def test_a_call_that_cannot_be_replayed_is_refused_with_the_way_out(refused: Callable[[], Any], play: Play) -> None:
    async def tries(ctx: OrchestrationContext, _: Any) -> Any:
        try:
            await refused()
        except NotAllowedInOrchestration as error:
            return str(error)

    assert play(tries) == (
        f"{REFUSED[refused]}, which cannot be replayed inside an orchestration; do it in an activity"
    )


def test_a_loop_inside_the_loop_is_refused(play: Play) -> None:
    async def inner() -> None: ...

    async def tries(ctx: OrchestrationContext, _: Any) -> Any:
        coroutine = inner()
        try:
            asyncio.run(coroutine)
        except RuntimeError as error:
            coroutine.close()
            return str(error)

    assert "cannot be called from a running event loop" in play(tries)


def test_a_future_of_a_thread_is_refused(play: Play) -> None:
    async def tries(ctx: OrchestrationContext, _: Any) -> Any:
        try:
            await asyncio.wrap_future(concurrent.futures.Future())
        except NotAllowedInOrchestration as error:
            return str(error)

    assert "asyncio.wrap_future waits for a thread or a process, which cannot be replayed" in play(tries)


def test_a_future_of_another_loop_is_refused(play: Play) -> None:
    async def tries(ctx: OrchestrationContext, _: Any) -> Any:
        try:
            await other.create_future()
        except RuntimeError as error:
            return str(error)

    with contextlib.closing(asyncio.new_event_loop()) as other:
        assert "attached to a different loop" in play(tries)


def test_a_step_of_another_orchestration_is_refused(
    runtime_factory: StartRuntime, client: Client, options: RuntimeOptions
) -> None:
    kept: list[Any] = []
    described = threading.Event()

    async def first(ctx: OrchestrationContext, _: Any) -> Any:
        kept.append(ctx.schedule_activity("echo", 1))
        described.set()
        return await ctx.wait_for_event("go")

    async def second(ctx: OrchestrationContext, _: Any) -> Any:
        return await kept[0]

    runtime_factory(ACTIVITIES, {"first": first, "second": second}, RuntimeOptions())
    client.start_orchestration("first", "first")
    assert described.wait(20)
    client.start_orchestration("second", "second")
    with pytest.raises(OrchestrationFailed, match="activity 'echo' belongs to another orchestration"):
        client.wait_for_orchestration("second").result()
    client.cancel_instance("first")
    assert client.wait_for_orchestration("first").status == "Failed"


def test_the_order_of_a_set_of_coroutines_is_refused(play: Play) -> None:
    async def tries(ctx: OrchestrationContext, _: Any) -> Any:
        async def nothing() -> None: ...

        coroutines = {nothing()}
        try:
            return [await each for each in asyncio.as_completed(coroutines)]
        except NotAllowedInOrchestration as error:
            return str(error)

    assert "give it a list of coroutines, or of tasks" in play(tries)


def test_a_wait_for_the_futures_of_gathers_is_refused(play: Play) -> None:
    async def tries(ctx: OrchestrationContext, _: Any) -> Any:
        gathers = [asyncio.gather(asyncio.sleep(0)) for _ in range(2)]
        try:
            await asyncio.wait(gathers)
        except NotAllowedInOrchestration as error:
            return str(error)

    assert "give it tasks: asyncio.create_task(...)" in play(tries)


def test_code_that_waits_for_nothing_durable_is_reported(play: Play) -> None:
    async def stuck(ctx: OrchestrationContext, _: Any) -> Any:
        await ctx.schedule_activity("echo", 1)
        await asyncio.Event().wait()

    with pytest.raises(OrchestrationFailed) as caught:
        play(stuck)
    assert "orchestration 'stuck' waits for nothing durable, and so would wait for ever: task 'stuck' waits in " in str(
        caught.value
    )


def test_tasks_that_wait_for_each_other_are_reported(play: Play) -> None:
    async def deadlock(ctx: OrchestrationContext, _: Any) -> Any:
        first, second = asyncio.Lock(), asyncio.Lock()

        async def takes(one: asyncio.Lock, other: asyncio.Lock) -> None:
            async with one:
                await asyncio.sleep(0.001)
                async with other:
                    pass

        await asyncio.gather(takes(first, second), takes(second, first))

    with pytest.raises(OrchestrationFailed, match="waits for nothing durable.*in takes.*in takes"):
        play(deadlock)


def test_code_that_spins_is_reported(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duroxide._orchestration.event_loop._MOST_CALLBACKS", 10_000)

    async def spins(ctx: OrchestrationContext, _: Any) -> Any:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(OrchestrationFailed, match="orchestration 'spins' ran 10000 callbacks without waiting"):
        play(spins)


def test_a_timer_that_is_not_a_number_or_too_long_is_refused(play: Play) -> None:
    async def tries(ctx: OrchestrationContext, _: Any) -> Any:
        refusals = []
        for delay in (float("nan"), float("inf"), 1e12):
            try:
                await asyncio.sleep(delay)
            except (ValueError, OverflowError) as error:
                refusals.append(type(error).__name__)
        return refusals

    assert play(tries) == ["ValueError", "LimitExceeded", "LimitExceeded"]


def test_a_control_flow_exception_is_not_swallowed_by_except_exception(
    runtime_factory: StartRuntime, client: Client, options: RuntimeOptions
) -> None:
    async def stubborn(ctx: OrchestrationContext, _: Any) -> Any:
        while True:
            try:
                await ctx.wait_for_event("never")
            except Exception as error:
                await ctx.schedule_activity("echo", repr(error))

    runtime_factory(ACTIVITIES, {"stubborn": stubborn}, options)
    client.start_orchestration("stubborn", "stubborn")
    client.cancel_instance("stubborn", "enough")
    assert client.wait_for_orchestration("stubborn").error == "canceled: enough"
    assert "ActivityScheduled" not in [event.kind for event in client.read_execution_history("stubborn")]


def test_a_python_without_task_groups_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: Any = SimpleNamespace(instance_id="instance", orchestration_name="name")
    monkeypatch.delattr("asyncio.timeout")
    with pytest.raises(ConfigurationError, match="needs Python 3.11 or later; write 'def' with 'yield'"):
        OrchestrationLoop(steps)


def test_an_activity_may_use_what_its_orchestration_may_not(
    runtime_factory: StartRuntime, client: Client, options: RuntimeOptions
) -> None:
    async def work(ctx: ActivityContext, _: Any) -> int:
        return await asyncio.to_thread(threading.active_count)

    async def main(ctx: OrchestrationContext, _: Any) -> Any:
        return await ctx.schedule_activity("work")

    runtime_factory({"work": work}, {"main": main}, options)
    client.start_orchestration("main", "main")
    assert client.wait_for_orchestration("main").result() > 1


def test_combinators_that_wait_for_nothing_durable_are_reported(play: Play) -> None:
    async def stuck(ctx: OrchestrationContext, _: Any) -> Any:
        async def waits_in_vain() -> None:
            await asyncio.Event().wait()

        def generator() -> Any:
            yield ctx.spawn(waits_in_vain())

        await ctx.gather(waits_in_vain(), ctx.race(generator(), waits_in_vain()), ctx.schedule_activity("echo", 1))

    with pytest.raises(OrchestrationFailed, match="orchestration 'stuck' waits for nothing durable"):
        play(stuck)
