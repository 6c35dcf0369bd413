"""Programs for the nodes of these tests: those of the store's workload, and some that report their node."""

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
    """Returns the node that ran its activity."""
    return (yield ctx.schedule_activity("where", tag=tag))


def held(ctx: OrchestrationContext, _: Any) -> Steps:
    """Returns the node that ran its activity to the end; the test can block that activity on a node."""
    return (yield ctx.schedule_activity("hold"))


def wait_for_go(ctx: OrchestrationContext, _: Any) -> Steps:
    return (yield ctx.wait_for_event("go"))


def talk(ctx: OrchestrationContext, session: str) -> Steps:
    """Runs an activity of a session at each ``continue`` message, and returns the nodes that ran them."""
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
    """The activities of one node, and the orchestrations that report their node.

    While the folder has a file ``hold-NODE``, that node does not end its activity ``hold``; while it has ``turn-NODE``,
    the code of ``slow_turn`` waits on that node.
    """

    def __init__(self, node: str, folder: Path) -> None:
        self.node = node
        self.folder = folder
        self._ledger = os.open(folder / "ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def note(self, word: str, instance: str, execution: int | None, place: int) -> None:
        """Write a line, in one write; its time is of the clock that all processes share and no test moves."""
        line = f"{time.monotonic():.4f} {self.node} {word} {instance} {execution} {place}\n"
        os.write(self._ledger, line.encode())

    def wait_while_blocked(self, what: str) -> None:
        file = self.folder / f"{what}-{self.node}"
        while file.exists():
            # It stands for work; another process removes the file.
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
            self.wait_while_blocked("hold")
            return self.node

        def slow_turn(ctx: OrchestrationContext, _: Any) -> Steps:
            yield ctx.wait_for_event("go")
            self.note("turn", ctx.instance_id, ctx.execution_id, 0)
            self.wait_while_blocked("turn")
            ctx.set_custom_status(f"turned on {self.node}")
            # The node that takes the turn is not part of the history.
            return (yield ctx.schedule_activity("where"))

        for activity in (step, where, hold):
            runtime.register_activity(activity.__name__, activity)
        for orchestration in (*ORCHESTRATIONS, place, held, wait_for_go, talk, slow_turn):
            runtime.register_orchestration(orchestration.__name__, orchestration)
        for version in versions:
            runtime.register_orchestration_versioned("story", version, named(version))
