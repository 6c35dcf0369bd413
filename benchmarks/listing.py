"""W16: pages and counts of a store with very many instances; runs only when named, since filling the store takes minutes.

The oldest tenth runs, and all others have ended: a fiftieth has failed and a hundredth was cancelled. The rows are those
of four orchestrations that were really started, copied by the database. On PostgreSQL, the statistics of the tables are
taken while they are empty, as autovacuum may do it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from functools import partial
from typing import Any

from benchmarks.bench import MEMORY, OWN, WAIT_MS, Bench, Figure, open_store, running
from benchmarks.server import Server
from duroxide import Client, OrchestrationContext, Provider

RUNNING = 10_000
ENDED = 100_000
FULL_RUNNING = 100_000
FULL_ENDED = 1_000_000
NAMES = 5
CALLS = 9

COMPLETED = "completed"
FAILED = "failed"
CANCELLED = "cancelled"
ALIVE = "alive"
TEMPLATES = (COMPLETED, FAILED, CANCELLED, ALIVE)

# For each number: which template its rows are copied from.
TEMPLATE_OF = f"""CASE WHEN n <= {{running}} THEN '{ALIVE}' WHEN n % 50 = 0 THEN '{FAILED}'
 WHEN n % 100 = 1 THEN '{CANCELLED}' ELSE '{COMPLETED}' END"""

SQLITE = (
    """CREATE TEMP TABLE numbers AS WITH RECURSIVE counting(n) AS
 (SELECT 1 UNION ALL SELECT n + 1 FROM counting WHERE n < {all}) SELECT n, {template} AS template FROM counting""",
    """INSERT INTO instances (number, id, orchestration, version, execution, created_ms, completed_ms)
 SELECT 1000 + c.n, 'order-' || c.n, 'name-' || (c.n % {names}), i.version, 1, i.created_ms + c.n,
 i.completed_ms + c.n FROM numbers c JOIN instances i ON i.id = c.template""",
    """INSERT INTO executions SELECT 1000 + c.n, 1, e.status, e.output, e.started_ms + c.n, e.completed_ms + c.n,
 e.major, e.minor, e.patch FROM numbers c JOIN instances i ON i.id = c.template JOIN executions e ON e.instance = i.number""",
    """INSERT INTO events SELECT 1000 + c.n, 1, v.event, v.data FROM numbers c JOIN instances i ON i.id = c.template
 JOIN events v ON v.instance = i.number""",
)

POSTGRES = (
    """CREATE TABLE :"place".numbers AS SELECT n, {template} AS template FROM generate_series(1, {all}) AS n""",
    "ANALYZE",
    """INSERT INTO :"place".instances (instance_id, orchestration_name, orchestration_version, current_execution_id,
 created_at, updated_at) SELECT 'order-' || c.n, 'name-' || (c.n % {names}), i.orchestration_version, 1,
 i.created_at + c.n * interval '1 ms', i.updated_at FROM :"place".numbers c
 JOIN :"place".instances i ON i.instance_id = c.template""",
    """INSERT INTO :"place".executions (instance_id, execution_id, status, output, started_at, completed_at)
 SELECT 'order-' || c.n, 1, e.status, e.output, e.started_at + c.n * interval '1 ms',
 e.completed_at + c.n * interval '1 ms' FROM :"place".numbers c JOIN :"place".executions e ON e.instance_id = c.template""",
    """INSERT INTO :"place".history (instance_id, execution_id, event_id, event_type, event_data)
 SELECT 'order-' || c.n, 1, h.event_id, h.event_type, h.event_data FROM :"place".numbers c
 JOIN :"place".history h ON h.instance_id = c.template""",
)


def play_its_part(ctx: OrchestrationContext, part: str) -> Generator[Any, Any, None]:
    if part == FAILED:
        raise ValueError(part)
    if part in {CANCELLED, ALIVE}:
        yield ctx.wait_for_event("never")


def make_templates(provider: Provider) -> None:
    """Run one instance for each kind of row."""
    with running(provider, {}, {"play_its_part": play_its_part}):
        client = Client(provider)
        for part in TEMPLATES:
            client.start_orchestration(part, "play_its_part", part)
        while not all(client.get_instance_info(part).has_begun for part in TEMPLATES):
            time.sleep(0.01)
        client.cancel_instance(CANCELLED)
        for part in (COMPLETED, FAILED, CANCELLED):
            client.wait_for_orchestration(part, WAIT_MS)


def fill(bench: Bench, place: str, counts: dict[str, str]) -> None:
    """Copy the rows of the templates."""
    values = {**counts, "template": TEMPLATE_OF.format(**counts)}
    if bench.server is not None:
        fill_schema(bench.server, place, values)
        return
    with closing(sqlite3.connect(place)) as connection, connection:
        for statement in SQLITE:
            connection.execute(statement.format(**values))


def fill_schema(server: Server, place: str, values: dict[str, str]) -> None:
    for statement in POSTGRES:
        server.query(statement.format(**values), place=place)
    server.query("CHECKPOINT")


def questions(client: Client, first: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """What an operator asks, in words and as a call. ``first`` is the number of the first instance that has ended."""
    yield "the newest 100", client.list
    yield "the oldest 100", lambda: client.list(order="oldest")
    cursor = client.list(limit=10_000).cursor
    yield "100 after the newest 10,000", lambda: client.list(cursor=cursor)
    for status in ("Running", "Failed", "Cancelled"):
        yield f"100 of status {status}", partial(client.list, status=status)
    yield "100 of one name", lambda: client.list(name="name-1")
    yield "100 of one name that have failed", lambda: client.list(name="name-0", status="Failed")
    yield "what begins with one of the ids", lambda: client.list(id_prefix=f"order-{first}")
    yield "a name that no instance has", lambda: client.list(name="nothing")
    yield "a count of what runs", lambda: client.count(status="Running")
    yield "a count by name and status", client.count_by_name


def measure(bench: Bench) -> Iterator[Figure]:
    if bench.store == MEMORY:
        yield Figure("W16", "lists", "ms", remark="only where a store may be large: in a file, or on PostgreSQL")
        return
    alive, ended = (FULL_RUNNING, FULL_ENDED) if bench.full else (RUNNING, ENDED)
    counts = {"running": str(alive), "all": str(alive + ended), "names": str(NAMES)}
    place = bench.place()
    with open_store(bench.store, place, bench.postgres_url) as provider:
        make_templates(provider)
    fill(bench, place, counts)
    with open_store(bench.store, place, bench.postgres_url) as provider:
        if bench.server is not None:
            provider.tune()  # type: ignore[attr-defined]
        for what, ask in questions(Client(provider), alive + 1):
            samples = []
            for _ in range(CALLS):
                before = time.perf_counter()
                ask()
                samples.append(1_000 * (time.perf_counter() - before))
            yield Figure("W16", f"{what}, of {alive + ended:,}", "ms", {OWN: samples})
    if bench.server is not None:
        bench.server.drop(place)
