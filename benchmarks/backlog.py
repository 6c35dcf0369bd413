"""W12: W1 on a PostgreSQL schema that holds many other instances, or whose statistics are out of date.

The server fills the schema by copying the rows of one orchestration that was really started, or ran: ended ones, queued
ones, and ones that are due tomorrow. ``ANALYZE`` at the wrong moment makes the planner believe that a queue is empty or
full; autovacuum can run it at any time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from benchmarks.bench import METER, OWN, REPETITIONS, Bench, Figure, medians, middle, open_store, running, timed
from benchmarks.burst import ACTIVITIES, ORCHESTRATIONS, play
from benchmarks.nodes import size
from benchmarks.processors import Spent
from benchmarks.server import Server
from duroxide import Client, Provider

QUEUED = 10_000
FINISHED = 100_000
FULL_FINISHED = 1_000_000
LONGEST_SECONDS = 30.0
TEMPLATE = "template"
# Texts that contain the name of the instance.
TEXTS = ("work_item", "event_data")
MOMENTS = ("visible_at", "created_at")
TABLES_OF_ENDED = ("instances", "executions", "history")
TABLES_OF_QUEUED = ("orchestrator_queue",)

COLUMNS = """
SELECT column_name FROM information_schema.columns
WHERE table_schema = :'place' AND table_name = :'table' AND coalesce(column_default, '') NOT LIKE 'nextval%'
ORDER BY ordinal_position
"""
MULTIPLY = """
INSERT INTO :"place".:"table" (:columns)
SELECT :values FROM :"place".:"table", generate_series(1, :'count'::int) AS number WHERE instance_id = :'template'
"""
REMOVE = """DELETE FROM :"place".:"table" WHERE instance_id = :'template'"""
POSTPONE = """UPDATE :"place".orchestrator_queue SET visible_at = now() + interval '1 day'"""
EMPTY = """DELETE FROM :"place".orchestrator_queue; DELETE FROM :"place".worker_queue"""
TAGGED_ACTIVITIES = """
INSERT INTO :"place".worker_queue (work_item, visible_at, created_at, instance_id, execution_id, activity_id, tag)
SELECT work_item, visible_at, created_at, instance_id, 1, 2, 'elsewhere' FROM :"place".orchestrator_queue
"""


def multiply(server: Server, place: str, tables: tuple[str, ...], count: int, prefix: str) -> None:
    """Copy the rows of the template this many times, with a new instance name each time."""
    for table in tables:
        columns = [row[0] for row in server.query(COLUMNS, place=place, table=table)]
        name = f"'{prefix}-' || number"
        # One a millisecond, as if they had arrived one after the other until now.
        moment = "{} - (:'count'::int - number) * interval '1 ms'"
        values = [
            name
            if column == "instance_id"
            else f"replace({column}, '{TEMPLATE}', {name})"
            if column in TEXTS
            else moment.format(column)
            if column in MOMENTS
            else column
            for column in columns
        ]
        lists = {"columns": ", ".join(columns), "values": ", ".join(values)}
        server.query(MULTIPLY, place=place, table=table, count=str(count), template=TEMPLATE, **lists)
        server.query(REMOVE, place=place, table=table, template=TEMPLATE)


def leave_empty(server: Server, place: str, provider: Provider) -> None:
    """The case that the others are compared with."""


def add_ended(server: Server, place: str, provider: Provider, count: int) -> None:
    with running(provider, ACTIVITIES, ORCHESTRATIONS):
        client = Client(provider)
        client.start_orchestration(TEMPLATE, "one_activity", 1)
        client.wait_for_orchestration(TEMPLATE)
    multiply(server, place, TABLES_OF_ENDED, count, "ended")
    # Autovacuum would have done this long ago; here it would run during the measurement.
    server.query("VACUUM ANALYZE; CHECKPOINT")


def add_queued(server: Server, place: str, provider: Provider, count: int) -> None:
    Client(provider).start_orchestration(TEMPLATE, "one_activity", 1)
    multiply(server, place, TABLES_OF_QUEUED, count, "queued")


def add_postponed(server: Server, place: str, provider: Provider) -> None:
    add_queued(server, place, provider, QUEUED)
    server.query(POSTPONE, place=place)


def analyzed_empty(server: Server, place: str, provider: Provider) -> None:
    server.query("ANALYZE")
    add_queued(server, place, provider, QUEUED)


def analyzed_full(server: Server, place: str, provider: Provider) -> None:
    add_queued(server, place, provider, QUEUED)
    server.query(TAGGED_ACTIVITIES, place=place)
    server.query("ANALYZE")
    server.query(EMPTY, place=place)


def drain(provider: Provider, _: int) -> tuple[int, float]:
    """Return how many of the queued orchestrations have ended, and in how many seconds: all, unless it takes too long.

    It waits for all, because the turns after an activity queue behind the first turns of the others.
    """
    with running(provider, ACTIVITIES, ORCHESTRATIONS) as runtime:
        ended = 0

        def work() -> None:
            nonlocal ended
            deadline = time.perf_counter() + LONGEST_SECONDS
            while (ended := runtime.metrics_snapshot().orch_completions) < QUEUED and time.perf_counter() < deadline:
                time.sleep(0.002)

        seconds = timed(work)
        return ended, seconds


def burst(provider: Provider, count: int) -> tuple[int, float]:
    """W1: how many, and in how many seconds."""
    with running(provider, ACTIVITIES, ORCHESTRATIONS):
        return count, timed(play, Client(provider), f"burst-{time.monotonic_ns()}", count)


@dataclass(frozen=True)
class Case:
    """A case: the rows that the schema holds beforehand, and the measurement."""

    what: str
    prepare: Callable[[Server, str, Provider], None]
    measure: Callable[[Provider, int], tuple[int, float]]
    stays: bool = False
    """Whether the measurement leaves the rows of the schema unchanged."""


def measure(bench: Bench) -> Iterator[Figure]:
    server = bench.server
    if server is None:
        yield Figure("W12", "W1 on full tables", "per s", remark="only where a planner may be wrong: on PostgreSQL")
        return
    count = size(bench)
    finished = FULL_FINISHED if bench.full else FINISHED
    cases = [
        Case(f"{count:,} beside nothing", leave_empty, burst, stays=True),
        Case(f"{count:,} beside {finished:,} that have ended", partial(add_ended, count=finished), burst, stays=True),
        Case(f"{count:,} beside {QUEUED:,} that are not due", add_postponed, burst, stays=True),
        Case(f"{QUEUED:,} that are queued", partial(add_queued, count=QUEUED), drain),
        Case(f"{QUEUED:,} that are queued, ANALYZE before", analyzed_empty, drain),
        Case(f"{count:,} on empty queues, ANALYZE when full", analyzed_full, burst),
    ]
    for case in cases:
        samples, spent, probes = [], [], []
        places = [bench.place()] if case.stays else [bench.place() for _ in range(REPETITIONS)]
        for place in places:
            with open_store(bench.store, place, server.url) as provider:
                case.prepare(server, place, provider)
                for _ in range(REPETITIONS // len(places)):
                    probes.append(bench.probe_disk())
                    METER.reset()
                    ended, seconds = case.measure(provider, count)
                    samples.append(ended / seconds)
                    if ended:
                        spent.append((METER.spent or Spent()).each(ended))
            server.drop(place)
        cost = {OWN: middle(spent)} if spent else {}
        yield Figure("W12", case.what, "per s", {OWN: samples}, medians(probes), spent=cost)
