"""W4: nothing else to do: from the start of an orchestration of one activity to its result."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from typing import Any

from benchmarks.bench import REPETITIONS, Bench, Figure, finish, percentile, timed
from duroxide import ActivityContext, Client, OrchestrationContext

HELLOS = 200
SECONDS = 6.0


def greet(ctx: ActivityContext, name: str) -> str:
    return f"Hello, {name}!"


def hello(ctx: OrchestrationContext, name: str) -> Generator[Any, Any, str]:
    greeting: str = yield ctx.schedule_activity("greet", name)
    return greeting


def play(client: Client, name: str) -> None:
    client.start_orchestration(name, "hello", "World")
    finish(client, name)


def measure(bench: Bench) -> Iterator[Figure]:
    medians, tails, fewest = [], [], HELLOS
    for _ in range(REPETITIONS):
        with bench.session({"greet": greet}, {"hello": hello}) as session:
            client = session.client
            play(client, "first")  # what a first use costs is not what is measured
            samples: list[float] = []
            deadline = time.perf_counter() + SECONDS
            while len(samples) < HELLOS and time.perf_counter() < deadline:
                samples.append(1_000 * timed(play, client, f"hello-{len(samples)}"))
        medians.append(percentile(samples, 50))
        tails.append(percentile(samples, 99))
        fewest = min(fewest, len(samples))
    yield Figure("W4", f"one hello on an idle store, p50 of {fewest}", "ms", medians, bench.sync_ms)
    yield Figure("W4", f"one hello on an idle store, p99 of {fewest}", "ms", tails, bench.sync_ms)
