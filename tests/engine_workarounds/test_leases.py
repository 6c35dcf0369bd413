"""Several runtimes on one store, and work that takes longer than its lease."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from conftest import StartRuntime
from duroxide import (
    Client,
    ConfigurationError,
    OrchestrationContext,
    RuntimeOptions,
    TagFilter,
)
from engine_workarounds.programs import QUICK, WAIT_MS, Steps, echo


def test_a_runtime_that_lacks_an_orchestration_does_not_fail_it_while_another_one_has_it(
    runtime_factory: StartRuntime, client: Client
) -> None:
    def flow(ctx: OrchestrationContext, number: int) -> Steps:
        first = yield ctx.schedule_activity("echo", number)
        return [first, (yield ctx.schedule_activity("render", number, tag="gpu"))]

    only_gpu = RuntimeOptions(dispatcher_poll_interval_ms=20, worker_tag_filter=TagFilter.tags("gpu"))
    runtime_factory({"render": echo}, {}, only_gpu)
    runtime_factory({"echo": echo}, {"flow": flow}, QUICK)
    for number in range(10):
        client.start_orchestration(f"flow-{number}", "flow", number)
    for number in range(10):
        assert client.wait_for_orchestration(f"flow-{number}", WAIT_MS).result() == [number, number]


def test_a_runtime_that_lacks_an_activity_does_not_fail_it_while_another_one_has_it(
    runtime_factory: StartRuntime, client: Client
) -> None:
    def flow(ctx: OrchestrationContext, number: int) -> Steps:
        return (yield ctx.schedule_activity("echo", number))

    runtime_factory({"other": echo}, {"flow": flow}, QUICK)
    runtime_factory({"echo": echo}, {"flow": flow}, QUICK)
    for number in range(10):
        client.start_orchestration(f"flow-{number}", "flow", number)
    for number in range(10):
        assert client.wait_for_orchestration(f"flow-{number}", WAIT_MS).result() == number


# A lease of two seconds is renewed every second. A machine that holds the renewal up for longer than the other second lets
# the lease end, and then the work runs again, as it must. Beside other tests that happens.
LEASES = pytest.mark.parametrize("lease", [200, 1_000, 1_500, pytest.param(2_000, marks=pytest.mark.alone)])


def options_with_lease(**lease: Any) -> RuntimeOptions | None:
    """The options, or defaults where a lease is refused because it could not be renewed in time."""
    try:
        return RuntimeOptions(dispatcher_poll_interval_ms=20, **lease)
    except ConfigurationError:
        return None


@LEASES
def test_a_turn_that_takes_longer_than_its_lease_is_run_once(
    lease: int, runtime_factory: StartRuntime, client: Client
) -> None:
    begun: list[int] = []

    def slow(ctx: OrchestrationContext, _: Any) -> Steps:
        begun.append(1)
        # The code computes for longer than the lease of its turn.
        threading.Event().wait(3)
        return (yield ctx.schedule_timer(0))

    # Not sticky, so every turn begins at the first line.
    options = options_with_lease(orchestrator_lock_timeout_ms=lease, sticky=False)
    if options is None:
        return
    runtime_factory({}, {"slow": slow}, options)
    client.start_orchestration("slow", "slow")
    client.wait_for_orchestration("slow", WAIT_MS).result()
    # The first turn, and the one that the timer begins.
    assert len(begun) == 2


@LEASES
def test_an_activity_that_takes_longer_than_its_lease_is_run_once(
    lease: int, runtime_factory: StartRuntime, client: Client
) -> None:
    begun: list[int] = []

    def slow(ctx: Any, _: Any) -> None:
        begun.append(ctx.attempt)
        threading.Event().wait(3)

    def flow(ctx: OrchestrationContext, _: Any) -> Steps:
        yield ctx.schedule_activity("slow")

    options = options_with_lease(worker_lock_timeout_ms=lease)
    if options is None:
        return
    runtime_factory({"slow": slow}, {"flow": flow}, options)
    client.start_orchestration("flow", "flow")
    client.wait_for_orchestration("flow", WAIT_MS).result()
    assert begun == [1]
