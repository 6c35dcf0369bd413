"""Sessions: activities that belong together run on one worker."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from conftest import Run, StartRuntime
from duroxide import ActivityContext, Client, ConfigurationError, OrchestrationContext, RuntimeOptions

Steps = Generator[Any, Any, Any]


def place(ctx: ActivityContext, input: Any) -> list[Any]:
    return [ctx.session_id, ctx.worker_id]


def test_context_of_an_activity_has_its_session(run: Run) -> None:
    def steps(ctx: OrchestrationContext, input: Any) -> Steps:
        first = yield ctx.schedule_activity_on_session("place", None, "s-1")
        second = yield ctx.schedule_activity("place", session_id="s-2")
        third = yield ctx.schedule_activity("place")
        return [first[0], second[0], third[0]]

    assert run(steps, activities={"place": place}) == ["s-1", "s-2", None]


def test_activities_of_a_session_stay_on_one_of_two_runtimes(runtime_factory: StartRuntime, client: Client) -> None:
    def place_of(node: str) -> Any:
        def node_name(ctx: ActivityContext, input: Any) -> str:
            return node

        return node_name

    def steps(ctx: OrchestrationContext, input: str) -> Steps:
        places = []
        for _ in range(8):
            node = yield ctx.schedule_activity("node", session_id=input)
            places.append(node)
        return places

    for node in ("node-a", "node-b"):
        runtime_factory({"node": place_of(node)}, {"steps": steps}, RuntimeOptions(worker_node_id=node))
    for number in range(4):
        client.start_orchestration(f"pinned-{number}", "steps", f"session-{number}")

    for number in range(4):
        assert len(set(client.wait_for_orchestration(f"pinned-{number}").result())) == 1


def test_session_is_shared_between_orchestrations(runtime_factory: StartRuntime, client: Client) -> None:
    def place_of(node: str) -> Any:
        def node_name(ctx: ActivityContext, input: Any) -> str:
            return node

        return node_name

    def step(ctx: OrchestrationContext, input: str) -> Steps:
        return (yield ctx.schedule_activity("node", session_id=input))

    for node in ("node-a", "node-b"):
        runtime_factory({"node": place_of(node)}, {"step": step}, RuntimeOptions(worker_node_id=node))
    nodes = set()
    for number in range(6):
        client.start_orchestration(f"sharing-{number}", "step", "one-session")
        nodes.add(client.wait_for_orchestration(f"sharing-{number}").result())

    assert len(nodes) == 1


def test_sessions_run_in_parallel(run: Run) -> None:
    def fan(ctx: OrchestrationContext, input: Any) -> Steps:
        tasks = [ctx.schedule_activity("place", session_id=f"s-{number}") for number in range(5)]
        return [session for session, _ in (yield ctx.gather(tasks))]

    assert run(fan, activities={"place": place}) == [f"s-{number}" for number in range(5)]


def test_more_sessions_than_allowed_wait_for_their_turn(run: Run) -> None:
    def chain(ctx: OrchestrationContext, input: Any) -> Steps:
        sessions = []
        for number in range(3):
            session, _ = yield ctx.schedule_activity("place", session_id=f"s-{number}")
            sessions.append(session)
        return sessions

    options = RuntimeOptions(
        max_sessions_per_runtime=1,
        session_idle_timeout_ms=1_100,
        session_lock_timeout_ms=2_000,
        worker_lock_timeout_ms=2_000,
    )
    assert run(chain, activities={"place": place}, options=options, timeout_ms=60_000) == ["s-0", "s-1", "s-2"]


def test_session_returns_to_a_node_with_the_same_name(runtime_factory: StartRuntime, client: Client) -> None:
    def node_name(ctx: ActivityContext, input: Any) -> str:
        return "here"

    def step(ctx: OrchestrationContext, input: str) -> Steps:
        return (yield ctx.schedule_activity("node", session_id=input))

    options = RuntimeOptions(worker_node_id="pod-1")
    first = runtime_factory({"node": node_name}, {"step": step}, options)
    client.start_orchestration("before", "step", "kept")
    client.wait_for_orchestration("before").result()
    first.shutdown()
    runtime_factory({"node": node_name}, {"step": step}, options)
    client.start_orchestration("after", "step", "kept")

    # A node with another name would have to wait for the lease of the session, thirty seconds.
    assert client.wait_for_orchestration("after", 15_000).result() == "here"


def test_idle_timeout_below_the_renewal_of_a_lock_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="session_idle_timeout_ms"):
        RuntimeOptions(session_idle_timeout_ms=1_000, worker_lock_timeout_ms=30_000)
