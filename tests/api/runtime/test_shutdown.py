"""A shutdown takes no longer than its timeout."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Generator
from typing import Any

import pytest

from duroxide import ActivityContext, Client, OrchestrationContext, Runtime

Steps = Generator[Any, Any, Any]

TIMEOUT_MS = 200
# A second beyond the timeout, plus what a loaded machine takes; far less than the blocking code.
LONGEST_SECONDS = 15
BLOCKED_SECONDS = 60


def shutdown_seconds(runtime: Runtime) -> float:
    began = time.monotonic()
    runtime.shutdown(TIMEOUT_MS)
    return time.monotonic() - began


def test_an_orchestration_that_blocks_does_not_delay_a_shutdown(runtime: Runtime, client: Client) -> None:
    started, over = threading.Event(), threading.Event()

    @runtime.register_orchestration("blocked")
    def blocked(ctx: OrchestrationContext, _: Any) -> Steps:
        started.set()
        over.wait(BLOCKED_SECONDS)
        yield ctx.schedule_timer(0)

    runtime.start()
    client.start_orchestration("blocked", "blocked")
    try:
        assert started.wait(20)
        assert shutdown_seconds(runtime) < LONGEST_SECONDS
    finally:
        over.set()


def test_several_blocking_orchestrations_delay_a_shutdown_no_longer_than_one(runtime: Runtime, client: Client) -> None:
    count = 4
    started, over = threading.Semaphore(0), threading.Event()

    @runtime.register_orchestration("blocked")
    def blocked(ctx: OrchestrationContext, _: Any) -> Steps:
        started.release()
        over.wait(BLOCKED_SECONDS)
        yield ctx.schedule_timer(0)

    runtime.start()
    for number in range(count):
        client.start_orchestration(f"blocked-{number}", "blocked")
    try:
        for _ in range(count):
            assert started.acquire(timeout=20)
        # A second for each of them would be longer.
        assert shutdown_seconds(runtime) < count
    finally:
        over.set()


def test_an_orchestration_that_blocked_in_a_shutdown_completes_after_the_next_start(
    runtime: Runtime, client: Client
) -> None:
    started, over = threading.Event(), threading.Event()

    @runtime.register_orchestration("blocked")
    def blocked(ctx: OrchestrationContext, _: Any) -> Steps:
        started.set()
        over.wait(BLOCKED_SECONDS)
        yield ctx.schedule_timer(0)
        return "done"

    runtime.start()
    client.start_orchestration("blocked", "blocked")
    try:
        assert started.wait(20)
        runtime.shutdown(TIMEOUT_MS)
    finally:
        over.set()
    with runtime:
        assert client.wait_for_orchestration("blocked", 20_000).result() == "done"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_activity_that_ignores_its_cancellation_does_not_delay_a_shutdown(
    kind: str, runtime: Runtime, client: Client
) -> None:
    started, over = threading.Event(), threading.Event()

    def block(ctx: ActivityContext, _: Any) -> None:
        started.set()
        over.wait(BLOCKED_SECONDS)

    async def block_async(ctx: ActivityContext, _: Any) -> None:
        started.set()
        await asyncio.sleep(60)

    @runtime.register_orchestration("blocked")
    def blocked(ctx: OrchestrationContext, _: Any) -> Steps:
        yield ctx.schedule_activity("block")

    runtime.register_activity("block", block if kind == "sync" else block_async)
    runtime.start()
    client.start_orchestration("blocked", "blocked")
    try:
        assert started.wait(20)
        assert shutdown_seconds(runtime) < LONGEST_SECONDS
    finally:
        over.set()


def test_an_async_activity_cancelled_by_a_shutdown_runs_again_soon_after_the_next_start(
    runtime: Runtime, client: Client
) -> None:
    started = threading.Event()

    @runtime.register_activity("interrupted")
    async def interrupted(ctx: ActivityContext, _: Any) -> str:
        if not started.is_set():
            started.set()
            await asyncio.sleep(60)
        return "done"

    @runtime.register_orchestration("waiting")
    def waiting(ctx: OrchestrationContext, _: Any) -> Steps:
        return (yield ctx.schedule_activity("interrupted"))

    runtime.start()
    client.start_orchestration("waiting", "waiting")
    assert started.wait(20)
    runtime.shutdown(TIMEOUT_MS)
    with runtime:
        # Far sooner than the lease of the activity ends, after thirty seconds.
        assert client.wait_for_orchestration("waiting", 10_000).result() == "done"


def test_a_shutdown_of_an_idle_runtime_ends_before_its_timeout(runtime: Runtime) -> None:
    runtime.start()
    began = time.monotonic()
    runtime.shutdown(60_000)
    assert time.monotonic() - began < LONGEST_SECONDS
