"""Huey, a plain task queue, on SQLite: what the same disk allows when only the queue is durable.

It has no orchestrations, so one task stands for an orchestration of one activity, and workloads that need more are left
out. Settings, and why: ``fsync=True``, since without it SQLite runs with ``synchronous=OFF`` and a power failure loses
acknowledged tasks; threads as workers, as its documents advise for tasks that wait; delays of 10 ms, since it polls for
tasks and results.
"""

from __future__ import annotations

import importlib.metadata
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huey import SqliteHuey

from benchmarks.peers import (
    SLEEP_SECONDS,
    SLEEPERS_AT_ONCE,
    THREADS,
    in_threads,
    main,
    repeat,
    share_of_processor,
    timed,
)

POLLING_SECONDS = 0.01
WAIT_SECONDS = 140


class Queue:
    """The queue and its two tasks."""

    def __init__(self, folder: Path) -> None:
        self.huey = SqliteHuey(filename=str(folder / "huey.db"), fsync=True, journal_mode="wal")
        self.touch = self.huey.task(name="touch")(lambda number: number + 1)
        self.sleep = self.huey.task(name="sleep")(self._sleep)

    def _sleep(self, seconds: float) -> bool:
        time.sleep(seconds)
        return True

    def finish(self, result: Any) -> Any:
        return result.get(blocking=True, timeout=WAIT_SECONDS, max_delay=POLLING_SECONDS)


@contextmanager
def opened(folder: Path, workers: int = THREADS) -> Iterator[Queue]:
    logging.getLogger("huey").setLevel(logging.ERROR)
    queue = Queue(folder)
    consumer = queue.huey.create_consumer(
        workers=workers, worker_type="thread", initial_delay=POLLING_SECONDS, max_delay=POLLING_SECONDS, periodic=False
    )
    consumer.start()
    try:
        yield queue
    finally:
        consumer.stop(graceful=True)


def about(folder: Path) -> str:
    with opened(folder):
        return f"huey {importlib.metadata.version('huey')} from PyPI, a plain queue: SQLite, WAL, synchronous=FULL"


def play(queue: Queue, count: int) -> None:
    for result in in_threads(queue.touch, count):
        queue.finish(result)


def burst(size: int, folder: Path) -> list[float]:
    with opened(folder) as queue:
        return [timed(play, queue, size)]


def hello(size: int, folder: Path) -> list[float]:
    with opened(folder) as queue:
        return repeat(lambda number: queue.finish(queue.touch(number)), size)


def sleepers(size: int, folder: Path) -> list[float]:
    def night() -> None:
        for result in [queue.sleep(SLEEP_SECONDS) for _ in range(size)]:
            queue.finish(result)

    with opened(folder, SLEEPERS_AT_ONCE) as queue:
        return [timed(night)]


def idle(seconds: int, folder: Path) -> list[float]:
    with opened(folder) as queue:
        play(queue, 20)
        return [share_of_processor(seconds)]


if __name__ == "__main__":
    main(about, {"burst": burst, "hello": hello, "sleepers": sleepers, "idle": idle})
