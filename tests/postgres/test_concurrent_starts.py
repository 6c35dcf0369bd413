"""Starts of one id at the same moment, by clients and by orchestrations."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg import sql

from duroxide import Client, InstanceAlreadyExists, OrchestrationContext, PostgresProvider, Runtime
from support.waiting import wait_until

LOCK = 7_361
# Holds the row of the orchestration's start back after the row has got its place in the queue.
HOLD = """
CREATE FUNCTION {schema}.hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.work_item LIKE '%the orchestration%' THEN
        PERFORM pg_advisory_xact_lock({lock});
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER hold BEFORE INSERT ON {schema}.orchestrator_queue FOR EACH ROW EXECUTE FUNCTION {schema}.hold();
"""
# The transactions that wait for that lock, or for the lock of the id: see functions.sql.
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s"


def order(ctx: OrchestrationContext, _: Any) -> Generator[Any, Any, None]:
    yield ctx.start_orchestration("customer", "customer", "the orchestration")


def customer(ctx: OrchestrationContext, who: str) -> Generator[Any, Any, str]:
    yield ctx.schedule_timer(1)
    return who


@pytest.fixture
def client(postgres_url: str, postgres_schema: str) -> Iterator[Client]:
    """A client on a migrated schema."""
    with PostgresProvider.connect_with_schema(postgres_url, postgres_schema) as provider:
        yield Client(provider)


def test_a_start_is_not_acknowledged_while_an_orchestration_starts_the_same_id(
    postgres_url: str, postgres_schema: str, postgres_connection: psycopg.Connection, client: Client
) -> None:
    def start() -> bool:
        try:
            return client.start_orchestration("customer", "customer", "the client", if_exists="raise")
        except InstanceAlreadyExists:
            return False

    def waiting() -> int:
        row = postgres_connection.execute(WAITING, (f"%{postgres_schema}%",)).fetchone()
        return 0 if row is None else int(row[0])

    names = {"schema": sql.Identifier(postgres_schema), "lock": sql.Literal(LOCK)}
    postgres_connection.execute(sql.SQL(HOLD).format(**names))
    with (
        PostgresProvider.connect_with_schema(postgres_url, postgres_schema) as provider,
        Runtime(provider, functions=[order, customer]),
        ThreadPoolExecutor(1) as thread,
    ):
        postgres_connection.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        try:
            client.start_orchestration("order", "order")
            wait_until(
                lambda: waiting() == 1,
                "the turn of the order is held",
            )
            started = thread.submit(start)
            wait_until(lambda: started.done() or waiting() == 2)
        finally:
            postgres_connection.execute("SELECT pg_advisory_unlock(%s)", (LOCK,))
        ran = client.wait_for_orchestration("customer", 20_000).result()
        assert (started.result(20), ran) == (False, "the orchestration")
