"""W11: what a runtime that has nothing to do costs: processor time of a process of its own, all slots as by default."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator

from benchmarks.bench import Bench, Figure, open_store, running
from benchmarks.burst import ACTIVITIES, ORCHESTRATIONS, play
from duroxide import Client

FULL_SECONDS = 10
SECONDS = 3
# What was done before it became idle has ended.
SETTLE_SECONDS = 1.0


def rest(store: str, place: str, postgres_url: str | None, seconds: float) -> list[float]:
    """Be idle for so long after a little work; the share of one processor that this took."""
    with open_store(store, place, postgres_url) as provider, running(provider, ACTIVITIES, ORCHESTRATIONS):
        play(Client(provider), "burst", 20)
        time.sleep(SETTLE_SECONDS)
        used, began = time.process_time(), time.perf_counter()
        time.sleep(seconds)
        return [(time.process_time() - used) / (time.perf_counter() - began)]


def measure(bench: Bench) -> Iterator[Figure]:
    seconds = FULL_SECONDS if bench.full else SECONDS

    def own(store: str) -> list[float]:
        share: list[float] = bench.program("benchmarks.idle", store, bench.place(store), bench.postgres_url, seconds)
        return share

    rounds = bench.compare("idle", seconds, own)

    def percent(measured: list[float]) -> float:
        return 100 * sum(measured)

    what = f"an idle runtime, over {seconds} s: of a processor"
    yield rounds.figure("W11", what, "%", percent, bounded_by_disk=False)


if __name__ == "__main__":
    print(json.dumps(rest(*json.loads(sys.argv[1]))))
