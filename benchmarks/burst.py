"""W1: orchestrations of one activity, started at once from eight threads; from the first start to the last end."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.bench import REPETITIONS, Bench, Figure, finish, timed
from duroxide import ActivityContext, Client, OrchestrationContext

THREADS = 8
FULL_SIZE = 1_000
SLOW_SIZE = 200


def touch(ctx: ActivityContext, number: int) -> int:
    return number


def one_activity(ctx: OrchestrationContext, number: int) -> Generator[Any, Any, int]:
    result: int = yield ctx.schedule_activity("touch", number)
    return result


ACTIVITIES = {"touch": touch}
ORCHESTRATIONS = {"one_activity": one_activity}


def start_all(client: Client, prefix: str, count: int) -> list[str]:
    """Start so many at once; returns when the last start is acknowledged."""
    names = [f"{prefix}-{number}" for number in range(count)]
    with ThreadPoolExecutor(THREADS) as threads:
        for each in [threads.submit(client.start_orchestration, name, "one_activity", 1) for name in names]:
            each.result()
    return names


def play(client: Client, prefix: str, count: int) -> None:
    names = start_all(client, prefix, count)
    for name in names:
        finish(client, name)


def size(bench: Bench) -> int:
    """How many say what the store can do: found out with a few."""
    with bench.session(ACTIVITIES, ORCHESTRATIONS) as session:
        seconds = timed(play, session.client, "probe", 50)
    return SLOW_SIZE if bench.too_long(seconds / 50 * FULL_SIZE) else FULL_SIZE


def measure(bench: Bench) -> Iterator[Figure]:
    count = size(bench)
    samples = []
    for _ in range(REPETITIONS):
        with bench.session(ACTIVITIES, ORCHESTRATIONS) as session:
            samples.append(count / timed(play, session.client, "burst", count))
    yield Figure("W1", f"{count:,} orchestrations of one activity at once", "per s", samples, bench.sync_rate)
