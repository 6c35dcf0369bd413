"""What an orchestrator of durabletask may do, and what comes of it."""

from __future__ import annotations

import logging
import threading
from datetime import datetime, timedelta, timezone
from uuid import UUID

import pytest

from durabletask_programs.conftest import Program
from duroxide.durabletask import task
from duroxide.durabletask.client import OrchestrationStatus


def double(ctx, number):
    return number * 2


def fail(ctx, text):
    raise ValueError(text)


def test_a_generator_gets_the_results_of_its_activities(program: Program) -> None:
    def chain(ctx, number):
        first = yield ctx.call_activity(double, input=number)
        return (yield ctx.call_activity("double", input=first))

    assert program.result_of(chain, 3, activities=(double,)) == 12


def test_an_async_function_may_be_an_orchestrator(program: Program) -> None:
    async def chain(ctx, number):
        first = await ctx.call_activity(double, input=number)
        return await task.when_all([ctx.call_activity(double, input=first), ctx.call_activity(double, input=1)])

    assert program.result_of(chain, 3, activities=(double,)) == [12, 2]


def test_an_async_function_may_be_an_activity(program: Program) -> None:
    async def greet(ctx, name):
        return f"hello {name}"

    def main(ctx, name):
        return (yield ctx.call_activity(greet, input=name))

    assert program.result_of(main, "Ada", activities=(greet,)) == "hello Ada"


def test_a_plain_function_may_be_an_orchestrator(program: Program) -> None:
    def main(ctx, number):
        return number + 1

    assert program.result_of(main, 3) == 4


def test_a_task_starts_when_it_is_called(program: Program) -> None:
    ran = threading.Event()

    def note(ctx, _):
        ran.set()

    def main(ctx, _):
        ctx.call_activity(note)
        return "ended"

    assert program.result_of(main, activities=(note,)) == "ended"
    assert ran.is_set()


def test_when_all_waits_for_all_and_then_raises_the_first_failure(program: Program) -> None:
    def main(ctx, _):
        slow = ctx.create_timer(timedelta(milliseconds=20))
        group = task.when_all([ctx.call_activity(fail, input="first"), slow])
        try:
            yield group
        except task.TaskFailedError as failure:
            return [failure.details.message, slow.is_complete]

    assert program.result_of(main, activities=(fail,)) == ["first", True]


def test_when_all_of_nothing_has_ended(program: Program) -> None:
    def main(ctx, _):
        return (yield task.when_all([]))

    assert program.result_of(main) == []


def test_when_any_of_nothing_is_an_error(program: Program) -> None:
    def main(ctx, _):
        yield task.when_any([])

    state = program.run(main)
    assert state.failure_details.error_type == "builtins.ValueError"


def test_a_failed_task_wins_without_raising(program: Program) -> None:
    def main(ctx, _):
        failing = ctx.call_activity(fail, input="x")
        winner = yield task.when_any([ctx.create_timer(timedelta(hours=1)), failing])
        return [winner is failing, winner.is_failed]

    assert program.result_of(main, activities=(fail,)) == [True, True]


def test_groups_nest_and_share_tasks(program: Program) -> None:
    def main(ctx, _):
        shared = ctx.call_activity(double, input=1)
        both = task.when_all([shared, shared, ctx.call_activity(double, input=2)])
        winner = yield task.when_any([ctx.wait_for_external_event("never"), both])
        again = yield shared
        return [winner is both, both.get_result(), again]

    assert program.result_of(main, activities=(double,)) == [True, [2, 2, 4], 2]


def test_winners_come_one_after_the_other(program: Program) -> None:
    def main(ctx, count):
        left = [ctx.call_activity(double, input=number) for number in range(count)]
        sums = 0
        while left:
            winner = yield task.when_any(left)
            left.remove(winner)
            sums += winner.get_result()
        return sums

    assert program.result_of(main, 10, activities=(double,)) == 90


@pytest.mark.parametrize("store", ["memory"])
@pytest.mark.parametrize("first", [True, False])
def test_a_yield_of_something_else_raises(program: Program, first: bool) -> None:
    def main(ctx, _):
        if not first:
            yield ctx.create_timer(timedelta(0))
        yield 5

    state = program.run(main)
    assert state.failure_details.error_type == "builtins.TypeError"
    assert "5 of type int" in state.failure_details.message


@pytest.mark.parametrize("store", ["memory"])
def test_a_task_that_nothing_completes_raises(program: Program) -> None:
    def main(ctx, _):
        yield task.CompletableTask()

    assert "nothing completes this task" in program.run(main).failure_details.message


def test_a_timer_in_the_past_fires_at_once(program: Program) -> None:
    def main(ctx, _):
        yield ctx.create_timer(datetime(2000, 1, 1))  # noqa: DTZ001  (durabletask's times have no zone)
        yield ctx.create_timer(datetime(2000, 1, 1, tzinfo=timezone.utc))
        yield ctx.create_timer(timedelta(seconds=-1))
        return "fired"

    assert program.result_of(main) == "fired"


def test_a_cancelled_timer_does_not_keep_the_instance(program: Program) -> None:
    def main(ctx, _):
        timer = ctx.create_timer(timedelta(hours=1))
        cancelled = timer.cancel()
        try:
            yield timer
        except task.TaskCancelledError:
            return [cancelled, timer.is_cancelled, timer.is_complete, timer.is_failed, timer.cancel()]

    assert program.result_of(main) == [True, True, True, False, False]


def test_time_and_ids_are_the_same_at_a_replay(program: Program) -> None:
    seen = []

    def main(ctx, _):
        seen.append([str(ctx.current_utc_datetime), ctx.new_uuid(), ctx.new_uuid()])
        ctx.set_custom_status("waits")
        yield ctx.wait_for_external_event("go on")

    program.start(main)
    instance = program.client.schedule_new_orchestration(main)
    # The status is visible when the first turn is recorded.
    program.wait_for_status(instance, '"waits"')
    program.worker.stop()
    program.worker.start()
    program.client.raise_orchestration_event(instance, "go on")
    program.end_of(instance)
    first, *later = seen
    assert later, "the orchestrator was not replayed"
    assert all(each == first for each in later)
    assert UUID(first[1]) != UUID(first[2])
    assert datetime.fromisoformat(first[0]).tzinfo is None


def test_a_child_has_an_id_of_its_parent_and_its_result(program: Program) -> None:
    def child(ctx, number):
        value = yield ctx.call_activity(double, input=number)
        return [ctx.instance_id, value]

    def main(ctx, _):
        ids = yield ctx.call_sub_orchestrator(child, input=1)
        named = yield ctx.call_sub_orchestrator("child", input=2, instance_id=f"{ctx.instance_id}-own")
        return [ctx.instance_id, ids, named]

    parent, first, named = program.result_of(main, activities=(double,), children=(child,))
    assert first == [f"{parent}:0001", 2]
    assert named == [f"{parent}-own", 4]


def test_continue_as_new_begins_again_and_ignores_the_result(program: Program) -> None:
    def main(ctx, number):
        child = yield ctx.call_sub_orchestrator(echo, input=number)
        if number < 3:
            ctx.continue_as_new(number + 1)
            return "ignored"
        return child

    def echo(ctx, number):
        return number

    assert program.result_of(main, 1, children=(echo,)) == 3


def test_the_custom_status_is_json_and_none_removes_it(program: Program) -> None:
    def main(ctx, _):
        ctx.set_custom_status({"step": 1})
        yield ctx.wait_for_external_event("go on")
        ctx.set_custom_status(None)
        yield ctx.wait_for_external_event("end")

    program.start(main)
    instance = program.client.schedule_new_orchestration(main)
    program.wait_for_status(instance, '{"step": 1}')
    program.client.raise_orchestration_event(instance, "go on")
    program.wait_for_status(instance, None)
    program.client.raise_orchestration_event(instance, "end")
    assert program.end_of(instance).runtime_status is OrchestrationStatus.COMPLETED


def test_a_replay_safe_logger_is_silent_during_a_replay(program: Program, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("shop")

    def main(ctx, _):
        safe = ctx.create_replay_safe_logger(logger)
        safe.warning("begins")
        yield ctx.create_timer(timedelta(milliseconds=1))
        safe.warning("ends")

    program.run(main)
    assert [each.message for each in caplog.records if each.name == "shop"] == ["begins", "ends"]


def test_a_system_exit_in_an_activity_is_its_failure(program: Program) -> None:
    def leave(ctx, _):
        raise SystemExit(3)

    def main(ctx, _):
        try:
            yield ctx.call_activity(leave)
        except task.TaskFailedError as failure:
            return failure.details.error_type

    assert program.result_of(main, activities=(leave,)) == "builtins.SystemExit"


def test_an_unknown_activity_fails(program: Program) -> None:
    def main(ctx, _):
        try:
            yield ctx.call_activity("unknown")
        except task.TaskFailedError as failure:
            return failure.details.error_type

    assert program.result_of(main) == "durabletask.worker.ActivityNotRegisteredError"
