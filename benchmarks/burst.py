"""W1: orchestrations of one activity, started at once; from the first start to the last end.

Once with single starts from eight threads, once with one call that starts them all, and once with enough instances that
the length of the queues matters.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import duroxide
from benchmarks import styles
from benchmarks.bench import NO_DISK, RUST, Bench, Figure, finish, timed
from duroxide import ActivityContext, Client, Orchestration, OrchestrationContext

THREADS = 8
FULL_SIZE = 1_000
SLOW_SIZE = 200
SUSTAINED_SIZE = 20_000
PROBE_SIZE = 50
# A call for very many has an input size to itself; no user needs it larger.
BULK_SIZE = 1_000


def touch(ctx: ActivityContext, number: int) -> int:
    return number


def one_activity(ctx: OrchestrationContext, number: int) -> Generator[Any, Any, int]:
    result: int = yield ctx.schedule_activity("touch", number)
    return result


ACTIVITIES = {"touch": touch}
ORCHESTRATIONS = {"one_activity": one_activity}


def has_bulk_start() -> bool:
    return hasattr(Client, "start_orchestrations")


def start_singly(
    client: Client, names: list[str], orchestration: str | Orchestration[..., Any] = "one_activity", value: Any = 1
) -> None:
    """Start this many by single calls from eight threads; return when the last start is acknowledged."""

    def start(share: list[str]) -> None:
        for name in share:
            if isinstance(orchestration, str):
                client.start_orchestration(name, orchestration, value)
            else:
                client.start(orchestration, value, id=name)

    with ThreadPoolExecutor(THREADS) as threads:
        for each in [threads.submit(start, names[number::THREADS]) for number in range(THREADS)]:
            each.result()


def start_in_bulk(
    client: Any, names: list[str], orchestration: str | Orchestration[..., Any] = "one_activity", value: Any = 1
) -> None:
    """Start this many with as few calls as possible."""
    request: Any = vars(duroxide)["StartRequest"]
    for first in range(0, len(names), BULK_SIZE):
        client.start_orchestrations(
            [request(instance_id=name, name=orchestration, input=value) for name in names[first : first + BULK_SIZE]]
        )


def start_all(client: Client, names: list[str], orchestration: str = "one_activity", value: Any = 1) -> None:
    """Start this many in the quickest way available."""
    (start_in_bulk if has_bulk_start() else start_singly)(client, names, orchestration, value)


def play(
    client: Client,
    prefix: str,
    count: int,
    orchestration: str | Orchestration[..., Any] = "one_activity",
    *,
    bulk: bool = False,
) -> None:
    names = [f"{prefix}-{number}" for number in range(count)]
    (start_in_bulk if bulk else start_singly)(client, names, orchestration)
    for name in names:
        finish(client, name)


def probe(bench: Bench) -> float:
    """Estimate the seconds that one orchestration takes among others, from a few."""
    with bench.session(ACTIVITIES, ORCHESTRATIONS) as session:
        return timed(play, session.client, "probe", PROBE_SIZE) / PROBE_SIZE


def measure(bench: Bench) -> Iterator[Figure]:
    def own(store: str, *, bulk: bool = False) -> list[float]:
        with bench.session(ACTIVITIES, ORCHESTRATIONS, store=store) as session:

            def burst() -> None:
                play(session.client, "burst", count, bulk=bulk)

            return [timed(burst)]

    def style(written: Orchestration[..., Any], *, bulk: bool = False) -> list[float]:
        with bench.session({}, {}, functions=[written, *styles.ACTIVITIES]) as session:
            return [timed(lambda: play(session.client, "burst", count, written, bulk=bulk))]

    def bulk_style(written: Orchestration[..., Any]) -> list[float]:
        return style(written, bulk=True)

    seconds_each = probe(bench)
    count = SLOW_SIZE if bench.too_long(seconds_each * FULL_SIZE) else FULL_SIZE

    def rate(measured: list[float]) -> float:
        return count / measured[0]

    rounds = bench.compare("burst", count, own, styles=styles.plays(styles.BURST, style))
    yield rounds.figure("W1", f"{count:,} of one activity, single starts", "per s", rate, operations=count)
    if has_bulk_start():
        in_styles = styles.plays(styles.BURST, bulk_style)
        rounds = bench.compare("bulk", count, lambda store: own(store, bulk=True), styles=in_styles)
        yield rounds.figure("W1", f"{count:,} of one activity, started in bulk", "per s", rate, operations=count)
    else:
        yield Figure("W1", "the same, started in bulk", "per s", remark="left out: no bulk start")
    what = f"{SUSTAINED_SIZE:,} of one activity"
    if bench.too_long(rounds.longest / count * SUSTAINED_SIZE):
        yield Figure("W1", what, "per s", remark="left out: too long here; FULL=1")
        return
    count = SUSTAINED_SIZE
    workload = "bulk" if has_bulk_start() else "burst"
    rounds = bench.compare(workload, count, lambda store: own(store, bulk=has_bulk_start()), contenders=(NO_DISK, RUST))
    yield rounds.figure("W1", what, "per s", rate, operations=count)
