"""A process on a store's file that executes requests: one JSON line in, one JSON line out.

``store_process.py FILE [LEDGER]``. Every method of ``Process`` is a request; ``call`` reaches every operation of the
client.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from duroxide import Client, Runtime, RuntimeOptions, SqliteProvider, WaitTimedOut
from duroxide._client.records import Record
from store.programs import Ledger, register
from support.child_process import answer_requests

WAIT_MS = 30_000


class Process:
    """Its methods are the requests."""

    def __init__(self, file: str, ledger: str | None = None) -> None:
        self._file = file
        self._ledger = None if ledger is None else Ledger(ledger)
        self._records: list[list[str]] = []
        self._runtime: Runtime | None = None
        handler = logging.Handler()
        handler.emit = lambda record: self._records.append([record.levelname, record.getMessage()])  # type: ignore[method-assign]
        logger = logging.getLogger("duroxide")
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
        logger.propagate = False

    def open(self, **options: Any) -> None:
        """Open the store, which all other requests need."""
        self._provider = SqliteProvider.open(self._file, **options)
        self._client = Client(self._provider)

    def close(self) -> None:
        self._provider.close()

    def serve(self, **options: Any) -> None:
        """Start a runtime, with those options that this version has."""
        known = {name: value for name, value in options.items() if name in RuntimeOptions.__dataclass_fields__}
        self._runtime = register(Runtime(self._provider, RuntimeOptions(**known)), self._ledger)
        self._runtime.start()

    def shutdown(self) -> None:
        assert self._runtime is not None
        self._runtime.shutdown(5_000)

    def backup(self, path: str) -> None:
        self._provider.backup(path)

    def call(self, operation: str, *arguments: Any, **options: Any) -> Any:
        """Call one operation of the client."""
        return getattr(self._client, operation)(*arguments, **options)

    def process_id(self) -> int:
        return os.getpid()

    def moment_of_end(self, instance: str) -> float:
        """Wait for the end of an instance; return when the wait ended, by the clock that all processes share."""
        self._client.wait_for_orchestration(instance, WAIT_MS).result()
        return time.monotonic()

    def round_trips(self, name: str, count: int) -> list[float]:
        """Start orchestrations one after the other; return how many seconds each took to end."""
        spans: list[float] = []
        for number in range(count):
            began = time.monotonic()
            self._client.start_orchestration(f"{name}-{number}", "echo", number)
            assert self._client.wait_for_orchestration(f"{name}-{number}", WAIT_MS).result() == number
            spans.append(time.monotonic() - began)
        return spans

    def crowd(self, name: str, count: int) -> list[Any]:
        """Use every kind of operation ``count`` times, and return the results."""
        client = self._client
        results: list[Any] = []
        for number in range(count):
            said, cancelled, deleted = (f"{word}-{name}-{number}" for word in ("said", "cancelled", "deleted"))
            assert client.start_orchestration(said, "conversation") is True
            assert client.start_orchestration(said, "conversation") is False
            client.raise_event(said, "go", number)
            client.enqueue_event(said, "inbox", f"{number} one")
            client.start_orchestration(cancelled, "waiting")
            client.enqueue_event(said, "inbox", f"{number} two")
            client.cancel_instance(cancelled, "enough")
            client.start_orchestration(deleted, "echo", number)
            client.wait_for_orchestration(deleted, WAIT_MS).result()
            client.delete_instance(deleted)
            result = client.wait_for_orchestration(said, WAIT_MS).result()
            results.append([result, str(client.wait_for_orchestration(cancelled, WAIT_MS).error)])
            assert client.get_status(deleted).status == "NotFound"
        return results

    def pour(self, name: str, count: int) -> None:
        """Start a mailbox, send it numbers, and stop it."""
        self._client.start_orchestration(name, "mailbox")
        for number in range(count):
            self._client.enqueue_event(name, "inbox", str(number))
        self._client.enqueue_event(name, "inbox", "stop")

    def start_many(self, name: str, count: int, orchestration: str, input: Any = None) -> None:
        for number in range(count):
            self._client.start_orchestration(f"{name}-{number}", orchestration, input)

    def wait_for_many(self, name: str, count: int) -> list[Any]:
        return [self._client.wait_for_orchestration(f"{name}-{number}", WAIT_MS).result() for number in range(count)]

    def wait_for_events(self, count: int) -> None:
        """Wait until the histories in the store have this many events in all."""
        deadline = time.monotonic() + 60
        while self._client.get_system_metrics().total_events < count:
            assert time.monotonic() < deadline
            with contextlib.suppress(WaitTimedOut):
                self._client.wait_for_orchestration("unknown", 20)

    def start_until_refused(self, name: str, input: Any = None, seconds: float = 30) -> list[Any]:
        """Start orchestrations until a start fails; return how many were acknowledged, and the last error."""
        deadline = time.monotonic() + seconds
        number = 0
        while time.monotonic() < deadline:
            try:
                self._client.start_orchestration(f"{name}-{number}", "waiting", input)
            except Exception as error:
                return [number, type(error).__name__, str(error)]
            number += 1
        return [number, None, None]

    def records(self) -> list[list[str]]:
        """Everything that was logged: level and message."""
        return self._records

    def limit_file_size(self, size: int | None) -> None:
        """Make writes past ``size`` bytes of any file fail from now on; ``None`` lifts the limit."""
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard if size is None else size, hard))

    def fill_disk(self, path: str) -> int:
        """Write a file until the disk is full, and return its size."""
        written = 0
        file = os.open(path, os.O_WRONLY | os.O_CREAT)
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    written += os.write(file, b"\0" * size)
            except OSError:
                continue
        os.close(file)
        return written

    def remove(self, path: str) -> None:
        Path(path).unlink()

    def processor_seconds(self, span: float) -> float:
        """The processor time that this process uses in ``span`` seconds without a request."""
        before = time.process_time()
        self._rest(span)
        return time.process_time() - before

    def use(self, span: float) -> list[float]:
        """How often threads wake up, and the processor time used, in ``span`` seconds without a request."""
        return measured(lambda: self._rest(span))

    def use_of_a_wait(self, instance: str, span: float) -> list[float]:
        """The same while it waits for the end of an instance that does not end."""

        def wait() -> None:
            with contextlib.suppress(WaitTimedOut):
                self._client.wait_for_orchestration(instance, int(span * 1_000))

        return measured(wait)

    @staticmethod
    def _rest(span: float) -> None:
        # A measurement over time: there is no condition to wait for.
        threading.Event().wait(span)

    def resident_bytes(self) -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize()


def measured(work: Callable[[], None]) -> list[float]:
    """How often threads of this process wake up during ``work``, and the processor time that they use."""

    def so_far() -> tuple[float, float]:
        return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw, time.process_time()

    before = so_far()
    work()
    return [after - earlier for after, earlier in zip(so_far(), before, strict=True)]


def plain(value: Any) -> Any:
    if isinstance(value, Record):
        return {name: value[name] for name in value if name != "failure"}
    raise TypeError(f"{value!r} does not cross")


if __name__ == "__main__":
    answer_requests(Process(*sys.argv[1:]), plain)
