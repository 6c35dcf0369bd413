"""Fixtures of the crash tests: a store that processes share, and workers on it that the tests kill."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

# It declares coroutine orchestrations, which need Python 3.11.
collect_ignore = ["test_killed_shop.py"] if sys.version_info < (3, 11) else []

WORKER = Path(__file__).with_name("worker.py")
DEADLINE_SECONDS = 60


@dataclass
class Workers:
    """Starts workers on one store; reads the lines that their activities wrote."""

    address: list[str]
    ledger: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, command: str) -> subprocess.Popen[str]:
        """Start a worker; its life is the number of workers before it."""
        worker = subprocess.Popen(
            [sys.executable, str(WORKER), json.dumps(self.address), str(len(self.started)), str(self.ledger), command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.started.append(worker)
        return worker

    def lines(self) -> list[tuple[int, str, int]]:
        """The whole lines of the ledger: life, "begin" or "end", number of the step."""
        if not self.ledger.exists():
            return []
        rows = [line.split() for line in self.ledger.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [(int(life), word, int(number)) for life, word, number in rows]

    def begun(self) -> Counter[int]:
        """How often each step began."""
        return Counter(number for _, word, number in self.lines() if word == "begin")

    def kill_after(self, worker: subprocess.Popen[str], lines: int) -> None:
        """Kill the worker as soon as the ledger has this many lines more than now, or when it has ended."""
        target = len(self.lines()) + lines
        deadline = time.monotonic() + DEADLINE_SECONDS
        while len(self.lines()) < target and worker.poll() is None:
            assert time.monotonic() < deadline, f"the worker wrote {len(self.lines())} lines of {target}"
            time.sleep(0.001)
        self.kill(worker)

    @staticmethod
    def kill(worker: subprocess.Popen[str]) -> None:
        """End the worker without warning, as a power failure does."""
        worker.send_signal(signal.SIGKILL)
        worker.wait()

    @staticmethod
    def result(worker: subprocess.Popen[str]) -> Any:
        """Wait for the end of a worker that was not killed, and return what it printed."""
        output, _ = worker.communicate(timeout=DEADLINE_SECONDS)
        assert worker.returncode == 0
        word, _, text = output.strip().partition(" ")
        assert word == "result"
        return json.loads(text)


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest) -> str:
    """The kind of a store that outlives its process."""
    kind: str = request.param
    return kind


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def workers(store: str, request: pytest.FixtureRequest, tmp_path: Path, database: Path) -> Iterator[Workers]:
    address = (
        ["sqlite", str(database)]
        if store == "sqlite"
        else ["postgres", request.getfixturevalue("postgres_url"), request.getfixturevalue("postgres_schema")]
    )
    workers = Workers(address, tmp_path / "ledger")
    yield workers
    for worker in workers.started:
        if worker.poll() is None:
            workers.kill(worker)
        for stream in (worker.stdin, worker.stdout):
            if stream is not None:
                stream.close()


@pytest.fixture
def completed_steps(workers: Workers) -> Callable[[str], set[int]]:
    """Reads which steps of an instance are recorded as completed; call it while no worker runs."""
    from crash.worker import open_store
    from duroxide import Client

    def read(instance: str) -> set[int]:
        with open_store(workers.address) as provider:
            client = Client(provider)
            if client.get_status(instance).status == "NotFound":
                return set()
            events = client.read_execution_history(instance)
        return {json.loads(event.data)["result"] for event in events if event.kind == "ActivityCompleted"}

    return read
