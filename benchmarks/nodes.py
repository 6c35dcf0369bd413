"""W13: W1 on several processes and one PostgreSQL server: one client, and one, two and four nodes with a runtime.

The client asks the nodes how many orchestrations they have ended, so the question costs the server nothing. The nodes
share the processors of one machine with the server: on two processors, they can only use what the server leaves.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.bench import METER, OWN, REPETITIONS, Bench, Figure, finish, medians, middle, open_store, running, timed
from benchmarks.burst import ACTIVITIES, FULL_SIZE, ORCHESTRATIONS, SLOW_SIZE, probe, start_singly
from benchmarks.processors import Spent
from duroxide import ActivityContext, Client, OrchestrationContext, Provider, RuntimeOptions

NODES = (1, 2, 4)
POOL = "DUROXIDE_PG_POOL_MAX"
# Each question costs processor time that is counted too.
ASKING_SECONDS = 0.01
LONGEST_SECONDS = 600.0


def note(ctx: ActivityContext, _: None) -> float:
    """The time, on the clock that all processes of the machine share."""
    return time.monotonic()


def noted(ctx: OrchestrationContext, _: None) -> Generator[Any, Any, float]:
    moment: float = yield ctx.schedule_activity("note", None)
    return moment


def listener(ctx: OrchestrationContext, _: None) -> Generator[Any, Any, None]:
    ctx.set_custom_status("ready")
    while (yield ctx.dequeue_event("inbox")) != "bye":
        moment = yield ctx.schedule_activity("note", None)
        ctx.set_custom_status(repr(moment))


@dataclass(frozen=True)
class Node:
    """A process that has a runtime."""

    process: subprocess.Popen[str]

    def ask(self, question: str) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{question}\n")
        self.process.stdin.flush()
        return self.read()

    def read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a node ended with exit code {self.process.wait()}")
        return json.loads(line)


@dataclass(frozen=True)
class Nodes:
    """Several nodes on one store, and a client without a runtime."""

    provider: Provider
    client: Client
    nodes: Sequence[Node]

    @property
    def ended(self) -> int:
        return sum(node.ask("ended") for node in self.nodes)

    def wait_for_ends(self, count: int) -> None:
        deadline = time.monotonic() + LONGEST_SECONDS
        while (ended := self.ended) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{ended:,} of {count:,} orchestrations ended within {LONGEST_SECONDS:.0f} s")
            time.sleep(ASKING_SECONDS)


@contextmanager
def nodes_at_work(
    bench: Bench, count: int, *, slots: int | None = None, pool: int | None = None, place: str | None = None
) -> Iterator[Nodes]:
    """Start this many nodes on an empty or a given schema, with this many slots of each kind and connections."""
    assert bench.server is not None
    own_place = place or bench.place()
    environment = {**os.environ, **({POOL: str(pool)} if pool else {})}
    with open_store(bench.store, own_place, bench.postgres_url) as provider:
        command = [sys.executable, "-m", "benchmarks.nodes", json.dumps([own_place, bench.postgres_url, slots])]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        nodes = [Node(subprocess.Popen(command, env=environment, **pipes)) for _ in range(count)]
        try:
            for node in nodes:
                node.read()
            METER.nodes = [node.process.pid for node in nodes]
            yield Nodes(provider, Client(provider), nodes)
        finally:
            METER.nodes = []
            for node in nodes:
                node.process.communicate()  # closing the node's input ends it
    if place is None:
        bench.server.drop(own_place)


def burst(nodes: Nodes, count: int) -> None:
    before = nodes.ended
    start_singly(nodes.client, [f"burst-{number}" for number in range(count)])
    nodes.wait_for_ends(before + count)
    finish(nodes.client, f"burst-{count - 1}")


def work(place: str, postgres_url: str, slots: int | None) -> None:
    """The process of a node: work and answer requests until the input ends."""
    options = RuntimeOptions()
    if slots is not None:
        options = dataclasses.replace(options, orchestration_concurrency=slots, worker_concurrency=slots)
    activities: dict[str, Callable[..., Any]] = {**ACTIVITIES, "note": note}
    orchestrations: dict[str, Callable[..., Any]] = {**ORCHESTRATIONS, "noted": noted, "listener": listener}
    with (
        open_store("postgres", place, postgres_url) as provider,
        running(provider, activities, orchestrations, options) as runtime,
    ):
        print(json.dumps("ready"), flush=True)
        for _ in sys.stdin:
            print(runtime.metrics_snapshot().orch_completions, flush=True)


def size(bench: Bench) -> int:
    return SLOW_SIZE if bench.too_long(probe(bench) * FULL_SIZE) else FULL_SIZE


def measure(bench: Bench) -> Iterator[Figure]:
    if bench.server is None:
        yield Figure("W13", "several nodes", "per s", remark="only where many processes work on one store")
        return
    count = size(bench)
    for number in NODES:
        samples, spent, probes = [], [], []
        for _ in range(REPETITIONS):
            probes.append(bench.probe_disk())
            with nodes_at_work(bench, number) as nodes:
                METER.reset()
                samples.append(count / timed(burst, nodes, count))
                spent.append((METER.spent or Spent()).each(count))
        what = f"{count:,} of one activity, {number} node{'s' if number > 1 else ''} and a client"
        yield Figure("W13", what, "per s", {OWN: samples}, medians(probes), spent={OWN: middle(spent)})


if __name__ == "__main__":
    work(*json.loads(sys.argv[1]))
