"""All, race, gather, spawn and branches: any number of them, nested in any way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from datetime import timedelta
from typing import Any

import pytest

from conftest import Run, StartRuntime
from duroxide import (
    ActivityContext,
    ActivityFailed,
    Client,
    OrchestrationContext,
    OrchestrationFailed,
    Outcome,
    RuntimeOptions,
    TaskFailed,
)
from support.waiting import wait_for_event_kind, wait_until

Steps = Generator[Any, Any, Any]
Activities = dict[str, Callable[..., Any]]

LONG = timedelta(hours=1)


def echo(ctx: ActivityContext, input: Any) -> Any:
    return input


def fail(ctx: ActivityContext, input: Any) -> None:
    raise ValueError(input)


ACTIVITIES: Activities = {"echo": echo, "fail": fail}


def test_all_gives_outcomes_in_the_order_of_the_tasks(run: Run) -> None:
    def together(ctx: OrchestrationContext, input: Any) -> Steps:
        return (
            yield ctx.all([ctx.schedule_timer(10), ctx.schedule_activity("echo", 1), ctx.schedule_activity("echo", 2)])
        )

    assert run(together, activities=ACTIVITIES) == [{"ok": None}, {"ok": 1}, {"ok": 2}]


def test_all_takes_tasks_one_by_one(run: Run) -> None:
    def together(ctx: OrchestrationContext, input: Any) -> Steps:
        return (yield ctx.all(ctx.schedule_activity("echo", 1), ctx.schedule_activity("echo", 2)))

    assert run(together, activities=ACTIVITIES) == [{"ok": 1}, {"ok": 2}]


def test_all_without_tasks_is_empty(run: Run) -> None:
    def nothing(ctx: OrchestrationContext, input: Any) -> Steps:
        return [(yield ctx.all([])), (yield ctx.gather([])), (yield ctx.all())]

    assert run(nothing) == [[], [], []]


def test_all_gives_a_failure_as_an_exception(run: Run) -> None:
    def together(ctx: OrchestrationContext, input: Any) -> Steps:
        good, bad = yield ctx.all([ctx.schedule_activity("echo", 1), ctx.schedule_activity("fail", "no")])
        failure = bad["err"]
        return [good["ok"], isinstance(failure, ActivityFailed), failure.error_type, failure.message]

    assert run(together, activities=ACTIVITIES) == [1, True, "ValueError", "no"]


def test_outcome_is_unwrapped_to_its_value_or_failure(run: Run) -> None:
    def together(ctx: OrchestrationContext, input: Any) -> Steps:
        good, bad = yield ctx.all([ctx.schedule_activity("echo", 1), ctx.schedule_activity("fail", "no")])
        assert isinstance(good, Outcome)
        value = good.unwrap()
        try:
            bad.unwrap()
        except ActivityFailed as failure:
            return [value, str(failure)]

    assert run(together, activities=ACTIVITIES) == [1, "ValueError: no"]


def test_gather_gives_plain_values(run: Run) -> None:
    def together(ctx: OrchestrationContext, input: Any) -> Steps:
        return (
            yield ctx.gather(ctx.schedule_activity("echo", "a"), ctx.schedule_timer(0), ctx.schedule_activity("echo"))
        )

    assert run(together, activities=ACTIVITIES) == ["a", None, None]


def test_gather_raises_the_first_failure_without_waiting_for_the_rest(run: Run) -> None:
    def together(ctx: OrchestrationContext, input: Any) -> Steps:
        try:
            yield ctx.gather(ctx.wait_for_event("never"), ctx.schedule_timer(LONG), ctx.schedule_activity("fail", "no"))
        except ActivityFailed as failure:
            return str(failure)

    assert run(together, activities=ACTIVITIES) == "ValueError: no"


def test_typed_all_gives_plain_values(run: Run) -> None:
    def together(ctx: OrchestrationContext, input: Any) -> Steps:
        return (yield ctx.all_typed([ctx.schedule_activity("echo", 1), ctx.schedule_activity("echo", 2)]))

    assert run(together, activities=ACTIVITIES) == [1, 2]


@pytest.mark.parametrize("winner", range(5))
def test_race_of_five_is_won_by_the_first_to_finish(winner: int, run: Run) -> None:
    def contest(ctx: OrchestrationContext, input: int) -> Steps:
        tasks = [ctx.schedule_timer(LONG) for _ in range(5)]
        tasks[input] = ctx.schedule_activity("echo", "won")
        return (yield ctx.race(*tasks))

    assert run(contest, winner, activities=ACTIVITIES) == {"index": winner, "value": "won"}


def test_race_takes_a_list(run: Run) -> None:
    def contest(ctx: OrchestrationContext, input: Any) -> Steps:
        return (yield ctx.race([ctx.schedule_timer(LONG), ctx.schedule_timer(0), ctx.schedule_timer(LONG)]))

    assert run(contest) == {"index": 1, "value": None}


def test_race_of_one_gives_its_value(run: Run) -> None:
    def contest(ctx: OrchestrationContext, input: Any) -> Steps:
        return (yield ctx.race(ctx.schedule_activity("echo", "alone")))

    assert run(contest, activities=ACTIVITIES) == {"index": 0, "value": "alone"}


def test_race_raises_the_failure_of_the_winner_with_its_index(run: Run) -> None:
    def contest(ctx: OrchestrationContext, input: Any) -> Steps:
        try:
            yield ctx.race(ctx.schedule_timer(LONG), ctx.schedule_timer(LONG), ctx.schedule_activity("fail", "no"))
        except TaskFailed as failure:
            return [failure.index, str(failure)]  # type: ignore[attr-defined]

    assert run(contest, activities=ACTIVITIES) == [2, "ValueError: no"]


def test_timer_of_zero_wins_against_an_event(run: Run) -> None:
    def contest(ctx: OrchestrationContext, input: Any) -> Steps:
        winner = yield ctx.race(ctx.wait_for_event("paid"), ctx.schedule_timer(timedelta(0)))
        return "paid" if winner["index"] == 0 else "expired"

    assert run(contest) == "expired"


def test_all_may_hold_all(run: Run) -> None:
    def nested(ctx: OrchestrationContext, input: Any) -> Steps:
        return (
            yield ctx.all(
                [
                    ctx.all([ctx.schedule_activity("echo", 1), ctx.schedule_activity("echo", 2)]),
                    ctx.schedule_activity("echo", 3),
                ]
            )
        )

    assert run(nested, activities=ACTIVITIES) == [{"ok": [{"ok": 1}, {"ok": 2}]}, {"ok": 3}]


def test_race_may_hold_race_all_and_gather(run: Run) -> None:
    def nested(ctx: OrchestrationContext, input: Any) -> Steps:
        return (
            yield ctx.race(
                ctx.race(ctx.schedule_timer(LONG), ctx.schedule_timer(LONG)),
                ctx.all([ctx.schedule_timer(LONG)]),
                ctx.gather(ctx.schedule_activity("echo", 1), ctx.schedule_activity("echo", 2)),
            )
        )

    assert run(nested, activities=ACTIVITIES) == {"index": 2, "value": [1, 2]}


def test_gather_may_hold_race(run: Run) -> None:
    def nested(ctx: OrchestrationContext, input: Any) -> Steps:
        return (
            yield ctx.gather(
                ctx.race(ctx.schedule_timer(LONG), ctx.schedule_activity("echo", "inner")),
                ctx.schedule_activity("echo", "outer"),
            )
        )

    assert run(nested, activities=ACTIVITIES) == [{"index": 1, "value": "inner"}, "outer"]


def test_combinators_nest_deeply(run: Run) -> None:
    def nested(ctx: OrchestrationContext, input: int) -> Steps:
        task: Any = ctx.schedule_activity("echo", "deep")
        for _ in range(input):
            task = ctx.gather(task)
        return (yield task)

    value = run(nested, 50, activities=ACTIVITIES)

    for _ in range(50):
        assert len(value) == 1
        value = value[0]
    assert value == "deep"


def test_branches_run_in_parallel(run: Run) -> None:
    def branch(ctx: OrchestrationContext, name: str) -> Steps:
        first = yield ctx.schedule_activity("echo", f"{name}1")
        second = yield ctx.schedule_activity("echo", f"{name}2")
        return [first, second]

    def split(ctx: OrchestrationContext, input: Any) -> Steps:
        return (yield ctx.gather(branch(ctx, "a"), branch(ctx, "b"), ctx.schedule_activity("echo", "c")))

    assert run(split, activities=ACTIVITIES) == [["a1", "a2"], ["b1", "b2"], "c"]


def test_branches_in_all_give_outcomes(run: Run) -> None:
    def good(ctx: OrchestrationContext) -> Steps:
        return (yield ctx.schedule_activity("echo", "good"))

    def bad(ctx: OrchestrationContext) -> Steps:
        yield ctx.schedule_activity("echo", "then")
        raise KeyError("bad")

    def split(ctx: OrchestrationContext, input: Any) -> Steps:
        first, second = yield ctx.all([good(ctx), bad(ctx)])
        return [first["ok"], type(second["err"]).__name__, str(second["err"])]

    assert run(split, activities=ACTIVITIES) == ["good", "KeyError", "'bad'"]


def test_branch_wins_a_race_and_the_others_are_closed(run: Run) -> None:
    closed: list[str] = []

    def slow(ctx: OrchestrationContext) -> Steps:
        try:
            yield ctx.schedule_timer(LONG)
        except GeneratorExit:
            closed.append("slow")
            raise

    def quick(ctx: OrchestrationContext) -> Steps:
        yield ctx.schedule_timer(0)
        return "quick"

    def contest(ctx: OrchestrationContext, input: Any) -> Steps:
        return (yield ctx.race(slow(ctx), quick(ctx)))

    assert run(contest) == {"index": 1, "value": "quick"}
    assert closed == ["slow"]


@pytest.mark.task_groups
def test_coroutines_are_branches_too(run: Run) -> None:
    async def branch(ctx: OrchestrationContext, name: str) -> str:
        first = await ctx.schedule_activity("echo", name)
        return f"{first}{await ctx.schedule_activity('echo', '!')}"

    async def split(ctx: OrchestrationContext, input: Any) -> Any:
        return await ctx.gather(branch(ctx, "a"), branch(ctx, "b"))

    assert run(split, activities=ACTIVITIES) == ["a!", "b!"]


@pytest.mark.task_groups
def test_coroutine_races_against_a_timer(run: Run) -> None:
    async def forever(ctx: OrchestrationContext) -> None:
        while True:
            await ctx.schedule_timer(LONG)

    async def contest(ctx: OrchestrationContext, input: Any) -> Any:
        return (await ctx.race(forever(ctx), ctx.schedule_timer(1)))["index"]

    assert run(contest) == 1


def test_branch_may_have_branches(run: Run) -> None:
    def leaf(ctx: OrchestrationContext, value: int) -> Steps:
        return (yield ctx.schedule_activity("echo", value))

    def node(ctx: OrchestrationContext, value: int) -> Steps:
        left, right = yield ctx.gather(leaf(ctx, value), leaf(ctx, value + 1))
        return left + right

    def tree(ctx: OrchestrationContext, input: Any) -> Steps:
        return (yield ctx.gather(node(ctx, 1), node(ctx, 10)))

    assert run(tree, activities=ACTIVITIES) == [3, 21]


def test_gather_raises_the_failure_of_a_branch_unchanged(run: Run) -> None:
    def branch(ctx: OrchestrationContext) -> Steps:
        yield ctx.schedule_timer(0)
        raise LookupError("in the branch")

    def split(ctx: OrchestrationContext, input: Any) -> Steps:
        try:
            yield ctx.gather(branch(ctx), ctx.schedule_timer(LONG))
        except LookupError as error:
            return str(error)

    assert run(split) == "in the branch"


def test_spawned_task_runs_beside_the_orchestration(run: Run, client: Client) -> None:
    def spawn(ctx: OrchestrationContext, input: Any) -> Steps:
        background = ctx.spawn(ctx.schedule_activity("echo", "background"))
        front = yield ctx.schedule_activity("echo", "front")
        return [front, (yield background)]

    assert run(spawn, activities=ACTIVITIES, instance="spawn") == ["front", "background"]
    events = client.read_execution_history("spawn")
    assert [event.kind for event in events[:3]] == ["OrchestrationStarted", "ActivityScheduled", "ActivityScheduled"]


def test_spawned_branch_runs_beside_the_orchestration(run: Run) -> None:
    def branch(ctx: OrchestrationContext) -> Steps:
        first = yield ctx.schedule_activity("echo", 1)
        return first + (yield ctx.schedule_activity("echo", 2))

    def spawn(ctx: OrchestrationContext, input: Any) -> Steps:
        running = ctx.spawn(branch(ctx))
        yield ctx.schedule_timer(1)
        return (yield running)

    assert run(spawn, activities=ACTIVITIES) == 3


def test_ties_go_to_the_task_that_was_started_first(run: Run) -> None:
    def tie(ctx: OrchestrationContext, input: Any) -> Steps:
        first = ctx.spawn(ctx.schedule_activity("echo", "started first"))
        second = ctx.spawn(ctx.schedule_activity("echo", "started second"))
        yield ctx.all([first, second])
        return (yield ctx.race(second, first))

    assert run(tie, activities=ACTIVITIES) == {"index": 1, "value": "started first"}


def test_wide_fan_out_keeps_its_order(run: Run) -> None:
    def fan(ctx: OrchestrationContext, input: int) -> Steps:
        return (yield ctx.gather([ctx.schedule_activity("echo", number) for number in range(input)]))

    assert run(fan, 100, activities=ACTIVITIES, timeout_ms=60_000) == list(range(100))


def test_losing_activity_sees_that_it_is_cancelled(run: Run) -> None:
    running, seen = threading.Event(), threading.Event()

    def lose(ctx: ActivityContext, input: Any) -> None:
        running.set()
        while not ctx.is_cancelled():
            if seen.wait(0.01):
                return
        seen.set()

    def win(ctx: ActivityContext, input: Any) -> bool:
        return running.wait(20)

    def contest(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.race(ctx.schedule_activity("lose"), ctx.schedule_activity("win"))
        yield ctx.schedule_activity("echo")
        return (yield ctx.schedule_activity("seen"))

    assert (
        run(contest, activities={**ACTIVITIES, "lose": lose, "win": win, "seen": lambda ctx, input: seen.wait(15)})
        is True
    )


def runs_of_late(contest: Callable[..., Any], runtime_factory: StartRuntime, client: Client) -> int:
    """How often the losing activity `late` has run: `block` holds the only slot until the status is set."""
    from duroxide import RuntimeOptions

    ran: list[str] = []
    release = threading.Event()

    def block(ctx: ActivityContext, input: Any) -> None:
        release.wait(20)

    def late(ctx: ActivityContext, input: Any) -> None:
        ran.append("late")

    activities = {"block": block, "late": late, "echo": lambda ctx, number: number}
    runtime_factory(activities, {"contest": contest}, RuntimeOptions(worker_concurrency=1))
    client.start_orchestration("never", "contest")
    client.wait_for_status_change("never", 0, 50, 20_000)
    release.set()

    client.wait_for_orchestration("never").result()
    return len(ran)


def test_losing_activity_that_has_not_begun_never_runs(runtime_factory: StartRuntime, client: Client) -> None:
    def contest(ctx: OrchestrationContext, input: Any) -> Steps:
        blocking = ctx.spawn(ctx.schedule_activity("block"))
        yield ctx.schedule_timer(0)
        yield ctx.race(ctx.schedule_activity("late"), ctx.schedule_timer(20))
        ctx.set_custom_status("raced")
        yield blocking

    assert runs_of_late(contest, runtime_factory, client) == 0


def test_prefetched_activities_that_lose_a_race_never_run(runtime_factory: StartRuntime, client: Client) -> None:
    def contest(ctx: OrchestrationContext, input: Any) -> Steps:
        # A quick worker is given more activities than it has slots.
        yield ctx.gather([ctx.schedule_activity("echo", number) for number in range(30)])
        blocking = ctx.spawn(ctx.schedule_activity("block"))
        losers = ctx.gather([ctx.schedule_activity("late") for _ in range(20)])
        yield ctx.race(losers, ctx.schedule_timer(20))
        ctx.set_custom_status("raced")
        yield blocking

    assert runs_of_late(contest, runtime_factory, client) == 0


@pytest.mark.parametrize("sticky", [True, False], ids=["awake", "replayed"])
def test_a_loser_that_has_finished_by_the_turn_of_its_race_is_not_cancelled(
    sticky: bool, runtime_factory: StartRuntime, client: Client
) -> None:
    def contest(ctx: OrchestrationContext, _: Any) -> Steps:
        first = ctx.spawn(ctx.schedule_activity("echo", 1))
        second = ctx.spawn(ctx.schedule_activity("echo", 2))
        yield ctx.wait_for_event("go")
        return (yield ctx.race(first, second))

    runtime = runtime_factory(ACTIVITIES, {"contest": contest}, RuntimeOptions(sticky=sticky))
    client.start_orchestration("contest", "contest")
    wait_until(lambda: runtime.metrics_snapshot().activity_success == 2, "both to be recorded")
    client.raise_event("contest", "go")

    assert client.wait_for_orchestration("contest").result() == {"index": 0, "value": 1}
    kinds = [event.kind for event in client.read_execution_history("contest")]
    assert (kinds.count("ActivityCompleted"), kinds.count("ActivityCancelRequested")) == (2, 0)


def test_losing_sub_orchestration_is_cancelled(run: Run, client: Client) -> None:
    def forever(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.wait_for_event("never")

    def contest(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.race(
            ctx.schedule_sub_orchestration("forever", instance_id="the-loser"),
            ctx.schedule_activity("started"),
        )
        return (yield ctx.schedule_activity("ended"))

    def started(ctx: ActivityContext, input: Any) -> None:
        wait_for_event_kind(ctx.get_client(), "the-loser", "ExternalSubscribed")

    def ended(ctx: ActivityContext, input: Any) -> str:
        return ctx.get_client().wait_for_orchestration("the-loser", 15_000).status

    output = run(contest, activities={"started": started, "ended": ended}, orchestrations={"forever": forever})

    assert output == "Failed"
    assert (client.get_status("the-loser").error or "").startswith("canceled")


def test_failure_of_a_loser_does_not_matter(run: Run) -> None:
    def branch(ctx: OrchestrationContext) -> Steps:
        yield ctx.schedule_timer(LONG)
        raise RuntimeError("never reached")

    def contest(ctx: OrchestrationContext, input: Any) -> Steps:
        winner = yield ctx.race(branch(ctx), ctx.schedule_timer(1))
        yield ctx.schedule_activity("echo")
        return winner["index"]

    assert run(contest, activities=ACTIVITIES) == 1


@pytest.mark.parametrize("store", ["memory"])
def test_yielding_a_generator_is_refused_with_the_way_out(run: Run) -> None:
    def branch(ctx: OrchestrationContext) -> Steps:
        yield ctx.schedule_timer(0)

    def wrong(ctx: OrchestrationContext, input: Any) -> Steps:
        yield branch(ctx)

    with pytest.raises(OrchestrationFailed, match="yield from"):
        run(wrong)


@pytest.mark.parametrize("store", ["memory"])
def test_generator_function_without_a_call_is_refused(run: Run) -> None:
    def branch(ctx: OrchestrationContext) -> Steps:
        yield ctx.schedule_timer(0)

    def wrong(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.all([branch])

    with pytest.raises(OrchestrationFailed, match="call the function"):
        run(wrong)
