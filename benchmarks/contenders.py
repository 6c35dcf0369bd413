"""The other contenders: programs that play the same workloads, each in a separate process.

A program is called as ``COMMAND WORKLOAD SIZE FOLDER`` (the one in Rust has other arguments). Its last line is a JSON
array of what it measured, or ``null`` if the workload needs something that it does not have. On PostgreSQL,
``DATABASE_URL`` names an empty database, and the line is an object: ``samples`` is that array, ``client`` and
``server`` are seconds of processor time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.processors import Spent
from duroxide import RuntimeOptions

ROOT = Path(__file__).resolve().parents[1]
LONGEST_SECONDS = 150
LONGEST_INSTALL_SECONDS = 600
RUST_WORKLOADS = {"burst", "bulk", "chain", "fan", "hello", "commits"}
PEERS = Path(__file__).parent / "peers"
# What to install for peers that need more than one package, or whose package has another name.
PACKAGES = {
    "absurd": ("absurd-sdk", "absurdctl"),
    "procrastinate": ("procrastinate", "psycopg[binary,pool]"),
}


class CannotPlayError(Exception):
    """A program cannot play; the message says why."""


@dataclass(frozen=True)
class Played:
    """The samples of one program in one round."""

    samples: list[float]
    spent: Spent | None = None


@dataclass(frozen=True)
class Program:
    """A contender in a separate process."""

    name: str
    command: Sequence[str]

    def play(self, workload: str, size: int, folder: Path, store: str, database: str | None) -> Played | None:
        """Play one workload on an empty store in ``folder`` or ``database``; ``None`` if the contender lacks it.

        Raises:
            CannotPlayError: It failed, or took too long.
        """
        del store  # the database identifies the store
        answer = self.ask(workload, str(size), str(folder), database=database)
        if isinstance(answer, dict):
            return Played(answer["samples"], Spent(answer["client"], answer["server"]))
        return None if answer is None else Played([float(each) for each in answer])

    def describe(self, folder: Path, database: str | None) -> str:
        """Return the release and how it keeps its data.

        Raises:
            CannotPlayError: The program does not run here, or not on this store.
        """
        return str(self.ask("about", "0", str(folder), database=database))

    def ask(self, *arguments: str, database: str | None = None) -> Any:
        """Run the program and read the last line that it prints."""
        # Only the peer's packages: this package has the same name as one of them.
        environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "DATABASE_URL")}
        if database is not None:
            environment["DATABASE_URL"] = database
        try:
            finished = subprocess.run(
                [*self.command, *arguments],
                capture_output=True,
                text=True,
                timeout=LONGEST_SECONDS,
                cwd=ROOT,
                env=environment,
                check=False,
            )
        except OSError as error:
            raise CannotPlayError(str(error)) from error
        except subprocess.TimeoutExpired as error:
            raise CannotPlayError(f"it took more than {LONGEST_SECONDS} s") from error
        if finished.returncode != 0:
            raise CannotPlayError(last_line(finished.stderr) or f"it ended with exit code {finished.returncode}")
        try:
            return json.loads(last_line(finished.stdout))
        except json.JSONDecodeError as error:
            raise CannotPlayError(f"it printed no figures but: {last_line(finished.stdout)}") from error


class RustHandlers(Program):
    """The same store and engine with handlers in Rust, with the default number of slots of Python's runtime."""

    def play(self, workload: str, size: int, folder: Path, store: str, database: str | None) -> Played | None:
        """Play a workload on a store of the measured kind."""
        if workload not in RUST_WORKLOADS or database is not None:
            return None
        if workload == "commits":
            return Played(self.ask(workload, "0", str(folder)))
        options = RuntimeOptions()
        slots = (str(options.orchestration_concurrency), str(options.worker_concurrency))
        place = "memory" if store == "memory" else str(folder / "store.db")
        return Played(self.ask(workload, str(size), place, *slots))


def install(name: str) -> Program:
    """Install the newest release of a peer into a separate environment, unless it is there already.

    Raises:
        CannotPlayError: The peer has no program, or cannot be installed.
    """
    known = sorted(file.stem for file in PEERS.glob("*.py") if file.stem != "__init__")
    if name not in known:
        raise CannotPlayError(f"it has no program in benchmarks/peers; the known ones: {', '.join(known)}")
    folder = ROOT / f".venv-bench-{name}"
    python = folder / "bin" / "python"
    stamp = folder / ".installed"
    if not stamp.exists():
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(folder)],
            [
                str(python),
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                *PACKAGES.get(name, (name,)),
            ],
        ):
            try:
                subprocess.run(command, check=True, capture_output=True, text=True, timeout=LONGEST_INSTALL_SECONDS)
            except subprocess.CalledProcessError as error:
                raise CannotPlayError(f"it cannot be installed: {last_line(error.stderr)}") from error
            except subprocess.TimeoutExpired as error:
                raise CannotPlayError(f"installing it took more than {LONGEST_INSTALL_SECONDS} s") from error
        stamp.touch()
    return Program(name, [str(python), "-m", f"benchmarks.peers.{name}"])


def last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""
