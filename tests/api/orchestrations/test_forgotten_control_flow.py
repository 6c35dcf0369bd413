"""Control flow that is forgotten, or that can never go further, is an error that names the line and the cure."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

import pytest

from conftest import Function, Run
from duroxide import ActivityContext, OrchestrationContext, OrchestrationFailed, RuntimeOptions

Steps = Generator[Any, Any, Any]

# What the code of an orchestration does wrong does not depend on the store.
pytestmark = pytest.mark.parametrize("store", ["memory"])

FILE = "test_forgotten_control_flow.py"


def echo(ctx: ActivityContext, input: Any) -> Any:
    return input


@pytest.fixture(params=[RuntimeOptions(), RuntimeOptions(sticky=False)], ids=["awake", "replayed"])
def options(request: pytest.FixtureRequest) -> RuntimeOptions:
    """Whether the runtime keeps suspended orchestrations or replays them."""
    options: RuntimeOptions = request.param
    return options


@pytest.fixture
def failure_of(run: Run, options: RuntimeOptions) -> Function:
    """Plays an orchestration that fails, and returns its failure."""

    def failure_of(orchestration: Function) -> OrchestrationFailed:
        with pytest.raises(OrchestrationFailed) as caught:
            run(orchestration, activities={"echo": echo}, options=options)
        return caught.value

    return failure_of


def generator_that_forgets(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.schedule_activity("echo", 1)
    ctx.continue_as_new(1)


async def coroutine_that_forgets(ctx: OrchestrationContext, _: Any) -> None:
    await ctx.schedule_activity("echo", 1)
    ctx.continue_as_new(1)


async def coroutine_that_only_makes_a_task(ctx: OrchestrationContext, _: Any) -> None:
    asyncio.create_task(ctx.continue_as_new(1))  # type: ignore[arg-type, unused-ignore]  # noqa: RUF006


def function_that_forgets(ctx: OrchestrationContext, _: Any) -> None:
    ctx.continue_as_new(1)


@pytest.mark.parametrize(
    ("main", "cure"),
    [
        (generator_that_forgets, "yield"),
        (coroutine_that_forgets, "await"),
        (coroutine_that_only_makes_a_task, "await"),
        (function_that_forgets, "yield"),
    ],
)
def test_a_continue_as_new_that_is_not_awaited_fails_with_its_line_and_the_cure(
    failure_of: Function, main: Function, cure: str
) -> None:
    failure = failure_of(main)
    line = main.__code__.co_firstlineno + _line_of_call(main)
    assert (failure.error_type, failure.message) == (
        "NotAllowedInOrchestration",
        (
            f"orchestration '{main.__name__}' called continue_as_new in line {line} of {FILE} and ended without waiting for "
            f"it: write '{cure}' before the call"
        ),
    )


def _line_of_call(main: Function) -> int:
    """Return the distance from the first line of a function to its last."""
    lines = [line for _, _, line in main.__code__.co_lines() if line is not None]
    return max(lines) - main.__code__.co_firstlineno


@pytest.mark.filterwarnings("ignore:orchestration .* made a task:RuntimeWarning")
def test_a_failure_matters_more_than_a_forgotten_continue_as_new(failure_of: Function) -> None:
    def flow(ctx: OrchestrationContext, _: Any) -> Steps:
        yield ctx.schedule_activity("echo", 1)
        ctx.continue_as_new(1)
        raise ValueError("first")

    assert str(failure_of(flow)) == "ValueError: first"


def generator_that_returns_a_task(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.schedule_activity("echo", 1)
    return ctx.schedule_activity("echo", 2)


async def coroutine_that_returns_a_task(ctx: OrchestrationContext, _: Any) -> Any:
    return ctx.schedule_activity("echo", 2)


async def coroutine_that_returns_a_task_in_a_list(ctx: OrchestrationContext, _: Any) -> Any:
    return {"results": [ctx.schedule_activity("echo", 2)]}


def function_that_returns_a_task(ctx: OrchestrationContext, _: Any) -> Any:
    return ctx.schedule_activity("echo", 2)


@pytest.mark.parametrize(
    ("main", "missing", "cure"),
    [
        (generator_that_returns_a_task, "yield", "return (yield ...)"),
        (coroutine_that_returns_a_task, "await", "return await ..."),
        (coroutine_that_returns_a_task_in_a_list, "await", "return await ..."),
        (function_that_returns_a_task, "yield", "return (yield ...)"),
    ],
)
def test_a_task_that_is_returned_fails_with_its_line_and_the_cure(
    failure_of: Function, main: Function, missing: str, cure: str
) -> None:
    line = main.__code__.co_firstlineno + _line_of_call(main)
    assert str(failure_of(main)) == (
        f"TypeError: '{missing}' is missing in orchestration '{main.__name__}', which returned a task, activity 'echo' "
        f"in line {line} of {FILE}, without waiting for it: write '{cure}'"
    )


@pytest.mark.task_groups
def test_a_coroutine_that_is_returned_fails_with_the_cure(failure_of: Function) -> None:
    async def child() -> None: ...

    async def returns(ctx: OrchestrationContext, _: Any) -> Any:
        return child()

    assert str(failure_of(returns)).endswith(
        "which returned a coroutine, without waiting for it: write 'return await ...'"
    )


def test_generator_branches_that_wait_for_each_other_are_reported(failure_of: Function) -> None:
    def flow(ctx: OrchestrationContext, _: Any) -> Steps:
        tasks: list[Any] = []

        def branch(other: int) -> Steps:
            yield ctx.schedule_activity("echo", other)
            yield tasks[other]

        tasks += [ctx.spawn(branch(1)), ctx.spawn(branch(0))]
        yield tasks[0]

    assert "waits for nothing durable, and so would wait for ever: its branches wait for branch" in str(
        failure_of(flow)
    )


def test_branches_that_wait_for_something_durable_are_not_reported(run: Run, options: RuntimeOptions) -> None:
    def flow(ctx: OrchestrationContext, _: Any) -> Steps:
        def branch() -> Steps:
            return (yield ctx.schedule_timer(5))

        first = ctx.spawn(branch())
        second = ctx.spawn(branch())
        yield ctx.gather([first, ctx.race(second, ctx.wait_for_event("never"))])
        return "done"

    assert run(flow, options=options) == "done"


def generator_with_asyncio(ctx: OrchestrationContext, _: Any) -> Steps:
    yield asyncio.gather(asyncio.sleep(0.01))


def generator_that_yields_asyncio_sleep(ctx: OrchestrationContext, _: Any) -> Steps:
    sleep = asyncio.sleep(0.01)
    try:
        yield sleep
    finally:
        sleep.close()


def generator_with_a_branch_that_sleeps(ctx: OrchestrationContext, _: Any) -> Steps:
    async def branch() -> None:
        await asyncio.sleep(0.01)

    yield ctx.spawn(branch())


def generator_with_a_branch_that_gives_way(ctx: OrchestrationContext, _: Any) -> Steps:
    async def branch() -> None:
        await asyncio.sleep(0)

    yield ctx.gather(branch())


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:There is no current event loop:DeprecationWarning")
@pytest.mark.parametrize(
    "main",
    [
        generator_with_asyncio,
        generator_that_yields_asyncio_sleep,
        generator_with_a_branch_that_sleeps,
        generator_with_a_branch_that_gives_way,
    ],
)
def test_asyncio_in_a_generator_fails_with_the_cure(run: Run, options: RuntimeOptions, main: Function) -> None:
    with pytest.raises(OrchestrationFailed) as caught:
        run(main, options=options)
    assert "only " in str(caught.value)
    assert "ctx." in str(caught.value)
    assert "'async def'" in str(caught.value)
