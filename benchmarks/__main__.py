"""Runs the workloads on one store and prints one table."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import duroxide
from benchmarks import (
    backlog,
    burst,
    chain,
    crash,
    disk,
    fan,
    hello,
    idle,
    listing,
    message,
    nodes,
    replay,
    sizing,
    sleepers,
    waiting,
    wakeup,
)
from benchmarks.bench import MEMORY, Bench, Figure
from benchmarks.contenders import ROOT, CannotPlayError, Program, RustHandlers, install
from benchmarks.server import serve
from benchmarks.table import Table

WORKLOADS: dict[str, Callable[[Bench], Iterator[Figure]]] = {
    "W1": burst.measure,
    "W2": chain.measure,
    "W3": fan.measure,
    "W4": hello.measure,
    "W5": message.measure,
    "W6": sleepers.measure,
    "W7": crash.measure,
    "W8": replay.measure,
    "W9": waiting.measure,
    "W10": disk.measure,
    "W11": idle.measure,
    "W12": backlog.measure,
    "W13": nodes.measure,
    "W14": wakeup.measure,
    "W15": sizing.measure,
    "W16": listing.measure,
}
# A workload may also be named by its file.
ALIASES = {measure.__module__.rpartition(".")[2].upper(): name for name, measure in WORKLOADS.items()}
ALIASES["MEMORY"] = "W9"
# The last two need a long time, so they run only when named.
DEFAULT = [name for name in WORKLOADS if name not in {"W15", "W16"}]


def main() -> int:
    arguments = parse()
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=Path("target") if Path("target").is_dir() else None))
    folder = folder.resolve()
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        server = stack.enter_context(serve()) if arguments.store == "postgres" else None
        rust = RustHandlers("Rust", [str(arguments.rust)]) if arguments.rust.exists() else None
        bench = Bench(arguments.store, folder, server, rust)
        print(f"duroxide {duroxide.__version__}, Python {platform.python_version()}, {os.cpu_count()} processors")
        print(f"store: {arguments.store}{'' if server is None else f', {server.about}'}")
        if rust is None:
            print(f"without handlers in Rust, because there is no {arguments.rust}; make bench builds it")
        bench.peers = list(invite(arguments.against, bench)) if arguments.store != MEMORY else []
        run(bench, arguments.only)
    return 0


def run(bench: Bench, names: list[str]) -> None:
    table = Table(bench)
    print(f"\n{table.heading}", flush=True)
    began = time.perf_counter()
    for name in names:
        for figure in WORKLOADS[name](bench):
            print(table.row(figure), flush=True)
    print(f"\n{time.perf_counter() - began:.0f} s in all{table.legend}")
    for note in bench.notes:
        print(note)
    if bench.server is not None and bench.server.profiled:
        print("\ntime in the server's functions, without the functions that they called:")
        for line in bench.server.profile:
            print(line)


def invite(peers: list[str], bench: Bench) -> Iterator[Program]:
    """Return the peers that can be installed and run here; print why others cannot."""
    for name in peers:
        try:
            peer = install(name)
            with bench.empty_database() as database:
                description = peer.describe(bench.new_folder(), database)
        except CannotPlayError as error:
            print(f"without {name}: {error}")
        else:
            print(f"against {description}")
            yield peer


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--store", choices=("memory", "sqlite", "postgres"), default="sqlite")
    parser.add_argument("--only", type=workloads, default=DEFAULT, help="some workloads alone: W1,memory,idle")
    parser.add_argument(
        "--against", type=str.split, default=[], help="released packages to measure as well: 'dbos huey'"
    )
    parser.add_argument("--rust", type=Path, default=ROOT / "target" / "release" / "rust_handlers")
    return parser.parse_args()


def workloads(text: str) -> list[str]:
    chosen = [ALIASES.get(name.strip().upper(), name.strip().upper()) for name in text.split(",")]
    unknown = [name for name in chosen if name not in WORKLOADS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no workload {', '.join(unknown)}; there are {', '.join(WORKLOADS)}")
    return chosen


if __name__ == "__main__":
    sys.exit(main())
