"""Payloads, values and key-value stores that are too large are refused where they are given."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest

from duroxide import (
    MAX_KV_KEYS,
    MAX_KV_VALUE_BYTES,
    MAX_PAYLOAD_BYTES,
    Client,
    LimitExceeded,
    OrchestrationContext,
)
from validation.conftest import Play

Steps = Generator[Any, Any, Any]

in_memory = pytest.mark.parametrize("store", ["memory"])


HUNDRED_MEGABYTES = 100_000_000


@in_memory
def test_the_client_refuses_a_hundred_megabytes(client: Client) -> None:
    huge = "x" * HUNDRED_MEGABYTES
    calls: tuple[Callable[[], Any], ...] = (
        lambda: client.start_orchestration("huge", "healthy", huge),
        lambda: client.raise_event("huge", "event", huge),
        lambda: client.enqueue_event("huge", "queue", huge),
        lambda: client.cancel_instance("huge", huge),
    )
    for call in calls:
        with pytest.raises(LimitExceeded) as refused:
            call()
        assert str(MAX_PAYLOAD_BYTES) in str(refused.value)
        assert "reference" in str(refused.value)
        assert len(str(refused.value)) < 500
    assert client.get_status("huge").status == "NotFound"


@in_memory
def test_an_orchestration_refuses_a_hundred_megabytes_where_it_gives_them(play: Play) -> None:
    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        huge = "x" * HUNDRED_MEGABYTES
        refused = []
        for call in (
            lambda: ctx.schedule_activity("echo", huge),
            lambda: ctx.schedule_sub_orchestration("healthy", huge),
            lambda: ctx.start_orchestration("healthy", "beside", huge),
            lambda: ctx.continue_as_new(huge),
            lambda: ctx.set_custom_status(huge),
            lambda: ctx.set_kv_value("key", huge),
        ):
            try:
                yield call()
            except LimitExceeded as error:
                refused.append(len(str(error)) < 500)
        return refused

    assert play(orchestration).result() == [True] * 6


@in_memory
@pytest.mark.filterwarnings("ignore:orchestration .* made a task and never yielded it")
def test_an_orchestration_refuses_inputs_that_are_too_much_for_one_turn_with_their_sum(play: Play) -> None:
    each = "x" * (15 * 2**20)

    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        tasks: list[Any] = []
        try:
            while True:
                tasks.append(ctx.schedule_activity("echo", each))
        except LimitExceeded as error:
            refused = str(error)
        return [len(tasks), refused]

    count, refused = play(orchestration).result()
    assert count == 128 // 15
    assert str((count + 1) * (len(each) + 2 + len("echo"))) in refused
    assert f"at most {128 * 2**20} bytes" in refused


@in_memory
def test_an_activity_that_returns_a_hundred_megabytes_fails(play: Play) -> None:
    def activity(ctx: Any, _: Any) -> str:
        return "x" * HUNDRED_MEGABYTES

    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        try:
            yield ctx.schedule_activity("make", None)
        except Exception as error:
            return [error.error_type, str(error)]  # type: ignore[attr-defined]
        return "not refused"

    name, message = play(orchestration, activities={"make": activity}).result()
    assert name == "LimitExceeded"
    assert str(MAX_PAYLOAD_BYTES) in message


@in_memory
def test_an_orchestration_that_returns_a_hundred_megabytes_fails(play: Play) -> None:
    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        yield ctx.schedule_activity("echo", 1)
        return "x" * HUNDRED_MEGABYTES

    result = play(orchestration)
    assert result.error is not None
    assert result.error.startswith("LimitExceeded: ")


@in_memory
def test_a_failure_of_a_hundred_megabytes_is_shortened(play: Play) -> None:
    def activity(ctx: Any, _: Any) -> str:
        raise ValueError("x" * HUNDRED_MEGABYTES)

    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        yield ctx.schedule_activity("raise", None)

    result = play(orchestration, activities={"raise": activity})
    assert result.error is not None
    assert result.error.startswith("ValueError: xxx")
    assert len(result.error) < 100_000


def test_a_payload_of_megabytes_arrives_whole(play: Play) -> None:
    def orchestration(ctx: OrchestrationContext, input: Any) -> Steps:
        return (yield ctx.schedule_activity("echo", input))

    large = "ü" * 1_000_000
    assert play(orchestration, large).result() == large


@in_memory
def test_keys_and_values_beyond_the_limits_are_refused_at_the_call(play: Play) -> None:
    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        ctx.set_kv_value("largest", "x" * MAX_KV_VALUE_BYTES)
        messages = []
        try:
            ctx.set_kv_value("larger", "x" * (MAX_KV_VALUE_BYTES + 1))
        except LimitExceeded as error:
            messages.append(str(error))
        for number in range(MAX_KV_KEYS - 1):
            ctx.set_kv_value(f"key-{number}", "value")
        try:
            ctx.set_kv_value("one more", "value")
        except LimitExceeded as error:
            messages.append(str(error))
        # An existing key can still be written.
        ctx.set_kv_value("key-0", "again")
        messages.append((yield ctx.schedule_activity("echo", ctx.get_kv_length())))
        return messages

    larger, more, length = play(orchestration).result()
    assert "'larger'" in larger
    assert str(MAX_KV_VALUE_BYTES) in larger
    assert "'one more'" in more
    assert str(MAX_KV_KEYS) in more
    assert length == MAX_KV_KEYS


def test_limits_of_the_key_value_store_include_the_keys_of_earlier_executions(play: Play) -> None:
    def orchestration(ctx: OrchestrationContext, rounds: Any) -> Steps:
        for number in range(100):
            try:
                ctx.set_kv_value(f"{rounds}-{number}", "value")
            except LimitExceeded:
                return number
        yield ctx.schedule_activity("echo", rounds)
        return (yield ctx.continue_as_new(rounds + 1))

    assert play(orchestration, 0).result() == MAX_KV_KEYS - 100
