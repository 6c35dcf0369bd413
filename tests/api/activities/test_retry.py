"""Retries: how often, how long, and which errors are not retried."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator
from datetime import timedelta
from typing import Any

import pytest

from conftest import Run
from duroxide import (
    ActivityContext,
    ActivityFailed,
    ActivityTimedOut,
    Backoff,
    Client,
    ConfigurationError,
    Event,
    OrchestrationContext,
    RetryPolicy,
    RuntimeOptions,
    TagFilter,
    UnknownOption,
)
from duroxide._declare.retry import native_policy

Steps = Generator[Any, Any, Any]


def fails_before(successful: int, error: type[Exception] = ConnectionError) -> Callable[..., int]:
    """Return an activity that fails until its call of this number."""
    calls: list[int] = []

    def flaky(ctx: ActivityContext, input: Any) -> int:
        calls.append(1)
        if len(calls) < successful:
            raise error(f"call {len(calls)}")
        return len(calls)

    return flaky


def with_policy(policy: Any) -> Callable[..., Steps]:
    """Return an orchestration that reports how one activity ends under this policy."""

    def retrying(ctx: OrchestrationContext, input: Any) -> Steps:
        try:
            return (yield ctx.schedule_activity("flaky", input, retry=policy))
        except ActivityFailed as failure:
            return [type(failure).__name__, failure.error_type, failure.message, failure.attempts]

    return retrying


FAST = RetryPolicy(max_attempts=5, backoff=Backoff.none())


def waits(client: Client, instance: str) -> list[int]:
    """The recorded lengths of an instance's timers, in milliseconds."""
    events = client.read_execution_history(instance)
    return [fire_at(event) - event.timestamp_ms for event in events if event.kind == "TimerCreated"]


def fire_at(event: Event) -> int:
    moment: int = json.loads(event.data)["fire_at_ms"]
    return moment


def test_activity_is_retried_until_it_succeeds(run: Run) -> None:
    assert run(with_policy(FAST), activities={"flaky": fails_before(4)}) == 4


def test_last_failure_is_raised_when_the_attempts_are_used_up(run: Run) -> None:
    output = run(
        with_policy(RetryPolicy(max_attempts=2, backoff=Backoff.none())), activities={"flaky": fails_before(9)}
    )

    assert output == ["ActivityFailed", "ConnectionError", "call 2", 2]


def test_one_attempt_means_no_retry(run: Run) -> None:
    assert run(with_policy({"max_attempts": 1}), activities={"flaky": fails_before(9)})[3] == 1


def test_policy_is_an_argument_of_schedule_activity_with_retry(run: Run) -> None:
    def retrying(ctx: OrchestrationContext, input: Any) -> Steps:
        return (yield ctx.schedule_activity_with_retry("flaky", input, FAST))

    assert run(retrying, activities={"flaky": fails_before(3)}) == 3


def test_policy_by_default_makes_three_attempts(run: Run) -> None:
    def retrying(ctx: OrchestrationContext, input: Any) -> Steps:
        return (yield ctx.schedule_activity_with_retry("flaky", input))

    assert run(retrying, activities={"flaky": fails_before(3)}) == 3


@pytest.mark.parametrize(
    ("backoff", "expected"),
    [
        (Backoff.none(), []),
        (Backoff.fixed(20), [20, 20, 20]),
        (Backoff.linear(20), [20, 40, 60]),
        (Backoff.exponential(10), [10, 20, 40]),
        (Backoff.exponential(10, multiplier=3, maximum=50), [10, 30, 50]),
        (Backoff.linear(20, maximum=30), [20, 30, 30]),
        (Backoff.fixed(timedelta(milliseconds=15)), [15, 15, 15]),
    ],
    ids=["none", "fixed", "linear", "exponential", "capped", "linear-capped", "timedelta"],
)
def test_backoff_waits_by_durable_timers(backoff: Backoff, expected: list[int], run: Run, client: Client) -> None:
    policy = RetryPolicy(max_attempts=4, backoff=backoff)

    # The engine stamps an event a little before or after the timer is computed; on a busy machine one round may be off
    # by more.
    rounds: list[list[int]] = []
    for instance in ("first", "second", "third"):
        run(with_policy(policy), activities={"flaky": fails_before(4)}, instance=instance)
        rounds.append(waits(client, instance))
        assert len(rounds[-1]) == len(expected)
        if all(abs(length - wanted) <= 15 for length, wanted in zip(rounds[-1], expected, strict=True)):
            return
    pytest.fail(f"the waits were {rounds}")


def test_every_backoff_hands_over_its_maximum() -> None:
    # 20 and 30 ms are nearer to each other than a busy machine is to either.
    for backoff in (Backoff.linear(20, maximum=30), Backoff.linear(20, 30), Backoff.exponential(20, maximum=30)):
        assert "maximum: 30ms" in repr(native_policy(RetryPolicy(backoff=backoff)))
    assert "maximum: 30s" in repr(native_policy(RetryPolicy(backoff=Backoff.linear(20))))


@pytest.mark.parametrize(
    "policy",
    [
        {"max_attempts": 3, "backoff": "none"},
        {"maxAttempts": 3, "backoff": "none"},
        {"max_attempts": 3, "backoff_strategy": "none"},
        {"maxAttempts": 3, "backoffStrategy": "none", "timeoutMs": 20_000, "totalTimeoutMs": 30_000},
        {"max_attempts": 3, "backoff": "exponential", "base_ms": 1, "timeout_ms": 20_000, "total_timeout_ms": 30_000},
    ],
)
def test_policy_may_be_a_dictionary_in_snake_or_camel_case(policy: dict[str, Any], run: Run) -> None:
    assert run(with_policy(policy), activities={"flaky": fails_before(3)}) == 3


def test_attempt_that_takes_too_long_is_retried(run: Run) -> None:
    calls: list[int] = []
    over = threading.Event()

    def slow_once(ctx: ActivityContext, input: Any) -> int:
        calls.append(1)
        if len(calls) == 1:
            over.wait(30)
        return len(calls)

    policy = RetryPolicy(max_attempts=3, backoff=Backoff.none(), attempt_timeout=3_000)
    try:
        assert run(with_policy(policy), activities={"flaky": slow_once}) == 2
    finally:
        over.set()


def test_retries_end_in_a_timeout_when_every_attempt_takes_too_long(run: Run) -> None:
    over = threading.Event()
    policy = RetryPolicy(max_attempts=2, backoff=Backoff.none(), attempt_timeout=50)

    def retrying(ctx: OrchestrationContext, input: Any) -> Steps:
        try:
            yield ctx.schedule_activity("flaky", retry=policy)
        except ActivityTimedOut as failure:
            over.set()
            return [failure.attempts, isinstance(failure, TimeoutError), failure.activity_name]

    assert run(retrying, activities={"flaky": lambda ctx, input: over.wait(20)}) == [2, True, "flaky"]


def test_total_timeout_ends_all_attempts(run: Run) -> None:
    policy = RetryPolicy(max_attempts=1000, backoff=Backoff.fixed(10), total_timeout=150)

    output = run(with_policy(policy), activities={"flaky": fails_before(10_000)})

    assert output[0] == "ActivityTimedOut"
    assert "150 ms" in output[2]


@pytest.mark.parametrize("backoff", [Backoff.fixed(timedelta(hours=1)), Backoff.exponential(3_600_000, 2)])
def test_total_timeout_ends_a_wait_that_is_longer(backoff: Backoff, run: Run) -> None:
    policy = RetryPolicy(max_attempts=3, backoff=backoff, total_timeout=100)

    output = run(with_policy(policy), activities={"flaky": fails_before(10_000)})

    message = "activity 'flaky' did not finish within 100 ms in 1 attempt"
    assert output == ["ActivityTimedOut", "ActivityTimedOut", message, 1]


def test_total_timeout_ends_a_running_attempt(run: Run) -> None:
    over = threading.Event()
    policy = RetryPolicy(max_attempts=3, total_timeout=100)

    def retrying(ctx: OrchestrationContext, input: Any) -> Steps:
        try:
            yield ctx.schedule_activity("flaky", retry=policy)
        except ActivityTimedOut as failure:
            over.set()
            return failure.attempts

    assert run(retrying, activities={"flaky": lambda ctx, input: over.wait(20)}) == 1


def test_total_timeout_does_not_affect_a_quick_success(run: Run) -> None:
    policy = RetryPolicy(max_attempts=3, total_timeout=timedelta(hours=1))

    assert run(with_policy(policy), activities={"flaky": fails_before(1)}) == 1


@pytest.mark.parametrize("non_retryable", [ConnectionError, "ConnectionError", OSError])
def test_error_on_the_no_retry_list_fails_at_once(non_retryable: Any, run: Run) -> None:
    policy = RetryPolicy(max_attempts=5, backoff=Backoff.none(), non_retryable=(non_retryable,))

    output = run(with_policy(policy), activities={"flaky": fails_before(9)})

    assert output == ["ActivityFailed", "ConnectionError", "call 1", 1]


def test_errors_outside_the_no_retry_list_are_retried(run: Run) -> None:
    policy = RetryPolicy(max_attempts=5, backoff=Backoff.none(), non_retryable=(ValueError,))

    assert run(with_policy(policy), activities={"flaky": fails_before(3)}) == 3


def test_exception_marked_as_not_retryable_fails_at_once(run: Run) -> None:
    class Final(Exception):
        retryable = False

    output = run(with_policy(FAST), activities={"flaky": fails_before(9, Final)})

    assert output == ["ActivityFailed", "Final", "call 1", 1]


def test_retry_keeps_session_and_tag(run: Run) -> None:
    seen: list[tuple[str | None, str | None, str]] = []

    def flaky(ctx: ActivityContext, input: Any) -> int:
        seen.append((ctx.session_id, ctx.tag(), ctx.worker_id))
        if len(seen) < 3:
            raise OSError("again")
        return len(seen)

    def retrying(ctx: OrchestrationContext, input: Any) -> Steps:
        return (yield ctx.schedule_activity("flaky", retry=FAST, session_id="s-1", tag="gpu"))

    options = RuntimeOptions(worker_tag_filter=TagFilter.default_and("gpu"))
    assert run(retrying, activities={"flaky": flaky}, options=options) == 3
    assert {(session, tag) for session, tag, _ in seen} == {("s-1", "gpu")}
    assert len({worker for _, _, worker in seen}) == 1


def test_schedule_activity_with_retry_on_session_takes_a_tag(run: Run) -> None:
    def describe(ctx: ActivityContext, input: Any) -> list[str | None]:
        return [ctx.session_id, ctx.tag()]

    def retrying(ctx: OrchestrationContext, input: Any) -> Steps:
        return (yield ctx.schedule_activity_with_retry_on_session("describe", None, FAST, "s-2").with_tag("gpu"))

    options = RuntimeOptions(worker_tag_filter=TagFilter.tags("gpu"))
    assert run(retrying, activities={"describe": describe}, options=options) == ["s-2", "gpu"]


def test_retries_run_side_by_side_in_a_gather(run: Run) -> None:
    activities = {f"flaky {number}": fails_before(number) for number in (1, 2, 3)}

    def fan(ctx: OrchestrationContext, input: Any) -> Steps:
        policy = RetryPolicy(max_attempts=3, backoff=Backoff.fixed(5))
        return (yield ctx.gather([ctx.schedule_activity(name, retry=policy) for name in activities]))

    assert run(fan, activities=activities) == [1, 2, 3]


def test_retry_that_loses_a_race_makes_no_further_attempt(run: Run, client: Client) -> None:
    def contest(ctx: OrchestrationContext, input: Any) -> Steps:
        policy = RetryPolicy(max_attempts=10, backoff=Backoff.fixed(60_000))
        winner = yield ctx.race(ctx.schedule_activity("flaky", retry=policy), ctx.wait_for_event("stop"))
        return winner["index"]

    def fail(ctx: ActivityContext, input: Any) -> None:
        ctx.get_client().raise_event(ctx.instance_id, "stop")
        raise OSError("once")

    assert run(contest, activities={"flaky": fail}, instance="one-attempt") == 1
    kinds = [event.kind for event in client.read_execution_history("one-attempt")]
    assert kinds.count("ActivityScheduled") == 1


@pytest.mark.parametrize(
    "options",
    [
        {"max_attempts": 0},
        {"max_attempts": 1.5},
        {"attempt_timeout": 0},
        {"attempt_timeout": -1},
        {"total_timeout": timedelta(0)},
        {"backoff": "exponential"},
        {"non_retryable": ValueError},
    ],
)
def test_policy_with_an_invalid_value_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        RetryPolicy(**options)


def test_misspelt_option_of_a_policy_is_refused_with_the_right_one() -> None:
    with pytest.raises(UnknownOption, match="max_attempts"):
        RetryPolicy.from_value({"max_attempt": 3})


def test_option_in_two_spellings_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="twice"):
        RetryPolicy.from_value({"max_attempts": 3, "maxAttempts": 4})
