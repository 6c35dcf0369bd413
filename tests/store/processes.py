"""Processes on one file of the embedded store, which tests query, kill and start again."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.child_process import ChildProcess, RequestFailed
from support.waiting import wait_until

PROCESS = Path(__file__).with_name("store_process.py")


class StoreProcess(ChildProcess):
    """A running ``store_process.py``."""

    def __init__(self, arguments: list[str], before: list[str]) -> None:
        super().__init__(PROCESS, arguments, before)

    def call(self, operation: str, *arguments: Any, **options: Any) -> Any:
        """Call an operation of its client."""
        return self.ask("call", operation, *arguments, **options)

    def result(self, instance: str, timeout_ms: int = 30_000) -> Any:
        """Wait in that process for the end of an instance that completes, and return its output."""
        status = self.call("wait_for_orchestration", instance, timeout_ms)
        assert status["status"] == "Completed", status
        return status["output"]


@dataclass
class StoreProcesses:
    """Starts processes on one file."""

    file: Path
    ledger: Path
    started: list[StoreProcess] = field(default_factory=list[StoreProcess])

    def start(self, *, serve: bool = False, before: tuple[str, ...] = (), **options: Any) -> StoreProcess:
        """Start a process that has opened the file, and start a runtime in it if it is to ``serve``."""
        process = StoreProcess([str(self.file), str(self.ledger)], list(before))
        self.started.append(process)
        process.ask("open")
        if serve:
            process.ask("serve", **options)
        return process

    def begun(self) -> Counter[str]:
        """How often the activities of each instance have begun."""
        return Counter(line.split()[1] for line in self.ledger.read_text().splitlines())


def check_integrity(file: Path, scratch: Path) -> None:
    """Check a copy of a store's file and of its log, so that the next process finds the original unchanged."""
    scratch.mkdir(exist_ok=True)
    for name in (file.name, f"{file.name}-wal"):
        source, copy = file.with_name(name), scratch / name
        copy.unlink(missing_ok=True)
        if source.exists():
            copy.write_bytes(source.read_bytes())
    with closing(sqlite3.connect(scratch / file.name)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def is_busy(process: StoreProcess, span: float = 2.0) -> bool:
    """Whether a process keeps a processor busy without a request."""
    used: float = process.ask("processor_seconds", span)
    return used > span / 4


def wait_for_log(process: StoreProcess, is_it: Callable[[str], bool]) -> list[str]:
    """Wait until a process has logged such a message, and return all such messages."""

    def found() -> list[str]:
        return [message for _, message in process.ask("records") if is_it(message)]

    wait_until(found)
    return found()


def refusal(action: Callable[[], object]) -> str | None:
    """The message of the error when a process refuses; ``None`` when it does not."""
    try:
        action()
    except RequestFailed as failed:
        return str(failed)
    return None
