"""W15: nodes, slots and connections on one PostgreSQL server; runs only when named, for the sizing page.

Each line is W1 with a client and this many nodes; everything that the line does not name has its default. The latency
beside it is that of single starts, one after the other, on an otherwise idle store.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.bench import METER, OWN, REPETITIONS, WAIT_MS, Bench, Figure, medians, middle, percentile, timed
from benchmarks.nodes import Nodes, burst, nodes_at_work, size
from benchmarks.processors import Spent

STARTS = 30


@dataclass(frozen=True)
class Shape:
    """How many of what."""

    nodes: int = 1
    slots: int | None = None
    pool: int | None = None

    def __str__(self) -> str:
        named = {"slots": self.slots, "connections": self.pool}
        parts = [
            f"{self.nodes} node{'s' if self.nodes > 1 else ''}",
            *(f"{n} {what}" for what, n in named.items() if n),
        ]
        return ", ".join(parts)


SHAPES = [
    *(Shape(slots=slots) for slots in (8, 32, 64, 128, 256)),
    *(Shape(pool=pool) for pool in (5, 10, 20)),
    *(Shape(nodes=nodes) for nodes in (1, 2, 4)),
]


def starts(nodes: Nodes) -> list[float]:
    """Milliseconds from a start to its end, as the client sees it."""
    samples = []
    for number in range(STARTS):
        before = time.perf_counter()
        nodes.client.start_orchestration(f"lone-{number}", "one_activity", 1)
        nodes.client.wait_for_orchestration(f"lone-{number}", WAIT_MS)
        samples.append(1_000 * (time.perf_counter() - before))
    return samples


def measure(bench: Bench) -> Iterator[Figure]:
    if bench.server is None:
        yield Figure("W15", "sizes", "per s", remark="only on PostgreSQL")
        return
    count = size(bench)
    for shape in SHAPES:
        rates, latencies, spent, probes = [], [], [], []
        for _ in range(REPETITIONS):
            probes.append(bench.probe_disk())
            with nodes_at_work(bench, shape.nodes, slots=shape.slots, pool=shape.pool) as nodes:
                latencies.append(percentile(starts(nodes), 50))
                METER.reset()
                rates.append(count / timed(burst, nodes, count))
                spent.append((METER.spent or Spent()).each(count))
        disk = medians(probes)
        yield Figure("W15", f"{shape}: {count:,}", "per s", {OWN: rates}, disk, spent={OWN: middle(spent)})
        yield Figure("W15", f"{shape}: a lone start to its end, p50", "ms", {OWN: latencies}, disk)
