"""Second starts and shutdowns, threads, and what a runtime leaves behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from duroxide import Client, DuroxideError, OrchestrationContext, Runtime
from processes.conftest import hello
from support.waiting import wait_until

Steps = Generator[Any, Any, Any]


def test_a_second_start_is_refused_and_the_runtime_keeps_working(hello_runtime: Runtime, client: Client) -> None:
    hello_runtime.start()
    with pytest.raises(DuroxideError, match="started already"):
        hello_runtime.start()
    assert hello(client, "hello-1") == "Hello, hello-1!"


def test_a_second_shutdown_does_nothing(hello_runtime: Runtime, client: Client) -> None:
    hello_runtime.shutdown()
    hello_runtime.start()
    assert hello(client, "hello-1") == "Hello, hello-1!"
    hello_runtime.shutdown()
    hello_runtime.shutdown()
    assert "stopped" in repr(hello_runtime)


def test_a_runtime_can_be_started_again_and_again(hello_runtime: Runtime, client: Client) -> None:
    for number in range(3):
        with hello_runtime:
            assert hello(client, f"hello-{number}") == f"Hello, hello-{number}!"


def test_two_threads_that_start_one_runtime_start_it_once(hello_runtime: Runtime, client: Client) -> None:
    refusals: list[BaseException] = []

    def start() -> None:
        try:
            hello_runtime.start()
        except DuroxideError as error:
            refusals.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refusals) == 3
    assert hello(client, "hello-1") == "Hello, hello-1!"


def test_a_shutdown_does_not_end_the_wait_of_another_thread(hello_runtime: Runtime, client: Client) -> None:
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            client.wait_for_orchestration("unknown", 200)
        except BaseException as error:
            errors.append(error)

    with hello_runtime:
        thread = threading.Thread(target=wait)
        thread.start()
    thread.join()
    assert [type(error).__name__ for error in errors] == ["WaitTimedOut"]


def test_many_threads_share_one_client(hello_runtime: Runtime, client: Client) -> None:
    results: list[Any] = []
    threads = [threading.Thread(target=lambda n=n: results.append(hello(client, f"hello-{n}"))) for n in range(16)]
    with hello_runtime:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(results) == sorted(f"Hello, hello-{number}!" for number in range(16))


def test_a_blocked_activity_delays_a_shutdown_only_until_its_timeout(runtime: Runtime, client: Client) -> None:
    started, over = threading.Event(), threading.Event()

    def block(ctx: Any, _: Any) -> None:
        started.set()
        over.wait(60)

    def blocked(ctx: OrchestrationContext, _: Any) -> Steps:
        yield ctx.schedule_activity("block", None)

    runtime.register_activity("block", block)
    runtime.register_orchestration("blocked", blocked)
    runtime.start()
    client.start_orchestration("blocked", "blocked")
    assert started.wait(20)
    began = time.monotonic()
    runtime.shutdown(100)
    took = time.monotonic() - began
    over.set()
    assert took < 30


def threads_of_activities() -> int:
    """How many threads of this process run activities, by the names that the system shows."""
    count = 0
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError):
            count += (task / "comm").read_text().startswith("duroxide-act")
    return count


def test_no_thread_of_an_activity_outlives_its_runtime(runtime: Runtime, client: Client) -> None:
    async def coroutine(ctx: Any, input: Any) -> Any:
        return input

    def both(ctx: OrchestrationContext, _: Any) -> Steps:
        return (yield ctx.gather(ctx.schedule_activity("echo", 1), ctx.schedule_activity("coroutine", 2)))

    runtime.register_activity("echo", lambda ctx, input: input)
    runtime.register_activity("coroutine", coroutine)
    runtime.register_orchestration("both", both)
    before = threading.active_count()
    for number in range(3):
        with runtime:
            client.start_orchestration(f"both-{number}", "both")
            assert client.wait_for_orchestration(f"both-{number}", 20_000).result() == [1, 2]
    wait_until(lambda: threads_of_activities() == 0)
    wait_until(lambda: threading.active_count() <= before)
