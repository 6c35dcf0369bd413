"""A wrong yield is raised at the line that did it; a function that cannot be an orchestration is refused early."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import traceback
from collections.abc import AsyncGenerator, Generator
from typing import Any

import pytest

from duroxide import OrchestrationContext, RegistrationError, Runtime
from validation.conftest import Play

Steps = Generator[Any, Any, Any]

pytestmark = pytest.mark.parametrize("store", ["memory"])


def line_of(error: BaseException) -> str:
    """The source line on which an error was raised, as far as a traceback shows it."""
    frames = traceback.extract_tb(error.__traceback__)
    return frames[0].line or ""


@pytest.mark.parametrize("value", [17, "text", None, object(), [1], {"a": 1}, 2.5])
def test_a_yielded_value_is_thrown_back_and_the_traceback_names_the_line(value: Any, play: Play) -> None:
    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        try:
            yield value  # the expected line
        except TypeError as error:
            return [str(error), line_of(error)]
        return "not thrown"

    message, line = play(orchestration).result()
    assert type(value).__name__ in message
    assert "ctx.schedule_activity(...)" in message
    assert line.endswith("# the expected line")


def test_an_orchestration_can_continue_after_a_refused_yield(play: Play) -> None:
    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        first = yield ctx.schedule_activity("echo", 1)
        with contextlib.suppress(TypeError):
            yield first
        return (yield ctx.schedule_activity("echo", 2))

    assert play(orchestration).result() == 2


def test_an_uncaught_refusal_of_a_yield_fails_the_orchestration_and_the_log_names_the_line(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        yield 17  # the expected line

    with caplog.at_level(logging.WARNING, "duroxide"):
        result = play(orchestration)
    assert result.status == "Failed"
    assert result.error is not None
    assert result.error.startswith("TypeError: ")
    assert "yield 17  # the expected line" in caplog.text


def test_the_error_about_a_yielded_generator_suggests_yield_from(play: Play) -> None:
    def part(ctx: OrchestrationContext) -> Steps:
        return (yield ctx.schedule_activity("echo", "part"))

    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        try:
            yield part(ctx)
        except TypeError as error:
            return [str(error), (yield from part(ctx))]
        return "not thrown"

    message, value = play(orchestration).result()
    assert "yield from" in message
    assert value == "part"


def test_the_error_about_a_yielded_function_says_to_call_it(play: Play) -> None:
    def branch(ctx: OrchestrationContext) -> Steps:
        return (yield ctx.schedule_activity("echo", "branch"))

    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        try:
            yield ctx.all([branch])  # type: ignore[list-item]
        except TypeError as error:
            return str(error)
        return "not thrown"

    assert "call the function" in play(orchestration).result()


@pytest.mark.task_groups
def test_awaiting_a_future_of_another_loop_fails_instead_of_hanging(play: Play) -> None:
    with contextlib.closing(asyncio.new_event_loop()) as other:
        future = other.create_future()

        async def orchestration(ctx: OrchestrationContext, _: Any) -> Any:
            await future

        assert "attached to a different loop" in str(play(orchestration).error)


def test_an_async_generator_is_refused_when_it_is_registered(runtime: Runtime) -> None:
    async def orchestration(ctx: OrchestrationContext, _: Any) -> AsyncGenerator[Any, Any]:
        yield ctx.schedule_activity("echo", 1)

    with pytest.raises(RegistrationError) as refused:
        runtime.register_orchestration("tested", orchestration)
    with pytest.raises(RegistrationError):
        runtime.register_activity("tested", orchestration)
    message = str(refused.value)
    assert "'tested'" in message
    assert "async generator" in message
    assert "'async def' with 'await'" in message


def test_a_plain_function_is_an_orchestration_that_runs_and_returns(play: Play) -> None:
    def orchestration(ctx: OrchestrationContext, input: Any) -> Any:
        ctx.set_custom_status("ran")
        return {"got": input}

    result = play(orchestration, 17)
    assert result.result() == {"got": 17}
    assert result.custom_status == "ran"


def test_a_plain_function_that_raises_fails_its_orchestration(play: Play) -> None:
    def orchestration(ctx: OrchestrationContext, _: Any) -> Any:
        raise ValueError("no email")

    assert play(orchestration).error == "ValueError: no email"


def test_a_function_that_returns_a_generator_is_driven(play: Play) -> None:
    def steps(ctx: OrchestrationContext) -> Steps:
        return (yield ctx.schedule_activity("echo", "driven"))

    assert play(lambda ctx, _: steps(ctx)).result() == "driven"


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), StopIteration(1)])
def test_an_exception_that_ends_programs_ends_only_the_orchestration(error: BaseException, play: Play) -> None:
    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        yield ctx.schedule_activity("echo", 1)
        raise error

    result = play(orchestration)
    assert result.status == "Failed"
    assert result.error is not None
    # Python turns a StopIteration inside a generator into a RuntimeError.
    assert type(error).__name__ in result.error or "RuntimeError" in result.error


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), StopIteration(1)])
def test_an_exception_that_ends_programs_ends_only_the_activity(error: BaseException, play: Play) -> None:
    def activity(ctx: Any, _: Any) -> None:
        raise error

    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        try:
            yield ctx.schedule_activity("raise", None)
        except Exception as failure:
            return str(failure)
        return "not thrown"

    assert type(error).__name__ in play(orchestration, activities={"raise": activity}).result()


def test_endless_recursion_fails_the_orchestration(play: Play) -> None:
    def descend() -> None:
        descend()

    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        yield ctx.schedule_activity("echo", 1)
        descend()

    result = play(orchestration)
    assert result.error is not None
    assert result.error.startswith("RecursionError")


def test_a_failure_whose_str_raises_is_not_lost(play: Play) -> None:
    class OddError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        yield ctx.schedule_activity("echo", 1)
        raise OddError

    result = play(orchestration)
    assert result.error is not None
    assert result.error.startswith("OddError")
