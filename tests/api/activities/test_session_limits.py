"""The limit of a runtime's sessions: what it cannot hold is left to others, and idle sessions make room."""

from __future__ import annotations

import threading
from collections.abc import Generator
from typing import Any

import pytest

from conftest import OpenProvider, StartRuntime
from duroxide import Client, OrchestrationContext, Runtime, RuntimeOptions, StartRequest
from support.waiting import wait_until

WAIT_MS = 30_000


def job(ctx: OrchestrationContext, _: Any) -> Generator[Any, Any, Any]:
    return (yield ctx.schedule_activity("work", session_id=f"session of {ctx.instance_id}"))


def start_jobs(client: Client, count: int) -> list[str]:
    instances = [f"job-{number}" for number in range(count)]
    client.start_orchestrations([StartRequest(instance, "job") for instance in instances])
    return instances


def test_idle_sessions_make_room_for_waiting_ones(
    runtime_factory: StartRuntime, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    runtime_factory({"work": lambda ctx, _: ctx.session_id}, {"job": job}, RuntimeOptions(max_sessions_per_runtime=2))
    for instance in start_jobs(client, 4):
        assert client.wait_for_orchestration(instance, WAIT_MS).result() == f"session of {instance}"
    wait_until(lambda: "holds 2 sessions already" in caplog.text, "the log says why the others waited")


@pytest.mark.parametrize("store", ["postgres"], indirect=True)
def test_a_node_leaves_the_sessions_beyond_its_limit_to_another_node(
    runtime_factory: StartRuntime, client: Client, open_store: OpenProvider
) -> None:
    both_have_run = threading.Event()
    ran: list[str] = []

    def work_of(node: str) -> Any:
        def work(ctx: Any, _: Any) -> str:
            ran.append(node)
            both_have_run.wait(30)
            return node

        return work

    limit = RuntimeOptions(max_sessions_per_runtime=2)
    runtime_factory({"work": work_of("first")}, {"job": job}, limit)
    instances = start_jobs(client, 4)
    wait_until(lambda: ran.count("first") == 2)
    with open_store() as provider:
        other = Runtime(provider, limit)
        other.register_activity("work", work_of("other"))
        other.register_orchestration("job", job)
        with other:
            try:
                wait_until(lambda: ran.count("other") == 2)
            finally:
                both_have_run.set()
            nodes = [client.wait_for_orchestration(instance, WAIT_MS).result() for instance in instances]
    assert sorted(nodes) == ["first", "first", "other", "other"]
