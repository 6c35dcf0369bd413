"""Processor time: what the store's users spend and what the processes of a PostgreSQL server spend, separately.

Peers import this module too, so it needs only the standard library. The server is identified by its first process, the
postmaster, whose number is in ``BENCH_POSTMASTER``. For a server on another machine it is not set, and its time is left
out.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

POSTMASTER = "BENCH_POSTMASTER"
PROC = Path("/proc")
# Where the kernel writes processor time in /proc/PID/stat, counted from the program's name on: see proc(5).
PARENT = 1
OWN_TIMES = slice(11, 13)
TIMES_OF_ENDED_CHILDREN = slice(13, 15)


@dataclass(frozen=True)
class Spent:
    """Seconds of processor time."""

    client: float = 0.0
    server: float | None = None

    def __add__(self, other: Spent) -> Spent:
        known = [spent.server for spent in (self, other) if spent.server is not None]
        return Spent(self.client + other.client, sum(known) if known else None)

    def since(self, before: Spent) -> Spent:
        unknown = self.server is None or before.server is None
        return Spent(self.client - before.client, None if unknown else (self.server or 0.0) - (before.server or 0.0))

    def each(self, operations: float) -> Spent:
        return Spent(self.client / operations, None if self.server is None else self.server / operations)


class Meter:
    """Adds up the processor time spent during measurements."""

    def __init__(self) -> None:
        self.spent: Spent | None = None
        self.nodes: list[int] = []
        """Processes that use the store beside this one."""

    def reset(self) -> None:
        self.spent = None

    def add(self, spent: Spent) -> None:
        self.spent = spent + (self.spent or Spent())

    def timed(self, action: Callable[..., object], *arguments: object) -> float:
        """Return the seconds that a call takes, and add up the processor time spent during it."""
        before = self.now()
        began = time.perf_counter()
        action(*arguments)
        seconds = time.perf_counter() - began
        self.add(self.now().since(before))
        return seconds

    def now(self) -> Spent:
        """Return the time spent so far."""
        nodes = sum(seconds_of(node, ended_children=False) for node in self.nodes)
        return Spent(time.process_time() + nodes, spent_by_server())


def spent_by_server() -> float | None:
    """Seconds that the server's processes have spent since it started, ended sessions included."""
    postmaster = int(os.environ.get(POSTMASTER) or 0)
    if not postmaster:
        return None
    spent = seconds_of(postmaster, ended_children=True)
    return spent + sum(seconds_of(child, ended_children=True) for child in children(postmaster))


def seconds_of(process: int, *, ended_children: bool) -> float:
    """The time that a process has spent; zero if it does not exist."""
    fields = fields_of(process)
    ticks = sum(map(int, fields[OWN_TIMES]))
    if ended_children:
        ticks += sum(map(int, fields[TIMES_OF_ENDED_CHILDREN]))
    return ticks / os.sysconf("SC_CLK_TCK")


def children(process: int) -> list[int]:
    listed = PROC / str(process) / "task" / str(process) / "children"
    if listed.exists():
        return [int(number) for number in listed.read_text().split()]
    numbers = [int(folder.name) for folder in PROC.iterdir() if folder.name.isdecimal()]
    return [number for number in numbers if fields_of(number)[PARENT : PARENT + 1] == [str(process)]]


def fields_of(process: int) -> list[str]:
    try:
        # A program's name may hold spaces and parentheses.
        return (PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
