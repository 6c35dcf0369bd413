"""W9: many orchestrations that wait, on timers or on events, in one separate process.

It measures how fast they start, what each costs in memory while it waits, how soon a new process that opens their store
has run one more orchestration, and how fast they end when all their timers are due, or all events arrive, at once.
Suspended generators are not kept, so this is the price of an instance that nothing happens to.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import sys
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.bench import MEMORY, OWN, REPETITIONS, Bench, Figure, finish, medians, open_store, running
from benchmarks.burst import ACTIVITIES, ORCHESTRATIONS, THREADS, play, probe, start_all
from benchmarks.soak import resident_mebibytes
from duroxide import Client, OrchestrationContext, Runtime, RuntimeOptions

FULL_SIZES = (100_000, 10_000)
SIZES = (10_000, 1_000)
SLOW_SIZES = (400, 100)
KINDS = ("timers", "events")
# Kind of the store, its place, and the URL of a server: the arguments of `open_store`.
Where = tuple[str, str, "str | None"]
DAY_MS = 86_400_000
# Until the allocator has returned what a burst left behind.
SETTLE_SECONDS = 0.5
# All timers are due at one moment, this much after the last of them has started.
MARGIN = 2.0
MARGIN_SECONDS = 1.0


def timers(ctx: OrchestrationContext, delay_ms: int) -> Generator[Any, Any, int]:
    yield ctx.schedule_timer(delay_ms)
    return delay_ms


def events(ctx: OrchestrationContext, _: int) -> Generator[Any, Any, str]:
    event: str = yield ctx.wait_for_event("go")
    return event


ALL = {"timers": timers, "events": events, **ORCHESTRATIONS}


def options() -> RuntimeOptions:
    """The default options, but without the sticky cache of generators."""
    known = {field.name for field in dataclasses.fields(RuntimeOptions)}
    changed: dict[str, Any] = {"sticky": False} if "sticky" in known else {}
    return RuntimeOptions(**changed)


def kibibytes() -> float:
    gc.collect()
    time.sleep(SETTLE_SECONDS)
    return resident_mebibytes() * 1_024


def wait_for_starts(runtime: Runtime, count: int) -> None:
    """Wait until this many have taken their first step, and it is recorded."""
    while runtime.metrics_snapshot().orch_starts < count:
        time.sleep(0.002)


def raise_events(client: Client, names: list[str]) -> None:
    def go(share: list[str]) -> None:
        for name in share:
            client.raise_event(name, "go", "now")

    with ThreadPoolExecutor(THREADS) as threads:
        for each in [threads.submit(go, names[number::THREADS]) for number in range(THREADS)]:
            each.result()


def fill(where: Where, kind: str, count: int, fired: int) -> dict[str, float]:
    """Start so many that wait, and let some of them end."""
    with open_store(*where) as provider, running(provider, ACTIVITIES, ALL, options()) as runtime:
        client = Client(provider)
        play(client, "first", fired)  # a first burst's cost stays with the process and is not theirs
        started = fired
        resident = kibibytes()
        began = time.perf_counter()
        names = [f"waiting-{number}" for number in range(count)]
        start_all(client, names, kind, DAY_MS)
        wait_for_starts(runtime, started := started + count)
        seconds = time.perf_counter() - began
        result = {"starts": count / seconds, "kibibytes": (kibibytes() - resident) / count}
        if kind == "timers":
            names = [f"due-{number}" for number in range(fired)]
            delay = MARGIN_SECONDS + MARGIN * fired / count * seconds
            began = time.perf_counter() + delay
            # Started one after the other, each with the time left until the common moment.
            for first in range(0, fired, 100):
                left_ms = max(1, int(1_000 * (began - time.perf_counter())))
                start_all(client, names[first : first + 100], kind, left_ms)
            wait_for_starts(runtime, started + fired)
            time.sleep(max(0.0, began - time.perf_counter()))
            began = max(began, time.perf_counter())
        else:
            names = names[:fired]
            began = time.perf_counter()
            raise_events(client, names)
        for name in names:
            finish(client, name)
        result["ends"] = fired / (time.perf_counter() - began)
    return result


def reopen(where: Where) -> dict[str, float]:
    """Open the store again and run one orchestration."""
    began = time.perf_counter()
    with open_store(*where) as provider, running(provider, ACTIVITIES, ALL, options()):
        opened = time.perf_counter() - began
        play(Client(provider), "new", 1)
        return {"open": opened, "first": time.perf_counter() - began}


def measure(bench: Bench) -> Iterator[Figure]:
    count, fired = FULL_SIZES if bench.full else SIZES
    if bench.too_long(probe(bench) * count):
        count, fired = SLOW_SIZES
    for kind in KINDS:
        results: list[dict[str, float]] = []
        probes = []
        for _ in range(REPETITIONS):
            probes.append(bench.probe_disk())
            where = (bench.store, bench.place(), bench.postgres_url)
            result = bench.program("benchmarks.waiting", "fill", where, kind, count, fired)
            if bench.store != MEMORY:
                result.update(bench.program("benchmarks.waiting", "reopen", where))
            results.append(result)
        rows = {
            "starts": (f"{count:,} that wait on {kind}: started", "per s"),
            "kibibytes": (f"{count:,} that wait on {kind}: memory of each", "KiB"),
            "ends": (f"{fired:,} of those at once: ended", "per s"),
            "open": ("the store with the others opened", "s"),
            "first": ("the same, until a new one has ended", "s"),
        }
        for key, (what, unit) in rows.items():
            samples = [result[key] for result in results if key in result]
            if key == "kibibytes" and count < SIZES[0]:
                yield Figure("W9", what, unit, remark="left out: so few say nothing; FULL=1")
            elif samples:
                yield Figure("W9", what, unit, {OWN: samples}, medians(probes) if unit == "per s" else {})


def main() -> None:
    what, *arguments = json.loads(sys.argv[1])
    print(json.dumps(fill(*arguments) if what == "fill" else reopen(*arguments)))


if __name__ == "__main__":
    main()
