"""W8: the cost of a recorded step when an orchestration is replayed from its history.

An orchestration takes n steps and then waits for messages. Each repetition starts a new runtime, which has not seen it,
sends a message and measures the time to the answer. The same with one step is subtracted; the rest is the replay.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Generator, Iterator
from typing import Any

from benchmarks.bench import METER, OWN, REPETITIONS, WAIT_MS, Bench, Figure, open_store, running, timed
from duroxide import ActivityContext, Client, OrchestrationContext

STEPS = 1_000
SLOW_STEPS = 200
QUICK_STEP_SECONDS = 0.03
POLL_MS = 50
# By then an idle runtime has opened everything and waits.
SETTLE_SECONDS = 0.2
# The disk varies more than the measured time, so a repetition is the difference of two medians.
PAIRS = 5


def step(ctx: ActivityContext, number: int) -> int:
    return number + 1


def listener(ctx: OrchestrationContext, steps: int) -> Generator[Any, Any, None]:
    number = 0
    for _ in range(steps):
        number = yield ctx.schedule_activity("step", number)
    ctx.set_custom_status("ready")
    while True:
        message = yield ctx.dequeue_event("inbox")
        ctx.set_custom_status(message)


class Listener:
    """One instance of the orchestration, and the last version of its status that the client saw."""

    def __init__(self, client: Client, name: str, steps: int) -> None:
        self.client, self.name, self.version = client, name, 0
        client.start_orchestration(name, "listener", steps)
        self.listen()

    def listen(self) -> None:
        status = self.client.wait_for_status_change(self.name, self.version, POLL_MS, WAIT_MS)
        assert status is not None
        self.version = status.custom_status_version

    def ask(self) -> None:
        self.client.enqueue_event(self.name, "inbox", "hello")
        self.listen()


def measure(bench: Bench) -> Iterator[Figure]:
    activities, orchestrations = {"step": step}, {"listener": listener}
    with open_store(bench.store, bench.place(), bench.postgres_url) as provider:
        client = Client(provider)
        with running(provider, activities, orchestrations):
            began = time.perf_counter()
            short = Listener(client, "short", 1)
            Listener(client, "probe", 20)
            slow = (time.perf_counter() - began) / 21 > QUICK_STEP_SECONDS and not bench.full
            steps = SLOW_STEPS if slow else STEPS
            long = Listener(client, "long", steps)
        samples = []
        METER.reset()
        for _ in range(REPETITIONS):
            bases, replays = [], []
            for _ in range(PAIRS):
                with running(provider, activities, orchestrations):
                    time.sleep(SETTLE_SECONDS)
                    base = time.perf_counter()
                    short.ask()
                    bases.append(time.perf_counter() - base)
                    replays.append(timed(long.ask))
            samples.append(1_000_000 * (statistics.median(replays) - statistics.median(bases)) / steps)
    known = METER.spent is not None and METER.spent.server is not None
    spent = {OWN: METER.spent.each(REPETITIONS * PAIRS)} if METER.spent is not None and known else {}
    yield Figure("W8", f"cold replay of {steps:,} steps, a step", "µs", {OWN: samples}, spent=spent)
