"""Plays random programs in parallel; only the test decides what happens first."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Generator
from typing import Any

from duroxide import Client, OrchestrationContext, Runtime, RuntimeOptions, SqliteProvider, Task
from replay.playback import Record, has_ended, is_settled, mask
from support.waiting import wait_until

Steps = Generator[Task[Any], Any, Any]
Histories = dict[str, list[Record]]

PROGRAMS_AT_ONCE = 50

# A longer timer never fires here, so that only the test decides what happens first.
HOURS_MS = 10 * 3_600_000

AWAKE = RuntimeOptions(dispatcher_poll_interval_ms=10)
REPLAYED = RuntimeOptions(dispatcher_poll_interval_ms=10, sticky=False)
# Small enough that most are evicted before they continue, and some are not.
CROWDED = RuntimeOptions(dispatcher_poll_interval_ms=10, max_sticky_orchestrations=PROGRAMS_AT_ONCE // 3)

REQUESTS = "__duroxide_cancellation"


def child(ctx: OrchestrationContext, input: Any) -> Steps:
    if (yield ctx.schedule_activity("echo", input)) == "name-003":
        raise ValueError("refused")
    return input


def fail(_ctx: Any, input: str) -> None:
    raise ValueError(input)


class ProgramRunner:
    """Plays programs in parallel on one store, and returns their histories.

    Args:
        program: An orchestration; its input is its seed, and how often it continues as new.
        options: Options of the runtime.
        provider: The store; closed at the end.
        restarts: Whether the runtime is sometimes replaced by a new one.
        cancelled: The share of the test's deliveries that are cancellation requests.
    """

    def __init__(
        self,
        program: Callable[[OrchestrationContext, list[int]], Any],
        options: RuntimeOptions,
        provider: SqliteProvider,
        *,
        restarts: bool = False,
        cancelled: float = 0,
    ) -> None:
        self.program = program
        self.provider = provider
        self.client = Client(self.provider)
        self.options = options
        self.restarts = restarts
        self.cancelled = cancelled
        self.chance = random.Random(restarts)
        self.tries: Counter[str] = Counter()
        self.calls = 0

    def counted(self, ctx: OrchestrationContext, input: list[int]) -> Any:
        self.calls += 1
        return self.program(ctx, input)

    def third_time(self, _ctx: Any, key: str) -> int:
        self.tries[key] += 1
        if self.tries[key] < 3:
            raise ConnectionError("not yet")
        return self.tries[key]

    def start(self) -> Runtime:
        runtime = Runtime(self.provider, self.options)
        runtime.register_activity("echo", lambda ctx, input: input)
        runtime.register_activity("fail", fail)
        runtime.register_activity("third_time", self.third_time)
        runtime.register_orchestration("program", self.counted)
        runtime.register_orchestration("child", child)
        runtime.start()
        return runtime

    def events(self, instance: str) -> list[Any]:
        executions = self.client.list_executions(instance)
        return [event for each in executions for event in self.client.read_execution_history(instance, each)]

    def play(self, seeds: range) -> Histories:
        """Play the programs of the seeds to their ends."""
        runtime = self.start()
        for seed in seeds:
            self.client.start_orchestration(instance_of(seed), "program", [seed, seed % 3 // 2])
        running = dict.fromkeys(seeds, 0)
        histories: Histories = {}
        while running:
            found = {seed: self.settled(seed, known) for seed, known in running.items()}
            if self.restarts and self.chance.random() < 0.3:
                runtime.shutdown(10_000)
                runtime = self.start()
            for seed, events in found.items():
                instance = instance_of(seed)
                if has_ended(events):
                    del running[seed]
                    histories[instance] = [
                        (each.execution_id, each.kind, masked(each.data, instance))
                        for each in without_leftovers(events)
                    ]
                else:
                    running[seed] = len(events)
                    self.deliver(seed, events)
        runtime.shutdown(10_000)
        self.provider.close()
        return histories

    def settled(self, seed: int, known: int) -> list[Any]:
        """The events of a program, when there are more than before and it only waits for the test."""
        instance = instance_of(seed)
        events: list[Any] = []

        def is_there() -> bool:
            nonlocal events
            status = self.client.get_status(instance)
            assert status.mismatch is None, f"seed {seed}: {status.mismatch}"
            if status.status == "NotFound":
                return False
            events = self.events(instance)
            return len(events) > known and is_settled(events, ())

        wait_until(is_there, seconds=60)
        return events

    def deliver(self, seed: int, events: list[Any]) -> None:
        """Deliver one of the events or messages that a program waits for."""
        events = without_leftovers(events)
        missing = waits_of(events)
        chance = random.Random(f"{seed} {len(events)}")
        request = ("QueueSubscribed", REQUESTS)
        if request in missing:
            missing.remove(request)
            if chance.random() < self.cancelled:
                self.client.cancel_instance(instance_of(seed), f"after {len(events)} events")
                return
        assert missing, f"seed {seed} waits for nothing after {[event.kind for event in events]}"
        kind, name = chance.choice(missing)
        if kind == "QueueSubscribed":
            self.client.enqueue_event(instance_of(seed), name, f"message {len(events)}")
        else:
            self.client.raise_event(instance_of(seed), name, {"data": len(events)})


def masked(data: str, instance: str) -> str:
    """The text that ``mask`` returns, without the event numbers, which vary with leftover events."""
    return re.sub(r"sub::\d+_\d+", "sub::<event>", mask(data, instance))


def without_leftovers(events: list[Any]) -> list[Any]:
    """The events of a history without those whose moment varies: abandoned operations still end."""
    given_up = {(each.execution_id, each.source_event_id) for each in events if each.kind.endswith("CancelRequested")}
    return [
        each
        for each in events
        # No event records that a timer was abandoned.
        if each.kind != "TimerFired"
        and (each.kind.endswith("CancelRequested") or (each.execution_id, each.source_event_id) not in given_up)
    ]


def waits_of(events: list[Any]) -> list[tuple[str, str]]:
    """The waits of an instance for events and messages that have not arrived, as pairs of kind and name."""
    current = [event for event in events if event.execution_id == events[-1].execution_id]
    cancelled = {event.source_event_id for event in current if event.kind.endswith("Cancelled")}
    waits: Counter[tuple[str, str]] = Counter()
    for event in current:
        name = json.loads(event.data).get("name", "")
        match event.kind:
            case "ExternalSubscribed" | "QueueSubscribed" if event.event_id not in cancelled:
                waits[event.kind, name] += 1
            case "ExternalEvent":
                waits["ExternalSubscribed", name] -= 1
            case "QueueEventDelivered":
                waits["QueueSubscribed", name] -= 1
    return sorted((+waits).elements())


def instance_of(seed: int) -> str:
    return f"program-{seed:06}"
