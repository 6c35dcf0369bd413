"""Tasks that are forgotten, invalid, or of another orchestration."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from typing import Any

import pytest

from duroxide import Client, OrchestrationContext, Runtime
from validation.conftest import Play

Steps = Generator[Any, Any, Any]

pytestmark = pytest.mark.parametrize("store", ["memory"])


def test_a_task_that_was_never_yielded_gives_one_warning_that_names_its_line(play: Play) -> None:
    ran = []

    def activity(ctx: Any, input: Any) -> None:
        ran.append(input)

    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        ctx.schedule_activity("work", "forgotten")
        # Three turns, each of which runs the line above.
        yield ctx.schedule_activity("echo", 1)
        yield ctx.schedule_activity("echo", 2)
        return "done"

    with pytest.warns(RuntimeWarning) as seen:
        assert play(orchestration, activities={"work": activity}).result() == "done"
    assert len(seen) == 1
    assert "'work'" in str(seen[0].message)
    assert "never yielded" in str(seen[0].message)
    assert seen[0].filename == __file__
    assert seen[0].lineno == orchestration.__code__.co_firstlineno + 1
    assert ran == []


def test_a_tagged_copy_of_a_task_is_not_reported_as_forgotten(play: Play) -> None:
    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        winner = yield ctx.race(ctx.schedule_activity("echo", 1).with_tag("unknown"), ctx.schedule_timer(0))
        return winner["index"]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert play(orchestration).result() == 1


def test_all_without_tasks_is_an_empty_list(play: Play) -> None:
    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        return [(yield ctx.all([])), (yield ctx.all()), (yield ctx.gather())]

    assert play(orchestration).result() == [[], [], []]


def test_a_race_without_tasks_is_refused(play: Play) -> None:
    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        try:
            yield ctx.race()
        except ValueError as error:
            return str(error)
        return "not refused"

    assert "at least one task" in play(orchestration).result()


@pytest.mark.parametrize("combinator", ["all", "gather", "race", "spawn"])
def test_a_combinator_refuses_a_value_that_is_not_a_task(combinator: str, play: Play) -> None:
    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        try:
            getattr(ctx, combinator)(17)
        except TypeError as error:
            return [str(error), (yield ctx.schedule_activity("echo", "continues"))]
        return "not refused"

    message, value = play(orchestration).result()
    assert "int" in message
    assert "ctx.schedule_activity(...)" in message
    assert value == "continues"


def test_a_task_that_is_yielded_twice_runs_once_and_gives_its_value_twice(play: Play) -> None:
    ran = []

    def activity(ctx: Any, input: Any) -> Any:
        ran.append(input)
        return input

    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        task = ctx.schedule_activity("work", "value")
        first = yield task
        second = yield task
        both = yield ctx.gather(task, task)
        return [first, second, *both]

    assert play(orchestration, activities={"work": activity}).result() == ["value"] * 4
    assert ran == ["value"]


def test_a_branch_that_is_given_twice_is_refused_or_runs_once(play: Play) -> None:
    def branch(ctx: OrchestrationContext) -> Steps:
        first = yield ctx.schedule_activity("echo", 1)
        return first + (yield ctx.schedule_activity("echo", 2))

    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        same = branch(ctx)
        try:
            values = yield ctx.gather(same, same)
        except (TypeError, ValueError) as error:
            return str(error)
        return values

    result = play(orchestration).result()
    assert result == [3, 3] or "branch" in result


def test_a_branch_that_has_begun_elsewhere_is_refused(play: Play) -> None:
    def branch(ctx: OrchestrationContext) -> Steps:
        first = yield ctx.schedule_activity("echo", 1)
        return first + (yield ctx.schedule_activity("echo", 2))

    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        begun = branch(ctx)
        yield next(begun)
        try:
            yield ctx.gather(begun)
        except (TypeError, ValueError) as error:
            return str(error)
        return "not refused"

    assert "begun" in play(orchestration).result() or "started" in play(orchestration).result()


def test_a_task_of_another_orchestration_is_refused(runtime: Runtime, client: Client) -> None:
    kept: list[Any] = []

    def owner(ctx: OrchestrationContext, _: Any) -> Steps:
        task = ctx.schedule_activity("echo", "mine")
        kept.append(task)
        return (yield task)

    def thief(ctx: OrchestrationContext, _: Any) -> Steps:
        try:
            yield kept[0]
        except ValueError as error:
            return [str(error), (yield ctx.schedule_activity("echo", "continues"))]
        return "not refused"

    runtime.register_activity("echo", lambda ctx, input: input)
    runtime.register_orchestration("owner", owner)
    runtime.register_orchestration("thief", thief)
    with runtime:
        client.start_orchestration("owner", "owner")
        assert client.wait_for_orchestration("owner").result() == "mine"
        client.start_orchestration("thief", "thief")
        message, value = client.wait_for_orchestration("thief").result()
    assert "belongs to another orchestration" in message
    assert value == "continues"


@pytest.mark.parametrize("tag", ["", "x" * 257, 17, None])
def test_an_invalid_tag_is_refused_at_the_call(tag: Any, play: Play) -> None:
    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        try:
            ctx.schedule_activity("echo", 1).with_tag(tag)
        except (TypeError, ValueError) as error:
            return [type(error).__name__, str(error), (yield ctx.schedule_activity("echo", "continues"))]
        return "not refused"

    with warnings.catch_warnings():
        # The untagged task is never yielded.
        warnings.simplefilter("ignore", RuntimeWarning)
        name, message, value = play(orchestration).result()
    assert name == ("LimitExceeded" if isinstance(tag, str) else "TypeError")
    assert message
    assert value == "continues"


def test_only_activities_can_be_tagged(play: Play) -> None:
    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        timer = ctx.schedule_timer(0)
        yield timer
        try:
            timer.with_tag("gpu")
        except TypeError as error:
            return str(error)
        return "not refused"

    assert "cannot be tagged" in play(orchestration).result()


def test_a_started_task_cannot_be_tagged(play: Play) -> None:
    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        task = ctx.schedule_activity("echo", 1)
        yield task
        try:
            task.with_tag("gpu")
        except ValueError as error:
            return str(error)
        return "not refused"

    assert "before it is yielded" in play(orchestration).result()
