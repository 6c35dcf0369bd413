"""The time limits of an attempt: the worker keeps them, and counts from the begin of the code."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import pytest

from duroxide import (
    ActivityContext,
    ActivityTimedOut,
    Client,
    OrchestrationContext,
    Provider,
    RetryPolicy,
    Runtime,
    RuntimeOptions,
)
from support.waiting import wait_until

Steps = Generator[Any, Any, Any]
WAIT_SECONDS = 30
WAIT_MS = WAIT_SECONDS * 1000


def one_attempt(**limits: int) -> RetryPolicy:
    return RetryPolicy(max_attempts=1, **limits)


def of(activity: str, policy: RetryPolicy) -> Callable[..., Steps]:
    """Return an orchestration that runs one activity, and returns its result or the text of its timeout."""

    def limited(ctx: OrchestrationContext, input: Any) -> Steps:
        try:
            return (yield ctx.schedule_activity(activity, input, retry=policy))
        except ActivityTimedOut as failure:
            return failure.message

    return limited


@pytest.mark.parametrize("executor", [None, lambda: ThreadPoolExecutor(1)], ids=["threads", "pool"])
def test_the_time_in_the_queue_does_not_count_as_time_of_the_attempt(
    executor: Callable[[], Executor] | None, provider: Provider
) -> None:
    width = 8

    def job(ctx: ActivityContext, number: int) -> int:
        time.sleep(0.1)
        return number

    def fan_out(ctx: OrchestrationContext, _: Any) -> Steps:
        policy = one_attempt(attempt_timeout=500)
        return sum((yield ctx.gather(*(ctx.schedule_activity("job", number, retry=policy) for number in range(width)))))

    runtime = Runtime(provider, RuntimeOptions(worker_concurrency=width if executor else 1), executor=executor)
    runtime.register_activity("job", job)
    runtime.register_orchestration("fan_out", fan_out)
    client = Client(provider)
    with runtime:
        client.start_orchestration("wide", "fan_out", None)
        assert client.wait_for_orchestration("wide", WAIT_MS).result() == sum(range(width))


def test_a_timed_out_activity_that_does_not_end_leaves_its_slot_to_the_next_one(provider: Provider) -> None:
    over = threading.Event()
    runtime = Runtime(provider, RuntimeOptions(worker_concurrency=1))
    runtime.register_activity("deaf", lambda ctx, input: over.wait(WAIT_SECONDS))
    runtime.register_activity("echo", lambda ctx, input: input)
    runtime.register_orchestration("deaf", of("deaf", one_attempt(attempt_timeout=50)))
    runtime.register_orchestration("echo", of("echo", one_attempt()))
    client = Client(provider)
    try:
        with runtime:
            client.start_orchestration("first", "deaf", None)
            message = client.wait_for_orchestration("first", WAIT_MS).result()
            client.start_orchestration("second", "echo", "there is room")
            assert client.wait_for_orchestration("second", WAIT_MS).result() == "there is room"
            over.set()
    finally:
        over.set()
    assert message == "activity 'deaf' did not finish within 50 ms in its attempt number 1"


def test_a_timed_out_activity_learns_that_it_is_cancelled(provider: Provider) -> None:
    cancelled = threading.Event()

    def listens(ctx: ActivityContext, input: Any) -> None:
        while not ctx.is_cancelled():
            time.sleep(0.001)
        cancelled.set()

    runtime = Runtime(provider)
    runtime.register_activity("listens", listens)
    runtime.register_orchestration("limited", of("listens", one_attempt(attempt_timeout=50)))
    client = Client(provider)
    with runtime:
        client.start_orchestration("instance", "limited", None)
        client.wait_for_orchestration("instance", WAIT_MS)
        assert cancelled.wait(WAIT_SECONDS)


def test_a_timed_out_coroutine_gets_cancelled_error_where_it_waits(provider: Provider) -> None:
    cancelled = threading.Event()

    async def waits(ctx: ActivityContext, input: Any) -> None:
        try:
            await asyncio.sleep(WAIT_SECONDS)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    runtime = Runtime(provider)
    runtime.register_activity("waits", waits)
    runtime.register_orchestration("limited", of("waits", one_attempt(attempt_timeout=50)))
    client = Client(provider)
    with runtime:
        client.start_orchestration("instance", "limited", None)
        client.wait_for_orchestration("instance", WAIT_MS)
        assert cancelled.wait(WAIT_SECONDS)


def test_an_attempt_that_waits_too_long_in_the_queue_never_begins(provider: Provider) -> None:
    begun, over = threading.Event(), threading.Event()
    ran: list[Any] = []

    def busy(ctx: ActivityContext, input: Any) -> None:
        begun.set()
        over.wait(WAIT_SECONDS)

    runtime = Runtime(provider, RuntimeOptions(worker_concurrency=1))
    runtime.register_activity("busy", busy)
    runtime.register_activity("late", lambda ctx, input: ran.append(input))
    runtime.register_orchestration("busy", of("busy", one_attempt()))
    runtime.register_orchestration("late", of("late", one_attempt(start_timeout=20)))
    client = Client(provider)
    try:
        with runtime:
            client.start_orchestration("first", "busy", None)
            assert begun.wait(WAIT_SECONDS)
            client.start_orchestration("second", "late", None)
            wait_until(lambda: has_waited(client, "second", 20))
            over.set()
            message = client.wait_for_orchestration("second", WAIT_MS).result()
    finally:
        over.set()
    assert message == "activity 'late' did not begin within 20 ms in its attempt number 1"
    assert ran == []


def has_waited(client: Client, instance: str, milliseconds: int) -> bool:
    """Whether the activity of an instance was scheduled longer ago than this."""
    if client.get_status(instance).status == "NotFound":
        return False
    events = client.read_execution_history(instance)
    latest = time.time() * 1000 - milliseconds
    return any(event.kind == "ActivityScheduled" and event.timestamp_ms < latest for event in events)


def test_new_code_may_change_the_time_limit_of_an_attempt_that_is_under_way(provider: Provider) -> None:
    begun, over = threading.Event(), threading.Event()

    def slow(ctx: ActivityContext, input: Any) -> str:
        begun.set()
        while not over.is_set() and not ctx.is_cancelled():
            time.sleep(0.001)
        return "done"

    def serve(attempt_timeout: int | None) -> tuple[Client, Runtime]:
        # The lease of the last life must end before the next life can take the activity.
        runtime = Runtime(provider, RuntimeOptions(worker_lock_timeout_ms=2_000))
        policy = RetryPolicy(max_attempts=1, attempt_timeout=attempt_timeout)
        runtime.register_activity("slow", slow)
        runtime.register_orchestration("limited", of("slow", policy))
        return Client(provider), runtime

    client, runtime = serve(WAIT_MS)
    with runtime:
        client.start_orchestration("instance", "limited", None)
        assert begun.wait(WAIT_SECONDS)
        runtime.shutdown(0)
    for attempt_timeout in (None, 2 * WAIT_MS):
        begun.clear()
        client, runtime = serve(attempt_timeout)
        with runtime:
            assert begun.wait(WAIT_SECONDS)
            runtime.shutdown(0)
    over.set()
    client, runtime = serve(WAIT_MS)
    with runtime:
        assert client.wait_for_orchestration("instance", WAIT_MS).result() == "done"


def test_the_data_of_an_event_shows_the_input_without_the_time_limits(provider: Provider) -> None:
    runtime = Runtime(provider)
    runtime.register_activity("echo", lambda ctx, input: input)
    runtime.register_orchestration("limited", of("echo", one_attempt(attempt_timeout=WAIT_MS, start_timeout=WAIT_MS)))
    client = Client(provider)
    with runtime:
        client.start_orchestration("instance", "limited", "text")
        assert client.wait_for_orchestration("instance", WAIT_MS).result() == "text"
    events = client.read_execution_history("instance")
    [scheduled] = [event for event in events if event.kind == "ActivityScheduled"]
    assert "\\u0002" not in scheduled.data
    assert "text" in scheduled.data
