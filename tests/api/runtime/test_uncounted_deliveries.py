"""A delivery that ended in order does not count, so that many deployments give nothing up."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from typing import Any

from conftest import WAIT_MS, OpenProvider
from duroxide import ActivityContext, Client, OrchestrationContext, Provider, Runtime, RuntimeOptions

Steps = Generator[Any, Any, Any]

OPTIONS = RuntimeOptions(max_attempts=2)
# More than `max_attempts`.
DEPLOYMENTS = 4
WAIT_SECONDS = WAIT_MS / 1000


def test_an_activity_that_outlasts_many_shutdowns_stays_at_its_first_attempt(
    provider: Provider, reopen: OpenProvider
) -> None:
    attempts: list[int] = []
    begun, may_end = threading.Event(), threading.Event()

    def long_work(ctx: ActivityContext, input: Any) -> str:
        attempts.append(ctx.attempt)
        begun.set()
        while not may_end.is_set() and not ctx.is_cancelled():
            time.sleep(0.001)
        return "done"

    def job(ctx: OrchestrationContext, input: Any) -> Steps:
        return (yield ctx.schedule_activity("long_work"))

    def deploy(store: Provider) -> Runtime:
        runtime = Runtime(store, OPTIONS)
        runtime.register_activity("long_work", long_work)
        runtime.register_orchestration("job", job)
        runtime.start()
        return runtime

    store = provider
    Client(store).start_orchestration("job", "job")
    for _ in range(DEPLOYMENTS):
        runtime = deploy(store)
        assert begun.wait(WAIT_SECONDS)
        begun.clear()
        runtime.shutdown(0)
        store = reopen()
    may_end.set()
    runtime = deploy(store)
    try:
        assert Client(store).wait_for_orchestration("job", WAIT_MS).result() == "done"
    finally:
        runtime.shutdown()
    assert attempts == [1] * (DEPLOYMENTS + 1)


def test_an_instance_that_waits_for_its_code_over_many_restarts_is_not_given_up(
    provider: Provider, reopen: OpenProvider
) -> None:
    def job(ctx: OrchestrationContext, input: Any) -> Steps:
        return (yield ctx.wait_for_event("go"))

    def other(ctx: OrchestrationContext, input: Any) -> Any:
        return input

    with Runtime(provider, OPTIONS, functions=[job]) as runtime:
        runtime.client.start_orchestration("job", "job")
        deadline = time.monotonic() + WAIT_SECONDS
        while not [event for event in events(runtime.client) if event.kind == "ExternalSubscribed"]:
            assert time.monotonic() < deadline
            time.sleep(0.005)
    Client(provider).raise_event("job", "go", "went")
    store = provider
    for _ in range(DEPLOYMENTS):
        with Runtime(store, OPTIONS, functions=[other]) as runtime:
            deadline = time.monotonic() + WAIT_SECONDS
            while not runtime.metrics_snapshot().orch_waiting_for_code:
                assert time.monotonic() < deadline
                time.sleep(0.005)
        store = reopen()
    with Runtime(store, OPTIONS, functions=[job]) as runtime:
        assert runtime.client.wait_for_orchestration("job", WAIT_MS).result() == "went"


def events(client: Client) -> list[Any]:
    return [] if client.get_status("job").status == "NotFound" else client.read_execution_history("job")
