"""Activities of one session run one right after the other, however many slots a runtime has."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from conftest import Run
from duroxide import ActivityContext, OrchestrationContext, RuntimeOptions

Steps = Generator[Any, Any, Any]

COUNT = 20
# With a pause of one poll interval per slot between two activities, the test would take a minute.
ENOUGH_MS = 30_000


def place(ctx: ActivityContext, input: Any) -> str:
    return ctx.worker_id


def fan(ctx: OrchestrationContext, session: str) -> Steps:
    return (yield ctx.gather([ctx.schedule_activity("place", session_id=session) for _ in range(COUNT)]))


def chain(ctx: OrchestrationContext, session: str) -> Steps:
    places = []
    for _ in range(COUNT):
        one = yield ctx.schedule_activity("place", session_id=session)
        places.append(one)
    return places


def beside_others(ctx: OrchestrationContext, session: str) -> Steps:
    others = ctx.spawn(ctx.gather([ctx.schedule_activity("place") for _ in range(COUNT)]))
    places = yield ctx.gather([ctx.schedule_activity("place", session_id=session) for _ in range(COUNT)])
    yield others
    return places


def test_a_fan_out_in_one_session_ends_soon_and_on_one_worker(run: Run) -> None:
    places = run(fan, "session", activities={"place": place}, timeout_ms=ENOUGH_MS)
    assert len(places) == COUNT
    assert len(set(places)) == 1


def test_a_chain_in_one_session_ends_soon_and_on_one_worker(run: Run) -> None:
    places = run(chain, "session", activities={"place": place}, timeout_ms=ENOUGH_MS)
    assert len(places) == COUNT
    assert len(set(places)) == 1


def test_activities_of_a_session_end_soon_beside_others(run: Run) -> None:
    places = run(beside_others, "session", activities={"place": place}, timeout_ms=ENOUGH_MS)
    assert len(set(places)) == 1


def test_activities_of_several_sessions_run_in_parallel_and_end_soon(run: Run) -> None:
    def several(ctx: OrchestrationContext, input: Any) -> Steps:
        tasks = [ctx.schedule_activity("place", session_id=f"session-{number % 4}") for number in range(4 * COUNT)]
        return (yield ctx.gather(tasks))

    places = run(several, activities={"place": place}, timeout_ms=ENOUGH_MS)
    for session in range(4):
        assert len(set(places[session::4])) == 1


def test_activities_of_a_session_on_a_named_node_end_soon(run: Run) -> None:
    options = RuntimeOptions(worker_node_id="node")
    assert len(run(fan, "session", activities={"place": place}, options=options, timeout_ms=ENOUGH_MS)) == COUNT
