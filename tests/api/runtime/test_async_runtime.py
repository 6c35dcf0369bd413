"""``async with runtime``: it does not block the loop, and ``async def`` activities run on it."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Generator
from typing import Any

import pytest

from conftest import SHUTDOWN_MS, WAIT_MS
from duroxide import (
    ActivityContext,
    AsyncClient,
    Client,
    DuroxideError,
    OrchestrationContext,
    OrchestrationFailed,
    Provider,
    Runtime,
)

Steps = Generator[Any, Any, Any]


def call_work(ctx: OrchestrationContext, input: Any) -> Steps:
    return (yield ctx.schedule_activity("work", input))


def is_running(runtime: Runtime) -> bool:
    return "running" in repr(runtime)


@pytest.fixture
def calling(runtime: Runtime) -> Runtime:
    """A runtime whose orchestration ``call_work`` calls an activity that the test registers as ``work``."""
    runtime.register_orchestration("call_work", call_work)
    return runtime


def test_an_async_activity_runs_on_the_loop_that_entered(calling: Runtime) -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    async def work(ctx: ActivityContext, input: Any) -> str:
        loops.append(asyncio.get_running_loop())
        return f"{input} from {threading.current_thread().name}"

    async def main() -> None:
        async with calling:
            await calling.async_client.start_orchestration("one", "call_work", "hello")
            end = await calling.async_client.wait_for_orchestration("one", WAIT_MS)
            assert end.result() == f"hello from {threading.current_thread().name}"
            assert loops == [asyncio.get_running_loop()]
        assert not is_running(calling)

    calling.register_activity("work", work)
    asyncio.run(main())


def test_async_activities_share_objects_of_the_loop(calling: Runtime) -> None:
    async def main() -> list[Any]:
        door = asyncio.Semaphore(2)
        inside = most = 0

        async def work(ctx: ActivityContext, input: Any) -> Any:
            nonlocal inside, most
            async with door:
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0)
                inside -= 1
            return input

        calling.register_activity("work", work)
        async with calling as runtime:
            ids = [f"order-{number}" for number in range(10)]
            for each in ids:
                await runtime.async_client.start_orchestration(each, "call_work", each)
            ends = await asyncio.gather(*(runtime.async_client.wait_for_orchestration(each, WAIT_MS) for each in ids))
        assert [end.result() for end in ends] == ids
        return [most]

    assert asyncio.run(main()) <= [2]


def test_a_failure_of_an_async_activity_keeps_its_type(calling: Runtime) -> None:
    async def work(ctx: ActivityContext, input: Any) -> None:
        raise ValueError("email is required")

    async def main() -> None:
        async with calling:
            await calling.async_client.start_orchestration("one", "call_work")
            await calling.async_client.wait_for_orchestration_typed("one", WAIT_MS)

    calling.register_activity("work", work)
    with pytest.raises(OrchestrationFailed, match="ValueError: email is required"):
        asyncio.run(main())
    assert not is_running(calling)


def test_a_cancelled_orchestration_cancels_its_activity_on_the_loop(calling: Runtime) -> None:
    async def main() -> None:
        began, cancelled = asyncio.Event(), asyncio.Event()

        async def work(ctx: ActivityContext, input: Any) -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise

        calling.register_activity("work", work)
        async with calling:
            await calling.async_client.start_orchestration("one", "call_work")
            await began.wait()
            await calling.async_client.cancel_instance("one", "too late")
            await asyncio.wait_for(cancelled.wait(), WAIT_MS / 1_000)
            end = await calling.async_client.wait_for_orchestration("one", WAIT_MS)
            assert end.error == "canceled: too late"

    asyncio.run(main())


@pytest.mark.skipif(sys.version_info < (3, 11), reason="older tasks do not show who cancelled them")
def test_an_activity_that_raises_cancelled_error_itself_has_failed(calling: Runtime) -> None:
    async def work(ctx: ActivityContext, input: Any) -> None:
        inner = asyncio.ensure_future(asyncio.Event().wait())
        inner.cancel()
        await inner

    async def main() -> Any:
        async with calling:
            await calling.async_client.start_orchestration("one", "call_work")
            return (await calling.async_client.wait_for_orchestration("one", WAIT_MS)).error

    calling.register_activity("work", work)
    assert asyncio.run(main()) == "CancelledError"


def test_leaving_does_not_block_the_loop(calling: Runtime, client: Client) -> None:
    """The running activity needs the loop to end, and leaving waits for that end."""
    runs: list[str] = []

    async def main() -> None:
        loop, began, leaving = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

        async def answer() -> str:
            began.set()
            await leaving.wait()
            return "answered"

        def work(ctx: ActivityContext, input: Any) -> str:
            runs.append(ctx.instance_id)
            return asyncio.run_coroutine_threadsafe(answer(), loop).result()

        calling.register_activity("work", work)
        async with calling:
            await calling.async_client.start_orchestration("one", "call_work")
            await began.wait()
            loop.call_later(0.1, leaving.set)

    asyncio.run(main())
    with calling:
        assert client.wait_for_orchestration("one", WAIT_MS).result() == "answered"
    assert runs == ["one"]


def test_a_shutdown_cancels_the_activities_on_the_loop_and_the_next_start_runs_them_again(
    calling: Runtime, client: Client
) -> None:
    began, steps = asyncio.Event(), list[str]()

    async def work(ctx: ActivityContext, input: Any) -> str:
        began.set()
        steps.append("begun")
        if len(steps) == 1:
            try:
                await asyncio.Event().wait()
            finally:
                steps.append("cut off")
        return "done"

    async def main() -> None:
        async with calling:
            await calling.async_client.start_orchestration("one", "call_work")
            await began.wait()
            await asyncio.to_thread(calling.shutdown, 0)
            assert steps == ["begun", "cut off"]

    calling.register_activity("work", work)
    asyncio.run(main())
    with calling:
        assert client.wait_for_orchestration("one", WAIT_MS).result() == "done"
    assert steps == ["begun", "cut off", "begun"]


def test_a_loop_that_ends_with_the_activity_loses_nothing(calling: Runtime, client: Client) -> None:
    began, steps = asyncio.Event(), list[str]()

    async def work(ctx: ActivityContext, input: Any) -> str:
        began.set()
        steps.append("begun")
        if len(steps) == 1:
            await asyncio.Event().wait()
        return "done"

    async def main() -> None:
        await calling.__aenter__()
        await calling.async_client.start_orchestration("one", "call_work")
        await began.wait()

    calling.register_activity("work", work)
    asyncio.run(main())  # cancels all tasks, the activity's too
    calling.shutdown(0)

    with calling:
        assert client.wait_for_orchestration("one", WAIT_MS).result() == "done"
    assert steps == ["begun", "begun"]


def test_a_runtime_ends_when_an_activity_finds_its_loop_closed(calling: Runtime, client: Client) -> None:
    async def work(ctx: ActivityContext, input: Any) -> str:
        return "done"

    calling.register_activity("work", work)
    asyncio.run(calling.__aenter__())
    client.start_orchestration("one", "call_work")
    while is_running(calling):
        threading.Event().wait(0.01)

    with calling:
        assert client.wait_for_orchestration("one", WAIT_MS).result() == "done"


def test_a_cancelled_start_leaves_nothing_running(calling: Runtime) -> None:
    async def main() -> None:
        entering = asyncio.ensure_future(calling.__aenter__())
        await asyncio.sleep(0)
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering

    asyncio.run(main())
    assert not is_running(calling)


def test_a_running_runtime_cannot_be_entered(calling: Runtime) -> None:
    async def main() -> None:
        with calling:
            async with calling:
                pass

    with pytest.raises(DuroxideError, match="started already"):
        asyncio.run(main())


def test_a_blocking_shutdown_on_the_loop_is_bounded(calling: Runtime, client: Client) -> None:
    began, steps = asyncio.Event(), list[str]()

    async def work(ctx: ActivityContext, input: Any) -> str:
        began.set()
        steps.append("begun")
        if len(steps) == 1:
            await asyncio.Event().wait()
        return "done"

    async def main() -> None:
        async with calling:
            await calling.async_client.start_orchestration("one", "call_work")
            await began.wait()
            calling.shutdown(0)

    calling.register_activity("work", work)
    asyncio.run(main())
    with calling:
        assert client.wait_for_orchestration("one", WAIT_MS).result() == "done"


def test_a_runtime_has_one_awaited_client(provider: Provider) -> None:
    runtime = Runtime(provider)

    assert isinstance(runtime.async_client, AsyncClient)
    assert runtime.async_client is runtime.async_client
    runtime.shutdown(SHUTDOWN_MS)
