"""DBOS Transact with the same workloads, on PostgreSQL or on SQLite, which its documents recommend for development.

Settings, and why:

- On PostgreSQL, its defaults: 20 connections, LISTEN and NOTIFY. ``max_executor_threads`` is 16: with its default, one
  thread for each workflow of a burst, it was slower there as well.
- On SQLite, the file is put into WAL mode beforehand, which persists: DBOS leaves SQLite's default, a rollback journal,
  which costs more syncs a commit. ``synchronous`` stays at SQLite's default, FULL.
- Its polling intervals are one second; its documents say that lower ones speed up tests. They are 10 ms here.
- ``start_workflow`` starts a workflow and runs it in this process at once; a queue would be polled. Where a limit of
  concurrent workflows is needed, its documents advise a queue.
- ``max_executor_threads`` bounds the threads that wait for the single lock of a SQLite file: without it, a burst has
  one thread a workflow, and takes a third longer.
- Parallel steps are coroutines under ``asyncio.gather``, which needs no child workflow for each.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dbos import DBOS, SetWorkflowID

from benchmarks.peers import (
    DATABASE_URL,
    SLEEP_SECONDS,
    SLEEPERS_AT_ONCE,
    THREADS,
    bytes_in,
    in_threads,
    main,
    repeat,
    share_of_processor,
    timed,
)

STORE = "dbos.db"
POLLING_SECONDS = 0.01
POSTGRES_THREADS = 16
QUEUE = "night"


@DBOS.step()
def touch(number: int) -> int:
    return number


@DBOS.step()
def step(number: int) -> int:
    return number + 1


@DBOS.step()
async def square(number: int) -> int:
    return number * number


@DBOS.workflow()
def one_activity(number: int) -> int:
    return touch(number)


@DBOS.workflow()
def chain(length: int) -> int:
    number = 0
    for _ in range(length):
        number = step(number)
    return number


@DBOS.workflow()
async def fan(width: int) -> int:
    return sum(await asyncio.gather(*[square(number) for number in range(width)]))


@DBOS.workflow()
def sleep(seconds: float) -> None:
    time.sleep(seconds)


@DBOS.workflow()
def night(count: int) -> int:
    handles = [DBOS.enqueue_workflow(QUEUE, sleep, SLEEP_SECONDS) for _ in range(count)]
    for handle in handles:
        handle.get_result(polling_interval_sec=POLLING_SECONDS)
    return len(handles)


@DBOS.workflow()
def echo() -> None:
    while (message := DBOS.recv("inbox", timeout_seconds=120)) != "bye":
        DBOS.set_event(message, message)


def about(folder: Path) -> str:
    with opened(folder):
        pass
    release = f"dbos {importlib.metadata.version('dbos')} from PyPI"
    if DATABASE_URL:
        return f"{release}: PostgreSQL"
    mode = sqlite3.connect(folder / STORE).execute("PRAGMA journal_mode").fetchone()[0]
    return f"{release}: SQLite, journal_mode={mode}, synchronous=FULL"


@contextmanager
def opened(folder: Path, threads: int = POSTGRES_THREADS if DATABASE_URL else THREADS) -> Iterator[None]:
    if not DATABASE_URL:
        with sqlite3.connect(folder / STORE) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
        connection.close()
    DBOS(
        config={
            "name": "bench",
            "system_database_url": DATABASE_URL or f"sqlite:///{folder / STORE}",
            "log_level": "ERROR",
            "max_executor_threads": threads,
            "notification_listener_polling_interval_sec": POLLING_SECONDS,
        }
    )
    DBOS.launch()
    DBOS.register_queue(QUEUE, worker_concurrency=SLEEPERS_AT_ONCE, polling_interval_sec=POLLING_SECONDS)
    try:
        yield
    finally:
        DBOS.destroy()


def play(count: int) -> None:
    handles = in_threads(lambda number: DBOS.start_workflow(one_activity, number), count)
    for handle in handles:
        handle.get_result(polling_interval_sec=POLLING_SECONDS)


def burst(size: int, folder: Path) -> list[float]:
    with opened(folder):
        return [timed(play, size)]


def single(
    workflow: Callable[[int], Any], expected: Callable[[int], int], threads: int = THREADS
) -> Callable[[int, Path], list[float]]:
    """The workload that is one run of this workflow."""

    def measure(size: int, folder: Path) -> list[float]:
        def once() -> None:
            found = workflow(size)
            if asyncio.iscoroutine(found):
                found = asyncio.run(found)
            if found != expected(size):
                raise RuntimeError(f"{workflow.__name__} of {size} gave {found}")

        with opened(folder, threads):
            return [timed(once)]

    return measure


def hello(size: int, folder: Path) -> list[float]:
    with opened(folder):
        return repeat(lambda number: DBOS.start_workflow(one_activity, number).get_result(), size)


def message(size: int, folder: Path) -> list[float]:
    def ask(number: int) -> None:
        text = f"message {number}"
        DBOS.send("echo", text, "inbox")
        if DBOS.get_event("echo", text, timeout_seconds=30) != text:
            raise RuntimeError(f"no answer to {text}")

    with opened(folder):
        with SetWorkflowID("echo"):
            handle = DBOS.start_workflow(echo)
        samples = repeat(ask, size)
        DBOS.send("echo", "bye", "inbox")
        handle.get_result()
        return samples


def disk(size: int, folder: Path) -> list[float]:
    with opened(folder):
        sizes = []
        for _ in range(2):
            play(size)
            with sqlite3.connect(folder / STORE) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            sizes.append(bytes_in(folder))
    return [(sizes[1] - sizes[0]) / size]


def idle(seconds: int, folder: Path) -> list[float]:
    with opened(folder):
        play(20)
        return [share_of_processor(seconds)]


if __name__ == "__main__":
    main(
        about,
        {
            "burst": burst,
            "chain": single(chain, lambda length: length),
            "fan": single(fan, lambda width: sum(number * number for number in range(width))),
            "hello": hello,
            "message": message,
            "sleepers": single(night, lambda count: count, SLEEPERS_AT_ONCE + THREADS),
            "disk": disk,
            "idle": idle,
        },
        stores=("sqlite", "postgres"),
    )
