"""Handles: typed results, failures with their causes, and the other operations on one instance."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

import duroxide
from declared.conftest import Serve
from duroxide import (
    ActivityFailed,
    ActivityTimedOut,
    Backoff,
    CodecError,
    Handle,
    InstanceAlreadyExists,
    OrchestrationCancelled,
    OrchestrationFailed,
    RetryPolicy,
    SubOrchestrationFailed,
    WaitTimedOut,
    activity,
    orchestration,
)


@dataclass
class Order:
    id: str
    total: Decimal


ORDER = Order("order-7", Decimal("9.90"))


class CardDeclined(Exception):
    details = {"code": 51}


@orchestration
async def echo(order: Order, note: str = "none") -> Order:
    return Order(f"{order.id} {note}", order.total)


@orchestration
async def wait() -> str:
    return await duroxide.wait_for_event("go", str)


@activity(retry=RetryPolicy(max_attempts=3, backoff=Backoff.none()))
def decline(order: str) -> None:
    raise CardDeclined(f"no money for {order}")


@orchestration
async def pay(order: str) -> None:
    await decline(order)


@orchestration
async def fulfil(order: str) -> None:
    await pay(order)


def failure_of(handle: Handle[Any]) -> OrchestrationFailed:
    with pytest.raises(OrchestrationFailed) as failed:
        handle.result()
    return failed.value


def test_result_has_the_annotated_type(serve: Serve) -> None:
    client = serve(echo)

    assert client.start(echo, ORDER, id="a").result() == Order("order-7 none", Decimal("9.90"))
    assert client.start(echo, ORDER, note="quick", id="b").result(60) == Order("order-7 quick", Decimal("9.90"))
    assert client.handle("a", echo).result(timedelta(seconds=60)) == Order("order-7 none", Decimal("9.90"))
    assert client.handle("a").result(timeout=None) == {"id": "order-7 none", "total": "9.90"}
    assert client.handle("a", "echo").result(0.5) == {"id": "order-7 none", "total": "9.90"}


def test_orchestration_can_be_started_by_its_name(serve: Serve) -> None:
    client = serve(echo)

    handle = client.start("echo", {"order": ORDER, "note": "quick"}, id="a")

    assert handle.result() == {"id": "order-7 quick", "total": "9.90"}
    with pytest.raises(TypeError, match="orchestration 'echo' is started by its name, and then takes its input alone"):
        client.start("echo", ORDER, "quick")


def test_id_is_generated_if_none_is_given(serve: Serve) -> None:
    client = serve(echo)

    first, second = client.start(echo, ORDER), client.start(echo, ORDER)

    assert first.id != second.id
    assert repr(client.handle("a", echo)) == "<Handle of instance 'a'>"


def test_second_start_attaches_or_is_refused(serve: Serve) -> None:
    client = serve(echo)
    client.start(echo, ORDER, id="a").result()

    assert client.start(echo, Order("other", Decimal(1)), id="a").result().id == "order-7 none"
    with pytest.raises(InstanceAlreadyExists):
        client.start(echo, ORDER, id="a", if_exists="raise")


def test_attaching_with_another_input_is_said(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    client = serve(echo)
    first = client.start(echo, ORDER, id="a")
    first.result()

    with caplog.at_level(logging.WARNING, "duroxide.client"):
        other = client.start(echo, Order("other", Decimal(1)), id="a")
        assert client.start_orchestration("a", echo, {"order": ORDER, "note": "new"}) is False

    assert (first.is_new, first.has_other_input) == (True, False)
    assert (other.is_new, other.has_other_input) == (False, True)
    said = [each.getMessage() for each in caplog.records if each.name == "duroxide.client"]
    assert [each.split(",")[0] for each in said] == ["instance 'a' was started with another input"] * 2


def test_attaching_with_the_same_input_is_not_warned_of(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    client = serve(echo)
    client.start(echo, order=ORDER, note="new").result()
    client.start_orchestration("a", echo, {"order": ORDER, "note": "new"})
    client.handle("a").result()

    with caplog.at_level(logging.WARNING, "duroxide.client"):
        again = client.start(echo, ORDER, "new", id="a")
        client.start_orchestration("a", echo, {"note": "new", "order": ORDER})

    assert (again.is_new, again.has_other_input) == (False, False)
    assert client.handle("a").is_new is None
    assert caplog.messages == []


def test_result_that_does_not_fit_is_refused(serve: Serve) -> None:
    @orchestration
    async def lies() -> Order:
        return 5  # type: ignore[return-value]

    with pytest.raises(CodecError, match="a value of type int does not fit the annotation Order"):
        serve(lies).start(lies).result()


def test_failure_names_the_activity_its_attempts_and_its_exception(serve: Serve) -> None:
    client = serve(pay, decline)

    handle = client.start(pay, "order-7")
    cause = failure_of(handle).__cause__

    assert isinstance(cause, ActivityFailed)
    assert (cause.activity_name, cause.attempts) == ("decline", 3)
    assert cause.activity_id == [event.event_id for event in handle.history() if event.kind == "ActivityScheduled"][-1]
    assert (cause.error_type, cause.message, cause.details) == ("CardDeclined", "no money for order-7", {"code": 51})
    assert cause.is_caused_by(CardDeclined)
    assert cause.__cause__ is None


def test_failure_of_a_child_has_its_activity_as_cause(serve: Serve) -> None:
    client = serve(fulfil, pay, decline)

    child = failure_of(client.start(fulfil, "order-7", id="root")).__cause__

    assert isinstance(child, SubOrchestrationFailed)
    assert child.orchestration_name == "pay"
    assert child.instance_id is not None
    assert child.instance_id.startswith("root::")
    assert isinstance(child.__cause__, ActivityFailed)
    assert child.__cause__.activity_name == "decline"


def test_failure_of_a_child_with_an_id_has_its_activity_as_cause(serve: Serve) -> None:
    @orchestration
    async def outer() -> None:
        await pay.options(instance_id="the-child")("order-7")

    child = failure_of(serve(outer, pay, decline).start(outer)).__cause__

    assert isinstance(child, SubOrchestrationFailed)
    assert child.instance_id == "the-child"
    assert isinstance(child.__cause__, ActivityFailed)


def test_failure_by_a_timeout_names_the_activity(serve: Serve) -> None:
    @activity(retry=RetryPolicy(max_attempts=2, attempt_timeout=50, backoff=Backoff.none()))
    async def stall() -> None:
        await asyncio.sleep(60)

    @orchestration
    async def patient() -> None:
        await stall()

    @orchestration
    async def parent() -> None:
        await patient()

    child = failure_of(serve(parent, patient, stall).start(parent)).__cause__
    assert isinstance(child, SubOrchestrationFailed)
    cause = child.__cause__

    assert isinstance(cause, ActivityTimedOut)
    assert isinstance(cause, TimeoutError)
    assert (cause.activity_name, cause.attempts) == ("stall", 2)


def test_earlier_successful_calls_do_not_count_as_attempts(serve: Serve) -> None:
    calls: list[int] = []

    @activity(retry=RetryPolicy(max_attempts=2, backoff=Backoff.none()))
    def fails_in_the_end() -> None:
        calls.append(1)
        if len(calls) > 3:
            raise ValueError("in the end")

    @orchestration
    async def loop() -> None:
        for _ in range(4):
            await fails_in_the_end()

    cause = failure_of(serve(loop, fails_in_the_end).start(loop)).__cause__

    assert isinstance(cause, ActivityFailed)
    assert cause.attempts == 2


def test_parallel_calls_do_not_count_as_attempts(serve: Serve) -> None:
    @activity(retry=RetryPolicy(max_attempts=1))
    def fails_each_time() -> None:
        raise ValueError("each time")

    @orchestration
    async def beside() -> None:
        await asyncio.gather(fails_each_time(), fails_each_time(), fails_each_time())

    cause = failure_of(serve(beside, fails_each_time).start(beside)).__cause__

    assert isinstance(cause, ActivityFailed)
    assert cause.attempts == 1


def test_failure_of_the_orchestration_code_has_no_cause(serve: Serve) -> None:
    @orchestration
    async def careful(order: str) -> None:
        try:
            await decline(order)
        except ActivityFailed:
            raise KeyError("handled") from None

    failure = failure_of(serve(careful, decline).start(careful, "order-7"))

    assert (failure.error_type, failure.__cause__) == ("KeyError", None)


def test_traceback_is_logged_with_the_same_ids(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    client = serve(pay, decline)
    with caplog.at_level(logging.WARNING, logger="duroxide.activity"):
        handle = client.start(pay, "order-7")
        cause = failure_of(handle).__cause__
        assert isinstance(cause, ActivityFailed)
        client.handle(handle.id).wait()

    found = [record for record in caplog.records if record.name == "duroxide.activity" and record.exc_info]
    assert [getattr(record, "activity_name", None) for record in found] == ["decline"] * 3
    assert {getattr(record, "instance_id", None) for record in found} == {handle.id}
    assert getattr(found[-1], "activity_id", None) == cause.activity_id
    assert "raise CardDeclined" in logging.Formatter().format(found[-1])


def test_wait_and_status_do_not_raise_a_failure(serve: Serve) -> None:
    handle = serve(pay, decline).start(pay, "order-7")

    assert handle.wait().status == "Failed"
    assert handle.status().error == "CardDeclined: no money for order-7"


def test_wait_has_a_timeout_in_seconds(serve: Serve) -> None:
    handle = serve(wait).start(wait)

    for timeout in (0, 0.05, timedelta(milliseconds=50)):
        with pytest.raises(WaitTimedOut):
            handle.result(timeout)
    with pytest.raises(TypeError, match="timeout must be a number of seconds, a timedelta or None, not str"):
        handle.result("1 s")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must be at least 0"):
        handle.wait(-1)
    with pytest.raises(ValueError, match="must be a number of seconds, not nan; None is without a limit"):
        handle.wait(float("nan"))


def test_result_of_a_cancelled_instance_raises_with_the_reason(serve: Serve) -> None:
    handle = serve(wait).start(wait)

    handle.cancel("not needed")

    with pytest.raises(OrchestrationCancelled) as cancelled:
        handle.result()
    assert (cancelled.value.reason, cancelled.value.__cause__) == ("not needed", None)


def test_handle_reads_the_history_of_its_instance(serve: Serve) -> None:
    handle = serve(echo).start(echo, ORDER)
    handle.result()

    kinds = [event.kind for event in handle.history()]
    assert (kinds[0], kinds[-1]) == ("OrchestrationStarted", "OrchestrationCompleted")
    assert handle.history(1) == handle.history()
