"""W4: one orchestration of one activity on an idle store, from its start to its result."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from typing import Any

from benchmarks.bench import Bench, Figure, finish, percentile, timed
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
    def own(store: str) -> list[float]:
        with bench.session({"greet": greet}, {"hello": hello}, store=store) as session:
            client = session.client
            play(client, "first")  # the cost of a first use is not measured
            samples: list[float] = []
            deadline = time.perf_counter() + SECONDS
            while len(samples) < HELLOS and time.perf_counter() < deadline:
                samples.append(timed(play, client, f"hello-{len(samples)}"))
            return samples

    rounds = bench.compare("hello", HELLOS, own)
    for percent in (50, 99):

        def read(measured: list[float], percent: int = percent) -> float:
            return 1_000 * percentile(measured, percent)

        yield rounds.figure("W4", f"one hello on an idle store, p{percent} of {rounds.fewest}", "ms", read)
