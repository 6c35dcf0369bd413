"""Failures keep their type and message, however unusual the exception is."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pydantic
import pytest

from duroxide import exceptions
from duroxide._values.codec import decode, encode
from duroxide.exceptions import (
    ActivityFailed,
    ActivityTimedOut,
    DuroxideError,
    OrchestrationCancelled,
    OrchestrationFailed,
    SubOrchestrationFailed,
    TaskFailed,
    TurnClosed,
    activity_failed,
    activity_timed_out,
    describe_failure,
    encode_failure,
    orchestration_failed,
    sub_orchestration_failed,
)


class OrderRefused(ValueError):
    pass


class CreditRefused(OrderRefused):
    pass


def test_an_exception_is_recorded_as_type_and_message() -> None:
    assert encode_failure(ValueError("email is required")) == '{"type": "ValueError", "message": "email is required"}'


def test_details_and_retryable_are_recorded_in_that_order() -> None:
    error = OrderRefused("no")
    error.retryable = False  # type: ignore[attr-defined]
    error.details = {"order": 7}  # type: ignore[attr-defined]
    text = encode_failure(error)
    assert text == (
        '{"type": "OrderRefused", "message": "no", "details": {"order": 7}, "retryable": false, "bases": ["ValueError"]}'
    )
    failure = activity_failed(text, "order", 2, 1)
    assert (failure.details, failure.retryable) == ({"order": 7}, False)


@dataclass
class Stock:
    left: int


class Shelf(pydantic.BaseModel):
    tags: set[str]


@pytest.mark.parametrize(
    "details",
    [
        Stock(2),
        Shelf(tags={"b", "a"}),
        {"until": datetime(2026, 1, 1), "missing": Decimal("1.50")},  # noqa: DTZ001
        [UUID(int=1), {"b", "a"}],
        {UUID(int=1): Stock(2)},
        {1: "a", "nan": float("inf")},
        0,
        "",
    ],
)
def test_details_have_the_form_that_the_same_value_has_as_a_result(details: Any) -> None:
    error = OrderRefused("no")
    error.details = details  # type: ignore[attr-defined]
    text = encode_failure(error)
    assert text == f'{{"type": "OrderRefused", "message": "no", "details": {encode(details)}, "bases": ["ValueError"]}}'
    assert activity_failed(text, "order", 2, 1).details == decode(encode(details))


def test_details_of_an_exception_that_another_replaces_are_not_recorded() -> None:
    refused = OrderRefused("no")
    refused.details = {"token": "secret"}  # type: ignore[attr-defined]
    try:
        try:
            raise refused
        except OrderRefused:
            raise OrderRefused("refused") from None
    except OrderRefused as replacement:
        text = encode_failure(replacement)
    assert text == '{"type": "OrderRefused", "message": "refused", "bases": ["ValueError"]}'


@pytest.mark.parametrize("details", [object(), "x" * 1_048_576], ids=["no form", "too long"])
def test_details_that_cannot_be_recorded_are_left_out_with_a_warning(
    details: object, caplog: pytest.LogCaptureFixture
) -> None:
    error = ValueError("no")
    error.details = details  # type: ignore[attr-defined]
    error.retryable = "maybe"  # type: ignore[attr-defined]
    assert json.loads(encode_failure(error)) == {"type": "ValueError", "message": "no"}
    assert "the details of a failure are not recorded: " in caplog.text


def test_a_method_named_details_is_not_recorded() -> None:
    class RpcError(Exception):
        def details(self) -> str:
            return "unavailable"

    assert json.loads(encode_failure(RpcError("x"))) == {"type": "RpcError", "message": "x"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"type": "ValueError", "message": "email is required"}', "ValueError: email is required"),
        ('{"type": "ValueError", "message": ""}', "ValueError"),
        ("plain text", "plain text"),
        ("", ""),
        ('{"message": "of another language"}', '{"message": "of another language"}'),
        ('{"type": "E", "message": "m", "code": 5}', '{"type": "E", "message": "m", "code": 5}'),
        ('"text"', '"text"'),
        ("[" * 100_000, "[" * 100_000),
    ],
    ids=["typed", "no message", "plain", "empty", "no type", "more keys", "a string", "too deep"],
)
def test_a_recorded_failure_is_read_as_type_and_message(text: str, shown: str) -> None:
    assert describe_failure(text) == shown
    assert str(activity_failed(text, "a", 1, 1)) == shown


def test_a_plain_text_has_no_type_and_is_recorded_unchanged() -> None:
    failure = activity_failed("plain text", "a", 1, 1)
    assert failure.error_type is None
    assert not failure.is_caused_by(Exception)
    assert encode_failure(failure) == "plain text"


def test_a_failure_raised_again_keeps_its_original_type() -> None:
    text = encode_failure(OrderRefused("no"))
    assert encode_failure(sub_orchestration_failed(encode_failure(activity_failed(text, "a", 1, 1)), "p", "i")) == text


def test_the_cause_matches_a_class_by_the_names_of_its_subclasses() -> None:
    failure = activity_failed(encode_failure(CreditRefused("no")), "a", 1, 1)
    assert failure.is_caused_by(ValueError)
    assert failure.is_caused_by(OrderRefused)
    assert failure.is_caused_by((KeyError, CreditRefused))
    assert failure.is_caused_by(Exception)
    assert not failure.is_caused_by(KeyError)
    assert not isinstance(failure, ValueError)


def test_a_failure_is_recorded_when_its_message_cannot_be_read() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    assert json.loads(encode_failure(Broken()))["type"] == "Broken"


def test_lone_surrogates_survive_the_record_and_are_shown_as_escapes() -> None:
    text = encode_failure(ValueError("a\ud800b"))
    assert text.isascii()
    assert activity_failed(text, "a", 1, 1).message == "a\ud800b"
    assert describe_failure(text) == "ValueError: a\\ud800b"


def test_a_huge_message_is_shortened() -> None:
    assert len(encode_failure(ValueError("x" * 10_000_000))) < 70_000


def test_a_timeout_is_a_timeout_error_of_the_activity() -> None:
    failure = activity_timed_out("charge", 5000, 2, "total")
    assert isinstance(failure, (ActivityTimedOut, TimeoutError))
    assert isinstance(failure, ActivityFailed)
    assert str(failure) == "ActivityTimedOut: activity 'charge' did not finish within 5000 ms in 2 attempts"
    assert failure.is_caused_by(TimeoutError)
    assert (failure.activity_name, failure.attempts) == ("charge", 2)


def test_a_cancelled_orchestration_has_the_reason() -> None:
    failure = orchestration_failed("", "order-1", "too late")
    assert isinstance(failure, OrchestrationCancelled)
    assert (failure.reason, failure.instance_id, str(failure)) == ("too late", "order-1", "canceled: too late")


@pytest.mark.parametrize(
    "failure",
    [
        activity_failed('{"type": "E", "message": "m", "details": [1]}', "a", 3, 2),
        activity_timed_out("a", 10, 1, "attempt"),
        sub_orchestration_failed("plain", "child", "c-1"),
        orchestration_failed('{"type": "E", "message": "m"}', "i", None),
        orchestration_failed("", "i", "reason"),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_failures_can_be_copied_and_sent_to_another_process(failure: TaskFailed | OrchestrationFailed) -> None:
    for twin in (copy.copy(failure), pickle.loads(pickle.dumps(failure))):
        assert type(twin) is type(failure)
        assert str(twin) == str(failure)
        assert vars(twin) == vars(failure)


def test_exceptions_also_derive_from_the_matching_builtin_exceptions() -> None:
    assert issubclass(exceptions.InstanceNotFound, LookupError)
    assert issubclass(exceptions.WaitTimedOut, TimeoutError)
    assert issubclass(exceptions.CodecError, ValueError)
    assert issubclass(exceptions.ConfigurationError, ValueError)
    assert issubclass(exceptions.LimitExceeded, ValueError)
    assert issubclass(exceptions.UnknownOption, TypeError)
    assert issubclass(SubOrchestrationFailed, TaskFailed)
    assert not issubclass(TurnClosed, Exception)
    for name in exceptions.__all__:
        each = getattr(exceptions, name)
        if isinstance(each, type) and each is not TurnClosed:
            assert issubclass(each, DuroxideError)


def test_a_single_message_is_shown_as_it_is() -> None:
    assert str(exceptions.WaitTimedOut("too late")) == "too late"
    assert str(exceptions.InstanceNotFound("no such instance")) == "no such instance"
