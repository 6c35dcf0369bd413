"""The earlier Python SDK of the same engine, as released, on the engine's bundled SQLite provider.

Its documents list settings but recommend none for speed. Settings, and why:

- Twice the default of 4 dispatchers of orchestrations, and as many workers as there are parallel activities.
- Where one step waits for another, a polling interval of 10 ms instead of 100, since nothing else wakes an idle store.
  Where the store always has work, the default: polling more often only competes for the file's lock.
"""

from __future__ import annotations

import importlib.metadata
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duroxide
from benchmarks.peers import (
    SLEEP_SECONDS,
    SLEEPERS_AT_ONCE,
    bytes_in,
    in_threads,
    main,
    repeat,
    share_of_processor,
    timed,
)

WAIT_MS = 140_000
STORE = "store.db"
BUSY_POLLING_MS = 100
IDLE_POLLING_MS = 10


def touch(ctx: Any, number: int) -> int:
    return number


def step(ctx: Any, number: int) -> int:
    return number + 1


def square(ctx: Any, number: int) -> int:
    return number * number


def sleep(ctx: Any, seconds: float) -> None:
    time.sleep(seconds)


def one_activity(ctx: Any, number: int) -> Any:
    return (yield ctx.schedule_activity("touch", number))


def chain(ctx: Any, length: int) -> Any:
    number = 0
    for _ in range(length):
        number = yield ctx.schedule_activity("step", number)
    return number


def fan(ctx: Any, width: int) -> Any:
    results = yield ctx.all_typed([ctx.schedule_activity("square", number) for number in range(width)])
    return sum(value(each) for each in results)


def night(ctx: Any, count: int) -> Any:
    yield ctx.all([ctx.schedule_activity("sleep", SLEEP_SECONDS) for _ in range(count)])
    return count


def echo(ctx: Any, _: Any) -> Any:
    while True:
        message = yield ctx.dequeue_event("inbox")
        if message == "bye":
            return "bye"
        ctx.set_custom_status(str(message))


def value(result: Any) -> Any:
    return result["ok"] if isinstance(result, dict) else result


def about(folder: Path) -> str:
    with opened(folder):
        pass
    mode = sqlite3.connect(folder / STORE).execute("PRAGMA journal_mode").fetchone()[0]
    return f"duroxide {importlib.metadata.version('duroxide')} from PyPI: SQLite, journal_mode={mode}"


@contextmanager
def opened(folder: Path, polling_ms: int = IDLE_POLLING_MS) -> Iterator[Any]:
    """A client, and a running runtime on the store."""
    provider = duroxide.SqliteProvider.open(str(folder / STORE))
    options = duroxide.RuntimeOptions(
        orchestration_concurrency=8, worker_concurrency=SLEEPERS_AT_ONCE, dispatcher_poll_interval_ms=polling_ms
    )
    runtime = duroxide.Runtime(provider, options)
    for activity in (touch, step, square, sleep):
        runtime.register_activity(activity.__name__, activity)
    for orchestration in (one_activity, chain, fan, night, echo):
        runtime.register_orchestration(orchestration.__name__, orchestration)
    runtime.start()
    try:
        yield duroxide.Client(provider)
    finally:
        runtime.shutdown(1_000)


def finish(client: Any, name: str) -> Any:
    status = client.wait_for_orchestration(name, WAIT_MS)
    if status.status != "Completed":
        raise RuntimeError(f"{name} is {status.status}: {status.error}")
    return status.output


def play(client: Any, prefix: str, count: int) -> None:
    in_threads(lambda number: client.start_orchestration(f"{prefix}-{number}", "one_activity", number), count)
    for number in range(count):
        finish(client, f"{prefix}-{number}")


def burst(size: int, folder: Path) -> list[float]:
    with opened(folder, BUSY_POLLING_MS) as client:
        return [timed(play, client, "burst", size)]


def single(name: str, expected: Callable[[int], int]) -> Callable[[int, Path], list[float]]:
    """The workload that is one orchestration of this name."""

    def measure(size: int, folder: Path) -> list[float]:
        def once() -> None:
            client.start_orchestration(name, name, size)
            found = finish(client, name)
            if found != expected(size):
                raise RuntimeError(f"{name} of {size} gave {found}")

        with opened(folder) as client:
            return [timed(once)]

    return measure


def hello(size: int, folder: Path) -> list[float]:
    def greet(number: int) -> None:
        client.start_orchestration(f"hello-{number}", "one_activity", number)
        finish(client, f"hello-{number}")

    with opened(folder) as client:
        return repeat(greet, size)


def message(size: int, folder: Path) -> list[float]:
    def ask(number: int) -> None:
        client.enqueue_event("echo", "inbox", f"message {number}")
        # The shortest polling interval of its client.
        status = client.wait_for_status_change("echo", number, 1, WAIT_MS)
        if f"message {number}" not in status.custom_status:
            raise RuntimeError(f"expected message {number}, got {status.custom_status}")

    with opened(folder) as client:
        client.start_orchestration("echo", "echo")
        return repeat(ask, size)


def disk(size: int, folder: Path) -> list[float]:
    sizes = [0, 0]
    for number in range(2):
        with opened(folder, BUSY_POLLING_MS) as client:
            play(client, f"burst-{number}", size)
        with sqlite3.connect(folder / STORE) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        sizes[number] = bytes_in(folder)
    return [(sizes[1] - sizes[0]) / size]


def idle(seconds: int, folder: Path) -> list[float]:
    with opened(folder) as client:
        play(client, "burst", 20)
        return [share_of_processor(seconds)]


if __name__ == "__main__":
    main(
        about,
        {
            "burst": burst,
            "chain": single("chain", lambda length: length),
            "fan": single("fan", lambda width: sum(number * number for number in range(width))),
            "hello": hello,
            "message": message,
            "sleepers": single("night", lambda count: count),
            "disk": disk,
            "idle": idle,
        },
    )
