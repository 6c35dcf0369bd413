"""Runs each program of a folder by itself and says which of them failed: ``make cases CASES=folder``.

A program is right if its exit status is 0. Status 77 means that it lacks something, such as a package, and was left out.
Each program runs in an empty folder and may import its neighbours. Two kinds of files are not programs: those whose names
begin with ``_``, and modules that a neighbour imports, unless they have a main block.
"""

from __future__ import annotations

import argparse
import ast
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

LEFT_OUT = 77


@dataclass(frozen=True)
class Outcome:
    """How a program ended."""

    name: str
    status: int | None
    """Its exit status; ``None`` if it ran longer than it may."""
    seconds: float
    output: str

    @property
    def is_failure(self) -> bool:
        """Tell whether the program says that something is wrong."""
        return self.status not in (0, LEFT_OUT)

    def line(self) -> str:
        """Describe the outcome in one line."""
        word = {None: "hung", LEFT_OUT: "left out"}.get(self.status, str(self.status))
        return f"{self.name:<40} {word:>8} {self.seconds:7.1f} s"


def programs_of(folder: Path) -> list[Path]:
    """Return the files of ``folder`` that are programs, by name."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.py"))}
    imported = {name for tree in trees.values() for name in imports_of(tree)}
    return [
        path
        for path, tree in trees.items()
        if not path.name.startswith("_") and (path.stem not in imported or has_main_block(tree))
    ]


def imports_of(tree: ast.Module) -> set[str]:
    """Return the names of the modules that a module imports, at any depth of its code."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names.add(node.module)
    return names


def has_main_block(tree: ast.Module) -> bool:
    """Tell whether a module does more when it is run than when it is imported."""
    return any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in tree.body)


def run(program: Path, seconds: float) -> Outcome:
    """Run ``program`` for at most ``seconds``, then end it and all that it started."""
    paths = [str(program.parent.resolve()), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    started = time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, program.resolve()],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        status = wait(process, seconds)
        output.seek(0)
        text = output.read().decode(errors="replace")
    return Outcome(program.stem, status, time.monotonic() - started, text)


def wait(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    """Return the exit status of ``process``, or end its group and return ``None`` after ``seconds``."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None


def main() -> int:
    """Run the programs one after another, because many of them measure time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder of the programs")
    parser.add_argument("names", nargs="*", help="names of programs, without .py; default: all")
    parser.add_argument("--seconds", type=float, default=180, help="how long a program may run; default: 180")
    options = parser.parse_args()
    programs = programs_of(options.folder)
    unknown = sorted(set(options.names) - {program.stem for program in programs})
    if unknown or not programs:
        parser.error(f"{options.folder} has no program {', '.join(unknown)}".rstrip())
    failed: list[str] = []
    for program in programs:
        if options.names and program.stem not in options.names:
            continue
        outcome = run(program, options.seconds)
        print(outcome.line(), flush=True)
        if outcome.is_failure:
            failed.append(outcome.name)
            print(outcome.output.rstrip(), flush=True)
    print(f"{len(failed)} failed: {' '.join(failed)}" if failed else "all are right")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
