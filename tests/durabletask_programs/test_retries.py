"""Retry policies of durabletask."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from durabletask_programs.conftest import Program
from duroxide.durabletask import task
from duroxide.durabletask.client import OrchestrationStatus


class Flaky:
    """An activity that fails some times, and then returns how often it was called."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.calls = 0
        self.lock = threading.Lock()
        self.__name__ = "flaky"

    def __call__(self, ctx, _):
        with self.lock:
            self.calls += 1
        if self.calls <= self.failures:
            raise ValueError(f"attempt {self.calls}")
        return self.calls


def test_an_activity_is_tried_again(program: Program) -> None:
    def main(ctx, _):
        policy = task.RetryPolicy(first_retry_interval=0.001, max_number_of_attempts=3)
        return (yield ctx.call_activity("flaky", retry_policy=policy))

    assert program.result_of(main, activities=(Flaky(2),)) == 3


def test_the_last_failure_is_raised(program: Program) -> None:
    def main(ctx, _):
        policy = task.RetryPolicy(first_retry_interval=timedelta(milliseconds=1), max_number_of_attempts=2)
        try:
            yield ctx.call_activity("flaky", retry_policy=policy)
        except task.TaskFailedError as failure:
            return failure.details.message

    assert program.result_of(main, activities=(Flaky(5),)) == "attempt 2"


def test_every_attempt_of_a_child_is_a_new_instance(program: Program) -> None:
    def child(ctx, _):
        if not ctx.instance_id.endswith("-attempt-2"):
            raise ValueError("first")
        return ctx.instance_id

    def main(ctx, _):
        policy = task.RetryPolicy(first_retry_interval=0, max_number_of_attempts=2)
        return (yield ctx.call_sub_orchestrator(child, instance_id=f"{ctx.instance_id}-c", retry_policy=policy))

    assert program.result_of(main, children=(child,)).endswith("-c-attempt-2")


def test_a_finished_retry_is_not_judged_by_a_later_clock(program: Program) -> None:
    def main(ctx, _):
        policy = task.RetryPolicy(first_retry_interval=0.001, max_number_of_attempts=3, retry_timeout=2)
        result = yield ctx.call_activity("flaky", retry_policy=policy)
        ctx.set_custom_status("retried")
        yield ctx.create_timer(timedelta(seconds=2.1))
        return result

    program.start(main, activities=(Flaky(1),))
    instance = program.client.schedule_new_orchestration(main)
    program.wait_for_status(instance, '"retried"')
    program.worker.stop()
    program.worker.start()
    assert program.end_of(instance).get_output() == 2


@pytest.mark.parametrize("store", ["memory"])
def test_no_attempt_begins_after_the_time_limit(program: Program) -> None:
    flaky = Flaky(100)

    def main(ctx, _):
        policy = task.RetryPolicy(first_retry_interval=1.1, max_number_of_attempts=100, retry_timeout=1)
        yield ctx.call_activity("flaky", retry_policy=policy)

    assert program.run(main, activities=(flaky,)).runtime_status is OrchestrationStatus.FAILED
    # The first failure comes within the limit, the second does not.
    assert flaky.calls == 2


@pytest.mark.parametrize("store", ["memory"])
def test_a_predicate_ends_the_attempts(program: Program) -> None:
    flaky = Flaky(100)

    def main(ctx, _):
        policy = task.RetryPolicy(
            first_retry_interval=0,
            max_number_of_attempts=100,
            should_retry=lambda failure: failure.message == "attempt 1",
        )
        yield ctx.call_activity("flaky", retry_policy=policy)

    program.run(main, activities=(flaky,))
    assert flaky.calls == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"first_retry_interval": -1, "max_number_of_attempts": 1},
        {"first_retry_interval": 1, "max_number_of_attempts": 0},
        {"first_retry_interval": 1, "max_number_of_attempts": 1, "backoff_coefficient": 0.5},
        {"first_retry_interval": 1, "max_number_of_attempts": 1, "max_retry_interval": -1},
        {"first_retry_interval": 1, "max_number_of_attempts": 1, "jitter": 2},
    ],
)
def test_a_wrong_value_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="must"):
        task.RetryPolicy(**wrong)


def test_the_properties_are_times() -> None:
    policy = task.RetryPolicy(
        first_retry_interval=5, max_number_of_attempts=3, max_retry_interval=60, retry_timeout=300
    )
    assert (policy.first_retry_interval, policy.max_retry_interval, policy.retry_timeout) == (
        timedelta(seconds=5),
        timedelta(minutes=1),
        timedelta(minutes=5),
    )
    assert (policy.max_number_of_attempts, policy.backoff_coefficient) == (3, 1.0)
