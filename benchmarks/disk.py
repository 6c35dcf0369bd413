"""W10: what a finished orchestration of one activity leaves on disk, not counting the log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.bench import Bench, Figure, open_store, running
from benchmarks.burst import ACTIVITIES, FULL_SIZE, ORCHESTRATIONS, SLOW_SIZE, play, probe
from duroxide import Client


def size_of(folder: Path) -> int:
    """Bytes of the lasting files: SQLite overwrites its log and the log's index again and again."""
    return sum(
        file.stat().st_size for file in folder.iterdir() if file.is_file() and not file.name.endswith(("-wal", "-shm"))
    )


def measure(bench: Bench) -> Iterator[Figure]:
    what = "bytes on disk of an orchestration of one activity"
    if bench.store != "sqlite":
        yield Figure("W10", what, "bytes", remark="only where the store is a file")
        return
    count = SLOW_SIZE if bench.too_long(probe(bench) * FULL_SIZE) else FULL_SIZE

    def own(store: str) -> list[float]:
        place = Path(bench.place(store))
        sizes = [0, 0]
        # The second opening adds as many again, so the tables of an empty store do not count.
        for number in range(2):
            with open_store(store, str(place), None) as provider, running(provider, ACTIVITIES, ORCHESTRATIONS):
                play(Client(provider), f"burst-{number}", count)
            sizes[number] = size_of(place.parent)
        return [(sizes[1] - sizes[0]) / count]

    peers = [peer.name for peer in bench.peers]
    rounds = bench.compare("disk", count, own, contenders=peers)
    yield rounds.figure("W10", what, "bytes", bounded_by_disk=False)
