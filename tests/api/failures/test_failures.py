"""Failures: type and message are kept from the activity to the client, through every layer between."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from conftest import Run
from duroxide import (
    ActivityContext,
    ActivityFailed,
    Backoff,
    Client,
    DuroxideError,
    OrchestrationContext,
    OrchestrationFailed,
    RetryPolicy,
    SubOrchestrationFailed,
    TaskFailed,
)

Steps = Generator[Any, Any, Any]

ONCE_MORE = RetryPolicy(max_attempts=2, backoff=Backoff.none())


class CardDeclined(Exception):
    """A failure class of the user, with details."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.details = {"code": 51, "retry": False}


def pay(ctx: ActivityContext, input: Any) -> None:
    raise CardDeclined("not enough money")


def paying(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.schedule_activity("pay")


def plain(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.schedule_activity("pay")


def by_child(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.schedule_sub_orchestration("paying")


def by_grandchild(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.schedule_sub_orchestration("by_child")


def by_all(ctx: OrchestrationContext, input: Any) -> Steps:
    outcomes = yield ctx.all([ctx.schedule_activity("pay"), ctx.schedule_timer(0)])
    outcomes[0].unwrap()


def by_gather(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.gather(ctx.schedule_timer(60_000), ctx.schedule_activity("pay"))


def by_race(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.race(ctx.schedule_timer(60_000), ctx.schedule_activity("pay"))


def by_retry(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.schedule_activity("pay", retry=ONCE_MORE)


def by_branch(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.gather(paying(ctx, input), ctx.schedule_timer(60_000))


def by_everything(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.gather(ctx.race(ctx.gather(ctx.schedule_sub_orchestration("by_retry"))))


def reraised(ctx: OrchestrationContext, input: Any) -> Steps:
    try:
        yield ctx.schedule_activity("pay")
    except ActivityFailed:
        yield ctx.schedule_timer(0)
        raise


@pytest.mark.parametrize(
    "orchestration",
    [plain, by_child, by_grandchild, by_all, by_gather, by_race, by_retry, by_branch, by_everything, reraised],
    ids=lambda orchestration: orchestration.__name__,
)
def test_failure_keeps_type_message_and_details(orchestration: Any, run: Run) -> None:
    orchestrations = {"paying": paying, "by_child": by_child, "by_retry": by_retry}
    orchestrations.pop(orchestration.__name__, None)

    with pytest.raises(OrchestrationFailed) as caught:
        run(orchestration, activities={"pay": pay}, orchestrations=orchestrations)

    failure = caught.value
    assert (failure.error_type, failure.message) == ("CardDeclined", "not enough money")
    assert failure.details == {"code": 51, "retry": False}
    assert str(failure) == "CardDeclined: not enough money"


def test_activity_failure_names_the_activity(run: Run, client: Client) -> None:
    def catch(ctx: OrchestrationContext, input: Any) -> Steps:
        try:
            yield ctx.schedule_activity("pay")
        except ActivityFailed as failure:
            return [failure.activity_name, failure.activity_id, failure.attempts]

    name, activity_id, attempts = run(catch, activities={"pay": pay}, instance="named")

    scheduled = [event for event in client.read_execution_history("named") if event.kind == "ActivityScheduled"]
    assert (name, activity_id, attempts) == ("pay", scheduled[0].event_id, 1)


def test_failure_is_caused_by_its_class_and_its_base_classes(run: Run) -> None:
    def fail(ctx: ActivityContext, input: Any) -> None:
        raise FileNotFoundError("gone")

    def catch(ctx: OrchestrationContext, input: Any) -> Steps:
        try:
            yield ctx.schedule_activity("fail")
        except TaskFailed as failure:
            return [failure.is_caused_by(each) for each in (FileNotFoundError, OSError, Exception, ValueError)]

    assert run(catch, activities={"fail": fail}) == [True, True, True, False]


def test_failure_is_not_an_instance_of_the_raised_class(run: Run) -> None:
    def fail(ctx: ActivityContext, input: Any) -> None:
        raise ValueError("no")

    def catch(ctx: OrchestrationContext, input: Any) -> Steps:
        try:
            yield ctx.schedule_activity("fail")
        except ValueError:
            return "ValueError"
        except DuroxideError:
            return "DuroxideError"

    assert run(catch, activities={"fail": fail}) == "DuroxideError"


def test_failure_of_the_orchestration_itself_reaches_the_client(run: Run) -> None:
    def broken(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.schedule_timer(0)
        raise KeyError("missing")

    with pytest.raises(OrchestrationFailed) as caught:
        run(broken)

    assert (caught.value.error_type, caught.value.message) == ("KeyError", "'missing'")


def test_failure_that_is_caught_lets_the_orchestration_complete(run: Run) -> None:
    def catch(ctx: OrchestrationContext, input: Any) -> Steps:
        try:
            yield ctx.schedule_activity("pay")
        except TaskFailed:
            return (yield ctx.schedule_activity("comfort"))

    assert run(catch, activities={"pay": pay, "comfort": lambda ctx, input: "there, there"}) == "there, there"


def test_failure_raised_from_another_keeps_its_type(run: Run) -> None:
    def wrap(ctx: OrchestrationContext, input: Any) -> Steps:
        try:
            yield ctx.schedule_activity("pay")
        except TaskFailed as failure:
            raise RuntimeError("the order failed") from failure

    with pytest.raises(OrchestrationFailed, match="^RuntimeError: the order failed$"):
        run(wrap, activities={"pay": pay})


def test_failure_of_a_child_is_a_sub_orchestration_failure(run: Run) -> None:
    def catch(ctx: OrchestrationContext, input: Any) -> Steps:
        try:
            yield ctx.schedule_sub_orchestration("paying")
        except SubOrchestrationFailed as failure:
            return [failure.orchestration_name, failure.is_caused_by(CardDeclined), str(failure)]

    assert run(catch, activities={"pay": pay}, orchestrations={"paying": paying}) == [
        "paying",
        True,
        "CardDeclined: not enough money",
    ]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError(), "ValueError"),
        (ValueError(""), "ValueError"),
        (ValueError("ü🎉"), "ValueError: ü🎉"),
        (ValueError("two\nlines"), "ValueError: two\nlines"),
        (ValueError('{"type": "Fake", "message": "json"}'), 'ValueError: {"type": "Fake", "message": "json"}'),
    ],
    ids=["empty", "empty text", "unicode", "lines", "json"],
)
def test_text_of_a_failure_has_type_and_message(error: Exception, text: str, run: Run) -> None:
    def fail(ctx: ActivityContext, input: Any) -> None:
        raise error

    def call(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.schedule_activity("fail")

    with pytest.raises(OrchestrationFailed) as caught:
        run(call, activities={"fail": fail})

    assert str(caught.value) == text


def test_history_holds_no_traceback_and_no_path(run: Run, client: Client) -> None:
    with pytest.raises(OrchestrationFailed):
        run(paying, activities={"pay": pay}, instance="private")

    recorded = "".join(event.data for event in client.read_execution_history("private"))
    assert "Traceback" not in recorded
    assert ".py" not in recorded


def test_failure_of_one_orchestration_leaves_the_others_alone(run: Run) -> None:
    def mixed(ctx: OrchestrationContext, input: Any) -> Steps:
        outcomes = yield ctx.all([ctx.schedule_sub_orchestration("paying"), ctx.schedule_sub_orchestration("fine")])
        return [sorted(outcome) for outcome in outcomes]

    orchestrations = {"paying": paying, "fine": lambda ctx, input: "fine"}
    assert run(mixed, activities={"pay": pay}, orchestrations=orchestrations) == [["err"], ["ok"]]


def test_outcome_of_a_failure_is_recorded_as_its_text(run: Run) -> None:
    def outcomes(ctx: OrchestrationContext, input: Any) -> Steps:
        return (yield ctx.all([ctx.schedule_activity("pay")]))

    assert run(outcomes, activities={"pay": pay}) == [{"err": "CardDeclined: not enough money"}]


def test_system_exit_in_an_activity_fails_only_the_activity(run: Run) -> None:
    def leave(ctx: ActivityContext, input: Any) -> None:
        raise SystemExit(3)

    def catch(ctx: OrchestrationContext, input: Any) -> Steps:
        try:
            yield ctx.schedule_activity("leave")
        except ActivityFailed as failure:
            return failure.error_type

    assert run(catch, activities={"leave": leave}) == "SystemExit"


def test_result_raises_the_same_failure_each_time(run: Run, client: Client) -> None:
    with pytest.raises(OrchestrationFailed):
        run(paying, activities={"pay": pay}, instance="again")
    status = client.get_status("again")

    for _ in range(2):
        with pytest.raises(OrchestrationFailed, match="not enough money"):
            status.result()
