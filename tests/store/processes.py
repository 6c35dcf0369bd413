"""Processes on one file of the embedded store, which tests ask, kill and start again."""

from __future__ import annotations

import json
import os
import select
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deadline import wait_until

PROCESS = Path(__file__).with_name("process.py")
TESTS = Path(__file__).parents[1]
ANSWER_SECONDS = 90.0


class Refused(Exception):
    """The process answered with an exception.

    Attributes:
        kind: Name of its class.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


class StoreProcess:
    """A running ``process.py``."""

    def __init__(self, arguments: list[str], before: list[str]) -> None:
        self.running = subprocess.Popen(
            [*before, sys.executable, str(PROCESS), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(TESTS)},
        )

    def send(self, question: str, *arguments: Any, **options: Any) -> None:
        """Ask without waiting for the answer."""
        assert self.running.stdin is not None
        self.running.stdin.write(json.dumps([question, arguments, options]) + "\n")
        self.running.stdin.flush()

    def answer(self, seconds: float = ANSWER_SECONDS) -> Any:
        """Wait for the answer to the question sent first.

        Raises:
            Refused: The process raised.
        """
        assert self.running.stdout is not None
        ready, _, _ = select.select([self.running.stdout], [], [], seconds)
        assert ready, f"no answer within {seconds} s"
        line = self.running.stdout.readline()
        assert line, f"the process has ended: {self.running.wait()}"
        answer = json.loads(line)
        if "error" in answer:
            raise Refused(answer["error"], answer["message"])
        return answer["value"]

    def ask(self, question: str, *arguments: Any, **options: Any) -> Any:
        """Ask, and wait for the answer."""
        self.send(question, *arguments, **options)
        return self.answer()

    def call(self, operation: str, *arguments: Any, **options: Any) -> Any:
        """Call an operation of its client."""
        return self.ask("call", operation, *arguments, **options)

    def result(self, instance: str, timeout_ms: int = 30_000) -> Any:
        """Wait in that process for the end of an instance that completes, and return its output."""
        status = self.call("wait_for_orchestration", instance, timeout_ms)
        assert status["status"] == "Completed", status
        return status["output"]

    def is_alive(self) -> bool:
        return self.running.poll() is None

    def kill(self) -> None:
        """End it as a power failure does."""
        self.running.send_signal(signal.SIGKILL)
        self.running.wait()

    def leave(self) -> None:
        """Let it end by itself."""
        assert self.running.stdin is not None
        self.running.stdin.close()
        assert self.running.wait(30) == 0


@dataclass
class StoreProcesses:
    """Starts processes on one file."""

    file: Path
    ledger: Path
    started: list[StoreProcess] = field(default_factory=list[StoreProcess])

    def start(self, *, serve: bool = False, before: tuple[str, ...] = (), **options: Any) -> StoreProcess:
        """Start a process that has opened the file, and let it start a runtime if it is to ``serve``."""
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
    """Check a copy of a store's file and of its log, so that the next process finds what was left to it."""
    scratch.mkdir(exist_ok=True)
    for name in (file.name, f"{file.name}-wal"):
        source, copy = file.with_name(name), scratch / name
        copy.unlink(missing_ok=True)
        if source.exists():
            copy.write_bytes(source.read_bytes())
    with closing(sqlite3.connect(scratch / file.name)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def is_busy(process: StoreProcess, span: float = 2.0) -> bool:
    """Tell whether a process keeps a processor busy although nothing is asked of it."""
    used: float = process.ask("processor_seconds", span)
    return used > span / 4


def wait_for_log(process: StoreProcess, is_it: Callable[[str], bool]) -> list[str]:
    """Wait until a process has logged such a message, and return all such messages."""

    def found() -> list[str]:
        return [message for _, message in process.ask("records") if is_it(message)]

    wait_until(found)
    return found()


def refusal(action: Callable[[], object]) -> str | None:
    """What a process says when it refuses; ``None`` when it does not."""
    try:
        action()
    except Refused as refused:
        return str(refused)
    return None
