"""Absurd on PostgreSQL: its SDK for Python is ``absurd-sdk`` on PyPI; ``absurdctl`` carries its tables and functions.

Settings, and why:

- The tables and functions come from the release of ``absurdctl``; ``absurdctl init`` would apply the same ones.
- A worker has one connection, whatever its concurrency, and claims as many tasks at once as it has free threads. So
  there are four workers of eight threads; fewer were slower, more were not quicker.
- Workers look for tasks every 10 ms instead of 250, because nothing notifies them.
- One query for all tasks finds the ended ones, every 10 ms; for a single task every 2 ms. The SDK's wait begins at 50
  ms.
- Parallel steps are coroutines under ``asyncio.gather`` in its asynchronous worker.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from absurd_sdk import Absurd, AsyncAbsurd
from absurdctl import BUNDLED_SCHEMA_SQL

from benchmarks.peers import DATABASE_URL, THREADS, main, repeat, timed

WORKERS = 4
CONCURRENCY = 8
POLLING_SECONDS = 0.01
ASKING_SECONDS = 0.002
UNFINISHED = "SELECT count(*) FROM absurd.t_default WHERE state NOT IN ('completed', 'failed', 'cancelled')"
COMPLETED = "SELECT count(*) FROM absurd.t_default WHERE state = 'completed'"


def one_activity(number: int, ctx: Any) -> int:
    touched: int = ctx.step("touch", lambda: number)
    return touched


def chain(length: int, ctx: Any) -> int:
    number = 0
    for position in range(length):
        number = ctx.step(f"step-{position}", lambda before=number: before + 1)
    return number


async def fan(width: int, ctx: Any) -> int:
    async def square(number: int) -> int:
        return number * number

    steps = [ctx.step(f"square-{number}", lambda each=number: square(each)) for number in range(width)]
    return sum(await asyncio.gather(*steps))


def client() -> Absurd:
    app = Absurd(DATABASE_URL)
    app.register_task("one_activity")(one_activity)
    app.register_task("chain")(chain)
    return app


@contextmanager
def installed() -> Iterator[psycopg.Connection[Any]]:
    assert DATABASE_URL is not None
    with psycopg.connect(DATABASE_URL, autocommit=True) as connection:
        connection.execute(BUNDLED_SCHEMA_SQL)
        app = Absurd(connection)
        app.create_queue()
        yield connection


@contextmanager
def working(workers: int = WORKERS, concurrency: int = CONCURRENCY) -> Iterator[psycopg.Connection[Any]]:
    with installed() as connection:
        apps = [client() for _ in range(workers)]
        options = {"concurrency": concurrency, "poll_interval": POLLING_SECONDS}
        threads = [threading.Thread(target=app.start_worker, kwargs=options) for app in apps]
        for thread in threads:
            thread.start()
        try:
            yield connection
        finally:
            for app in apps:
                app.stop_worker()
            for thread in threads:
                thread.join()
            for app in apps:
                app.close()


def play(connection: psycopg.Connection[Any], apps: list[Absurd], count: int) -> None:
    def share(which: int) -> None:
        for number in range(which, count, len(apps)):
            apps[which].spawn("one_activity", number)

    with ThreadPoolExecutor(len(apps)) as threads:
        list(threads.map(share, range(len(apps))))
    while count_of(connection, UNFINISHED):
        time.sleep(POLLING_SECONDS)
    if count_of(connection, COMPLETED) != count:
        raise RuntimeError("some tasks failed")


def count_of(connection: psycopg.Connection[Any], query: str) -> int:
    row = connection.execute(query).fetchone()
    return int(row[0])


def ask(app: Absurd, task: str, value: int) -> Any:
    spawned = app.spawn(task, value, queue="default")
    while (found := app.fetch_task_result(spawned["task_id"])) is None or found.state not in ("completed", "failed"):
        time.sleep(ASKING_SECONDS)
    if found.state == "failed":
        raise RuntimeError(f"{task} of {value}: {found.failure}")
    return found.result


def about(folder: Path) -> str:
    with installed():
        releases = (importlib.metadata.version(name) for name in ("absurd-sdk", "absurdctl"))
        return "absurd-sdk {} and absurdctl {} from PyPI: PostgreSQL".format(*releases)


def burst(size: int, folder: Path) -> list[float]:
    with working() as connection:
        apps = [client() for _ in range(THREADS)]
        seconds = [timed(play, connection, apps, size)]
        for app in apps:
            app.close()
        return seconds


def one(task: str, expected: Callable[[int], int]) -> Callable[[int, Path], list[float]]:
    def measure(size: int, folder: Path) -> list[float]:
        def once(app: Absurd) -> None:
            if (found := ask(app, task, size)) != expected(size):
                raise RuntimeError(f"{task} of {size} gave {found}")

        with working(1, 1) as connection:
            return [timed(once, Absurd(connection))]

    return measure


def fanned(size: int, folder: Path) -> list[float]:
    with installed() as connection:

        def once() -> None:
            async def work() -> None:
                app = AsyncAbsurd(DATABASE_URL)
                app.register_task("fan")(fan)
                worker = asyncio.create_task(app.start_worker(poll_interval=POLLING_SECONDS))
                spawned = await asyncio.to_thread(ask, Absurd(connection), "fan", size)
                app.stop_worker()
                await worker
                await app.close()
                if spawned != sum(number * number for number in range(size)):
                    raise RuntimeError(f"fan of {size} gave {spawned}")

            asyncio.run(work())

        return [timed(once)]


def hello(size: int, folder: Path) -> list[float]:
    with working(1, 1) as connection:
        app = Absurd(connection)
        return repeat(lambda number: ask(app, "one_activity", number), size)


if __name__ == "__main__":
    main(
        about,
        {"burst": burst, "chain": one("chain", lambda length: length), "fan": fanned, "hello": hello},
        stores=("postgres",),
    )
