"""A process that works on a store until it is killed, and prints each acknowledgement that it gets.

``workload.py FILE LEDGER SEED LIFE``, with the open instances of earlier lives as JSON on standard input. It settles
these and, in as many threads as the second line says, runs random programs without end. Every line on standard output
is one acknowledgement: ``start``, ``send``, ``result`` or ``delete``; except ``deleting``, which announces a deletion.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import traceback
from collections.abc import Callable, Generator
from typing import Any

from duroxide import (
    ActivityContext,
    Client,
    InstanceStillRunning,
    OrchestrationCancelled,
    OrchestrationContext,
    ProviderError,
    Runtime,
    SqliteProvider,
)
from store.programs import STOP, Ledger

Steps = Generator[Any, Any, Any]

WAIT_MS = 60_000
CANCELLED = "cancelled"


def chain(ctx: OrchestrationContext, length: int) -> Steps:
    total = 0
    for number in range(length):
        total += yield ctx.schedule_activity("step", number)
    return total


def fan_out(ctx: OrchestrationContext, width: int) -> Steps:
    return sum((yield ctx.gather(*(ctx.schedule_activity("step", number) for number in range(width)))))


def timers(ctx: OrchestrationContext, count: int) -> Steps:
    """Timers that fire, one that loses a race, and one that wins it."""
    first = yield ctx.race(ctx.schedule_activity("step", count), ctx.schedule_timer(600_000))
    for number in range(count):
        yield ctx.schedule_timer(number)
    second = yield ctx.race(ctx.wait_for_event("never"), ctx.schedule_timer(1))
    return [first["index"], second["index"]]


def family(ctx: OrchestrationContext, width: int) -> Steps:
    return sum((yield ctx.gather(*(ctx.schedule_sub_orchestration("chain", length) for length in range(width)))))


def rounds(ctx: OrchestrationContext, left: int) -> Steps:
    """Continues as new, and leaves a key in every execution."""
    ctx.set_kv_value(f"round {left}", str(ctx.execution_id))
    ctx.set_kv_value("passing", "by")
    yield ctx.schedule_activity("step", left)
    ctx.clear_kv_value("passing")
    if left:
        yield ctx.continue_as_new(left - 1)
    return ctx.get_kv_all_values()


def mailbox(ctx: OrchestrationContext, received: list[str]) -> Steps:
    """Reads until a message says to stop, three messages an execution."""
    for _ in range(3):
        message = yield ctx.dequeue_event("inbox")
        if message == STOP:
            return received
        received = [*received, message]
    yield ctx.continue_as_new(received)
    return None


def events(ctx: OrchestrationContext, _: Any) -> Steps:
    """The same with events: one that is raised while it runs an activity waits."""
    received: list[str] = []
    while (message := (yield ctx.wait_for_event("inbox"))) != STOP:
        received.append(message)
        yield ctx.schedule_activity("step", len(received))
    return received


def asleep(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.gather(ctx.schedule_timer(86_400_000), ctx.schedule_sub_orchestration("deaf"))


def deaf(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.wait_for_event("never")


ORCHESTRATIONS = (chain, fan_out, timers, family, rounds, mailbox, events, asleep, deaf)

PROGRAMS: dict[str, Callable[[random.Random], Any]] = {
    "chain": lambda random: random.randint(1, 6),
    "fan_out": lambda random: random.randint(1, 8),
    "timers": lambda random: random.randint(0, 3),
    "family": lambda random: random.randint(1, 4),
    "rounds": lambda random: random.randint(0, 3),
    "mailbox": lambda _: [],
    "events": lambda _: None,
    "asleep": lambda _: None,
}
"""The programs that are started, each with a function that draws its input."""

CONVERSATIONS = ("mailbox", "events")


def expected(orchestration: str, input: Any) -> Any:
    """The result of a program that does not depend on messages."""
    match orchestration:
        case "chain" | "fan_out":
            return sum(range(input))
        case "timers":
            return [0, 1]
        case "family":
            return sum(sum(range(length)) for length in range(input))
        case "rounds":
            return {f"round {left}": str(input - left + 1) for left in range(input + 1)}
        case "asleep":
            return CANCELLED
        case _:
            raise AssertionError(orchestration)


class Load:
    """One life of the process."""

    def __init__(self, client: Client, life: int) -> None:
        self._client = client
        self._life = life

    @staticmethod
    def acknowledge(word: str, instance: str, *facts: Any) -> None:
        # One short write a line: lines of threads do not mix, and the kill tears none.
        os.write(1, f"{json.dumps([word, instance, *facts])}\n".encode())

    def start(self, instance: str, orchestration: str, input: Any) -> None:
        assert self._client.start_orchestration(instance, orchestration, input) is True
        self.acknowledge("start", instance, orchestration, input)

    def send(self, instance: str, orchestration: str, message: str) -> None:
        if orchestration == "mailbox":
            self._client.enqueue_event(instance, "inbox", message)
        else:
            self._client.raise_event(instance, "inbox", message)
        self.acknowledge("send", instance, message)

    def settle(self, instance: str, orchestration: str) -> None:
        """Bring an instance to its end, and return how it ended."""
        if orchestration in CONVERSATIONS:
            self.send(instance, orchestration, STOP)
        if orchestration == "asleep":
            self._client.cancel_instance(instance, "over")
        try:
            result = self._client.wait_for_orchestration(instance, WAIT_MS).result()
        except OrchestrationCancelled:
            result = CANCELLED
        self.acknowledge("result", instance, result)

    def delete(self, instance: str) -> None:
        """Delete an ended instance as soon as its children have ended, which may begin only now."""
        while True:
            for each in self._client.get_instance_tree(instance).all_ids:
                self._client.wait_for_orchestration(each, WAIT_MS)
            try:
                self._client.delete_instance(instance)
            except (InstanceStillRunning, ProviderError):
                continue
            return

    def run(self, thread: int, seed: int) -> None:
        """Run random programs, one after the other, without end."""
        choice = random.Random(f"{seed} {self._life} {thread}")
        number = 0
        while True:
            number += 1
            orchestration = choice.choice(list(PROGRAMS))
            instance = f"{orchestration}-{self._life}-{thread}-{number}"
            self.start(instance, orchestration, PROGRAMS[orchestration](choice))
            if orchestration in CONVERSATIONS:
                for message in range(choice.randint(0, 7)):
                    self.send(instance, orchestration, str(message))
            # Instances that stay open are for a later life.
            if choice.random() < 0.7:
                self.settle(instance, orchestration)
                if choice.random() < 0.1:
                    self.acknowledge("deleting", instance)
                    self.delete(instance)
                    self.acknowledge("delete", instance)


def stop_on_error(work: Callable[[], None]) -> Callable[[], None]:
    """A thread's work; its failure ends the process."""

    def guarded() -> None:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)

    return guarded


def main(path: str, ledger_path: str, seed: str, life: str) -> None:
    ledger = Ledger(ledger_path, int(life))

    def step(ctx: ActivityContext, number: int) -> int:
        ledger.begin(ctx)
        return number

    provider = SqliteProvider.open(path)
    runtime = Runtime(provider)
    runtime.register_activity("step", step)
    for orchestration in ORCHESTRATIONS:
        runtime.register_orchestration(orchestration.__name__, orchestration)
    open_instances: list[tuple[str, str]] = json.loads(sys.stdin.readline())
    threads_count: int = json.loads(sys.stdin.readline())
    with runtime:
        load = Load(Client(provider), int(life))
        Load.acknowledge("ready", "")
        threads = [
            threading.Thread(target=stop_on_error(lambda thread=thread: load.run(thread, int(seed))), daemon=True)  # type: ignore[misc]
            for thread in range(threads_count)
        ]
        for thread in threads:
            thread.start()
        for instance in open_instances:
            load.settle(*instance)
        for thread in threads:
            thread.join()
    provider.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
