"""What the workloads share: a fresh store a repetition, timing, and the form of a figure."""

from __future__ import annotations

import os
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from duroxide import Client, PostgresProvider, Provider, Runtime, RuntimeOptions, SqliteProvider

WAIT_MS = 600_000
REPETITIONS = 3
# A size that would take longer than this, all repetitions together, is left out unless FULL=1.
PATIENCE_SECONDS = 45.0


@dataclass(frozen=True)
class Figure:
    """One row of the table: what was measured, and every repetition of it."""

    workload: str
    what: str
    unit: str
    samples: list[float] = field(default_factory=list)
    limit: float | None = None
    """What one fdatasync allows, or another bound of nature, in the same unit."""
    remark: str = ""


@dataclass(frozen=True)
class Session:
    """A runtime at work on a store, and a client of it."""

    provider: Provider
    runtime: Runtime
    client: Client


@dataclass
class Bench:
    """One run of the benchmarks on one kind of store."""

    store: str
    folder: Path
    postgres_url: str | None = None
    syncs_per_second: float = 0.0
    full: bool = field(default_factory=lambda: os.environ.get("FULL", "") not in {"", "0"})

    def probe_disk(self) -> None:
        """Measure the disk's syncs: anew before each workload, since others use the disk as well."""
        # PostgreSQL's data is where temporary files are.
        disk = Path(tempfile.gettempdir()) if self.store == "postgres" else self.folder
        self.syncs_per_second = statistics.median(syncs_per_second(disk) for _ in range(3))

    @property
    def sync_rate(self) -> float | None:
        """Syncs a second, where the store syncs at all."""
        return None if self.store == "memory" else self.syncs_per_second

    @property
    def sync_ms(self) -> float | None:
        """Milliseconds of one sync, where the store syncs at all."""
        return None if self.store == "memory" else 1_000 / self.syncs_per_second

    def place(self) -> str:
        """Where a new store is to be: a file, or a schema."""
        name = f"bench_{secrets.token_hex(6)}"
        return name if self.store == "postgres" else str(self.folder / f"{name}.db")

    def open(self, place: str) -> Provider:
        """Open the store at ``place``, new or not."""
        return open_store(self.store, place, self.postgres_url)

    @contextmanager
    def session(
        self,
        activities: Mapping[str, Callable[..., Any]],
        orchestrations: Mapping[str, Callable[..., Any]],
        options: RuntimeOptions | None = None,
    ) -> Iterator[Session]:
        """A started runtime on an empty store of its own."""
        with (
            self.open(self.place()) as provider,
            self.runtime(provider, activities, orchestrations, options) as runtime,
        ):
            yield Session(provider, runtime, Client(provider))

    @contextmanager
    def runtime(
        self,
        provider: Provider,
        activities: Mapping[str, Callable[..., Any]],
        orchestrations: Mapping[str, Callable[..., Any]],
        options: RuntimeOptions | None = None,
    ) -> Iterator[Runtime]:
        """A started runtime on a store that is open."""
        runtime = Runtime(provider, options)
        for name, function in activities.items():
            runtime.register_activity(name, function)
        for name, function in orchestrations.items():
            runtime.register_orchestration(name, function)
        runtime.start()
        try:
            yield runtime
        finally:
            runtime.shutdown(5_000)

    def too_long(self, seconds: float) -> bool:
        """Whether repetitions of so many seconds each would try the patience of whoever waits."""
        return not self.full and seconds * REPETITIONS > PATIENCE_SECONDS


def open_store(store: str, place: str, postgres_url: str | None) -> Provider:
    """Open a store of a kind; the child process of W7 comes in here as well."""
    if store == "memory":
        return SqliteProvider.in_memory()
    if store == "sqlite":
        return SqliteProvider.open(place)
    if postgres_url is None:
        raise ValueError("the URL of the PostgreSQL server is missing")
    return PostgresProvider.connect_with_schema(postgres_url, place)


def finish(client: Client, instance: str) -> Any:
    """Wait for the end of an instance and return its output."""
    return client.wait_for_orchestration(instance, WAIT_MS).result()


def timed(action: Callable[..., object], *arguments: object) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    action(*arguments)
    return time.perf_counter() - began


def percentile(samples: list[float], percent: float) -> float:
    """The sample below which that share of all samples lies."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def syncs_per_second(folder: Path, seconds: float = 0.1) -> float:
    """How often a second the disk of ``folder`` writes 4 KiB and syncs it, one after the other."""
    block = os.urandom(4096)
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        # A write-ahead log is grown once and then written over, so the file has its size before the clock runs.
        file.write(block * 256)
        os.fsync(file.fileno())
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            os.pwrite(file.fileno(), block, count % 256 * 4096)
            os.fdatasync(file.fileno())
            count += 1
        return count / (time.perf_counter() - began)
