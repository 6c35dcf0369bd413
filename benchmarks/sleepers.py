"""W6: 64 activities that sleep 0.1 s, 32 at once: it takes at least two rounds of sleep."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from typing import Any

from benchmarks.bench import Bench, Figure, finish, timed
from duroxide import ActivityContext, Client, OrchestrationContext, RuntimeOptions

SLEEPERS = 64
AT_ONCE = 32
SLEEP_SECONDS = 0.1


def sleep(ctx: ActivityContext, seconds: float) -> None:
    time.sleep(seconds)


def night(ctx: OrchestrationContext, count: int) -> Generator[Any, Any, int]:
    results = yield ctx.all([ctx.schedule_activity("sleep", SLEEP_SECONDS) for _ in range(count)])
    return len(results)


def play(client: Client, name: str) -> None:
    client.start_orchestration(name, "night", SLEEPERS)
    assert finish(client, name) == SLEEPERS


def measure(bench: Bench) -> Iterator[Figure]:
    options = RuntimeOptions(worker_concurrency=AT_ONCE)

    def own(store: str) -> list[float]:
        with bench.session({"sleep": sleep}, {"night": night}, options, store=store) as session:
            return [timed(play, session.client, "night")]

    least = SLEEP_SECONDS * SLEEPERS / AT_ONCE
    rounds = bench.compare("sleepers", SLEEPERS, own)
    what = f"{SLEEPERS} activities of {SLEEP_SECONDS} s, {AT_ONCE} at once (≥ {least} s)"
    yield rounds.figure("W6", what, "s", bounded_by_disk=False, operations=SLEEPERS)
