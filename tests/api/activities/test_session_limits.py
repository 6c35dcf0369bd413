"""The limit of a runtime's sessions: what it cannot hold is left to others, and idle sessions make room."""

from __future__ import annotations

import threading
from collections.abc import Generator
from typing import Any

import pytest

from conftest import OpenProvider, StartRuntime
from duroxide import ActivityContext, Client, OrchestrationContext, Runtime, RuntimeOptions, StartRequest
from support.waiting import wait_until

WAIT_MS = 30_000
LIMIT = RuntimeOptions(max_sessions_per_runtime=2)


def job(ctx: OrchestrationContext, _: Any) -> Generator[Any, Any, Any]:
    return (yield ctx.schedule_activity("work", session_id=f"session of {ctx.instance_id}"))


def start_jobs(client: Client, count: int) -> list[str]:
    instances = [f"job-{number}" for number in range(count)]
    client.start_orchestrations([StartRequest(instance, "job") for instance in instances])
    return instances


class Gate:
    """An activity that waits until the test lets it end, and notes the sessions that have begun."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.begun: list[str | None] = []

    def work(self, ctx: ActivityContext, _: Any) -> str | None:
        self.begun.append(ctx.session_id)
        self.opened.wait(WAIT_MS / 1000)
        return ctx.session_id


def test_idle_sessions_make_room_for_waiting_ones(runtime_factory: StartRuntime, client: Client) -> None:
    runtime_factory({"work": lambda ctx, _: ctx.session_id}, {"job": job}, LIMIT)
    for instance in start_jobs(client, 4):
        assert client.wait_for_orchestration(instance, WAIT_MS).result() == f"session of {instance}"


def test_a_runtime_runs_no_more_sessions_than_its_limit_and_says_so(
    runtime_factory: StartRuntime, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()
    runtime = runtime_factory({"work": gate.work}, {"job": job}, LIMIT)
    instances = start_jobs(client, 3)
    try:
        wait_until(lambda: runtime.metrics_snapshot().sessions_held_back == 1, "the metric counts the third session")
        wait_until(lambda: "max_sessions_per_runtime" in caplog.text, "the log says why the third session waits")
        wait_until(lambda: len(gate.begun) == 2, "two sessions run")
    finally:
        gate.opened.set()
    for instance in instances:
        client.wait_for_orchestration(instance, WAIT_MS)
    assert len(gate.begun) == 3


def test_other_activities_run_while_sessions_wait_for_room(runtime_factory: StartRuntime, client: Client) -> None:
    gate = Gate()

    def plain(ctx: OrchestrationContext, _: Any) -> Generator[Any, Any, Any]:
        return (yield ctx.schedule_activity("other"))

    runtime = runtime_factory({"work": gate.work, "other": lambda ctx, _: "ran"}, {"job": job, "plain": plain}, LIMIT)
    instances = start_jobs(client, 6)
    try:
        wait_until(lambda: runtime.metrics_snapshot().sessions_held_back == 4)
        client.start_orchestration("plain", "plain")
        assert client.wait_for_orchestration("plain", WAIT_MS).result() == "ran"
    finally:
        gate.opened.set()
    for instance in instances:
        client.wait_for_orchestration(instance, WAIT_MS)


def test_a_session_with_work_keeps_its_worker_while_others_wait(runtime_factory: StartRuntime, client: Client) -> None:
    gate = Gate()
    first_has_begun = threading.Event()

    def place(ctx: ActivityContext, _: Any) -> str:
        first_has_begun.set()
        gate.opened.wait(WAIT_MS / 1000)
        return ctx.worker_id

    def fan(ctx: OrchestrationContext, _: Any) -> Generator[Any, Any, Any]:
        return (yield ctx.gather([ctx.schedule_activity("place", session_id="busy") for _ in range(4)]))

    runtime = runtime_factory(
        {"work": gate.work, "place": place}, {"job": job, "fan": fan}, RuntimeOptions(max_sessions_per_runtime=1)
    )
    client.start_orchestration("fan", "fan")
    assert first_has_begun.wait(WAIT_MS / 1000)
    start_jobs(client, 2)
    wait_until(lambda: runtime.metrics_snapshot().sessions_held_back == 2)
    gate.opened.set()
    assert len(set(client.wait_for_orchestration("fan", WAIT_MS).result())) == 1


@pytest.mark.parametrize("store", ["postgres"], indirect=True)
def test_a_node_leaves_the_sessions_beyond_its_limit_to_another_node(
    runtime_factory: StartRuntime, client: Client, open_store: OpenProvider
) -> None:
    first, second = Gate(), Gate()
    runtime_factory({"work": first.work}, {"job": job}, LIMIT)
    instances = start_jobs(client, 4)
    wait_until(lambda: len(first.begun) == 2)
    with open_store() as provider:
        other = Runtime(provider, LIMIT)
        other.register_activity("work", second.work)
        other.register_orchestration("job", job)
        with other:
            try:
                wait_until(lambda: len(second.begun) == 2, "the other node runs the sessions that wait")
            finally:
                first.opened.set()
                second.opened.set()
            for instance in instances:
                client.wait_for_orchestration(instance, WAIT_MS)
    assert not set(first.begun) & set(second.begun)
