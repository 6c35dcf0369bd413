"""W14: how soon another process starts work that this one requests, on an idle PostgreSQL store.

This process is only a client, another one has the runtime. The clock starts before the call. One figure is the time
until the activity that the call leads to begins, the other the time until this process has the answer.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator

from benchmarks.bench import OWN, REPETITIONS, WAIT_MS, Bench, Figure, medians, percentile
from benchmarks.nodes import Nodes, nodes_at_work

CALLS = 100
FEW_CALLS = 30
POLL_MS = 50
# Long enough for all to be idle again, and never in step with a poll.
PAUSE_SECONDS = (0.05, 0.2)
SEED = 6


class Caller:
    """Calls from this process, and the times that the other one noted."""

    def __init__(self, nodes: Nodes) -> None:
        self._client = nodes.client
        self._version = 0
        self._client.start_orchestration("listener", "listener", None)
        self._next_status()

    def start(self, number: int) -> float:
        name = f"noted-{number}"
        self._client.start_orchestration(name, "noted", None)
        moment: float = self._client.wait_for_orchestration(name, WAIT_MS).result()
        return moment

    def enqueue(self, number: int) -> float:
        self._client.enqueue_event("listener", "inbox", str(number))
        return float(self._next_status())

    def _next_status(self) -> str:
        status = self._client.wait_for_status_change("listener", self._version, POLL_MS, WAIT_MS)
        assert status is not None
        assert status.custom_status is not None
        self._version = status.custom_status_version
        return status.custom_status


def sample(call: Callable[[int], float], count: int, pauses: random.Random) -> tuple[list[float], list[float]]:
    """Milliseconds to the activity and to the answer, of this many calls."""
    begun, answered = [], []
    call(0)
    for number in range(1, count + 1):
        time.sleep(pauses.uniform(*PAUSE_SECONDS))
        before = time.monotonic()
        moment = call(number)
        answered.append(1_000 * (time.monotonic() - before))
        begun.append(1_000 * (moment - before))
    return begun, answered


def measure(bench: Bench) -> Iterator[Figure]:
    if bench.server is None:
        yield Figure("W14", "another process wakes up", "ms", remark="only where many processes work on one store")
        return
    pauses = random.Random(SEED)
    count = CALLS if bench.full else FEW_CALLS
    found: dict[str, list[list[float]]] = {}
    probes = []
    for _ in range(REPETITIONS):
        probes.append(bench.probe_disk())
        with nodes_at_work(bench, 1) as nodes:
            caller = Caller(nodes)
            for what, call in {"start": caller.start, "message": caller.enqueue}.items():
                begun, answered = sample(call, count, pauses)
                found.setdefault(f"a {what}, by another process: activity begins", []).append(begun)
                found.setdefault(f"a {what}, by another process: answer", []).append(answered)
    for what, rounds in found.items():
        for percent in (50, 99):
            figures = [percentile(measured, percent) for measured in rounds]
            yield Figure("W14", f"{what}, p{percent}", "ms", {OWN: figures}, medians(probes))
