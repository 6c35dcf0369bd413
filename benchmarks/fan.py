"""W3: one orchestration that starts n activities side by side and adds up their results."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

from benchmarks.bench import REPETITIONS, Bench, Figure, finish, timed
from duroxide import ActivityContext, Client, OrchestrationContext

SIZES = (200, 2_000)
FULL_SIZES = (2_000, 10_000)


def square(ctx: ActivityContext, number: int) -> int:
    return number * number


def fan(ctx: OrchestrationContext, width: int) -> Generator[Any, Any, int]:
    results = yield ctx.all([ctx.schedule_activity("square", number) for number in range(width)])
    return sum(result["ok"] for result in results)


def play(client: Client, name: str, width: int) -> None:
    client.start_orchestration(name, "fan", width)
    assert finish(client, name) == sum(number * number for number in range(width))


def measure(bench: Bench) -> Iterator[Figure]:
    item_seconds = 0.0
    for width in FULL_SIZES if bench.full else SIZES:
        what = f"fan-out and fan-in over {width:,}"
        if bench.too_long(item_seconds * width):
            yield Figure("W3", what, "s", remark="left out: too long here; FULL=1")
            continue
        samples = []
        for _ in range(REPETITIONS):
            with bench.session({"square": square}, {"fan": fan}) as session:
                samples.append(timed(play, session.client, "fan", width))
        item_seconds = max(samples) / width
        yield Figure("W3", what, "s", samples, bench.sync_ms and bench.sync_ms / 1_000)
