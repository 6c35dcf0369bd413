"""Orchestrations and activities that the processes of these tests share."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

from duroxide import ActivityContext, OrchestrationContext, Runtime

Steps = Generator[Any, Any, Any]

STOP = "stop"


class Ledger:
    """A file to which every activity appends a line when it begins; each line is one write, so processes do not mix."""

    def __init__(self, path: str, life: int = 0) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._life = life

    def begin(self, ctx: ActivityContext) -> None:
        """Write which activity begins, and in which life of the process."""
        os.write(self._file, f"{self._life} {ctx.instance_id} {ctx.execution_id} {ctx.activity_id}\n".encode())


def echo(ctx: OrchestrationContext, value: Any) -> Steps:
    return (yield ctx.schedule_activity("note", value))


def where(ctx: OrchestrationContext, _: Any) -> Steps:
    """Returns which process runs its activity."""
    return (yield ctx.schedule_activity("process_id"))


def waiting(ctx: OrchestrationContext, _: Any) -> Steps:
    return (yield ctx.wait_for_event("go"))


def conversation(ctx: OrchestrationContext, _: Any) -> Steps:
    """Takes an event, then two messages, and records them with one activity."""
    event = yield ctx.wait_for_event("go")
    first = yield ctx.dequeue_event("inbox")
    second = yield ctx.dequeue_event("inbox")
    return (yield ctx.schedule_activity("note", [event, first, second]))


def mailbox(ctx: OrchestrationContext, _: Any) -> Steps:
    received: list[str] = []
    while (message := (yield ctx.dequeue_event("inbox"))) != STOP:
        received.append(message)
    return received


def holding(ctx: OrchestrationContext, path: str) -> Steps:
    """Returns the attempt at which its activity ran to its end, which it does only without a file at ``path``."""
    return (yield ctx.schedule_activity("hold", path))


def deadly(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.schedule_activity("kill_the_process")


def register(runtime: Runtime, ledger: Ledger | None = None) -> Runtime:
    """Register all of the above."""

    def note(ctx: ActivityContext, value: Any) -> Any:
        if ledger is not None:
            ledger.begin(ctx)
        return value

    def process_id(ctx: ActivityContext, _: Any) -> int:
        return os.getpid()

    def hold(ctx: ActivityContext, path: str) -> int:
        note(ctx, None)
        while Path(path).exists():
            # It stands for work that does not end.
            threading.Event().wait(600)
        return ctx.attempt

    def kill_the_process(ctx: ActivityContext, _: Any) -> None:
        note(ctx, None)
        os.kill(os.getpid(), signal.SIGKILL)

    for activity in (note, process_id, hold, kill_the_process):
        runtime.register_activity(activity.__name__, activity)
    for orchestration in (echo, where, waiting, conversation, mailbox, holding, deadly):
        runtime.register_orchestration(orchestration.__name__, orchestration)
    return runtime
