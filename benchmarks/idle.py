"""W11: the cost of a runtime without work: processor time of its process, with the default slots.

On PostgreSQL also the work that it causes in the server: processor time, and statements a second, read from its log.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator

from benchmarks.bench import OWN, Bench, Figure, open_store, running
from benchmarks.burst import ACTIVITIES, ORCHESTRATIONS, play
from benchmarks.processors import POSTMASTER, Meter
from duroxide import Client

FULL_SECONDS = 10
SECONDS = 3
# The work before it became idle has ended.
SETTLE_SECONDS = 1.0


def rest(store: str, place: str, postgres_url: str | None, seconds: float) -> tuple[list[float], float, float, float]:
    """Be idle for so long after a little work.

    Returns: The share of one processor that this took, alone in a list; the same of the server's; the start and the end
        of the idle time, in seconds since 1970.
    """
    with open_store(store, place, postgres_url) as provider, running(provider, ACTIVITIES, ORCHESTRATIONS):
        play(Client(provider), "burst", 20)
        time.sleep(SETTLE_SECONDS)
        meter = Meter()
        moment, before, began = time.time(), meter.now(), time.perf_counter()
        time.sleep(seconds)
        spent = meter.now().since(before).each(time.perf_counter() - began)
        return [spent.client], spent.server or 0.0, moment, time.time()


def measure(bench: Bench) -> Iterator[Figure]:
    # The kernel counts a server's processor time in hundredths of a second.
    seconds = FULL_SECONDS if bench.full or bench.server is not None else SECONDS

    server, watched = bench.server, bench.server is not None and bench.server.log is not None
    shares: list[float] = []
    rates: list[float] = []

    def own(store: str) -> list[float]:
        place = bench.place(store)
        arguments = (store, place, bench.postgres_url, seconds)
        if store != "postgres" or server is None:
            client: list[float] = bench.program("benchmarks.idle", *arguments)[0]
            return client
        with server.logged() if watched else contextlib.nullcontext():
            client, share, began, ended = bench.program("benchmarks.idle", *arguments)
        shares.append(100 * share)
        if watched:
            rates.append(server.statements(began, ended) / (ended - began))
        server.drop(place)
        return client

    rounds = bench.compare("idle", seconds, own)

    def percent(measured: list[float]) -> float:
        return 100 * sum(measured)

    what = f"an idle runtime, over {seconds} s: of a processor"
    yield rounds.figure("W11", what, "%", percent, bounded_by_disk=False)
    if os.environ.get(POSTMASTER):
        yield Figure("W11", "the same: of a processor of the server's", "%", {OWN: shares})
    if rates:
        yield Figure("W11", "the same: statements", "per s", {OWN: rates})


if __name__ == "__main__":
    print(json.dumps(rest(*json.loads(sys.argv[1]))))
