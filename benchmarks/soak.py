"""Looks for growth: memory over many orchestrations in one process; threads and files over restarts of a runtime.

``python -m benchmarks.soak [orchestrations [restarts]]``. Ended instances are deleted, since a store in memory keeps
them otherwise.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from pathlib import Path

from benchmarks.burst import ACTIVITIES, ORCHESTRATIONS, play
from duroxide import Client, InstanceFilter, Runtime, SqliteProvider

ORCHESTRATION_COUNT = 20_000
RESTARTS = 50
BATCH = 500
SAMPLES = 10
# The first orchestrations fill caches and pools; growth is counted from here on.
WARM_UP_SHARE = 0.1


def resident_mebibytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def threads() -> int:
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def register(runtime: Runtime) -> None:
    for name, activity in ACTIVITIES.items():
        runtime.register_activity(name, activity)
    for name, orchestration in ORCHESTRATIONS.items():
        runtime.register_orchestration(name, orchestration)


def watch_memory(total: int) -> None:
    print(f"{'orchestrations':>16}{'resident MiB':>16}{'per s':>10}", "-" * 42, sep="\n", flush=True)
    first = None
    with SqliteProvider.in_memory() as provider:
        runtime = Runtime(provider)
        register(runtime)
        runtime.start()
        client = Client(provider)
        done, shown, began = 0, 0, time.perf_counter()
        while done < total:
            count = min(BATCH, total - done)
            play(client, f"batch-{done}", count)
            names = [f"batch-{done}-{number}" for number in range(count)]
            client.delete_instance_bulk(InstanceFilter(instance_ids=names, limit=count))
            done += count
            if first is None and done >= total * WARM_UP_SHARE:
                gc.collect()
                first = resident_mebibytes()
            if done * SAMPLES // total > shown or done == total:
                shown = done * SAMPLES // total
                gc.collect()
                rate = done / (time.perf_counter() - began)
                print(f"{done:>16,}{resident_mebibytes():>16.1f}{rate:>10.0f}", flush=True)
        left = len(client.list_all_instances())
        runtime.shutdown()
    growth = resident_mebibytes() - (first or 0)
    print(f"\nafter the first tenth memory grew by {growth:+.1f} MiB; {left} instances are left in the store\n")


def watch_restarts(count: int) -> None:
    print(f"{'restarts':>16}{'threads':>16}{'files':>10}", "-" * 42, sep="\n", flush=True)
    with SqliteProvider.in_memory() as provider:
        client = Client(provider)
        for number in range(count + 1):
            if number in {0, 1} or number == count:
                gc.collect()
                print(f"{number:>16}{threads():>16}{files():>10}", flush=True)
            if number < count:
                runtime = Runtime(provider)
                register(runtime)
                runtime.start()
                play(client, f"restart-{number}", 1)
                runtime.shutdown()


def main() -> None:
    given = [int(text) for text in sys.argv[1:]]
    watch_memory(given[0] if given else ORCHESTRATION_COUNT)
    watch_restarts(given[1] if len(given) > 1 else RESTARTS)


if __name__ == "__main__":
    main()
