"""Programs of other projects: the same workloads on their released packages, one file each.

A peer runs in the environment that ``benchmarks.contenders`` made for it, where this package is not installed, as
``python -m benchmarks.peers.NAME WORKLOAD SIZE FOLDER``. It works in the empty FOLDER and prints its seconds (bytes for
``disk``, a share of a processor for ``idle``) as a JSON array, or ``null`` for a workload that it does not support.
With ``DATABASE_URL`` it works in that empty PostgreSQL database, and prints processor time too.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.processors import Meter

# The same values as in the workloads of this package, which cannot be imported here.
THREADS = 8
HELLO_SECONDS = 6.0
SLEEP_SECONDS = 0.1
SLEEPERS_AT_ONCE = 32
IDLE_SETTLE_SECONDS = 1.0

DATABASE_URL = os.environ.get("DATABASE_URL")
METER = Meter()

Workload = Callable[[int, Path], "list[float] | None"]


def main(
    describe: Callable[[Path], str], workloads: Mapping[str, Workload], stores: Collection[str] = ("sqlite",)
) -> None:
    """Play what the command line names."""
    name, size, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    if (store := "postgres" if DATABASE_URL else "sqlite") not in stores:
        sys.exit(f"it is not measured on {store} but on {', '.join(stores)}")
    answer: Any = None
    if name == "about":
        answer = describe(folder)
    elif name in workloads:
        answer = workloads[name](size, folder)
        if answer is not None and METER.spent is not None and METER.spent.server is not None:
            answer = {"samples": answer, "client": METER.spent.client, "server": METER.spent.server}
    print(f"\n{json.dumps(answer)}", flush=True)


def timed(action: Callable[..., object], *arguments: object) -> float:
    """Return the seconds that a call takes, and add up the processor time spent during it."""
    return METER.timed(action, *arguments)


def repeat(action: Callable[[int], object], count: int) -> list[float]:
    """Seconds of each of this many calls, fewer if they take long; the first call is not counted."""
    action(0)
    samples: list[float] = []
    deadline = time.perf_counter() + HELLO_SECONDS
    while len(samples) < count and time.perf_counter() < deadline:
        samples.append(timed(action, len(samples) + 1))
    return samples


def in_threads(action: Callable[[int], Any], count: int) -> list[Any]:
    """Call it for each number from eight threads; return the results in order."""
    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(action, range(count)))


def share_of_processor(seconds: float) -> float:
    """The share of one processor that this process takes while it is idle."""
    time.sleep(IDLE_SETTLE_SECONDS)
    used, began = time.process_time(), time.perf_counter()
    time.sleep(seconds)
    return (time.process_time() - used) / (time.perf_counter() - began)


def bytes_in(folder: Path) -> int:
    """Bytes of the files there, without SQLite's log and the log's index."""
    return sum(
        file.stat().st_size for file in folder.iterdir() if file.is_file() and not file.name.endswith(("-wal", "-shm"))
    )
