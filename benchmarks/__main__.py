"""Runs the workloads on one store and prints one table."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import duroxide
from benchmarks import burst, chain, crash, fan, hello, message, replay, sleepers
from benchmarks.bench import Bench, Figure

WORKLOADS: dict[str, Callable[[Bench], Iterator[Figure]]] = {
    "W1": burst.measure,
    "W2": chain.measure,
    "W3": fan.measure,
    "W4": hello.measure,
    "W5": message.measure,
    "W6": sleepers.measure,
    "W7": crash.measure,
    "W8": replay.measure,
}
ROW = "{:<4}{:<50}{:>10}  {:<7}{:>20}{:>12}"


def main() -> int:
    arguments = parse()
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=Path("target") if Path("target").is_dir() else None))
    try:
        postgres = start_postgres() if arguments.store == "postgres" else None
        print(f"duroxide {duroxide.__version__}, Python {platform.python_version()}, {os.cpu_count()} processors")
        print(f"store: {arguments.store}; one sync: 4 KiB and fdatasync on this disk, measured before each workload\n")
        heading = ROW.format("", "", "median", "", "min - max", "one sync")
        print(heading, "-" * len(heading), sep="\n", flush=True)
        began = time.perf_counter()
        bench = Bench(arguments.store, folder, postgres)
        for name in arguments.only:
            bench.probe_disk()
            for figure in WORKLOADS[name](bench):
                print(row(figure), flush=True)
        print(f"\n{time.perf_counter() - began:.0f} s in all; W6 has two rounds of sleep in place of one sync")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--store", choices=("memory", "sqlite", "postgres"), default="sqlite")
    parser.add_argument("--only", type=names, default=list(WORKLOADS), help="some workloads alone: W1,W3")
    return parser.parse_args()


def names(text: str) -> list[str]:
    chosen = [name.strip().upper() for name in text.split(",")]
    unknown = [name for name in chosen if name not in WORKLOADS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no workload {', '.join(unknown)}; there are {', '.join(WORKLOADS)}")
    return chosen


def start_postgres() -> str:
    """A server as the tests have it, but with its disk synced; or the one that ``DATABASE_URL`` names."""
    # Other stores need neither. The server is the tests' own, in a folder that the Makefile puts on the path.
    import dotenv  # noqa: PLC0415

    from postgres_server import start_server  # noqa: PLC0415

    named = os.environ.get("DATABASE_URL") or dotenv.dotenv_values(".env").get("DATABASE_URL")
    return named or start_server(os.getpid(), fsync=True).url


def row(figure: Figure) -> str:
    if not figure.samples:
        return ROW.format(figure.workload, figure.what, "", "", "", "").rstrip() + f"  {figure.remark}"
    spread = f"{number(min(figure.samples))} - {number(max(figure.samples))}"
    limit = "-" if figure.limit is None else number(figure.limit)
    median = number(statistics.median(figure.samples))
    return ROW.format(figure.workload, figure.what, median, figure.unit, spread, limit)


def number(value: float) -> str:
    """Three digits that count."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


if __name__ == "__main__":
    sys.exit(main())
