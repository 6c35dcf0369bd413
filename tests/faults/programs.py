"""What the nodes of these tests run: the programs of the store's load, and some that show where they ran."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from duroxide import ActivityContext, OrchestrationContext, Runtime
from store.workload import ORCHESTRATIONS

Steps = Generator[Any, Any, Any]


def place(ctx: OrchestrationContext, tag: str | None) -> Steps:
    """Tells which node ran its activity."""
    return (yield ctx.schedule_activity("where", tag=tag))


def held(ctx: OrchestrationContext, _: Any) -> Steps:
    """Tells which node ran its activity to the end; a node may be told to hold on to it."""
    return (yield ctx.schedule_activity("hold"))


def wait_for_go(ctx: OrchestrationContext, _: Any) -> Steps:
    return (yield ctx.wait_for_event("go"))


def talk(ctx: OrchestrationContext, session: str) -> Steps:
    """Runs an activity of a session whenever it is told to go on, and tells where they ran."""
    places: list[str] = []
    while (yield ctx.dequeue_event("inbox")) == "continue":
        places.append((yield ctx.schedule_activity("where", session_id=session)))
        ctx.set_custom_status(" ".join(places))
    return places


def named(version: str) -> Any:
    def story(ctx: OrchestrationContext, _: Any) -> Steps:
        place = yield ctx.schedule_activity("where")
        return [version, place]

    return story


class Functions:
    """The activities of one node, and the orchestrations that know on which node they are.

    While there is a file ``hold-NODE`` in the folder, that node does not get to the end of its activity ``hold``; while
    there is ``turn-NODE``, the code of ``slow_turn`` does not get further there.
    """

    def __init__(self, node: str, folder: Path) -> None:
        self.node = node
        self.folder = folder
        self._ledger = os.open(folder / "ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def note(self, word: str, instance: str, execution: int | None, place: int) -> None:
        """Write a line, in one write; its time is by the clock that all processes share and nobody moves."""
        line = f"{time.monotonic():.4f} {self.node} {word} {instance} {execution} {place}\n"
        os.write(self._ledger, line.encode())

    def wait_while_told(self, what: str) -> None:
        file = self.folder / f"{what}-{self.node}"
        while file.exists():
            # It stands for work; other processes take the file away.
            threading.Event().wait(0.01)

    def register(self, runtime: Runtime, versions: list[str]) -> None:
        def begin(ctx: ActivityContext) -> None:
            self.note("begin", ctx.instance_id, ctx.execution_id, ctx.activity_id)

        def step(ctx: ActivityContext, number: int) -> int:
            begin(ctx)
            return number

        def where(ctx: ActivityContext, _: Any) -> str:
            begin(ctx)
            return self.node

        def hold(ctx: ActivityContext, _: Any) -> str:
            begin(ctx)
            self.wait_while_told("hold")
            return self.node

        def slow_turn(ctx: OrchestrationContext, _: Any) -> Steps:
            yield ctx.wait_for_event("go")
            self.note("turn", ctx.instance_id, ctx.execution_id, 0)
            self.wait_while_told("turn")
            ctx.set_custom_status(f"turned on {self.node}")
            # Which node takes the turn is no part of its history.
            return (yield ctx.schedule_activity("where"))

        for activity in (step, where, hold):
            runtime.register_activity(activity.__name__, activity)
        for orchestration in (*ORCHESTRATIONS, place, held, wait_for_go, talk, slow_turn):
            runtime.register_orchestration(orchestration.__name__, orchestration)
        for version in versions:
            runtime.register_orchestration_versioned("story", version, named(version))
