"""Sub-orchestrations and detached starts."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from conftest import Run
from duroxide import (
    ActivityContext,
    Client,
    OrchestrationContext,
    OrchestrationFailed,
    SubOrchestrationFailed,
)

Steps = Generator[Any, Any, Any]


def child(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.schedule_timer(0)
    return [ctx.instance_id, input]


def test_child_without_an_id_gets_one_derived_from_its_parent(run: Run) -> None:
    def parent(ctx: OrchestrationContext, input: Any) -> Steps:
        return (yield ctx.schedule_sub_orchestration("child", input))

    instance, value = run(parent, 1, orchestrations={"child": child}, instance="parent")

    assert instance.startswith("parent")
    assert value == 1


def test_child_takes_the_given_id(run: Run) -> None:
    def parent(ctx: OrchestrationContext, input: Any) -> Steps:
        first = yield ctx.schedule_sub_orchestration_with_id("child", "given-1", 1)
        second = yield ctx.schedule_sub_orchestration("child", 2, instance_id="given-2")
        return [first, second]

    assert run(parent, orchestrations={"child": child}) == [["given-1", 1], ["given-2", 2]]


def test_children_run_in_parallel(run: Run) -> None:
    def parent(ctx: OrchestrationContext, input: Any) -> Steps:
        children = [ctx.schedule_sub_orchestration("child", number) for number in range(10)]
        return [value for _, value in (yield ctx.gather(children))]

    assert run(parent, orchestrations={"child": child}) == list(range(10))


def test_children_may_have_children(run: Run, client: Client) -> None:
    def nest(ctx: OrchestrationContext, input: int) -> Steps:
        if input == 0:
            return 0
        return 1 + (yield ctx.schedule_sub_orchestration("nest", input - 1))

    assert run(nest, 4, instance="nest") == 4
    assert len(client.get_instance_tree("nest").all_ids) == 5


def test_child_that_continues_as_new_returns_to_its_parent(run: Run) -> None:
    def again(ctx: OrchestrationContext, input: int) -> Steps:
        yield ctx.schedule_timer(0)
        if input < 3:
            yield ctx.continue_as_new(input + 1)
        return f"execution {ctx.execution_id}"

    def parent(ctx: OrchestrationContext, input: Any) -> Steps:
        return (yield ctx.schedule_sub_orchestration("again", 1))

    assert run(parent, orchestrations={"again": again}) == "execution 3"


def test_failure_of_a_child_names_it(run: Run) -> None:
    def broken(ctx: OrchestrationContext, input: Any) -> None:
        raise ValueError("broken")

    def parent(ctx: OrchestrationContext, input: Any) -> Steps:
        try:
            yield ctx.schedule_sub_orchestration("broken", instance_id="broken-child")
        except SubOrchestrationFailed as failure:
            return [failure.orchestration_name, failure.instance_id, failure.error_type, failure.message]

    assert run(parent, orchestrations={"broken": broken}) == ["broken", "broken-child", "ValueError", "broken"]


def test_cancelled_child_is_a_failure_that_its_parent_catches(run: Run) -> None:
    def forever(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.schedule_activity("cancel me")
        yield ctx.wait_for_event("never")

    def cancel_me(ctx: ActivityContext, input: Any) -> None:
        ctx.get_client().cancel_instance(ctx.instance_id, "from outside")

    def parent(ctx: OrchestrationContext, input: Any) -> Steps:
        try:
            yield ctx.schedule_sub_orchestration("forever")
        except SubOrchestrationFailed as failure:
            return str(failure)

    message = run(parent, activities={"cancel me": cancel_me}, orchestrations={"forever": forever})

    assert "from outside" in message


def test_child_fails_if_another_instance_has_its_id(run: Run, client: Client) -> None:
    def parent(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.schedule_sub_orchestration("child", instance_id="taken")
        try:
            yield ctx.schedule_sub_orchestration("child", instance_id="taken")
        except SubOrchestrationFailed:
            return "refused"

    assert run(parent, orchestrations={"child": child}) == "refused"


def test_detached_orchestration_runs_after_its_starter_has_ended(run: Run, client: Client) -> None:
    def detach(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.start_orchestration("child", "detached", "for the child")
        yield ctx.schedule_activity("see it end")

    def see_it_end(ctx: ActivityContext, input: Any) -> None:
        ctx.get_client().wait_for_orchestration("detached", 15_000)

    run(detach, activities={"see it end": see_it_end}, orchestrations={"child": child})

    assert client.get_status("detached").output == ["detached", "for the child"]
    assert client.get_instance_info("detached").parent_instance_id is None


def test_failure_of_a_detached_orchestration_does_not_affect_its_starter(run: Run, client: Client) -> None:
    def broken(ctx: OrchestrationContext, input: Any) -> None:
        raise ValueError("on its own")

    def detach(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.start_orchestration("broken", "detached-broken")
        yield ctx.schedule_activity("see it end")
        return "fine"

    def see_it_end(ctx: ActivityContext, input: Any) -> None:
        ctx.get_client().wait_for_orchestration("detached-broken", 15_000)

    assert run(detach, activities={"see it end": see_it_end}, orchestrations={"broken": broken}) == "fine"
    assert client.get_status("detached-broken").error == "ValueError: on its own"


def test_detached_start_has_a_second_name(run: Run, client: Client) -> None:
    def detach(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.schedule_orchestration("child", "other-name", 1)
        yield ctx.schedule_activity("see it end")

    def see_it_end(ctx: ActivityContext, input: Any) -> None:
        ctx.get_client().wait_for_orchestration("other-name", 15_000)

    run(detach, activities={"see it end": see_it_end}, orchestrations={"child": child})

    assert client.get_status("other-name").output == ["other-name", 1]


def test_child_has_its_parent_in_the_store(run: Run, client: Client) -> None:
    def parent(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.schedule_sub_orchestration("child", instance_id="known-child")

    run(parent, orchestrations={"child": child}, instance="known-parent")

    assert client.get_instance_info("known-child").parent_instance_id == "known-parent"


@pytest.mark.parametrize("store", ["memory"])
@pytest.mark.parametrize("reserved", ["sub::1", "a::sub::2", ""])
def test_id_that_the_engine_reserves_is_refused(reserved: str, run: Run) -> None:
    def parent(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.schedule_sub_orchestration("child", instance_id=reserved)

    with pytest.raises(OrchestrationFailed, match="instance id"):
        run(parent, orchestrations={"child": child})


def test_parent_sees_the_failure_of_a_child_with_too_large_an_output(run: Run) -> None:
    def huge(ctx: OrchestrationContext, input: Any) -> str:
        return "x" * 20_000_000

    def parent(ctx: OrchestrationContext, input: Any) -> Steps:
        try:
            yield ctx.schedule_sub_orchestration("huge")
        except SubOrchestrationFailed as failure:
            return failure.error_type

    assert run(parent, orchestrations={"huge": huge}) == "LimitExceeded"
