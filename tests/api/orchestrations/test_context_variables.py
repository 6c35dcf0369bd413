"""Context variables: each orchestration keeps its own over its turns, and each activity gets a copy."""

from __future__ import annotations

import decimal
import multiprocessing
from collections.abc import Generator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import pytest

from conftest import WAIT_MS, Function, Run, StartRuntime
from duroxide import ActivityContext, OrchestrationContext, Provider, Runtime, RuntimeOptions
from support import pool_activities
from support.pool_activities import tenant

Steps = Generator[Any, Any, Any]

# What code sees of its context does not depend on the store.
pytestmark = pytest.mark.parametrize("store", ["memory"])

TURNS = [RuntimeOptions(), RuntimeOptions(sticky=False)]
TURN_NAMES = ["awake", "replayed"]


def echo(ctx: ActivityContext, input: Any) -> Any:
    return input


@pytest.mark.parametrize("options", TURNS, ids=TURN_NAMES)
def test_a_generator_keeps_its_context_variables_across_a_yield(run: Run, options: RuntimeOptions) -> None:
    def flow(ctx: OrchestrationContext, _: Any) -> Steps:
        token = tenant.set("mine")
        try:
            yield ctx.schedule_activity("echo", 1)
            return tenant.get()
        finally:
            tenant.reset(token)

    assert run(flow, activities={"echo": echo}, options=options) == "mine"


@pytest.mark.parametrize("options", TURNS, ids=TURN_NAMES)
def test_one_generator_does_not_see_the_context_variables_of_another(
    runtime_factory: StartRuntime, options: RuntimeOptions
) -> None:
    def sets(ctx: OrchestrationContext, _: Any) -> Steps:
        tenant.set("other")
        yield ctx.wait_for_event("go")

    def reads(ctx: OrchestrationContext, _: Any) -> Steps:
        before = tenant.get()
        yield ctx.schedule_activity("echo", 1)
        return [before, tenant.get()]

    runtime = runtime_factory({"echo": echo}, {"sets": sets, "reads": reads}, options)
    for _ in range(12):  # as many as there are threads that take turns
        runtime.client.start("sets", None)
    handles = [runtime.client.start("reads", None) for _ in range(12)]
    assert [handle.result(WAIT_MS / 1000) for handle in handles] == [["nobody", "nobody"]] * 12


def test_a_decimal_context_around_a_yield_does_not_reach_other_orchestrations(runtime_factory: StartRuntime) -> None:
    def precise(ctx: OrchestrationContext, _: Any) -> Steps:
        with decimal.localcontext() as context:
            context.prec = 5
            yield ctx.wait_for_event("go")
            return str(decimal.Decimal(1) / 3)

    def plain(ctx: OrchestrationContext, _: Any) -> Steps:
        yield ctx.schedule_activity("echo", 1)
        return str(decimal.Decimal(1) / 3)

    runtime = runtime_factory({"echo": echo}, {"precise": precise, "plain": plain})
    first = [runtime.client.start("precise", None) for _ in range(12)]
    others = {runtime.client.start("plain", None).result(WAIT_MS / 1000) for _ in range(12)}
    for handle in first:
        handle.raise_event("go")
    assert others == {"0.3333333333333333333333333333"}
    assert {handle.result(WAIT_MS / 1000) for handle in first} == {"0.33333"}


def test_a_branch_of_a_generator_gets_a_copy_of_the_context_variables(run: Run) -> None:
    def flow(ctx: OrchestrationContext, _: Any) -> Steps:
        def branch() -> Steps:
            seen = tenant.get()
            tenant.set("branch")
            yield ctx.schedule_activity("echo", 1)
            return [seen, tenant.get()]

        tenant.set("flow")
        branches = yield ctx.gather(branch(), branch())
        return [*branches, tenant.get()]

    assert run(flow, activities={"echo": echo}) == [["flow", "branch"], ["flow", "branch"], "flow"]


def generator_that_ends_late(ctx: OrchestrationContext, ends: list[str]) -> Steps:
    tenant.set("mine")
    try:
        yield ctx.wait_for_event("go")
    finally:
        ends.append(tenant.get())


async def coroutine_that_ends_late(ctx: OrchestrationContext, ends: list[str]) -> None:
    tenant.set("mine")
    try:
        await ctx.wait_for_event("go")
    finally:
        ends.append(tenant.get())


@pytest.mark.parametrize("main", [generator_that_ends_late, coroutine_that_ends_late])
def test_code_that_is_closed_between_turns_sees_its_own_context_variables(
    runtime_factory: StartRuntime, main: Function
) -> None:
    ends: list[str] = []

    def flow(ctx: OrchestrationContext, _: Any) -> Any:
        return main(ctx, ends)

    # Without the cache, the end of each turn closes the code.
    runtime = runtime_factory({}, {"flow": flow}, RuntimeOptions(sticky=False))
    handle = runtime.client.start("flow", None)
    handle.raise_event("go")
    handle.wait(WAIT_MS / 1000)
    assert set(ends) == {"mine"}


def test_a_sync_activity_does_not_see_the_context_variables_of_an_earlier_one(run: Run) -> None:
    assert run(calls_twice, activities={"set_tenant": pool_activities.set_tenant}) == ["nobody", "nobody"]


def calls_twice(ctx: OrchestrationContext, _: Any) -> Steps:
    first = yield ctx.schedule_activity("set_tenant", None)
    second = yield ctx.schedule_activity("set_tenant", None)
    return [first, second]


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_an_activity_in_a_pool_sees_the_context_variables_of_the_pool_and_not_of_an_earlier_activity(
    provider: Provider, kind: str
) -> None:
    prepare = pool_activities.set_tenant_of_pool
    pool: Executor = (
        ThreadPoolExecutor(1, initializer=prepare)
        if kind == "threads"
        else ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), prepare)
    )
    runtime = Runtime(provider, executor=pool)
    runtime.register_orchestration("calls_twice", calls_twice)
    runtime.register_activity("set_tenant", pool_activities.set_tenant)
    with pool, runtime:
        seen = runtime.client.start("calls_twice", None).result(WAIT_MS / 1000)
    assert seen == ["the pool", "the pool"]
