"""W3: one orchestration that starts n activities side by side and adds up their results."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

from benchmarks import styles
from benchmarks.bench import Bench, Figure, finish, timed
from duroxide import ActivityContext, Client, Orchestration, OrchestrationContext

SIZES = (200, 2_000, 10_000)


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
    for width in SIZES:
        what = f"fan-out and fan-in over {width:,}"
        if bench.too_long(item_seconds * width):
            yield Figure("W3", what, "s", remark="left out: too long here; FULL=1")
            continue

        def own(store: str, width: int = width) -> list[float]:
            with bench.session({"square": square}, {"fan": fan}, store=store) as session:
                return [timed(play, session.client, "fan", width)]

        def style(written: Orchestration[..., Any], width: int = width) -> list[float]:
            with bench.session({}, {}, functions=[written, *styles.ACTIVITIES]) as session:
                return [timed(play, session.client, "fan", width)]

        rounds = bench.compare("fan", width, own, styles=styles.plays(styles.FAN, style))
        item_seconds = rounds.longest / width
        yield rounds.figure("W3", what, "s", operations=width)
