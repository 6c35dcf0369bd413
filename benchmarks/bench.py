"""The common parts of the workloads: fresh stores, rounds in which the contenders take turns, and a figure's form."""

from __future__ import annotations

import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.contenders import CannotPlayError, Program
from benchmarks.processors import Meter, Spent
from benchmarks.server import Server
from duroxide import Client, PostgresProvider, Provider, Runtime, RuntimeOptions, SqliteProvider

WAIT_MS = 600_000
REPETITIONS = 3
# A size that takes longer than this, all repetitions together, is left out unless FULL=1.
PATIENCE_SECONDS = 45.0

OWN = "own"
NO_DISK = "no disk"
RUST = "Rust"
MEMORY = "memory"

SYNC = "a sync"
COMMIT = "a commit"
COMMITS = "of eight"
CONNECTIONS = 8

# Measures the processor time of a timed call, here and in the server.
METER = Meter()


@dataclass(frozen=True)
class Figure:
    """One row of the table: what was measured, and every repetition of it by each contender."""

    workload: str
    what: str
    unit: str
    samples: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """By contender: ``OWN`` is the measured store."""
    disk: Mapping[str, float] = field(default_factory=dict)
    """The disk's rates per second during the measurement: by ``SYNC``, ``COMMIT`` and ``COMMITS``."""
    remark: str = ""
    spent: Mapping[str, Spent] = field(default_factory=dict)
    """Processor time of one operation by contender, where it is known: the median of all rounds."""


@dataclass(frozen=True)
class Rounds:
    """What each contender measured, round by round; usually seconds."""

    of: dict[str, list[list[float]]]
    disk: dict[str, float]
    spent: dict[str, list[Spent]] = field(default_factory=dict)
    """Processor time by contender and round, for the rounds in which the server's was known."""

    def figure(
        self,
        workload: str,
        what: str,
        unit: str,
        read: Callable[[list[float]], float] = sum,
        *,
        bounded_by_disk: bool = True,
        operations: int | None = None,
    ) -> Figure:
        """Return a row; ``read`` makes its figure of what one contender measured in one round.

        Args:
            workload: Its number.
            what: What was measured, in words.
            unit: Unit of what ``read`` returns.
            read: Makes the figure.
            bounded_by_disk: Whether the limits of the disk belong beside it.
            operations: The number by which the processor time of a round is divided; default ``None``, the number of
                samples.
        """
        samples = {name: [read(measured) for measured in rounds] for name, rounds in self.of.items()}
        spent = {
            name: middle([each.each(operations or len(self.of[name][0])) for each in rounds])
            for name, rounds in self.spent.items()
        }
        return Figure(workload, what, unit, samples, self.disk if bounded_by_disk else {}, spent=spent)

    @property
    def longest(self) -> float:
        """The longest round of the measured store."""
        return max(sum(measured) for measured in self.of[OWN])

    @property
    def fewest(self) -> int:
        """The number of samples of the measured store in its shortest round."""
        return min(len(measured) for measured in self.of[OWN])


@dataclass(frozen=True)
class Session:
    """A running runtime on a store, and a client of the store."""

    provider: Provider
    runtime: Runtime
    client: Client


@dataclass
class Bench:
    """One run of the benchmarks on one kind of store."""

    store: str
    folder: Path
    server: Server | None = None
    rust: Program | None = None
    peers: list[Program] = field(default_factory=list)
    full: bool = field(default_factory=lambda: os.environ.get("FULL", "") not in {"", "0"})
    notes: dict[str, None] = field(default_factory=dict)
    """The reasons for empty cells; in order, each once."""

    @property
    def postgres_url(self) -> str | None:
        return self.server.url if self.server is not None else None

    def probe_disk(self) -> dict[str, float]:
        """Measure how many syncs and commits the disk takes a second."""
        if self.store == MEMORY:
            return {}
        # PostgreSQL's data is where temporary files are.
        disk = Path(tempfile.gettempdir()) if self.store == "postgres" else self.folder
        rates = {SYNC: syncs_per_second(disk)}
        if self.server is not None:
            rates[COMMIT] = self.server.commits_per_second(1)
            rates[COMMITS] = self.server.commits_per_second(CONNECTIONS)
        if self.rust is not None and self.store == "sqlite":
            commits = self._attempt(self.rust, "commits", 0, disk)
            if commits is not None:
                rates[COMMIT] = sum(commits)
        return rates

    def compare(
        self,
        workload: str,
        size: int,
        own: Callable[[str], list[float]],
        *,
        styles: Mapping[str, Callable[[], list[float]]] | None = None,
        contenders: Sequence[str] | None = None,
    ) -> Rounds:
        """Measure in rounds, each contender once a round, so that all meet the same conditions.

        Args:
            workload: The name by which the peers' programs know it.
            size: How large.
            own: Measures this package on an empty store of the given kind.
            styles: Measure the same program in other styles, each on an empty store; default ``None``, no others.
            contenders: Names of the contenders that take part beside the store; default ``None``, all.
        """
        plays: dict[str, Callable[[], list[float] | None]] = {OWN: lambda: own(self.store), **(styles or {})}
        if self.store != MEMORY:
            plays[NO_DISK] = lambda: own(MEMORY)
        for program in [*([self.rust] if self.rust else []), *(self.peers if self.store != MEMORY else [])]:
            plays[program.name] = lambda program=program: self._attempt(  # type: ignore[misc]
                program, workload, size, self.new_folder()
            )
        if contenders is not None:
            plays = {name: play for name, play in plays.items() if name == OWN or name in contenders}
        rounds: dict[str, list[list[float]]] = {}
        spent: dict[str, list[Spent]] = {}
        probes = []
        for _ in range(REPETITIONS):
            # Other programs may use the disk too, so it is measured as often as the workloads that depend on it.
            probes.append(self.probe_disk())
            for name, play in list(plays.items()):
                METER.reset()
                measured, seconds = play(), 0.0
                if measured is not None:
                    rounds.setdefault(name, []).append(measured)
                    seconds = sum(measured)
                    if METER.spent is not None and METER.spent.server is not None:
                        spent.setdefault(name, []).append(METER.spent)
                # A contender that cannot play is not asked again; a slow one is reported once.
                if measured is None or (name != OWN and self.too_long(seconds)):
                    del plays[name]
        return Rounds(rounds, medians(probes), spent)

    def _attempt(self, program: Program, workload: str, size: int, folder: Path) -> list[float] | None:
        try:
            with self.empty_database() as database:
                played = program.play(workload, size, folder, self.store, database)
        except CannotPlayError as error:
            self.notes[f"{program.name}, {workload} of {size:,}: {error}"] = None
            return None
        if played is None:
            return None
        if played.spent is not None:
            METER.add(played.spent)
        return played.samples

    @contextmanager
    def empty_database(self) -> Iterator[str | None]:
        """The URL of an empty database on the measured server, or ``None`` without a server."""
        if self.server is None:
            yield None
            return
        with self.server.database() as url:
            yield url

    def new_folder(self) -> Path:
        """An empty folder on the measured disk."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    def place(self, store: str | None = None) -> str:
        """The place of a new store: a file in a new folder, or a schema."""
        if (store or self.store) == "postgres":
            schema = f"bench_{secrets.token_hex(6)}"
            if self.server is not None:
                self.server.schemas.add(schema)
            return schema
        return str(self.new_folder() / "store.db")

    @contextmanager
    def session(
        self,
        activities: Mapping[str, Callable[..., Any]],
        orchestrations: Mapping[str, Callable[..., Any]],
        options: RuntimeOptions | None = None,
        *,
        functions: Sequence[Any] = (),
        store: str | None = None,
    ) -> Iterator[Session]:
        """A started runtime on an empty store, of the measured kind or of another."""
        kind = store or self.store
        place = self.place(kind)
        try:
            with (
                open_store(kind, place, self.postgres_url) as provider,
                running(provider, activities, orchestrations, options, functions) as runtime,
            ):
                yield Session(provider, runtime, Client(provider))
        finally:
            # Rows left in it would load the next round through autovacuum.
            if kind == "postgres" and self.server is not None:
                self.server.drop(place)

    def program(self, module: str, *arguments: object) -> Any:
        """Run a module of this package in a new process, and return what it prints."""
        command = [sys.executable, "-m", module, json.dumps(arguments)]
        finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        return json.loads(finished.stdout.splitlines()[-1])

    def too_long(self, seconds: float) -> bool:
        """Whether repetitions of this many seconds each would take too long."""
        return not self.full and seconds * REPETITIONS > PATIENCE_SECONDS


def open_store(store: str, place: str, postgres_url: str | None) -> Provider:
    """Open a store of a kind, new or existing; subprocesses of the benchmarks use it too."""
    if store == MEMORY:
        return SqliteProvider.in_memory()
    if store == "sqlite":
        return SqliteProvider.open(place)
    if postgres_url is None:
        raise ValueError("the URL of the PostgreSQL server is missing")
    return PostgresProvider.connect_with_schema(postgres_url, place)


@contextmanager
def running(
    provider: Provider,
    activities: Mapping[str, Callable[..., Any]],
    orchestrations: Mapping[str, Callable[..., Any]],
    options: RuntimeOptions | None = None,
    functions: Sequence[Any] = (),
) -> Iterator[Runtime]:
    """A started runtime on an open store."""
    runtime = Runtime(provider, options, functions=functions)
    for name, function in activities.items():
        runtime.register_activity(name, function)
    for name, function in orchestrations.items():
        runtime.register_orchestration(name, function)
    runtime.start()
    try:
        yield runtime
    finally:
        runtime.shutdown(5_000)


def finish(client: Client, instance: str) -> Any:
    """Wait for the end of an instance and return its output."""
    return client.wait_for_orchestration(instance, WAIT_MS).result()


def timed(action: Callable[..., object], *arguments: object) -> float:
    """Return the seconds that a call takes, and add up the processor time spent during it."""
    return METER.timed(action, *arguments)


def percentile(samples: Sequence[float], percent: float) -> float:
    """The sample below which this share of all samples lies."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def medians(probes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each measured thing."""
    return {name: statistics.median(probe[name] for probe in probes if name in probe) for name in probes[0]}


def middle(spent: Sequence[Spent]) -> Spent:
    """The median of each side."""
    servers = [each.server for each in spent if each.server is not None]
    return Spent(statistics.median(each.client for each in spent), statistics.median(servers) if servers else None)


def syncs_per_second(folder: Path, seconds: float = 0.1) -> float:
    """How often a second the disk of ``folder`` writes 4 KiB and syncs it, one after the other."""
    block = os.urandom(4096)
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        # A write-ahead log grows once and is then overwritten, so the file reaches its size before the clock runs.
        file.write(block * 256)
        os.fsync(file.fileno())
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            os.pwrite(file.fileno(), block, count % 256 * 4096)
            os.fdatasync(file.fileno())
            count += 1
        return count / (time.perf_counter() - began)
