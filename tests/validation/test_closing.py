"""A suspended orchestration is closed at the end of its turn: nothing that its code does then has an effect."""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from duroxide import OrchestrationContext
from validation.conftest import Play

Steps = Generator[Any, Any, Any]

pytestmark = pytest.mark.parametrize("store", ["memory"])


@contextmanager
def quiet() -> Iterator[None]:
    """Fail on warnings and on calls of ``sys.unraisablehook`` within the block."""
    noise: list[str] = []
    before = sys.unraisablehook
    sys.unraisablehook = lambda unraisable: noise.append(f"unraisable: {unraisable.exc_value!r}")
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield
            gc.collect()
    finally:
        sys.unraisablehook = before
    noise.extend(str(warning.message) for warning in warned)
    assert noise == []


def turns(ctx: OrchestrationContext) -> Steps:
    """Two turns, each of which suspends and closes the calling code."""
    first = yield ctx.schedule_activity("echo", 1)
    return first + (yield ctx.schedule_activity("echo", 2))


def bare_except(ctx: OrchestrationContext, _: Any) -> Steps:
    try:
        return (yield from turns(ctx))
    except:  # noqa: E722
        yield ctx.schedule_activity("echo", "cleanup")
        return "swallowed"


def finally_that_yields(ctx: OrchestrationContext, _: Any) -> Steps:
    try:
        return (yield from turns(ctx))
    finally:
        yield ctx.schedule_activity("echo", "cleanup")


def finally_that_raises(ctx: OrchestrationContext, _: Any) -> Steps:
    done = False
    try:
        result = yield from turns(ctx)
        done = True
        return result
    finally:
        if not done:
            raise ValueError("raised while it is closed")


def finally_that_returns(ctx: OrchestrationContext, _: Any) -> Steps:
    result = None
    try:
        result = yield from turns(ctx)
    finally:
        return result  # noqa: B012


def stubborn_loop(ctx: OrchestrationContext, _: Any) -> Steps:
    for _attempt in range(20):
        try:
            return (yield from turns(ctx))
        except BaseException:
            continue
    return "never"


def context_manager(ctx: OrchestrationContext, _: Any) -> Steps:
    with pytest.MonkeyPatch.context():
        return (yield from turns(ctx))


async def coroutine_with_finally(ctx: OrchestrationContext, _: Any) -> Any:
    try:
        first = await ctx.schedule_activity("echo", 1)
        return first + await ctx.schedule_activity("echo", 2)
    finally:
        await ctx.schedule_activity("echo", "cleanup")


async def coroutine_that_is_awaited_later(ctx: OrchestrationContext, _: Any) -> Any:
    async def later() -> int:
        return 2

    waiting = later()
    first = await ctx.schedule_activity("echo", 1)
    return first + await waiting


async def branch_that_is_started_later(ctx: OrchestrationContext, _: Any) -> Any:
    async def later() -> int:
        return 2

    waiting = ctx.gather(later())
    first = await ctx.schedule_activity("echo", 1)
    return first + (await waiting)[0]


def branch_that_never_began(ctx: OrchestrationContext, _: Any) -> Any:
    async def later() -> int:
        return 2

    ctx.spawn(later())
    return 3


def loser_with_finally(ctx: OrchestrationContext, _: Any) -> Steps:
    def loser() -> Steps:
        try:
            yield ctx.wait_for_event("never")
        finally:
            yield ctx.schedule_activity("echo", "cleanup of the loser")

    winner = yield ctx.race(loser(), turns(ctx))
    return winner["value"]


CLOSED: list[Any] = [
    bare_except,
    finally_that_yields,
    finally_that_raises,
    finally_that_returns,
    stubborn_loop,
    context_manager,
    coroutine_with_finally,
    pytest.param(coroutine_that_is_awaited_later, marks=pytest.mark.task_groups),
    pytest.param(branch_that_is_started_later, marks=pytest.mark.task_groups),
    branch_that_never_began,
    loser_with_finally,
]


@pytest.mark.parametrize("orchestration", CLOSED, ids=lambda function: function.__name__)
def test_code_that_runs_while_it_is_closed_changes_nothing_and_logs_nothing(
    orchestration: Callable[..., Any], play: Play
) -> None:
    with quiet():
        assert play(orchestration).result() == 3
