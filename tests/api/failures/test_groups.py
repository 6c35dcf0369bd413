"""Exception groups, causes, notes and base classes: what a failure tells beyond its class and its text."""

from __future__ import annotations

import asyncio
import builtins
import sys
from typing import Any

import pytest

from conftest import WAIT_MS
from duroxide import (
    ActivityFailed,
    Backoff,
    OrchestrationFailed,
    Provider,
    RetryPolicy,
    Runtime,
    activity,
    orchestration,
)
from duroxide.exceptions import activity_failed, encode_failure

# How a failure is recorded does not depend on the store.
in_memory = pytest.mark.parametrize("store", ["memory"])

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups need Python 3.11")

# Type checkers read these tests as Python 3.10.
ExceptionGroup: Any = getattr(builtins, "ExceptionGroup", None)


class CardDeclined(Exception):
    retryable = False


class Refused(Exception): ...


class RefusedForGood(Refused): ...


def read(error: BaseException) -> ActivityFailed:
    """Return the failure that the caller of an activity gets, when the activity raises ``error``."""
    return activity_failed(encode_failure(error), "charge", 2, 1)


@activity
def charge(order: str) -> None:
    raise ValueError(f"no card for {order}")


@orchestration
async def charge_in_group(orders: list[str]) -> None:
    async with asyncio.TaskGroup() as group:
        for order in orders:
            group.create_task(charge(order))


def failure_of(provider: Provider, orders: list[str]) -> OrchestrationFailed:
    with Runtime(provider, functions=[charge, charge_in_group]) as runtime:
        handle = runtime.client.start(charge_in_group, orders)
        with pytest.raises(OrchestrationFailed) as caught:
            handle.result(WAIT_MS / 1000)
    return caught.value


@in_memory
def test_one_failure_in_a_task_group_reads_like_that_failure(provider: Provider) -> None:
    failure = failure_of(provider, ["order-7"])
    assert (failure.error_type, failure.message) == ("ValueError", "no card for order-7")


@in_memory
def test_one_failure_in_a_task_group_has_the_failed_activity_as_its_cause(provider: Provider) -> None:
    cause = failure_of(provider, ["order-7"]).__cause__
    assert isinstance(cause, ActivityFailed)
    assert cause.activity_name == "charge"


def test_several_failures_in_a_group_list_themselves() -> None:
    failure = read(ExceptionGroup("two", [ValueError("no card"), ExceptionGroup("", [KeyError("x")])]))
    assert str(failure) == "ExceptionGroup: two (2 sub-exceptions): ValueError: no card; KeyError: 'x'"


def test_a_group_is_caused_by_each_of_its_failures() -> None:
    failure = read(ExceptionGroup("two", [ValueError("no card"), RefusedForGood()]))
    assert [failure.is_caused_by(each) for each in (ValueError, Refused, KeyError)] == [True, True, False]


def test_a_group_keeps_its_failures_when_an_orchestration_raises_it_again() -> None:
    first = read(ExceptionGroup("two", [ValueError("no card"), RefusedForGood()]))
    again = read(first)
    assert [str(each) for each in again.failures] == ["ValueError: no card", "RefusedForGood"]


def test_a_cause_survives() -> None:
    try:
        raise Refused("no card") from LookupError("order-7")
    except Refused as error:
        failure = read(read(error))
    assert str(failure.__cause__) == "LookupError: order-7"


def test_notes_survive_also_those_of_a_group_of_one() -> None:
    error = ValueError("no card")
    error.__notes__ = ["of the failure"]  # type: ignore[attr-defined]
    group = ExceptionGroup("one", [error])
    group.add_note("of the group")
    assert getattr(read(group), "__notes__", None) == ["of the failure", "of the group"]


def test_a_chain_of_causes_without_an_end_is_cut() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert str(read(first).__cause__) == "ValueError: second"


def attempts_of(provider: Provider, error: BaseException, non_retryable: list[Any]) -> int:
    """Count the attempts of an activity that raises ``error``, of at most three."""
    attempts: list[int] = []
    policy = RetryPolicy(max_attempts=3, backoff=Backoff.none(), non_retryable=non_retryable)

    @activity
    def fails() -> None:
        attempts.append(1)
        raise error

    @orchestration
    async def flow() -> None:
        await fails.options(retry=policy)()

    with Runtime(provider, functions=[fails, flow]) as runtime:
        runtime.client.start(flow).wait(WAIT_MS / 1000)
    return len(attempts)


@in_memory
@pytest.mark.parametrize("others", [[], [ValueError("x")]], ids=["alone", "beside another"])
def test_a_group_with_a_failure_that_is_not_retryable_is_not_tried_again(
    provider: Provider, others: list[Exception]
) -> None:
    group = ExceptionGroup("refused", [*others, CardDeclined()])
    assert attempts_of(provider, group, []) == 1


@in_memory
def test_non_retryable_sees_into_a_group(provider: Provider) -> None:
    group = ExceptionGroup("two", [ValueError("x"), RefusedForGood()])
    assert attempts_of(provider, group, [Refused]) == 1


@in_memory
@pytest.mark.parametrize("name", ["Refused", f"{__name__}.Refused", "RefusedForGood"])
def test_a_name_in_non_retryable_matches_subclasses_and_may_have_its_module(provider: Provider, name: str) -> None:
    assert attempts_of(provider, RefusedForGood("no"), [name]) == 1


@in_memory
@pytest.mark.parametrize("name", ["LookupError", "builtins.LookupError"])
def test_the_name_of_a_built_in_class_matches_its_subclasses(provider: Provider, name: str) -> None:
    assert attempts_of(provider, KeyError("x"), [name]) == 1


@in_memory
def test_another_name_in_non_retryable_matches_nothing(provider: Provider) -> None:
    assert attempts_of(provider, RefusedForGood("no"), ["ValueError", "other.Declined"]) == 3


def test_a_failure_of_a_class_that_only_the_failing_process_knows_is_caused_by_its_base() -> None:
    text = '{"type": "OnlyThere", "message": "no", "bases": ["ConnectionError", "OSError"]}'
    assert activity_failed(text, "charge", 2, 1).is_caused_by(ConnectionError)
