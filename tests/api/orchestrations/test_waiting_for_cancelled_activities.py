"""A cancelled call with ``cancellation="wait"`` ends when its activity has really ended."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from conftest import StartRuntime
from duroxide import (
    ActivityContext,
    Client,
    OrchestrationContext,
    RetryPolicy,
    Runtime,
    RuntimeOptions,
    TagFilter,
)
from support.waiting import wait_for_event_kind, wait_until

pytestmark = [
    pytest.mark.task_groups,
    pytest.mark.parametrize("sticky", [True, False], ids=["awake", "replayed"]),
]

Play = Callable[..., Runtime]


class Log(list[str]):
    """What the activities did, in order, with the activities."""

    async def work(self, ctx: ActivityContext, _: Any) -> None:
        self.append("begun")
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.05)
            self.append("ended")

    def toil(self, ctx: ActivityContext, _: Any) -> str:
        self.append("begun")
        while not ctx.is_cancelled():
            threading.Event().wait(0.005)
        self.append("ended")
        return "result"

    def note(self, ctx: ActivityContext, text: str) -> None:
        self.append(text)


@pytest.fixture
def log() -> Log:
    """The activities, and what they did."""
    return Log()


@pytest.fixture
def play(runtime_factory: StartRuntime, client: Client, log: Log, sticky: bool) -> Play:
    """Starts a runtime, and an orchestration as the instance ``order``."""

    def play(orchestration: Callable[..., Coroutine[Any, Any, Any]], **options: Any) -> Runtime:
        activities = {"work": log.work, "toil": log.toil, "note": log.note}
        runtime = runtime_factory(activities, {"order": orchestration}, RuntimeOptions(sticky=sticky, **options))
        client.start_orchestration("order", "order")
        return runtime

    return play


def recorded(client: Client) -> list[str]:
    return [event.kind for event in client.read_execution_history("order")]


@pytest.mark.parametrize("retry", [None, RetryPolicy(max_attempts=5)], ids=["once", "retried"])
@pytest.mark.parametrize("name", ["work", "toil"])
def test_a_cancelled_task_ends_when_its_activity_has_ended(
    play: Play, client: Client, log: Log, name: str, retry: Any
) -> None:
    async def supervises(ctx: OrchestrationContext, _: Any) -> str:
        task = asyncio.ensure_future(ctx.schedule_activity(name, cancellation="wait", retry=retry))
        await ctx.wait_for_event("enough")
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            await ctx.schedule_activity("note", "cancelled")
        return "done"

    play(supervises)
    wait_until(lambda: log, "the activity to begin")
    client.raise_event("order", "enough")

    assert client.wait_for_orchestration("order").output == "done"
    assert log == ["begun", "ended", "cancelled"]
    assert "ActivityCancelRequested" not in recorded(client)


def test_a_second_cancellation_changes_nothing(play: Play, client: Client, log: Log) -> None:
    async def supervises(ctx: OrchestrationContext, _: Any) -> str:
        task = asyncio.ensure_future(ctx.schedule_activity("toil", cancellation="wait"))
        await ctx.wait_for_event("enough")
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await ctx.schedule_activity("note", "cancelled" if task.cancelled() else "not cancelled")
        return "done"

    play(supervises)
    wait_until(lambda: log, "the activity to begin")
    client.raise_event("order", "enough")

    assert client.wait_for_orchestration("order").output == "done"
    assert log == ["begun", "ended", "cancelled"]


def test_the_clean_up_of_a_cancelled_orchestration_begins_when_its_activity_has_ended(
    play: Play, client: Client, log: Log
) -> None:
    async def cleans_up(ctx: OrchestrationContext, _: Any) -> None:
        try:
            await ctx.schedule_activity("toil", cancellation="wait")
        finally:
            await ctx.schedule_activity("note", "cleaned up")

    play(cleans_up)
    wait_until(lambda: log, "the activity to begin")
    client.cancel_instance("order", "enough")

    assert client.wait_for_orchestration("order").error == "canceled: enough"
    assert log == ["begun", "ended", "cleaned up"]


def test_a_timeout_ends_when_its_activity_has_ended(play: Play, client: Client, log: Log) -> None:
    async def hurries(ctx: OrchestrationContext, _: Any) -> str:
        try:
            async with asyncio.timeout(0.1):
                await ctx.schedule_activity("work", cancellation="wait")
        except TimeoutError:
            await ctx.schedule_activity("note", "timed out")
        return "done"

    play(hurries)

    assert client.wait_for_orchestration("order").output == "done"
    assert log in (["begun", "ended", "timed out"], ["timed out"])


def test_an_activity_that_has_not_begun_does_not_run(play: Play, client: Client, log: Log) -> None:
    async def changes_its_mind(ctx: OrchestrationContext, _: Any) -> str:
        task = asyncio.ensure_future(ctx.schedule_activity("toil", cancellation="wait"))
        await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return "cancelled"
        return "not cancelled"

    play(changes_its_mind)

    assert client.wait_for_orchestration("order").output == "cancelled"
    assert log == []


def test_a_wait_for_the_end_continues_in_the_next_process(play: Play, client: Client, log: Log) -> None:
    async def supervises(ctx: OrchestrationContext, _: Any) -> str:
        task = asyncio.ensure_future(ctx.schedule_activity("note", "never", cancellation="wait").with_tag("nowhere"))
        await ctx.wait_for_event("enough")
        task.cancel()
        await asyncio.wait([task])
        return "cancelled" if task.cancelled() else "not cancelled"

    first = play(supervises)
    wait_for_event_kind(client, "order", "ExternalSubscribed")
    client.raise_event("order", "enough")
    wait_for_event_kind(client, "order", "QueueSubscribed", count=2)
    first.shutdown(timedelta(seconds=5))
    # The first process could not run the activity. This one finds it, and ends it before it begins.
    play(supervises, worker_tag_filter=TagFilter.tags("nowhere"))

    assert client.wait_for_orchestration("order").output == "cancelled"
    assert log == []


def test_a_timer_waits_as_if_no_activity_had_been_cancelled(play: Play, client: Client, log: Log) -> None:
    async def supervises(ctx: OrchestrationContext, _: Any) -> str:
        task = asyncio.ensure_future(ctx.schedule_activity("toil", cancellation="wait"))
        await ctx.wait_for_event("enough")
        task.cancel()
        await asyncio.wait([task])
        await asyncio.Event().wait()
        return "never"

    play(supervises)
    wait_until(lambda: log, "the activity to begin")
    client.raise_event("order", "enough")

    # What was asked for the end is not left behind as something that could wake the code.
    assert "waits for nothing durable" in str(client.wait_for_orchestration("order").error)
