"""A process that the crash tests kill: it opens the store, runs one workload to its end and prints the result.

``worker.py STORE RUN LEDGER COMMAND``: the store is ``sqlite PATH`` or ``postgres URL SCHEMA`` as JSON, RUN numbers the
lives of the worker, and every activity writes a line to the file LEDGER when it begins and when it ends.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Generator
from typing import Any

from duroxide import (
    ActivityContext,
    Client,
    OrchestrationContext,
    PostgresProvider,
    Runtime,
    RuntimeOptions,
    SqliteProvider,
    Task,
)

Steps = Generator[Task[Any], Any, Any]

# Short leases, so that the next life does not wait long for the work that the last one held.
OPTIONS = RuntimeOptions(
    worker_lock_timeout_ms=2_000,
    orchestrator_lock_timeout_ms=2_000,
    dispatcher_poll_interval_ms=20,
)
MESSAGES = 20


def open_store(address: list[str]) -> SqliteProvider | PostgresProvider:
    kind, *rest = address
    if kind == "sqlite":
        return SqliteProvider.open(*rest)
    return PostgresProvider.connect_with_schema(*rest)


class Ledger:
    """A file to which every activity appends; each line is one write, so that lives and threads do not mix."""

    def __init__(self, path: str, life: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._life = life

    def write(self, word: str, number: object) -> None:
        os.write(self._file, f"{self._life} {word} {number}\n".encode())


def chain(ctx: OrchestrationContext, length: int) -> Steps:
    total = 0
    for number in range(length):
        total += yield ctx.schedule_activity("step", number)
    return total


def fan_out(ctx: OrchestrationContext, width: int) -> Steps:
    outcomes = yield ctx.all([ctx.schedule_activity("step", number) for number in range(width)])
    return sum(outcome.unwrap() for outcome in outcomes)


def family(ctx: OrchestrationContext, width: int) -> Steps:
    totals = yield ctx.gather(*(ctx.schedule_sub_orchestration("chain", length) for length in range(width)))
    return sum(totals)


def mailbox(ctx: OrchestrationContext, _: Any) -> Steps:
    texts = []
    for _number in range(MESSAGES):
        text = yield ctx.dequeue_event("inbox")
        texts.append((yield ctx.schedule_activity("step", int(text))))
    return texts


def main(arguments: list[str]) -> None:
    address, life, path, command = arguments
    ledger = Ledger(path, life)

    def step(ctx: ActivityContext, number: int) -> int:
        ledger.write("begin", number)
        # Work that takes a moment; by then the line is on disk.
        os.fsync(ledger._file)
        ledger.write("end", number)
        return number

    provider = open_store(json.loads(address))
    runtime = Runtime(provider, OPTIONS)
    runtime.register_activity("step", step)
    for function in (chain, fan_out, family, mailbox):
        runtime.register_orchestration(function.__name__, function)
    client = Client(provider)
    match command.split():
        case ["run", name, size]:
            with runtime:
                client.start_orchestration(name, name, int(size))
                print("result", json.dumps(client.wait_for_orchestration(name, 60_000).result()), flush=True)
        case ["start", count]:
            for number in range(int(count)):
                client.start_orchestration(f"instance-{number}", "chain", 2)
                print("started", number, flush=True)
            sys.stdin.read()
        case ["await", count]:
            with runtime:
                waits = [client.wait_for_orchestration(f"instance-{number}", 60_000) for number in range(int(count))]
                print("result", json.dumps([wait.result() for wait in waits]), flush=True)
        case ["send", instance]:
            client.start_orchestration(instance, "mailbox", None)
            for number in range(MESSAGES):
                client.enqueue_event(instance, "inbox", str(number))
                print("sent", number, flush=True)
            sys.stdin.read()
        case ["serve"]:
            with runtime:
                print("serving", flush=True)
                sys.stdin.read()
    provider.close()


if __name__ == "__main__":
    main(sys.argv[1:])
