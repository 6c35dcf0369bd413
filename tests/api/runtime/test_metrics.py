"""The counters of a runtime and the counts of a store: right at the moment when a wait returns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any

import pytest

from conftest import OpenProvider, StartRuntime
from duroxide import (
    ActivityContext,
    AsyncClient,
    Client,
    OrchestrationContext,
    OrchestrationFailed,
    Provider,
    Runtime,
    RuntimeOptions,
    SubOrchestrationFailed,
)
from duroxide.exceptions import ActivityFailed
from support.waiting import wait_for_event_kind, wait_until

Steps = Generator[Any, Any, Any]


def echo(ctx: ActivityContext, input: Any) -> Any:
    return input


def fail(ctx: ActivityContext, input: Any) -> None:
    raise ValueError("on purpose")


def order(ctx: OrchestrationContext, input: Any) -> Steps:
    return (yield ctx.schedule_activity("echo", input))


def waiting(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.wait_for_event("go")


def sleeping(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.schedule_timer(3_600_000)


def broken(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.schedule_activity("fail", input)


def parent(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.schedule_sub_orchestration("broken", input)


ACTIVITIES: dict[str, Callable[..., Any]] = {"echo": echo, "fail": fail}
ORCHESTRATIONS: dict[str, Callable[..., Any]] = {
    each.__name__: each for each in (order, waiting, sleeping, broken, parent)
}


@pytest.fixture
def runtime(runtime_factory: StartRuntime) -> Runtime:
    """A runtime with all functions above."""
    return runtime_factory(ACTIVITIES, ORCHESTRATIONS)


def test_all_that_a_wait_has_seen_is_counted(runtime: Runtime, client: Client) -> None:
    for number in range(1, 31):
        client.start_orchestration(f"order-{number}", "order", number)
        client.wait_for_orchestration(f"order-{number}")

        counted = runtime.metrics_snapshot()
        assert (counted.orch_completions, counted.activity_success) == (number, number)


def test_no_orchestration_is_active_after_the_deletion_of_the_last(runtime: Runtime, client: Client) -> None:
    client.start_orchestration("deleted", "waiting")
    wait_for_event_kind(client, "deleted", "ExternalSubscribed")
    assert runtime.metrics_snapshot().active_orchestrations == 1

    client.delete_instance("deleted", force=True)

    assert runtime.metrics_snapshot().active_orchestrations == 0


def test_a_start_that_waits_is_an_active_orchestration(runtime: Runtime, client: Client) -> None:
    runtime.shutdown()
    client.start_orchestration("waits", "waiting")

    assert runtime.metrics_snapshot().active_orchestrations == 1


def test_an_orchestration_that_another_runtime_started_is_active(
    runtime: Runtime, client: Client, runtime_factory: StartRuntime
) -> None:
    client.start_orchestration("moved", "waiting")
    wait_for_event_kind(client, "moved", "ExternalSubscribed")
    runtime.shutdown()

    second = runtime_factory(ACTIVITIES, ORCHESTRATIONS)
    assert second.metrics_snapshot().active_orchestrations == 1
    client.raise_event("moved", "go")
    client.wait_for_orchestration("moved")

    assert second.metrics_snapshot().active_orchestrations == 0
    assert runtime.metrics_snapshot().active_orchestrations == 0


def test_an_activity_that_is_not_registered_counts_as_an_error_of_configuration(
    runtime_factory: StartRuntime, client: Client
) -> None:
    runtime = runtime_factory({}, {"order": order}, RuntimeOptions(unregistered="fail", unregistered_timeout_ms=1))
    client.start_orchestration("unknown", "order")
    client.wait_for_orchestration("unknown")

    counted = runtime.metrics_snapshot()
    assert (counted.activity_config_errors, counted.activity_app_errors) == (1, 0)


def test_a_timer_that_is_not_due_waits_in_the_queue_of_timers(runtime: Runtime, client: Client) -> None:
    client.start_orchestration("sleeps", "sleeping")
    wait_for_event_kind(client, "sleeps", "TimerCreated")

    depths = client.get_queue_depths()

    assert (depths.timer_queue, depths.orchestrator_queue) == (1, 0)


def test_timers_are_counted_while_no_runtime_works(runtime: Runtime, client: Client, reopen: OpenProvider) -> None:
    client.start_orchestration("sleeps", "sleeping")
    wait_for_event_kind(client, "sleeps", "TimerCreated")
    runtime.shutdown()

    assert Client(reopen()).get_queue_depths().timer_queue == 1


@pytest.mark.usefixtures("runtime")
def test_the_failure_of_a_status_has_the_cause_that_the_result_has(client: Client) -> None:
    handle = client.start("broken", 1)
    with pytest.raises(OrchestrationFailed) as raised:
        handle.result()

    failure = handle.status().failure

    assert failure is not None
    assert isinstance(failure.__cause__, ActivityFailed)
    assert str(failure.__cause__) == str(raised.value.__cause__)


@pytest.mark.usefixtures("runtime")
def test_the_failure_of_a_wait_has_the_causes_in_the_children(client: Client) -> None:
    client.start_orchestration("family", "parent", 1)

    failure = client.wait_for_orchestration("family").failure

    assert failure is not None
    assert isinstance(failure.__cause__, SubOrchestrationFailed)
    assert isinstance(failure.__cause__.__cause__, ActivityFailed)


@pytest.mark.usefixtures("runtime")
def test_a_typed_wait_raises_a_failure_with_its_cause(client: Client) -> None:
    client.start_orchestration("fails", "broken", 1)

    with pytest.raises(OrchestrationFailed) as raised:
        client.wait_for_orchestration_typed("fails")

    assert isinstance(raised.value.__cause__, ActivityFailed)


@pytest.mark.usefixtures("runtime")
def test_the_failure_of_a_status_has_its_cause_for_the_client_of_asyncio(provider: Provider) -> None:
    async def main() -> OrchestrationFailed | None:
        handle = await AsyncClient(provider).start("broken", 1)
        await handle.wait()
        return (await handle.status()).failure

    failure = asyncio.run(main())

    assert failure is not None
    assert isinstance(failure.__cause__, ActivityFailed)


@pytest.mark.parametrize("store", ["postgres"])
def test_instances_whose_orchestration_no_runtime_has_wait_for_code(
    runtime_factory: StartRuntime, client: Client
) -> None:
    without_code = runtime_factory({}, {"waiting": waiting})
    for number in range(3):
        client.start_orchestration(f"order-{number}", "order", number)
    wait_until(lambda: without_code.metrics_snapshot().orch_waiting_for_code == 3)

    runtime_factory(ACTIVITIES, ORCHESTRATIONS)
    for number in range(3):
        client.wait_for_orchestration(f"order-{number}")

    assert without_code.metrics_snapshot().orch_waiting_for_code == 0
