"""The table: one row a figure, and beside it its limits and the other contenders, measured in the same run."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.bench import COMMIT, COMMITS, MEMORY, NO_DISK, OWN, RUST, SYNC, Bench, Figure
from benchmarks.processors import Spent
from benchmarks.styles import ASYNC, DECLARED

LABEL = "{:<4}{:<50}{:>9}  {:<6}{:>19}"
NARROWEST_CELL = 11
# Units that are counts per second.
PROCESSORS = "processor time"
UNITS = {"s": 1.0, "ms": 1_000.0}


class Table:
    """Formats figures, with a column for each contender that takes part."""

    def __init__(self, bench: Bench) -> None:
        self._bounds = [] if bench.store == MEMORY else [SYNC]
        if bench.store == "sqlite" and bench.rust is not None:
            self._bounds.append(COMMIT)
        if bench.server is not None:
            self._bounds += [COMMIT, COMMITS]
        self._contenders = [DECLARED, ASYNC]
        self._contenders += [] if bench.store == MEMORY else [NO_DISK]
        if bench.rust is not None and bench.store != "postgres":
            self._contenders.append(RUST)
        self._contenders += [peer.name for peer in bench.peers]

    @property
    def heading(self) -> str:
        columns = [*self._bounds, *self._contenders]
        line = LABEL.format("", "", "median", "", "min - max") + self._cells(columns)
        return f"{line}\n{'-' * len(line)}"

    @property
    def legend(self) -> str:
        meanings = {
            SYNC: "a sync is 4 KiB and fdatasync on this disk",
            COMMIT: "a commit is a row and the store's own sync",
            COMMITS: "of eight: the same by eight connections at once",
            DECLARED: "declared and async are other styles of the same program",
            NO_DISK: "the others are medians",
        }
        legend = "".join(
            f"; {text}" for column, text in meanings.items() if column in (*self._bounds, *self._contenders)
        )
        if COMMITS in self._bounds:
            legend += f"; {PROCESSORS}: of one orchestration, step, activity, start or message, clients + server"
        return legend

    def row(self, figure: Figure) -> str:
        own = figure.samples.get(OWN)
        if not own:
            return LABEL.format(figure.workload, figure.what, "", "", "").rstrip() + f"  {figure.remark}"
        spread = f"{number(min(own))} - {number(max(own))}"
        line = LABEL.format(figure.workload, figure.what, number(statistics.median(own)), figure.unit, spread)
        bounds = [bound(figure.disk.get(name), figure.unit) for name in self._bounds]
        others = [median(figure.samples.get(name)) for name in self._contenders]
        row = (line + self._cells(bounds + others)).rstrip()
        return f"{row}\n{self._spent(figure)}" if figure.spent else row

    def _spent(self, figure: Figure) -> str:
        """The line below a row: the cost of its operations, by contender."""
        own = processors(figure.spent.get(OWN))
        line = LABEL.format("", f"  {PROCESSORS}", own, "ms", "")
        others = [processors(figure.spent.get(name)) for name in self._contenders]
        return (line + self._cells([""] * len(self._bounds) + others)).rstrip()

    def _cells(self, texts: Sequence[str]) -> str:
        """Texts below the names of their columns."""
        widths = [max(NARROWEST_CELL, len(name) + 2) for name in (*self._bounds, *self._contenders)]
        return "".join(f"{text:>{width}}" for text, width in zip(texts, widths, strict=True))


def bound(rate: float | None, unit: str) -> str:
    """What one operation takes, in the unit of the figure; or how many there are a second."""
    if rate is None:
        return "-"
    return number(rate if unit == "per s" else UNITS[unit] / rate)


def median(samples: Sequence[float] | None) -> str:
    return number(statistics.median(samples)) if samples else "-"


def processors(spent: Spent | None) -> str:
    if spent is None or spent.server is None:
        return "-"
    return f"{short(1_000 * spent.client)}+{short(1_000 * spent.server)}"


def short(value: float) -> str:
    """Few enough digits that two of them fit into a cell."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def number(value: float) -> str:
    """Three significant digits."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 1:
        return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return f"{value:.3f}" if abs(value) >= 0.001 or value == 0 else f"{value:.1e}"
