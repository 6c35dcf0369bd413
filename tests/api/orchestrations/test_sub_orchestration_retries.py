"""Sub-orchestrations with a retry policy: every attempt is a new instance."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest

from conftest import Run
from duroxide import (
    ActivityContext,
    Backoff,
    Client,
    ConfigurationError,
    OrchestrationContext,
    Provider,
    RetryPolicy,
    Runtime,
    RuntimeOptions,
    SubOrchestrationFailed,
    SubOrchestrationTimedOut,
    context,
    orchestration,
)

Steps = Generator[Any, Any, Any]

FAST = RetryPolicy(max_attempts=3, backoff=Backoff.none())


def fails_before(successful: int, error: type[Exception] = ConnectionError) -> Callable[..., Steps]:
    """Return a child that fails until its instance of this number, and then gives its id."""
    instances: list[str] = []

    def child(ctx: OrchestrationContext, input: Any) -> Steps:
        if ctx.instance_id not in instances:
            instances.append(ctx.instance_id)
        yield ctx.schedule_timer(1)
        if instances.index(ctx.instance_id) + 1 < successful:
            raise error("not yet")
        return [input, ctx.instance_id]

    return child


def parent_with(policy: Any, instance_id: str | None = None) -> Callable[..., Steps]:
    def parent(ctx: OrchestrationContext, input: Any) -> Steps:
        try:
            return (yield ctx.schedule_sub_orchestration("child", input, instance_id=instance_id, retry=policy))
        except SubOrchestrationFailed as failure:
            return [type(failure).__name__, failure.error_type, failure.attempts, failure.instance_id]

    return parent


@pytest.mark.parametrize("sticky", [True, False], ids=["awake", "replayed"])
def test_every_attempt_is_a_new_instance_with_the_same_input(run: Run, client: Client, sticky: bool) -> None:
    options = RuntimeOptions(sticky=sticky)

    result = run(parent_with(FAST), "kept", orchestrations={"child": fails_before(3)}, options=options, instance="top")

    attempts = client.get_instance_tree("top").all_ids[1:]
    assert len(attempts) == 3
    assert result == ["kept", attempts[-1]]


def test_later_attempts_of_a_child_with_an_id_have_their_number_behind_it(run: Run) -> None:
    result = run(parent_with(FAST, "child-7"), orchestrations={"child": fails_before(3)})

    assert result[1] == "child-7-attempt-3"


def test_the_failure_of_the_last_attempt_is_raised_with_its_number_and_instance(run: Run) -> None:
    result = run(parent_with(FAST, "child-7"), orchestrations={"child": fails_before(9)})

    assert result == ["SubOrchestrationFailed", "ConnectionError", 3, "child-7-attempt-3"]


def test_a_failure_that_is_not_retryable_ends_the_attempts(run: Run) -> None:
    policy = RetryPolicy(max_attempts=3, non_retryable=[ValueError])

    result = run(parent_with(policy), orchestrations={"child": fails_before(9, ValueError)})

    assert result == ["SubOrchestrationFailed", "ValueError", 1, None]


def test_a_child_that_was_cancelled_is_not_tried_again(run: Run) -> None:
    def cancels_itself(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.schedule_activity("cancel", ctx.instance_id)
        yield ctx.wait_for_event("never")

    def cancel(ctx: ActivityContext, instance: str) -> None:
        ctx.get_client().cancel_instance(instance, "on purpose")

    result = run(parent_with(FAST, "child-7"), orchestrations={"child": cancels_itself}, activities={"cancel": cancel})

    assert result[2:] == [1, "child-7"]


def test_an_attempt_that_takes_too_long_is_cancelled_and_tried_again(run: Run, client: Client) -> None:
    def hangs_once(ctx: OrchestrationContext, input: Any) -> Steps:
        if ctx.instance_id == "child-7":
            yield ctx.wait_for_event("never")
        return ctx.instance_id

    # On a busy machine, later attempts may take too long, too.
    policy = RetryPolicy(max_attempts=100, backoff=Backoff.fixed(1), attempt_timeout=100)

    result = run(parent_with(policy, "child-7"), orchestrations={"child": hangs_once})

    assert result.startswith("child-7-attempt-")
    assert client.wait_for_orchestration("child-7", 20_000).status == "Failed"


def test_the_time_of_all_attempts_is_limited(run: Run) -> None:
    def hangs(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.wait_for_event("never")

    result = run(parent_with(RetryPolicy(total_timeout=30), "child-7"), orchestrations={"child": hangs})

    assert result == ["SubOrchestrationTimedOut", "SubOrchestrationTimedOut", 1, "child-7"]
    assert issubclass(SubOrchestrationTimedOut, TimeoutError)


@pytest.mark.task_groups
def test_a_coroutine_retries_a_declared_child(provider: Provider) -> None:
    tries: list[str] = []

    @orchestration
    async def flaky(number: int) -> int:
        instance = context().instance_id
        if instance not in tries:
            tries.append(instance)
        await context().schedule_timer(1)
        if tries.index(instance) < 1:
            raise ConnectionError("not yet")
        return number

    @orchestration
    async def parent(number: int) -> int:
        return await flaky.options(retry=FAST)(number)

    with Runtime(provider, functions=[flaky, parent]) as runtime:
        assert runtime.client.start(parent, 5).result(timeout=20) == 5
    assert len(tries) == 2


@pytest.mark.parametrize("store", ["memory"])
def test_a_start_timeout_is_refused_for_a_sub_orchestration(run: Run) -> None:
    def parent(ctx: OrchestrationContext, input: Any) -> Any:
        try:
            ctx.schedule_sub_orchestration("child", retry={"start_timeout_ms": 5})
        except ConfigurationError as error:
            return str(error)

    assert "start_timeout" in run(parent)
