"""A durable census of Python's own standard library.

One activity counts one package: it parses the package's sources and counts modules, classes, functions and lines. The
orchestration fans out over all packages and collects the results. Half-way, the program kills its worker process with
SIGKILL, as a crash would, and starts it again. The census continues with the packages that are not counted yet.

Run it with ``make quickstart``. It works in the folder ``.quickstart``, and starts from the beginning each time. Its
orchestration is a generator, so that it also runs on Python 3.10.
"""

from __future__ import annotations

import ast
import multiprocessing
import os
import shutil
import sys
import sysconfig
import time
import tokenize
import warnings
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

from duroxide import Client, Runtime, RuntimeOptions, SqliteProvider, activity, context, orchestration

FOLDER = Path(".quickstart")
STORE = FOLDER / "census.db"
# Each activity first writes the key of its call and its package's name here, so the file says which calls ran, and how
# often: a second run of a call has the same key.
LEDGER = FOLDER / "ledger.txt"
LIBRARY = Path(sysconfig.get_paths()["stdlib"])
COUNTED = ("modules", "classes", "functions", "lines")
ROWS = 15

Counts = dict[str, int]


def packages() -> list[str]:
    """Packages and single modules at the top of the standard library, without installed ones."""
    left_out = {"site-packages", "dist-packages", "__pycache__", "test"}
    return sorted(
        entry.name
        for entry in LIBRARY.iterdir()
        if entry.name not in left_out and (entry.suffix == ".py" or (entry.is_dir() and any(entry.rglob("*.py"))))
    )


@activity
def count_package(name: str) -> Counts:
    """Activity: count the parts of one package."""
    write_ledger(f"{context().idempotency_key} {name}")
    package = LIBRARY / name
    counts: Counter[str] = Counter(dict.fromkeys(COUNTED, 0))
    for source in [package] if package.is_file() else sorted(package.rglob("*.py")):
        counts += count_module(source)
    return {what: counts[what] for what in COUNTED}


def count_module(source: Path) -> Counter[str]:
    """Parse one file."""
    try:
        with tokenize.open(source) as file:  # knows the encoding that a source declares
            text = file.read()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old sources have invalid escapes
            nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, UnicodeDecodeError):
        return Counter()  # the library has a few invalid files, for its own tests
    return Counter(
        modules=1,
        classes=sum(isinstance(node, ast.ClassDef) for node in nodes),
        functions=sum(isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) for node in nodes),
        lines=text.count("\n"),
    )


@orchestration
def census(names: list[str]) -> Generator[Any, Any, dict[str, Counts]]:
    """Orchestration: count all packages at once, and collect the results."""
    results = yield context().gather(*(count_package(name) for name in names))
    return dict(zip(names, results, strict=True))


def work() -> None:
    """The worker process: it starts the census, or continues it, and ends when the census has ended."""
    options = RuntimeOptions(worker_concurrency=4)
    with (
        SqliteProvider.open(STORE) as provider,
        Runtime(provider, options, functions=[count_package, census]) as runtime,
    ):
        # Starting an instance that exists attaches to it, so the same line starts and continues the census.
        runtime.client.start(census, packages(), id="census-1").wait(timeout=120)


def write_ledger(line: str) -> None:
    """Append a line in one write, so that other threads and processes cannot write into it."""
    ledger = os.open(LEDGER, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(ledger, f"{line}\n".encode())
    finally:
        os.close(ledger)


def read_ledger() -> Counter[str]:
    """How often each call of the activity ran."""
    return Counter(LEDGER.read_text().split("\n")[:-1]) if LEDGER.exists() else Counter()


def report(counts: dict[str, Counts]) -> None:
    """Print the largest packages and the totals as a table."""
    width = max(map(len, counts))
    totals = {what: sum(count[what] for count in counts.values()) for what in COUNTED}
    largest = sorted(counts.items(), key=lambda item: (-item[1]["lines"], item[0]))[:ROWS]
    heading = f"{'package':<{width}}" + "".join(f"{what:>12}" for what in COUNTED)
    rule = "-" * len(heading)

    def row(name: str, count: Counts) -> str:
        return f"{name:<{width}}" + "".join(f"{count[what]:>12,}" for what in COUNTED)

    print("", heading, rule, *(row(name, count) for name, count in largest), sep="\n")
    print(rule, row(f"all {len(counts)}", totals), "", sep="\n")


class Progress:
    """Shows how many packages are counted: in place on a terminal, else in a new line at every fifth."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._fifths_said = 0

    def show(self, done: int) -> None:
        """Show how many packages are counted so far."""
        text = f"counting packages: {done} of {self.total}"
        if sys.stdout.isatty():
            print(f"\r\033[K{text}", end="", flush=True)
        elif done * 5 // self.total > self._fifths_said:
            self._fifths_said = done * 5 // self.total
            print(text, flush=True)

    def say(self, text: str) -> None:
        """Print another message, on a separate line."""
        print(f"\r\033[K{text}" if sys.stdout.isatty() else text, flush=True)


def main() -> int:
    """Supervise the worker: kill it half-way, start it again, and report."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    total = len(packages())
    print(f"a census of the standard library of Python {sysconfig.get_python_version()}: {total} packages")
    began = time.monotonic()
    processes = multiprocessing.get_context("spawn")
    progress = Progress(total)
    worker = processes.Process(target=work, daemon=True)
    worker.start()
    killed = False
    while worker.is_alive():
        worker.join(0.05)
        ran = len(read_ledger())
        progress.show(ran)
        if ran >= total / 2 and not killed:
            worker.kill()
            worker.join()
            killed = True
            progress.say(f"killed the worker with SIGKILL after {ran} of {total}, and starting it again")
            worker = processes.Process(target=work, daemon=True)
            worker.start()
    if worker.exitcode != 0:
        progress.say(f"the worker ended with exit code {worker.exitcode}")
        return 1
    progress.say(f"all {total} packages counted in {time.monotonic() - began:.1f} s")
    report(Client(SqliteProvider.open(STORE)).get_status("census-1").result())
    runs = Counter(read_ledger().values())
    often = sum(count for times, count in runs.items() if times > 2)
    print(f"{runs[1]} activities ran once. {runs[2]} ran twice, because they were running when the worker was killed.")
    if often:
        print(f"{often} ran more often.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
