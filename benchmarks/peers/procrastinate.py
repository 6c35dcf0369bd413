"""Procrastinate on PostgreSQL, as a plain queue: defer a job, run it in a worker, mark it as done.

Settings, and why:

- ``psycopg[binary]``, which its documents advise for speed, and a pool as large as the worker's concurrency needs.
- Coroutines, sixteen at once: its documents apply ``concurrency`` to those. More were not quicker.
- LISTEN and NOTIFY as by default; one query for all jobs finds the ended ones, every 10 ms; for a single job every 2
  ms.
- ``batch_defer_async`` defers jobs in bulk.

It records no steps, so it cannot play the chain and the fan.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from procrastinate import App, PsycopgConnector

from benchmarks.peers import DATABASE_URL, HELLO_SECONDS, METER, THREADS, main

CONCURRENCY = 16
CONNECTIONS = 20
POLLING_SECONDS = 0.01
ASKING_SECONDS = 0.002
UNFINISHED = "SELECT count(*) AS count FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"
SUCCEEDED = "SELECT count(*) AS count FROM procrastinate_jobs WHERE status = 'succeeded'"

logging.getLogger("procrastinate").setLevel(logging.ERROR)
app = App(connector=PsycopgConnector(conninfo=DATABASE_URL or "", min_size=CONNECTIONS, max_size=CONNECTIONS))


@app.task(name="touch")
async def touch(number: int) -> int:
    return number


@asynccontextmanager
async def working() -> AsyncIterator[None]:
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        worker = asyncio.create_task(app.run_worker_async(concurrency=CONCURRENCY, install_signal_handlers=False))
        try:
            yield
        finally:
            worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await worker


async def count_of(query: str) -> int:
    row = await app.connector.execute_query_one_async(query)
    return int(row["count"])


async def defer_singly(count: int) -> None:
    async def share(which: int) -> None:
        for number in range(which, count, THREADS):
            await touch.defer_async(number=number)

    await asyncio.gather(*(share(which) for which in range(THREADS)))


async def defer_in_bulk(count: int) -> None:
    await touch.batch_defer_async(*({"number": number} for number in range(count)))


async def wait_for_all(count: int) -> None:
    while await count_of(UNFINISHED):  # noqa: ASYNC110 - there is nothing to be notified by
        await asyncio.sleep(POLLING_SECONDS)
    if await count_of(SUCCEEDED) != count:
        raise RuntimeError("some jobs failed")


async def timed(action: Callable[[], Awaitable[object]]) -> float:
    before, began = METER.now(), time.perf_counter()
    await action()
    seconds = time.perf_counter() - began
    METER.add(METER.now().since(before))
    return seconds


def bursts(defer: Callable[[int], Awaitable[None]]) -> Callable[[int, Path], list[float]]:
    def measure(size: int, folder: Path) -> list[float]:
        async def play() -> None:
            await defer(size)
            await wait_for_all(size)

        async def work() -> list[float]:
            async with working():
                return [await timed(play)]

        return asyncio.run(work())

    return measure


def hello(size: int, folder: Path) -> list[float]:
    async def ask() -> None:
        number = await touch.defer_async(number=1)
        while (await app.job_manager.get_job_status_async(number)).value != "succeeded":  # noqa: ASYNC110
            await asyncio.sleep(ASKING_SECONDS)

    async def work() -> list[float]:
        async with working():
            await ask()
            samples: list[float] = []
            deadline = time.perf_counter() + HELLO_SECONDS
            while len(samples) < size and time.perf_counter() < deadline:
                samples.append(await timed(ask))
            return samples

    return asyncio.run(work())


def about(folder: Path) -> str:
    return f"procrastinate {importlib.metadata.version('procrastinate')} from PyPI: PostgreSQL, a queue without steps"


if __name__ == "__main__":
    workloads = {"burst": bursts(defer_singly), "bulk": bursts(defer_in_bulk), "hello": hello}
    main(about, workloads, stores=("postgres",))
