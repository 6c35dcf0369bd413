"""continue_as_new leaves the blocks around it, as an exception does, and runs the steps of their exits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Generator
from typing import Any

import pytest

from conftest import Function, Run
from duroxide import ActivityContext, OrchestrationContext, OrchestrationFailed, RuntimeOptions

Steps = Generator[Any, Any, Any]

# What the code does with its blocks does not depend on the store.
pytestmark = pytest.mark.parametrize("store", ["memory"])


@pytest.fixture(params=[RuntimeOptions(), RuntimeOptions(sticky=False)], ids=["awake", "replayed"])
def options(request: pytest.FixtureRequest) -> RuntimeOptions:
    """Whether the runtime keeps suspended orchestrations or replays them."""
    options: RuntimeOptions = request.param
    return options


class Play:
    """Plays an orchestration that continues as new once; ``released`` has what its activity ``release`` was given."""

    def __init__(self, run: Run, options: RuntimeOptions) -> None:
        self.released: list[Any] = []
        self._run = run
        self._options = options

    def __call__(self, main: Function) -> Any:
        def release(ctx: ActivityContext, input: Any) -> None:
            self.released.append([ctx.execution_id, input])

        return self._run(main, 0, activities={"release": release}, options=self._options)


@pytest.fixture
def play(run: Run, options: RuntimeOptions) -> Play:
    """See ``Play``."""
    return Play(run, options)


def generator_with_finally(ctx: OrchestrationContext, round: int) -> Steps:
    if round:
        return "second"
    try:
        yield ctx.continue_as_new(1)
    finally:
        yield ctx.schedule_activity("release", "one")
        yield ctx.schedule_activity("release", "two")


async def coroutine_with_finally(ctx: OrchestrationContext, round: int) -> Any:
    if round:
        return "second"
    try:
        await ctx.continue_as_new(1)
    finally:
        await ctx.schedule_activity("release", "one")
        await ctx.schedule_activity("release", "two")


@contextlib.asynccontextmanager
async def lock(ctx: OrchestrationContext) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        await ctx.schedule_activity("release", "one")
        await ctx.schedule_activity("release", "two")


async def coroutine_with_a_lock(ctx: OrchestrationContext, round: int) -> Any:
    if round:
        return "second"
    async with lock(ctx), asyncio.timeout(3600), asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(3600))
        await ctx.continue_as_new(1)
    return None


def generator_in_a_generator(ctx: OrchestrationContext, round: int) -> Steps:
    return (yield from generator_with_finally(ctx, round))


def generator_that_swallows_it(ctx: OrchestrationContext, round: int) -> Steps:
    with contextlib.suppress(BaseException):
        return (yield from generator_with_finally(ctx, round))


@pytest.mark.parametrize(
    "main",
    [
        generator_with_finally,
        coroutine_with_finally,
        coroutine_with_a_lock,
        generator_in_a_generator,
        generator_that_swallows_it,
    ],
)
def test_the_steps_of_an_exit_run_before_the_next_execution(play: Play, main: Function) -> None:
    assert (play(main), play.released) == ("second", [[1, "one"], [1, "two"]])


def generator_whose_exit_fails(ctx: OrchestrationContext, round: int) -> Steps:
    try:
        yield ctx.continue_as_new(1)
    finally:
        yield ctx.schedule_activity("release", "one")
        raise ValueError("the exit")


async def coroutine_whose_exit_fails(ctx: OrchestrationContext, round: int) -> None:
    try:
        await ctx.continue_as_new(1)
    finally:
        await ctx.schedule_activity("release", "one")
        raise ValueError("the exit")


@pytest.mark.parametrize("main", [generator_whose_exit_fails, coroutine_whose_exit_fails])
def test_an_exit_that_fails_fails_the_orchestration(play: Play, main: Function) -> None:
    with pytest.raises(OrchestrationFailed, match="ValueError: the exit"):
        play(main)


def generator_that_asks_twice(ctx: OrchestrationContext, round: int) -> Steps:
    while True:
        with contextlib.suppress(BaseException):
            if round:
                return "second"
            yield ctx.continue_as_new(1)


async def coroutine_that_asks_twice(ctx: OrchestrationContext, round: int) -> Any:
    while True:
        with contextlib.suppress(BaseException):
            if round:
                return "second"
            await ctx.continue_as_new(1)


@pytest.mark.parametrize("main", [generator_that_asks_twice, coroutine_that_asks_twice])
def test_code_that_catches_everything_and_asks_again_continues_as_new(play: Play, main: Function) -> None:
    assert play(main) == "second"


def generator_with_a_branch(ctx: OrchestrationContext, round: int) -> Steps:
    def branch() -> Steps:
        yield ctx.continue_as_new(1)

    if round:
        return "second"
    yield ctx.gather(branch(), ctx.wait_for_event("never"))


async def coroutine_with_a_task(ctx: OrchestrationContext, round: int) -> Any:
    async def child() -> None:
        await ctx.continue_as_new(1)

    if round:
        return "second"
    await asyncio.gather(child(), ctx.wait_for_event("never"))
    return None


@pytest.mark.parametrize("main", [generator_with_a_branch, coroutine_with_a_task])
def test_a_branch_that_continues_as_new_ends_the_execution_at_once(play: Play, main: Function) -> None:
    assert play(main) == "second"


def test_steps_that_a_branch_leaves_behind_are_reported(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    def flow(ctx: OrchestrationContext, round: int) -> Steps:
        def branch() -> Steps:
            yield ctx.continue_as_new(1)

        if round:
            return "second"
        try:
            yield ctx.gather(branch(), ctx.wait_for_event("never"))
        finally:
            yield ctx.schedule_activity("release", "one")

    assert play(flow) == "second"
    assert "continued as new in a branch, so steps in the 'finally' blocks of its other code did not run" in caplog.text
