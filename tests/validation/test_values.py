"""Values that JSON cannot represent, that are too large, or that are not text are refused where they are given."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest

from duroxide import (
    Client,
    CodecError,
    LimitExceeded,
    OrchestrationContext,
    Runtime,
)
from validation.conftest import Play

Steps = Generator[Any, Any, Any]

in_memory = pytest.mark.parametrize("store", ["memory"])


class Opaque:
    """A value that neither JSON nor the hook can represent."""


def circle() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def tower() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


STRANGE: dict[str, Callable[[], Any]] = {
    "object": Opaque,
    "class": lambda: Opaque,
    "function": lambda: circle,
    "in a list": lambda: [1, {"a": Opaque()}],
    "key": lambda: {(1, 2): "tuple as a key"},
    "complex": lambda: 1j,
    "circle": circle,
    "tower": tower,
}

strange = pytest.mark.parametrize("value", STRANGE.values(), ids=STRANGE)


@in_memory
@strange
def test_an_activity_input_without_json_is_refused_at_the_call(value: Callable[[], Any], play: Play) -> None:
    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        try:
            yield ctx.schedule_activity("echo", value())
        except CodecError as error:
            return [str(error), (yield ctx.schedule_activity("echo", "continues"))]
        return "not refused"

    message, last = play(orchestration).result()
    assert "JSON" in message
    assert last == "continues"


@in_memory
@strange
def test_an_activity_result_without_json_fails_the_activity(value: Callable[[], Any], play: Play) -> None:
    def activity(ctx: Any, _: Any) -> Any:
        return value()

    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        try:
            yield ctx.schedule_activity("make", None)
        except Exception as error:
            return [error.error_type, str(error)]  # type: ignore[attr-defined]
        return "not refused"

    name, message = play(orchestration, activities={"make": activity}).result()
    assert name == "CodecError"
    assert "JSON" in message


@in_memory
@strange
def test_an_orchestration_result_without_json_fails_the_orchestration(value: Callable[[], Any], play: Play) -> None:
    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        yield ctx.schedule_activity("echo", 1)
        return value()

    result = play(orchestration)
    assert result.status == "Failed"
    assert result.error is not None
    assert result.error.startswith("CodecError: ")


@in_memory
def test_a_plain_orchestration_with_a_result_without_json_fails(play: Play) -> None:
    result = play(lambda ctx, _: Opaque())
    assert result.error is not None
    assert result.error.startswith("CodecError: ")


@in_memory
@strange
def test_the_client_refuses_values_without_json_and_records_nothing(value: Callable[[], Any], client: Client) -> None:
    calls: tuple[Callable[[Any], Any], ...] = (
        lambda bad: client.start_orchestration("refused", "healthy", bad),
        lambda bad: client.raise_event("refused", "event", bad),
        lambda bad: client.enqueue_event("refused", "queue", bad),
    )
    for call in calls:
        with pytest.raises(CodecError):
            call(value())
    assert client.get_status("refused").status == "NotFound"


@in_memory
def test_sub_orchestrations_and_successors_refuse_inputs_without_json(play: Play) -> None:
    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        refused = []
        for call in (
            lambda: ctx.schedule_sub_orchestration("healthy", Opaque()),
            lambda: ctx.start_orchestration("healthy", "beside", Opaque()),
            lambda: ctx.continue_as_new(Opaque()),
        ):
            try:
                yield call()
            except CodecError:
                refused.append("refused")
        return refused

    assert play(orchestration).result() == ["refused"] * 3


RAW_WRITES: dict[str, Callable[[Any, Any], Any]] = {
    "key-value store": lambda ctx, text: ctx.set_kv_value("key", text),
    "custom status": lambda ctx, text: ctx.set_custom_status(text),
    "trace": lambda ctx, text: ctx.trace_info(text),
}


@in_memory
@pytest.mark.parametrize("write", RAW_WRITES.values(), ids=RAW_WRITES)
def test_raw_text_must_be_text(write: Callable[[Any, Any], Any], play: Play) -> None:
    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        refused = []
        for bad in (17, None, b"bytes", {"a": 1}):
            try:
                write(ctx, bad)
            except TypeError as error:
                refused.append(str(error))
        return [refused, (yield ctx.schedule_activity("echo", "continues"))]

    refused, last = play(orchestration).result()
    assert len(refused) == 4
    assert last == "continues"


@in_memory
@pytest.mark.parametrize("recorded", [name for name in RAW_WRITES if name != "trace"])
def test_recorded_raw_text_must_be_utf_8(recorded: str, play: Play) -> None:
    write = RAW_WRITES[recorded]

    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        try:
            write(ctx, "lone \ud800")
        except ValueError as error:
            return [str(error), (yield ctx.schedule_activity("echo", "continues"))]
        return ["not refused", "continues"]

    message, last = play(orchestration).result()
    assert "surrogates" in message
    assert last == "continues"


@in_memory
def test_a_message_that_is_not_utf_8_is_refused(client: Client) -> None:
    with pytest.raises(LimitExceeded, match="surrogates"):
        client.enqueue_event("id", "queue", "lone \ud800")
    with pytest.raises(LimitExceeded, match="surrogates"):
        client.cancel_instance("id", "lone \ud800")


@in_memory
def test_a_failure_that_is_not_utf_8_still_fails_with_its_type(play: Play) -> None:
    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        yield ctx.schedule_activity("echo", 1)
        raise ValueError("lone \ud800 surrogate")

    result = play(orchestration)
    assert result.error is not None
    assert result.error.startswith("ValueError: lone ")


def test_an_annotation_that_does_not_fit_fails_where_the_value_is_received(client: Client, runtime: Runtime) -> None:
    def count(ctx: Any, number: int) -> int:
        return number

    def tested(ctx: OrchestrationContext, input: Any) -> Steps:
        try:
            yield ctx.schedule_activity("count", input)
        except Exception as error:
            return [error.error_type, str(error)]  # type: ignore[attr-defined]
        return "not refused"

    runtime.register_activity("count", count)
    runtime.register_orchestration("tested", tested)
    with runtime:
        client.start_orchestration("tested", "tested", "many")
        name, message = client.wait_for_orchestration("tested", 20_000).result()
    assert name == "CodecError"
    assert "int" in message
