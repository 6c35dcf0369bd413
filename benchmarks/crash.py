"""W7: a worker killed with SIGKILL during W1; from the restart to the first activity that runs again.

The clock starts in the new process before it opens the store: Python's startup time is not the store's. Half-way, the
activities of the first process stop returning. So some work is left and some was in progress, however fast the store
is.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.bench import MEMORY, OWN, REPETITIONS, WAIT_MS, Bench, Figure, open_store, running
from benchmarks.burst import FULL_SIZE, ORCHESTRATIONS, SLOW_SIZE, start_all
from duroxide import ActivityContext, Client


def append(file: Path, what: str) -> None:
    """Write a line at once; it stays whole even when the process is killed right after it."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(descriptor, f"{what}\n".encode())
    os.close(descriptor)


def lines(file: Path) -> list[str]:
    return file.read_text().split("\n")[:-1] if file.exists() else []


def work(store: str, place: str, postgres_url: str | None, ledger: str, count: int) -> None:
    """The process that is killed: it runs the orchestrations of W1, and logs when it began and what it did."""
    marks = Path(ledger)
    is_first = "started" not in lines(marks)
    append(marks, f"began {time.monotonic()}")
    ran = itertools.count(1)

    def touch(ctx: ActivityContext, number: int) -> int:
        append(marks, f"ran {time.monotonic()}")
        if is_first and next(ran) >= count // 2:
            threading.Event().wait()
        return number

    with open_store(store, place, postgres_url) as provider, running(provider, {"touch": touch}, ORCHESTRATIONS):
        if is_first:
            start_all(Client(provider), [f"burst-{number}" for number in range(count)])
            append(marks, "started")
        time.sleep(WAIT_MS / 1_000)  # until it is killed


def spawn(arguments: list[Any]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "benchmarks.crash", json.dumps(arguments)])


def wait_for(ledger: Path, beginning: str, more_than: int, process: subprocess.Popen[bytes]) -> list[str]:
    """Wait until the ledger holds more than this many lines of a kind, and return all of that kind."""
    deadline = time.monotonic() + 120
    while len(found := [line for line in lines(ledger) if line.startswith(beginning)]) <= more_than:
        if process.poll() is not None:
            raise RuntimeError(f"the worker ended with exit code {process.returncode}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"no line '{beginning}' in the ledger within two minutes")
        time.sleep(0.002)
    return found


def once(bench: Bench, count: int) -> float:
    """Seconds from the start of the second process to the first activity that it runs."""
    ledger = bench.folder / f"ledger-{time.monotonic_ns()}"
    arguments = [bench.store, bench.place(), bench.postgres_url, str(ledger), count]
    first = spawn(arguments)
    try:
        wait_for(ledger, "started", 0, first)
        wait_for(ledger, "ran", count // 2 - 1, first)
    finally:
        first.kill()
        first.wait()
    before = sum(line.startswith("ran") for line in lines(ledger))
    second = spawn(arguments)
    try:
        progress = wait_for(ledger, "ran", before, second)[before]
    finally:
        second.kill()
        second.wait()
    began = [line for line in lines(ledger) if line.startswith("began")][-1]
    return float(progress.split()[1]) - float(began.split()[1])


def measure(bench: Bench) -> Iterator[Figure]:
    if bench.store == MEMORY:
        yield Figure("W7", "killed and started again: first progress", "s", remark="a store in memory ends with it")
        return
    count = FULL_SIZE if bench.full else SLOW_SIZE
    samples = [once(bench, count) for _ in range(REPETITIONS)]
    yield Figure("W7", f"killed in {count:,}, started again: first progress", "s", {OWN: samples})


if __name__ == "__main__":
    work(*json.loads(sys.argv[1]))
