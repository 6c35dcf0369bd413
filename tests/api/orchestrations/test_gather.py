"""``gather`` fails as early as it can, and the effects of a settled task happen at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any

import pytest

from conftest import Run, StartRuntime
from duroxide import ActivityContext, ActivityFailed, Client, DuroxideError, OrchestrationContext
from support.waiting import wait_for_event_kind

Steps = Generator[Any, Any, Any]

# Far less than the wait that must not happen, which has no end.
SOON_MS = 10_000


def fail(ctx: ActivityContext, input: Any) -> None:
    raise ValueError(input)


def failed_task(ctx: OrchestrationContext) -> Steps:
    """Begin an activity, see it fail, and return its task."""
    task = ctx.spawn(ctx.schedule_activity("fail", "no"))
    try:
        yield task
    except ActivityFailed:
        return task


GATHERS: dict[str, Callable[[OrchestrationContext, Any], Any]] = {
    "before_an_event": lambda ctx, task: ctx.gather(task, ctx.wait_for_event("never")),
    "after_an_event": lambda ctx, task: ctx.gather(ctx.wait_for_event("never"), task),
    "within_a_gather": lambda ctx, task: ctx.gather(ctx.wait_for_event("never"), ctx.gather(task)),
    "beside_a_race": lambda ctx, task: ctx.gather(ctx.race(ctx.wait_for_event("a"), ctx.wait_for_event("b")), task),
    "spawned": lambda ctx, task: ctx.spawn(ctx.gather(ctx.wait_for_event("never"), task)),
}


@pytest.mark.parametrize("gather", GATHERS.values(), ids=GATHERS)
def test_gather_fails_at_once_if_a_task_failed_before(
    gather: Callable[[OrchestrationContext, Any], Any], run: Run
) -> None:
    def late(ctx: OrchestrationContext, _: Any) -> Steps:
        task = yield from failed_task(ctx)
        try:
            yield gather(ctx, task)
        except ActivityFailed as failure:
            return str(failure)

    assert run(late, activities={"fail": fail}, timeout_ms=SOON_MS) == "ValueError: no"


def test_gather_fails_at_once_if_a_failure_won_a_race(run: Run) -> None:
    def late(ctx: OrchestrationContext, _: Any) -> Steps:
        race = ctx.spawn(ctx.race(ctx.wait_for_event("never"), ctx.schedule_activity("fail", "no")))
        with suppress(ActivityFailed):
            yield race
        try:
            yield ctx.gather(ctx.wait_for_event("never"), race)
        except ActivityFailed as failure:
            return str(failure)

    assert run(late, activities={"fail": fail}, timeout_ms=SOON_MS) == "ValueError: no"


def test_gather_fails_at_once_if_a_branch_failed_before(run: Run) -> None:
    def branch(ctx: OrchestrationContext) -> Steps:
        yield ctx.schedule_timer(0)
        raise LookupError("in the branch")

    def late(ctx: OrchestrationContext, _: Any) -> Steps:
        running = ctx.spawn(branch(ctx))
        with suppress(LookupError):
            yield running
        try:
            yield ctx.gather(ctx.wait_for_event("never"), running)
        except LookupError as failure:
            return str(failure)

    assert run(late, timeout_ms=SOON_MS) == "in the branch"


def test_gather_fails_at_once_if_a_task_lost_a_race(run: Run) -> None:
    def late(ctx: OrchestrationContext, _: Any) -> Steps:
        loser = ctx.spawn(ctx.wait_for_event("never"))
        yield ctx.race(loser, ctx.schedule_timer(0))
        try:
            yield ctx.gather(ctx.wait_for_event("never"), loser)
        except Exception as failure:
            return type(failure).__name__

    def alone(ctx: OrchestrationContext, _: Any) -> Steps:
        loser = ctx.spawn(ctx.wait_for_event("never"))
        yield ctx.race(loser, ctx.schedule_timer(0))
        try:
            yield loser
        except Exception as failure:
            return type(failure).__name__

    assert run(late, timeout_ms=SOON_MS) == run(alone, timeout_ms=SOON_MS)


def test_a_task_spawned_by_a_closing_branch_begins_at_once(runtime_factory: StartRuntime, client: Client) -> None:
    cleaned = threading.Event()

    def clean(ctx: ActivityContext, _: Any) -> None:
        cleaned.set()

    def waiting(ctx: OrchestrationContext, _: Any) -> Steps:
        def cleanup() -> Steps:
            yield ctx.schedule_activity("clean")

        def branch() -> Steps:
            try:
                yield ctx.wait_for_event("never")
            finally:
                ctx.spawn(cleanup())

        ctx.spawn(ctx.race(branch(), ctx.schedule_timer(20)))
        return (yield ctx.wait_for_event("go"))

    runtime_factory({"clean": clean}, {"waiting": waiting})
    client.start_orchestration("waiting", "waiting")
    # The orchestration receives nothing else in that time.
    assert cleaned.wait(SOON_MS / 1000)
    client.raise_event("waiting", "go", "on")
    assert client.wait_for_orchestration("waiting", SOON_MS).result() == "on"


def test_a_branch_continues_at_once_after_a_race_that_only_it_awaits(
    runtime_factory: StartRuntime, client: Client
) -> None:
    reached = threading.Event()

    def reach(ctx: ActivityContext, input: Any) -> Any:
        reached.set()
        return input

    def waiting(ctx: OrchestrationContext, _: Any) -> Steps:
        race = ctx.spawn(ctx.race(ctx.wait_for_event("never"), ctx.gather(ctx.schedule_timer(0))))

        def branch() -> Steps:
            winner = yield race
            return (yield ctx.schedule_activity("reach", winner["index"]))

        running = ctx.spawn(branch())
        yield ctx.wait_for_event("go")
        return (yield running)

    runtime_factory({"reach": reach}, {"waiting": waiting})
    client.start_orchestration("waiting", "waiting")
    assert reached.wait(SOON_MS / 1000)
    client.raise_event("waiting", "go")
    assert client.wait_for_orchestration("waiting", SOON_MS).result() == 1


def test_a_race_whose_task_another_race_cancels_is_the_same_in_replay(
    runtime_factory: StartRuntime, client: Client
) -> None:
    def sharing(ctx: OrchestrationContext, _: Any) -> Steps:
        shared = ctx.spawn(ctx.wait_for_event("never"))
        first = ctx.spawn(ctx.race(shared, ctx.wait_for_event("also never")))
        second = ctx.spawn(ctx.race(shared, ctx.schedule_timer(20)))
        yield ctx.wait_for_event("go")
        winner = yield second
        outcomes = yield ctx.all(first)
        again = yield ctx.all(ctx.schedule_timer(0))
        return [winner["index"], "err" in outcomes[0], again]

    runtime = runtime_factory({}, {"sharing": sharing})
    client.start_orchestration("sharing", "sharing")
    wait_for_event_kind(client, "sharing", "TimerFired")
    runtime.shutdown()
    runtime.start()
    client.raise_event("sharing", "go")
    assert client.wait_for_orchestration("sharing", SOON_MS).result() == [1, True, [{"ok": None}]]


def test_awaiting_a_task_that_lost_a_race_raises(run: Run) -> None:
    def late(ctx: OrchestrationContext, _: Any) -> Steps:
        slow = ctx.wait_for_event("never")
        yield ctx.race(ctx.schedule_timer(0), slow)
        try:
            yield slow
        except DuroxideError as error:
            return str(error)

    assert run(late) == "wait for event 'never' was cancelled, since another task won the race"
