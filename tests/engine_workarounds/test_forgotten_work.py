"""Activities whose results no code awaits."""

from __future__ import annotations

import warnings
from typing import Any

from conftest import StartRuntime
from duroxide import (
    Client,
    OrchestrationContext,
)
from engine_workarounds.programs import QUICK, WAIT_MS, Steps, echo, kinds


def test_a_spawned_activity_that_is_not_awaited_does_not_delay_the_end(
    runtime_factory: StartRuntime, client: Client
) -> None:
    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        ctx.spawn(ctx.schedule_activity("echo", "spawned"))
        return (yield ctx.schedule_activity("echo", "done"))

    runtime_factory({"echo": echo}, {"tested": orchestration}, QUICK)
    client.start_orchestration("tested", "tested")
    assert client.wait_for_orchestration("tested", WAIT_MS).result() == "done"


def test_an_activity_that_was_not_yielded_does_not_run(runtime_factory: StartRuntime, client: Client) -> None:
    ran: list[Any] = []

    def work(ctx: Any, input: Any) -> None:
        ran.append(input)

    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        ctx.schedule_activity("work", "forgotten")
        return (yield ctx.schedule_activity("echo", "done"))

    runtime_factory({"echo": echo, "work": work}, {"tested": orchestration}, QUICK)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        client.start_orchestration("tested", "tested")
        assert client.wait_for_orchestration("tested", WAIT_MS).result() == "done"
    assert ran == []
    assert kinds(client, "tested").count("ActivityScheduled") == 1
