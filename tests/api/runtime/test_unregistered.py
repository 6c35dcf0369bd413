"""Work for a function that no runtime has registered waits, visibly, until a runtime has it."""

from __future__ import annotations

import logging
from collections.abc import Generator
from typing import Any

import pytest

from conftest import WAIT_MS, StartRuntime
from duroxide import Client, OrchestrationContext, Runtime, WaitTimedOut
from support.waiting import wait_until

Steps = Generator[Any, Any, Any]


def calls_forgotten(ctx: OrchestrationContext, input: Any) -> Steps:
    return (yield ctx.schedule_activity("forgotten", input))


def calls_forgotten_child(ctx: OrchestrationContext, input: Any) -> Steps:
    return (yield ctx.schedule_sub_orchestration("child", input))


def child(ctx: OrchestrationContext, input: Any) -> Any:
    return input


async def calls_forgotten_in_a_coroutine(ctx: OrchestrationContext, input: Any) -> Any:
    return await ctx.schedule_activity("forgotten", input)


def waiting_activities(runtime: Runtime) -> int:
    return runtime.metrics_snapshot().activities_waiting_for_code


def waiting_instances(runtime: Runtime) -> int:
    return runtime.metrics_snapshot().orch_waiting_for_code


@pytest.mark.parametrize("main", [calls_forgotten, calls_forgotten_in_a_coroutine], ids=["generator", "coroutine"])
def test_a_forgotten_activity_waits_for_the_next_runtime_that_has_it(
    main: Any, runtime_factory: StartRuntime, client: Client
) -> None:
    runtime = runtime_factory({}, {"main": main})
    client.start_orchestration("waits", "main", "kept")
    wait_until(lambda: waiting_activities(runtime) == 1)
    assert client.get_status("waits").status == "Running"
    runtime.shutdown()

    complete = runtime_factory({"forgotten": lambda ctx, input: input}, {"main": main})

    assert client.wait_for_orchestration("waits", WAIT_MS).result() == "kept"
    assert waiting_activities(complete) == 0


def test_a_second_runtime_of_the_process_takes_a_forgotten_activity_at_once(
    runtime_factory: StartRuntime, client: Client
) -> None:
    runtime = runtime_factory({}, {"main": calls_forgotten})
    client.start_orchestration("waits", "main", "kept")
    wait_until(lambda: waiting_activities(runtime) == 1)

    runtime_factory({"forgotten": lambda ctx, input: input})

    assert client.wait_for_orchestration("waits", WAIT_MS).result() == "kept"


def test_a_forgotten_activity_is_logged_once_and_named_where_a_wait_ends(
    runtime_factory: StartRuntime, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "duroxide"):
        runtime = runtime_factory({"present": lambda ctx, input: input}, {"main": calls_forgotten})
        client.start_orchestration("waits", "main")
        wait_until(lambda: waiting_activities(runtime) == 1)
        with pytest.raises(WaitTimedOut, match="activity 'forgotten' is not registered.*present"):
            client.wait_for_orchestration("waits", 1)
        assert "'forgotten'" in (client.get_status("waits").mismatch or "")
        runtime.shutdown()
    lines = [record.message for record in caplog.records if "'forgotten' is not registered" in record.message]
    assert len(lines) == 1


def test_a_forgotten_sub_orchestration_waits_for_the_next_runtime_that_has_it(
    runtime_factory: StartRuntime, client: Client
) -> None:
    runtime = runtime_factory({}, {"main": calls_forgotten_child})
    client.start_orchestration("waits", "main", "kept")
    wait_until(lambda: waiting_instances(runtime) == 1)
    runtime.shutdown()

    runtime_factory({}, {"main": calls_forgotten_child, "child": child})

    assert client.wait_for_orchestration("waits", WAIT_MS).result() == "kept"


def test_a_start_of_a_forgotten_orchestration_waits_for_the_next_runtime_that_has_it(
    runtime_factory: StartRuntime, client: Client
) -> None:
    runtime = runtime_factory({}, {"other": child})
    client.start_orchestration("waits", "child", "kept")
    wait_until(lambda: waiting_instances(runtime) == 1)
    with pytest.raises(WaitTimedOut, match="orchestration 'child' is not registered"):
        client.wait_for_orchestration("waits", 1)
    runtime.shutdown()

    runtime_factory({}, {"child": child})

    assert client.wait_for_orchestration("waits", WAIT_MS).result() == "kept"


def test_a_start_of_a_forgotten_orchestration_can_be_cancelled(runtime_factory: StartRuntime, client: Client) -> None:
    runtime = runtime_factory({}, {"other": child})
    client.start_orchestration("waits", "child", "kept")
    wait_until(lambda: waiting_instances(runtime) == 1)

    client.cancel_instance("waits", "given up")

    assert "given up" in (client.wait_for_orchestration("waits", WAIT_MS).error or "")


def test_an_instance_whose_activity_is_forgotten_can_be_cancelled(
    runtime_factory: StartRuntime, client: Client
) -> None:
    runtime = runtime_factory({}, {"main": calls_forgotten})
    client.start_orchestration("waits", "main")
    wait_until(lambda: waiting_activities(runtime) == 1)

    client.cancel_instance("waits", "given up")

    assert "given up" in (client.wait_for_orchestration("waits", WAIT_MS).error or "")
