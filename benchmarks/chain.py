"""W2: one orchestration of n activities, one after the other; time by step."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

from benchmarks import styles
from benchmarks.bench import Bench, Figure, finish, timed
from duroxide import ActivityContext, Client, Orchestration, OrchestrationContext

SIZES = (100, 400, 800)


def step(ctx: ActivityContext, number: int) -> int:
    return number + 1


def chain(ctx: OrchestrationContext, length: int) -> Generator[Any, Any, int]:
    number = 0
    for _ in range(length):
        number = yield ctx.schedule_activity("step", number)
    return number


def play(client: Client, name: str, length: int) -> None:
    client.start_orchestration(name, "chain", length)
    assert finish(client, name) == length


def measure(bench: Bench) -> Iterator[Figure]:
    step_seconds = 0.0
    for length in SIZES:
        what = f"a chain of {length}, a step"
        # A longer chain costs at least as much a step as the shorter one before it.
        if bench.too_long(step_seconds * length):
            yield Figure("W2", what, "ms", remark="left out: too long here; FULL=1")
            continue

        def own(store: str, length: int = length) -> list[float]:
            with bench.session({"step": step}, {"chain": chain}, store=store) as session:
                return [timed(play, session.client, "chain", length)]

        def read(measured: list[float], length: int = length) -> float:
            return 1_000 * measured[0] / length

        def style(written: Orchestration[..., Any], length: int = length) -> list[float]:
            with bench.session({}, {}, functions=[written, *styles.ACTIVITIES]) as session:
                return [timed(play, session.client, "chain", length)]

        rounds = bench.compare("chain", length, own, styles=styles.plays(styles.CHAIN, style))
        step_seconds = rounds.longest / length
        yield rounds.figure("W2", what, "ms", read, operations=length)
