"""How deep combinators nest: deeper than programs need, but not so deep that the process crashes."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest

from conftest import Run
from duroxide import ActivityContext, LimitExceeded, OrchestrationContext

Steps = Generator[Any, Any, Any]

DEEP, TOO_DEEP = 150, 250


def echo(ctx: ActivityContext, input: Any) -> Any:
    return input


COMBINE: dict[str, Callable[[OrchestrationContext, Any], Any]] = {
    "all": lambda ctx, task: ctx.all(task),
    "gather": lambda ctx, task: ctx.gather(task),
    "race": lambda ctx, task: ctx.race(task, ctx.wait_for_event("never")),
    "typed_all": lambda ctx, task: ctx.all_typed([task]),
    "spawned": lambda ctx, task: ctx.spawn(ctx.gather(task)),
}
UNWRAP: dict[str, Callable[[Any], Any]] = {
    "all": lambda value: value[0]["ok"],
    "race": lambda value: value["value"],
}
combinators = pytest.mark.parametrize("combinator", COMBINE)


@combinators
def test_combinators_nest_a_hundred_and_fifty_levels_deep(combinator: str, run: Run) -> None:
    def nested(ctx: OrchestrationContext, depth: int) -> Steps:
        task: Any = ctx.schedule_activity("echo", "deep")
        for _ in range(depth):
            task = COMBINE[combinator](ctx, task)
        value = yield task
        for _ in range(depth):
            value = UNWRAP.get(combinator, lambda each: each[0])(value)
        return value

    assert run(nested, DEEP, activities={"echo": echo}) == "deep"


@combinators
@pytest.mark.parametrize("store", ["memory"])
def test_combinators_that_nest_too_deep_are_refused_where_they_are_made(combinator: str, run: Run) -> None:
    def nested(ctx: OrchestrationContext, depth: int) -> Steps:
        task: Any = ctx.schedule_activity("echo", "deep")
        for level in range(depth):
            try:
                task = COMBINE[combinator](ctx, task)
            except LimitExceeded as error:
                # The user can continue: the tasks made so far can be awaited.
                yield task
                return [level, str(error)]
        return "not refused"

    level, message = run(nested, TOO_DEEP, activities={"echo": echo})
    # The activity at the bottom counts as a level.
    assert level in (199, 200)
    assert "nest" in message
    assert "200 levels deep" in message


@pytest.mark.parametrize("store", ["memory"])
def test_a_list_folded_into_pairs_is_refused_and_a_flat_one_is_not(run: Run) -> None:
    def folded(ctx: OrchestrationContext, count: int) -> Steps:
        task: Any = ctx.gather([])
        try:
            for number in range(count):
                task = ctx.gather(task, ctx.schedule_activity("echo", number))
        except LimitExceeded:
            return len((yield ctx.gather([ctx.schedule_activity("echo", number) for number in range(count)])))
        return "not refused"

    assert run(folded, TOO_DEEP, activities={"echo": echo}, timeout_ms=60_000) == TOO_DEEP


def test_branches_within_branches_nest_deep(run: Run) -> None:
    def branch(ctx: OrchestrationContext, depth: int) -> Steps:
        if depth == 0:
            return (yield ctx.schedule_activity("echo", "deep"))
        return (yield ctx.gather(branch(ctx, depth - 1)))[0]

    def nested(ctx: OrchestrationContext, depth: int) -> Steps:
        return (yield from branch(ctx, depth))

    assert run(nested, DEEP, activities={"echo": echo}) == "deep"
