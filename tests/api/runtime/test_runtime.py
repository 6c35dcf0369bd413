"""The runtime: registration, start and end, and its metrics."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from typing import Any

import pytest

from conftest import Run, StartRuntime
from duroxide import (
    ActivityContext,
    ActivityFailed,
    Client,
    DuroxideError,
    MetricsSnapshot,
    OrchestrationContext,
    OrchestrationFailed,
    Provider,
    RegistrationError,
    Runtime,
    RuntimeOptions,
    SubOrchestrationFailed,
)
from support.waiting import wait_until

Steps = Generator[Any, Any, Any]


def double(ctx: ActivityContext, input: int) -> int:
    return input * 2


def doubled(ctx: OrchestrationContext, input: int) -> Steps:
    return (yield ctx.schedule_activity("double", input))


def test_functions_are_registered_by_calls(runtime: Runtime, client: Client) -> None:
    runtime.register_activity("double", double)
    runtime.register_orchestration("doubled", doubled)
    runtime.start()

    client.start_orchestration("by-call", "doubled", 21)

    assert client.wait_for_orchestration("by-call").output == 42


def test_functions_are_registered_by_decorators_with_a_name(runtime: Runtime, client: Client) -> None:
    @runtime.register_activity("Twice")
    def twice(ctx: ActivityContext, input: int) -> int:
        return input * 2

    @runtime.register_orchestration("Flow")
    def flow(ctx: OrchestrationContext, input: int) -> Steps:
        return (yield ctx.schedule_activity("Twice", input))

    runtime.start()
    client.start_orchestration("by-decorator", "Flow", 21)

    assert client.wait_for_orchestration("by-decorator").output == 42


def test_bare_decorator_takes_the_name_of_the_function(runtime: Runtime, client: Client) -> None:
    runtime.register_activity(double)
    runtime.register_orchestration(doubled)
    runtime.start()

    client.start_orchestration("bare", "doubled", 21)

    assert client.wait_for_orchestration("bare").output == 42


def test_decorator_gives_the_function_back(runtime: Runtime) -> None:
    assert runtime.register_activity("double")(double) is double


def test_functions_argument_takes_generators_as_orchestrations(provider: Provider) -> None:
    with Runtime(provider, functions=[double, doubled]) as runtime:
        runtime.client.start_orchestration("functions", "doubled", 21)

        assert runtime.client.wait_for_orchestration("functions").output == 42


def test_plain_function_is_an_orchestration_that_runs_and_returns(run: Run) -> None:
    def plain(ctx: OrchestrationContext, input: Any) -> str:
        return f"got {input}"

    assert run(plain, "it") == "got it"


@pytest.mark.task_groups
def test_async_def_is_an_orchestration(run: Run) -> None:
    async def coroutine(ctx: OrchestrationContext, input: int) -> int:
        first = await ctx.schedule_activity("double", input)
        await ctx.schedule_timer(1)
        return int(await ctx.schedule_activity("double", first))

    assert run(coroutine, 10, activities={"double": double}) == 40


def test_bound_method_is_an_activity(run: Run) -> None:
    class Adder:
        def __init__(self, amount: int) -> None:
            self.amount = amount

        def add(self, ctx: ActivityContext, input: int) -> int:
            return input + self.amount

    def adding(ctx: OrchestrationContext, input: int) -> Steps:
        return (yield ctx.schedule_activity("add", input))

    assert run(adding, 40, activities={"add": Adder(2).add}) == 42


def test_same_function_may_be_registered_again(runtime: Runtime) -> None:
    runtime.register_activity("double", double)

    assert runtime.register_activity("double", double) is double


def test_other_function_under_a_taken_name_is_refused(runtime: Runtime) -> None:
    runtime.register_activity("double", double)

    with pytest.raises(RegistrationError, match="'double' is registered already"):
        runtime.register_activity("double", lambda ctx, input: input * 3)


def test_same_orchestration_name_may_have_another_version(runtime: Runtime) -> None:
    runtime.register_orchestration("flow", doubled)

    runtime.register_orchestration_versioned("flow", "1.1.0", lambda ctx, input: input)

    with pytest.raises(RegistrationError, match=r"version 1\.1\.0"):
        runtime.register_orchestration_versioned("flow", "1.1.0", lambda ctx, input: -input)


def test_registration_while_running_is_refused(runtime: Runtime) -> None:
    runtime.start()

    with pytest.raises(RegistrationError, match="while the runtime works"):
        runtime.register_activity("double", double)


def test_second_start_is_refused(runtime: Runtime) -> None:
    runtime.start()

    with pytest.raises(DuroxideError, match="started already"):
        runtime.start()


def test_second_shutdown_does_nothing(runtime: Runtime) -> None:
    runtime.start()
    runtime.shutdown()

    runtime.shutdown()

    assert "stopped" in repr(runtime)


def test_shutdown_of_an_idle_runtime_ends_before_its_timeout(runtime: Runtime) -> None:
    runtime.start()
    begin = time.monotonic()

    runtime.shutdown(60_000)

    assert time.monotonic() - begin < 20


def test_a_restarted_runtime_continues_its_orchestrations(runtime: Runtime, client: Client) -> None:
    runtime.register_activity("double", double)
    runtime.register_orchestration("doubled", doubled)
    runtime.start()
    runtime.shutdown()
    client.start_orchestration("later", "doubled", 4)

    runtime.start()

    assert client.wait_for_orchestration("later").output == 8


def test_orchestration_continues_in_another_runtime(runtime_factory: StartRuntime, client: Client) -> None:
    def two_steps(ctx: OrchestrationContext, input: Any) -> Steps:
        first = yield ctx.schedule_activity("double", 1)
        signal = yield ctx.wait_for_event("go")
        return [first, signal]

    activities = {"double": double}
    first = runtime_factory(activities, {"two_steps": two_steps})
    client.start_orchestration("moves", "two_steps")
    wait_until(lambda: first.metrics_snapshot().activity_success == 1, "the first activity")
    first.shutdown()

    second = runtime_factory(activities, {"two_steps": two_steps})
    wait_until(lambda: len(client.read_execution_history("moves")) >= 4, "the wait for the event")
    client.raise_event("moves", "go", "went")

    assert client.wait_for_orchestration("moves").output == [2, "went"]
    assert second.metrics_snapshot().activity_success == 0


def test_metrics_count_each_thing_once(run: Run, runtime_factory: StartRuntime, client: Client) -> None:
    def fail(ctx: ActivityContext, input: Any) -> None:
        raise ValueError("on purpose")

    def good(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.schedule_activity("double", 1)
        yield ctx.schedule_activity("double", 2)
        yield ctx.schedule_sub_orchestration("child")

    def bad(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.schedule_activity("fail")

    def again(ctx: OrchestrationContext, input: int) -> Steps:
        if input:
            yield ctx.continue_as_new(input - 1)

    runtime = runtime_factory(
        {"double": double, "fail": fail},
        {"good": good, "bad": bad, "again": again, "child": lambda ctx, input: None},
    )
    for name in ("good", "bad", "again"):
        client.start_orchestration(name, name, 2)
    for name in ("good", "bad", "again"):
        client.wait_for_orchestration(name)
    # The end is visible as soon as it is recorded, and counted right after.
    runtime.shutdown()
    snapshot = runtime.metrics_snapshot()

    assert (snapshot.orch_starts, snapshot.orch_completions, snapshot.orch_failures) == (4, 3, 1)
    assert (snapshot.activity_success, snapshot.activity_app_errors) == (2, 1)
    assert (snapshot.orch_continue_as_new, snapshot.suborchestration_calls) == (2, 1)
    assert (snapshot.orch_application_errors, snapshot.provider_errors) == (1, 0)


def test_metrics_are_read_by_attribute_and_by_subscript(runtime: Runtime) -> None:
    runtime.start()
    snapshot = runtime.metrics_snapshot()

    assert snapshot["orch_starts"] == snapshot.orch_starts == 0


def test_metrics_before_the_first_start_are_zero(runtime: Runtime) -> None:
    assert runtime.metrics_snapshot() == MetricsSnapshot()


def test_metrics_stay_readable_after_the_shutdown(provider: Provider) -> None:
    runtime = Runtime(provider, functions=[double, doubled])
    with runtime:
        runtime.client.start_orchestration("counted", "doubled", 1)
        runtime.client.wait_for_orchestration("counted")

    assert runtime.metrics_snapshot().orch_completions == 1


def test_unregistered_activity_is_a_failure_that_can_be_caught(run: Run) -> None:
    def careful(ctx: OrchestrationContext, input: Any) -> Steps:
        try:
            yield ctx.schedule_activity("unregistered")
        except ActivityFailed as failure:
            return failure.activity_name

    options = RuntimeOptions(unregistered="fail", unregistered_timeout_ms=300)
    assert run(careful, options=options) == "unregistered"


def test_unregistered_sub_orchestration_is_a_failure_that_can_be_caught(run: Run) -> None:
    def careful(ctx: OrchestrationContext, input: Any) -> Steps:
        try:
            yield ctx.schedule_sub_orchestration("unregistered")
        except SubOrchestrationFailed as failure:
            return failure.orchestration_name

    options = RuntimeOptions(unregistered="fail", unregistered_timeout_ms=300)
    assert run(careful, options=options) == "unregistered"


def test_activities_run_in_parallel_up_to_the_concurrency(run: Run) -> None:
    together = threading.Barrier(4)

    def meet(ctx: ActivityContext, input: Any) -> str:
        together.wait(20)
        return "met"

    def fan(ctx: OrchestrationContext, input: Any) -> Steps:
        return (yield ctx.gather([ctx.schedule_activity("meet") for _ in range(4)]))

    assert run(fan, activities={"meet": meet}, options=RuntimeOptions(worker_concurrency=4)) == ["met"] * 4


def test_yielding_a_value_that_is_not_a_task_fails_with_the_way_out(run: Run) -> None:
    def wrong(ctx: OrchestrationContext, input: Any) -> Steps:
        yield "not a task"

    with pytest.raises(OrchestrationFailed, match="can only wait for tasks"):
        run(wrong)


def test_generator_may_catch_the_error_of_a_wrong_yield(run: Run) -> None:
    def wrong(ctx: OrchestrationContext, input: Any) -> Steps:
        try:
            yield 42
        except TypeError:
            return (yield ctx.schedule_activity("double", 1))

    assert run(wrong, activities={"double": double}) == 2


def test_work_goes_to_the_runtime_that_has_the_function(runtime_factory: StartRuntime, client: Client) -> None:
    def whose(owner: str) -> Any:
        def name(ctx: ActivityContext, input: Any) -> str:
            return owner

        return name

    def left(ctx: OrchestrationContext, input: Any) -> Steps:
        return (yield ctx.schedule_activity("left activity"))

    def right(ctx: OrchestrationContext, input: Any) -> Steps:
        return (yield ctx.schedule_activity("right activity"))

    runtime_factory({"left activity": whose("left")}, {"left": left})
    runtime_factory({"right activity": whose("right")}, {"right": right})
    for number in range(3):
        client.start_orchestration(f"left-{number}", "left")
        client.start_orchestration(f"right-{number}", "right")

    for number in range(3):
        assert client.wait_for_orchestration(f"left-{number}", 20_000).result() == "left"
        assert client.wait_for_orchestration(f"right-{number}", 20_000).result() == "right"
