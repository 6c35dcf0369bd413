"""Tasks, task groups, and functions that wait for several tasks."""

from __future__ import annotations

import asyncio
import contextvars
from types import SimpleNamespace
from typing import Any

import pytest

from duroxide import ActivityFailed, DuroxideError, OrchestrationContext
from duroxide._orchestration.event_loop import OrchestrationLoop
from event_loop.conftest import Play

LONG = 3600


async def after(ctx: OrchestrationContext, seconds: float, value: Any) -> Any:
    """A step that ends after a while."""
    await asyncio.sleep(seconds)
    return await ctx.schedule_activity("echo", value)


async def failing(ctx: OrchestrationContext, text: str) -> None:
    await ctx.schedule_activity("fail", text)


def test_gather_gives_values_in_the_order_of_its_arguments(play: Play) -> None:
    async def together(ctx: OrchestrationContext, _: Any) -> Any:
        return await asyncio.gather(after(ctx, 0.02, "late"), ctx.schedule_activity("echo", "early"), after(ctx, 0, 3))

    assert play(together) == ["late", "early", 3]


def test_gather_raises_the_first_failure(play: Play) -> None:
    async def together(ctx: OrchestrationContext, _: Any) -> Any:
        try:
            await asyncio.gather(asyncio.sleep(LONG), failing(ctx, "first"))
        except ActivityFailed as error:
            return str(error)

    assert play(together) == "ValueError: first"


def test_gather_returns_failures_among_the_values_on_request(play: Play) -> None:
    async def together(ctx: OrchestrationContext, _: Any) -> Any:
        results = await asyncio.gather(failing(ctx, "no"), ctx.schedule_activity("echo", 1), return_exceptions=True)
        return [str(each) for each in results]

    assert play(together) == ["ValueError: no", "1"]


def test_a_task_group_waits_for_all_its_tasks(play: Play) -> None:
    async def grouped(ctx: OrchestrationContext, _: Any) -> Any:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(after(ctx, 0.01, 1))
            second = group.create_task(ctx.schedule_activity("echo", 2))
        return [first.result(), second.result()]

    assert play(grouped) == [1, 2]


def test_a_failure_in_a_task_group_cancels_the_others_and_all_failures_are_raised_together(play: Play) -> None:
    async def grouped(ctx: OrchestrationContext, _: Any) -> Any:
        cleaned: list[Any] = []

        async def cleans_up() -> None:
            try:
                await asyncio.sleep(LONG)
            finally:
                cleaned.append(await ctx.schedule_activity("echo", "clean"))
                raise LookupError("while cleaning")

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(cleans_up())
                group.create_task(failing(ctx, "first"))
        except BaseExceptionGroup as errors:
            return [cleaned, errors.message, *[str(each) for each in errors.exceptions]]

    result = play(grouped)
    assert result[0] == ["clean"]
    assert result[2:] == ["ValueError: first", "while cleaning"]


def test_a_created_task_runs_concurrently_and_may_be_awaited_twice(play: Play) -> None:
    async def beside(ctx: OrchestrationContext, _: Any) -> Any:
        order: list[str] = []

        async def other() -> str:
            order.append("task")
            return await ctx.schedule_activity("echo", "done")

        task = asyncio.create_task(other())
        order.append("main")
        await asyncio.sleep(0)
        order.append("main again")
        return [order, await task, await task, task.done()]

    assert play(beside) == [["main", "task", "main again"], "done", "done", True]


def test_a_task_of_a_step_starts_it_and_gives_its_value(play: Play) -> None:
    async def beside(ctx: OrchestrationContext, _: Any) -> Any:
        step = asyncio.create_task(ctx.schedule_activity("echo", "beside"))
        return [await ctx.schedule_activity("echo", "here"), await step]

    assert play(beside) == ["here", "beside"]


def test_the_same_step_awaited_twice_runs_once(play: Play) -> None:
    async def twice(ctx: OrchestrationContext, _: Any) -> Any:
        step = ctx.schedule_activity("echo", "once")
        first = await step
        return [first, await step, len(await asyncio.gather(step, ctx.schedule_activity("echo", 1)))]

    assert play(twice) == ["once", "once", 2]


def test_a_step_awaited_by_two_tasks_gives_both_its_value(play: Play) -> None:
    async def shared(ctx: OrchestrationContext, _: Any) -> Any:
        step = ctx.spawn(ctx.schedule_activity("echo", "shared"))

        async def take() -> Any:
            return await step

        return await asyncio.gather(take(), take())

    assert play(shared) == ["shared", "shared"]


def test_wait_ends_with_the_first_task_that_ends(play: Play) -> None:
    async def waits(ctx: OrchestrationContext, _: Any) -> Any:
        slow, quick = asyncio.create_task(asyncio.sleep(LONG)), asyncio.create_task(after(ctx, 0.01, "quick"))
        done, pending = await asyncio.wait([slow, quick], return_when=asyncio.FIRST_COMPLETED)
        return [[task.result() for task in done], pending == {slow}]

    assert play(waits) == [["quick"], True]


def test_wait_ends_with_the_first_failure(play: Play) -> None:
    async def waits(ctx: OrchestrationContext, _: Any) -> Any:
        tasks = [asyncio.create_task(each) for each in (asyncio.sleep(LONG), after(ctx, 0, 1), failing(ctx, "no"))]
        _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        return [tasks[0] in pending, str(tasks[2].exception())]

    assert play(waits) == [True, "ValueError: no"]


def test_wait_ends_at_its_timeout(play: Play) -> None:
    async def waits(ctx: OrchestrationContext, _: Any) -> Any:
        task = asyncio.create_task(asyncio.sleep(LONG))
        done, pending = await asyncio.wait([task], timeout=0.01)
        return [len(done), len(pending), task.done()]

    assert play(waits) == [0, 1, False]


def test_the_sets_of_wait_have_the_order_in_which_their_tasks_were_made(play: Play) -> None:
    async def waits(ctx: OrchestrationContext, _: Any) -> Any:
        tasks = [asyncio.create_task(ctx.schedule_activity("echo", n), name=f"{n}") for n in range(40)]
        done, _ = await asyncio.wait(reversed(tasks))
        # Recorded, so that another order at replay would not match.
        return await ctx.schedule_activity("echo", [task.get_name() for task in done])

    assert sorted(play(waits), key=int) == [str(number) for number in range(40)]


def test_as_completed_follows_the_order_of_history(play: Play) -> None:
    async def in_order(ctx: OrchestrationContext, _: Any) -> Any:
        tasks = [asyncio.create_task(after(ctx, delay, delay)) for delay in (0.2, 0.1, 0)]
        return [await each for each in asyncio.as_completed(tasks)]

    assert play(in_order) == [0, 0.1, 0.2]


def test_as_completed_yields_ended_tasks_in_the_order_of_their_creation(play: Play) -> None:
    async def in_order(ctx: OrchestrationContext, _: Any) -> Any:
        async def value(number: int) -> int:
            return number

        tasks = [asyncio.create_task(value(number)) for number in range(6)]
        await asyncio.wait(tasks)
        seen = [await each for each in asyncio.as_completed(tasks)]
        return await ctx.schedule_activity("echo", seen)

    assert sorted(play(in_order)) == list(range(6))


def test_as_completed_begins_coroutines_in_the_order_of_the_list(play: Play) -> None:
    async def in_order(ctx: OrchestrationContext, _: Any) -> Any:
        begun: list[int] = []

        async def note(number: int) -> int:
            begun.append(number)
            await ctx.schedule_activity("echo", number)
            return number

        coroutines = [note(number) for number in range(20)]
        ended = [await each for each in asyncio.as_completed(coroutines, timeout=LONG)]
        return [begun, sorted(ended)]

    assert play(in_order) == [list(range(20)), list(range(20))]


def test_as_completed_raises_at_its_timeout(play: Play) -> None:
    async def in_order(ctx: OrchestrationContext, _: Any) -> Any:
        seen = []
        try:
            for each in asyncio.as_completed([asyncio.create_task(asyncio.sleep(LONG))], timeout=0.01):
                seen.append(await each)
        except TimeoutError:
            return [seen, "out of time"]

    assert play(in_order) == [[], "out of time"]


def test_a_cancelled_task_gets_the_cancellation_where_it_waits(play: Play) -> None:
    async def cancels(ctx: OrchestrationContext, _: Any) -> Any:
        received: list[Any] = []

        async def waiting() -> None:
            try:
                await ctx.wait_for_event("never")
            except asyncio.CancelledError as error:
                received.append(list(error.args))
                raise

        task = asyncio.create_task(waiting())
        await asyncio.sleep(0.001)
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError):
            await task
        return [received, task.cancelled()]

    assert play(cancels) == [[["enough"]], True]


def test_a_cancelled_task_may_refuse_and_continue(play: Play) -> None:
    async def cancels(ctx: OrchestrationContext, _: Any) -> Any:
        async def stubborn() -> Any:
            try:
                await asyncio.sleep(LONG)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                assert task is not None
                task.uncancel()
                return await ctx.schedule_activity("echo", "still here")

        task = asyncio.create_task(stubborn())
        await asyncio.sleep(0)
        task.cancel()
        return [await task, task.cancelling()]

    assert play(cancels) == ["still here", 0]


def test_a_shielded_step_continues_when_its_waiter_is_cancelled(play: Play) -> None:
    async def shields(ctx: OrchestrationContext, _: Any) -> Any:
        inner = asyncio.create_task(after(ctx, 0.02, "kept"))

        async def outer() -> None:
            await asyncio.shield(inner)

        waiter = asyncio.create_task(outer())
        await asyncio.sleep(0)
        waiter.cancel()
        await asyncio.wait([waiter])
        return [waiter.cancelled(), await inner]

    assert play(shields) == [True, "kept"]


def test_current_task_and_all_tasks_are_those_of_the_orchestration(play: Play) -> None:
    async def tasks(ctx: OrchestrationContext, _: Any) -> Any:
        beside = asyncio.create_task(after(ctx, 0.001, 1), name="beside")
        main = asyncio.current_task()
        assert main is not None
        names = sorted(task.get_name() for task in asyncio.all_tasks())
        await beside
        return [main.get_name(), names]

    assert play(tasks) == ["tasks", ["beside", "tasks"]]


def test_the_order_of_all_tasks_does_not_depend_on_other_orchestrations() -> None:
    def names_of_all(others: int) -> list[str]:
        beside = [new_loop(f"other-{number}") for number in range(others)]
        tasks = [loop.create_task(asyncio.sleep(0)) for loop in beside]
        loop = new_loop("this")
        loop.begin(leave_some(names := []), contextvars.Context())
        assert [asyncio.all_tasks(each) for each in beside] == [{task} for task in tasks]
        for each in (loop, *beside):
            for task in each.abandon():
                task.get_coro().close()
        return names

    async def leave_some(names: list[str]) -> None:
        made = [asyncio.create_task(asyncio.Event().wait(), name=str(number)) for number in range(40)]
        for number, task in enumerate(made):
            if number % 8 != 5:
                task.cancel()
        await asyncio.sleep(0)
        names += [task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()}]

    alone = names_of_all(0)

    assert sorted(alone) == ["13", "21", "29", "37", "5"]
    for others in (3, 10, 40, 200, 1000):
        assert names_of_all(others) == alone


def new_loop(instance_id: str) -> OrchestrationLoop:
    steps: Any = SimpleNamespace(instance_id=instance_id, orchestration_name="alone", is_silent=lambda: True)
    return OrchestrationLoop(steps)


def test_unnamed_tasks_get_the_same_name_at_every_replay(play: Play) -> None:
    async def names(ctx: OrchestrationContext, _: Any) -> Any:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(after(ctx, 0.001, number)) for number in range(3)]
        return await ctx.schedule_activity("echo", [task.get_name() for task in tasks])

    assert len(set(play(names))) == 3


def test_a_failure_in_a_task_group_of_a_child_reaches_its_parent(play: Play) -> None:
    async def child(ctx: OrchestrationContext, _: Any) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(failing(ctx, "in the child"))

    async def parent(ctx: OrchestrationContext, _: Any) -> Any:
        try:
            await ctx.schedule_sub_orchestration("child")
        except Exception as error:
            return str(error)

    assert play(parent, orchestrations={"child": child}) == "ValueError: in the child"


def test_a_step_that_timed_out_raises_when_it_is_awaited_again(play: Play) -> None:
    async def patient(ctx: OrchestrationContext, _: Any) -> Any:
        step = ctx.wait_for_event("never")
        try:
            async with asyncio.timeout(0.001):
                await step
        except TimeoutError:
            pass
        try:
            await step
        except DuroxideError as error:
            return str(error)

    assert play(patient) == "wait for event 'never' was cancelled, since what waited for it has given it up"
