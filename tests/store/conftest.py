"""Fixtures of the tests of the embedded store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.processes import StoreProcesses


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def processes(file: Path, tmp_path: Path) -> Iterator[StoreProcesses]:
    processes = StoreProcesses(file, tmp_path / "ledger")
    yield processes
    for process in processes.started:
        if process.is_alive():
            process.kill()
        for stream in (process.running.stdin, process.running.stdout):
            if stream is not None:
                # The other end may be gone.
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
