"""A shutdown takes no longer than its timeout."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Generator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from conftest import OpenProvider
from duroxide import ActivityContext, Client, OrchestrationContext, Runtime, RuntimeOptions
from support.waiting import wait_until

Steps = Generator[Any, Any, Any]

TIMEOUT_MS = 200
# A second beyond the timeout, plus what a loaded machine takes; far less than the blocking code.
LONGEST_SECONDS = 15
BLOCKED_SECONDS = 60


def shutdown_seconds(runtime: Runtime) -> float:
    began = time.monotonic()
    runtime.shutdown(TIMEOUT_MS)
    return time.monotonic() - began


def test_an_orchestration_that_blocks_does_not_delay_a_shutdown(runtime: Runtime, client: Client) -> None:
    started, over = threading.Event(), threading.Event()

    @runtime.register_orchestration("blocked")
    def blocked(ctx: OrchestrationContext, _: Any) -> Steps:
        started.set()
        over.wait(BLOCKED_SECONDS)
        yield ctx.schedule_timer(0)

    runtime.start()
    client.start_orchestration("blocked", "blocked")
    try:
        assert started.wait(20)
        assert shutdown_seconds(runtime) < LONGEST_SECONDS
    finally:
        over.set()


def test_several_blocking_orchestrations_delay_a_shutdown_no_longer_than_one(runtime: Runtime, client: Client) -> None:
    count = 4
    started, over = threading.Semaphore(0), threading.Event()

    @runtime.register_orchestration("blocked")
    def blocked(ctx: OrchestrationContext, _: Any) -> Steps:
        started.release()
        over.wait(BLOCKED_SECONDS)
        yield ctx.schedule_timer(0)

    runtime.start()
    for number in range(count):
        client.start_orchestration(f"blocked-{number}", "blocked")
    try:
        for _ in range(count):
            assert started.acquire(timeout=20)
        # A second for each of them would be longer.
        assert shutdown_seconds(runtime) < count
    finally:
        over.set()


def test_an_orchestration_that_blocked_in_a_shutdown_completes_after_the_next_start(
    runtime: Runtime, client: Client
) -> None:
    started, over = threading.Event(), threading.Event()

    @runtime.register_orchestration("blocked")
    def blocked(ctx: OrchestrationContext, _: Any) -> Steps:
        started.set()
        over.wait(BLOCKED_SECONDS)
        yield ctx.schedule_timer(0)
        return "done"

    runtime.start()
    client.start_orchestration("blocked", "blocked")
    try:
        assert started.wait(20)
        runtime.shutdown(TIMEOUT_MS)
    finally:
        over.set()
    with runtime:
        assert client.wait_for_orchestration("blocked", 20_000).result() == "done"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_activity_that_ignores_its_cancellation_does_not_delay_a_shutdown(
    kind: str, runtime: Runtime, client: Client
) -> None:
    started, over = threading.Event(), threading.Event()

    def block(ctx: ActivityContext, _: Any) -> None:
        started.set()
        over.wait(BLOCKED_SECONDS)

    async def block_async(ctx: ActivityContext, _: Any) -> None:
        started.set()
        await asyncio.sleep(60)

    @runtime.register_orchestration("blocked")
    def blocked(ctx: OrchestrationContext, _: Any) -> Steps:
        yield ctx.schedule_activity("block")

    runtime.register_activity("block", block if kind == "sync" else block_async)
    runtime.start()
    client.start_orchestration("blocked", "blocked")
    try:
        assert started.wait(20)
        assert shutdown_seconds(runtime) < LONGEST_SECONDS
    finally:
        over.set()


def test_an_async_activity_cancelled_by_a_shutdown_runs_again_soon_after_the_next_start(
    runtime: Runtime, client: Client
) -> None:
    started = threading.Event()

    @runtime.register_activity("interrupted")
    async def interrupted(ctx: ActivityContext, _: Any) -> str:
        if not started.is_set():
            started.set()
            await asyncio.sleep(60)
        return "done"

    @runtime.register_orchestration("waiting")
    def waiting(ctx: OrchestrationContext, _: Any) -> Steps:
        return (yield ctx.schedule_activity("interrupted"))

    runtime.start()
    client.start_orchestration("waiting", "waiting")
    assert started.wait(20)
    runtime.shutdown(TIMEOUT_MS)
    with runtime:
        # Far sooner than the lease of the activity ends, after thirty seconds.
        assert client.wait_for_orchestration("waiting", 10_000).result() == "done"


def test_a_shutdown_of_an_idle_runtime_ends_before_its_timeout(runtime: Runtime) -> None:
    runtime.start()
    began = time.monotonic()
    runtime.shutdown(60_000)
    assert time.monotonic() - began < LONGEST_SECONDS


on_postgres = pytest.mark.parametrize("store", ["postgres"], indirect=True)
LONG_LEASES = RuntimeOptions(
    orchestrator_lock_timeout_ms=60_000, worker_lock_timeout_ms=60_000, session_lock_timeout_ms=60_000
)


class Tables:
    """The tables of a store in PostgreSQL, read beside the store."""

    def __init__(self, connection: psycopg.Connection, schema: str) -> None:
        self._connection = connection
        self._schema = sql.Identifier(schema)

    def ask(self, statement: str) -> list[Any]:
        """Run a statement with ``{}`` for the schema, and return the first column of its rows."""
        cursor = self._connection.execute(sql.SQL(statement).format(self._schema))  # type: ignore[arg-type]
        return [row[0] for row in cursor.fetchall()] if cursor.description else []

    def leases(self) -> list[str]:
        return self.ask(
            "SELECT lock_token FROM {0}.worker_queue WHERE lock_token IS NOT NULL "
            "UNION ALL SELECT lock_token FROM {0}.instance_locks"
        )


@pytest.fixture
def tables(postgres_connection: psycopg.Connection, postgres_schema: str) -> Tables:
    return Tables(postgres_connection, postgres_schema)


@on_postgres
def test_a_shutdown_gives_back_leases_whose_grant_was_not_answered(
    open_store: OpenProvider, client: Client, tables: Tables
) -> None:
    begun, over = threading.Event(), threading.Event()

    def hold(ctx: ActivityContext, _: Any) -> None:
        begun.set()
        over.wait(BLOCKED_SECONDS)

    def fan(ctx: OrchestrationContext, _: Any) -> Steps:
        yield ctx.gather([ctx.schedule_activity("hold"), ctx.schedule_activity("hold", tag="elsewhere")])

    with open_store() as provider:
        runtime = Runtime(provider, LONG_LEASES)
        runtime.register_activity("hold", hold)
        runtime.register_orchestration("fan", fan)
        runtime.start()
        client.start_orchestration("fan", "fan")
        assert begun.wait(20)
        (token,) = wait_for(lambda: tables.ask("SELECT lock_token FROM {0}.worker_queue WHERE tag IS NULL"))
        node = token.partition(".")[0]
        # The server has granted these leases, and the node does not know of them.
        tables.ask(
            f"UPDATE {{0}}.worker_queue SET lock_token = '{node}.lost', locked_until = 9e15 WHERE tag IS NOT NULL"
        )
        tables.ask(f"INSERT INTO {{0}}.instance_locks VALUES ('other', '{node}.lost', 9e15, 0)")
        tables.ask("INSERT INTO {0}.instance_locks VALUES ('of another node', 'elsewhere.1', 9e15, 0)")
        runtime.shutdown(TIMEOUT_MS)
        over.set()
    assert tables.leases() == ["elsewhere.1"]


def wait_for(ask: Any) -> Any:
    wait_until(ask)
    return ask()


@on_postgres
def test_a_shutdown_waits_until_a_busy_server_has_taken_the_leases_back(
    open_store: OpenProvider, client: Client, tables: Tables, postgres_url: str, postgres_schema: str
) -> None:
    begun, over = threading.Event(), threading.Event()

    def hold(ctx: ActivityContext, _: Any) -> None:
        begun.set()
        over.wait(BLOCKED_SECONDS)

    def held(ctx: OrchestrationContext, _: Any) -> Steps:
        yield ctx.schedule_activity("hold")

    with open_store() as provider:
        runtime = Runtime(provider, LONG_LEASES)
        runtime.register_activity("hold", hold)
        runtime.register_orchestration("held", held)
        runtime.start()
        client.start_orchestration("held", "held")
        assert begun.wait(20)
        with psycopg.connect(postgres_url) as blocker:
            rows = sql.SQL("SELECT 1 FROM {}.worker_queue FOR UPDATE").format(sql.Identifier(postgres_schema))
            blocker.execute(rows)
            stopping = threading.Thread(target=runtime.shutdown, args=[TIMEOUT_MS])
            began = time.monotonic()
            stopping.start()
            # Longer than the timeout, and longer than a shutdown waits for blocking code.
            wait_until(lambda: time.monotonic() > began + 1.5 or not stopping.is_alive())
            blocker.rollback()
            stopping.join()
        over.set()
        assert tables.leases() == []
