"""``ctx.wait``: the first of several tasks with the others kept, or all of them."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from conftest import Run
from duroxide import ActivityContext, OrchestrationContext, RuntimeOptions

Steps = Generator[Any, Any, Any]

STICKY = pytest.mark.parametrize("sticky", [True, False], ids=["awake", "replayed"])


def echo(ctx: ActivityContext, input: Any) -> Any:
    return input


def send(ctx: ActivityContext, name: str) -> None:
    """Raise an event of this name in the instance itself."""
    ctx.get_client().raise_event(ctx.instance_id, name, name)


@STICKY
def test_the_others_continue_after_the_first_has_ended(run: Run, sticky: bool) -> None:
    def drain(ctx: OrchestrationContext, input: Any) -> Steps:
        pending = [ctx.wait_for_event(name) for name in "abc"]
        names = dict(zip(pending, "abc", strict=True))
        ended = []
        for name in "bca":
            yield ctx.schedule_activity("send", name)
            done, pending = yield ctx.wait(pending, return_when="FIRST_COMPLETED")
            ended.append([names[task] for task in done])
        return [ended, pending]

    result = run(drain, activities={"send": send}, options=RuntimeOptions(sticky=sticky))

    assert result == [[["b"], ["c"], ["a"]], []]


@STICKY
def test_a_task_that_was_waited_for_gives_its_value(run: Run, sticky: bool) -> None:
    def first(ctx: OrchestrationContext, input: Any) -> Steps:
        quick, slow = ctx.schedule_activity("echo", "quick"), ctx.wait_for_event("slow")
        done, pending = yield ctx.wait([slow, quick], return_when="FIRST_COMPLETED")
        are_right = [done == [quick], pending == [slow]]
        value = yield done[0]
        yield ctx.schedule_activity("send", "slow")
        return [are_right, value, (yield pending[0])]

    result = run(first, activities={"echo": echo, "send": send}, options=RuntimeOptions(sticky=sticky))

    assert result == [[True, True], "quick", "slow"]


def test_a_task_that_failed_raises_where_it_is_yielded(run: Run) -> None:
    def fail(ctx: ActivityContext, input: Any) -> None:
        raise ValueError("broken")

    def careful(ctx: OrchestrationContext, input: Any) -> Steps:
        done, _ = yield ctx.wait(
            [ctx.schedule_activity("fail"), ctx.wait_for_event("never")], return_when="FIRST_COMPLETED"
        )
        try:
            yield done[0]
        except Exception as error:
            return str(error)

    assert run(careful, activities={"fail": fail}) == "ValueError: broken"


def test_without_a_choice_it_waits_for_all_and_raises_no_failure(run: Run) -> None:
    def fail(ctx: ActivityContext, input: Any) -> None:
        raise ValueError("broken")

    def both(ctx: OrchestrationContext, input: Any) -> Steps:
        tasks = [ctx.schedule_activity("fail"), ctx.schedule_activity("echo", 1)]
        done, pending = yield ctx.wait(tasks)
        return [done == tasks, pending]

    assert run(both, activities={"fail": fail, "echo": echo}) == [True, []]


def test_a_wait_that_loses_a_race_cancels_none_of_its_tasks(run: Run) -> None:
    def patient(ctx: OrchestrationContext, input: Any) -> Steps:
        slow = ctx.wait_for_event("slow")
        winner = yield ctx.race(ctx.wait([slow], return_when="FIRST_COMPLETED"), ctx.schedule_timer(1))
        yield ctx.schedule_activity("send", "slow")
        return [winner["index"], (yield slow)]

    assert run(patient, activities={"send": send}) == [1, "slow"]


def test_a_coroutine_waits_for_the_first_too(run: Run) -> None:
    async def first(ctx: OrchestrationContext, input: Any) -> Any:
        done, pending = await ctx.wait(
            [ctx.wait_for_event("never"), ctx.schedule_activity("echo", "quick")], return_when="FIRST_COMPLETED"
        )
        return [await done[0], len(pending)]

    assert run(first, activities={"echo": echo}) == ["quick", 1]


def test_spawned_branches_can_be_waited_for(run: Run) -> None:
    def branch(ctx: OrchestrationContext, task: Any, name: str) -> Steps:
        yield task
        return name

    def parent(ctx: OrchestrationContext, input: Any) -> Steps:
        slow, quick = branch(ctx, ctx.wait_for_event("slow"), "slow"), branch(ctx, ctx.schedule_timer(1), "quick")
        done, pending = yield ctx.wait([ctx.spawn(slow), ctx.spawn(quick)], return_when="FIRST_COMPLETED")
        yield ctx.schedule_activity("send", "slow")
        return [(yield done[0]), (yield pending[0])]

    assert run(parent, activities={"send": send}) == ["quick", "slow"]


def test_messages_of_a_queue_can_be_waited_for(run: Run) -> None:
    def enqueue(ctx: ActivityContext, input: Any) -> None:
        ctx.get_client().enqueue_event(ctx.instance_id, "inbox", "hello")

    def reader(ctx: OrchestrationContext, input: Any) -> Steps:
        message, timer = ctx.dequeue_event("inbox"), ctx.schedule_timer(60_000)
        yield ctx.schedule_activity("enqueue")
        done, _ = yield ctx.wait([timer, message], return_when="FIRST_COMPLETED")
        return [done == [message], (yield message)]

    assert run(reader, activities={"enqueue": enqueue}) == [True, "hello"]


@pytest.mark.parametrize("store", ["memory"])
@pytest.mark.parametrize(
    ("tasks", "return_when", "message"),
    [(1, "FIRST_EXCEPTION", "FIRST_COMPLETED"), (0, "ALL_COMPLETED", "at least one")],
)
def test_a_wait_that_cannot_end_is_refused(run: Run, tasks: int, return_when: Any, message: str) -> None:
    def parent(ctx: OrchestrationContext, input: Any) -> Any:
        try:
            ctx.wait([ctx.schedule_timer(1) for _ in range(tasks)], return_when=return_when)
        except ValueError as error:
            return str(error)

    assert message in run(parent)
