"""Several runtimes on one store in one process do not fail each other's work, however long it waits."""

from __future__ import annotations

import threading
from collections.abc import Generator
from typing import Any

import pytest

from conftest import StartRuntime
from duroxide import ActivityContext, Client, OrchestrationContext, RuntimeOptions, WaitTimedOut

Steps = Generator[Any, Any, Any]

UNREGISTERED_MS = 500
# Long enough for a runtime without the code to give up the work.
PATIENCE_MS = 4 * UNREGISTERED_MS


def options(**more: Any) -> RuntimeOptions:
    return RuntimeOptions(unregistered="fail", unregistered_timeout_ms=UNREGISTERED_MS, **more)


def test_an_activity_waits_for_the_busy_runtime_that_has_registered_it(
    runtime_factory: StartRuntime, client: Client
) -> None:
    started, over = threading.Event(), threading.Event()

    def slow(ctx: ActivityContext, input: Any) -> Any:
        started.set()
        over.wait(60)
        return input

    def both(ctx: OrchestrationContext, _: Any) -> Steps:
        return (yield ctx.gather(ctx.schedule_activity("slow", 1), ctx.schedule_activity("slow", 2)))

    runtime_factory({}, {"both": both}, options())
    runtime_factory({"slow": slow}, {}, options(worker_concurrency=1))
    client.start_orchestration("both", "both")
    try:
        assert started.wait(20)
        with pytest.raises(WaitTimedOut):
            client.wait_for_orchestration("both", PATIENCE_MS)
    finally:
        over.set()
    assert client.wait_for_orchestration("both", 20_000).result() == [1, 2]


def test_an_orchestration_waits_for_the_busy_runtime_that_has_registered_it(
    runtime_factory: StartRuntime, client: Client
) -> None:
    started, over = threading.Event(), threading.Event()

    def busy(ctx: OrchestrationContext, _: Any) -> str:
        started.set()
        # Bad practice in user code; here it occupies the only slot of the runtime.
        over.wait(60)
        return "busy"

    def late(ctx: OrchestrationContext, _: Any) -> str:
        return "late"

    runtime_factory({}, {"other": late}, options())
    runtime_factory({}, {"busy": busy, "late": late}, options(orchestration_concurrency=1))
    client.start_orchestration("busy", "busy")
    try:
        assert started.wait(20)
        client.start_orchestration("late", "late")
        with pytest.raises(WaitTimedOut):
            client.wait_for_orchestration("late", PATIENCE_MS)
    finally:
        over.set()
    assert client.wait_for_orchestration("late", 20_000).result() == "late"


def test_an_activity_that_no_runtime_has_registered_still_fails(runtime_factory: StartRuntime, client: Client) -> None:
    def missing(ctx: OrchestrationContext, _: Any) -> Steps:
        try:
            yield ctx.schedule_activity("missing")
        except Exception as error:
            return str(error)

    runtime_factory({}, {"missing": missing}, options())
    runtime_factory({"present": lambda ctx, input: input}, {}, options())
    client.start_orchestration("missing", "missing")
    assert "'missing' is not registered" in client.wait_for_orchestration("missing", 20_000).result()
