"""A deletion and a turn of the same instance do not leave half of it."""

from __future__ import annotations

import logging
import threading
from typing import Any

import psycopg
import pytest
from psycopg import sql

from conftest import StartRuntime
from duroxide import Client, OrchestrationContext
from support.waiting import wait_until

pytestmark = pytest.mark.parametrize("store", ["postgres"])


def test_a_turn_that_ends_during_a_deletion_leaves_nothing_of_the_instance(  # noqa: PLR0917  (fixtures)
    runtime_factory: StartRuntime,
    client: Client,
    postgres_url: str,
    postgres_schema: str,
    postgres_connection: psycopg.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def held(ctx: OrchestrationContext, _: Any) -> str:
        begun.set()
        may_end.wait(30)
        return "held"

    def other(ctx: OrchestrationContext, _: Any) -> str:
        return "other"

    def waiting() -> int:
        question = "SELECT count(*) FROM pg_locks WHERE relation = %s::regclass AND NOT granted"
        row = postgres_connection.execute(question, [f"{postgres_schema}.executions"]).fetchone()
        return int(row[0]) if row else 0

    caplog.set_level(logging.INFO, "duroxide.runtime")
    runtime_factory({}, {"held": held, "other": other})
    client.start_orchestration("order", "held")
    assert begun.wait(30)
    deletion = threading.Thread(target=client.delete_instance, args=("order",), kwargs={"force": True})
    with psycopg.connect(postgres_url) as between:
        # The deletion has removed the history when it comes to this table, which the commit of a turn needs, too.
        between.execute(f"LOCK TABLE {postgres_schema}.executions IN SHARE MODE".encode())
        deletion.start()
        wait_until(lambda: waiting() == 1, "the deletion to wait")
        may_end.set()
        wait_until(
            lambda: waiting() == 2 or "the lease of a turn ended" in caplog.text, "the turn to commit or to fail"
        )
    deletion.join(30)

    client.start_orchestration("order", "other")
    assert client.wait_for_orchestration("order", 20_000).output == "other"


def test_a_deleted_instance_leaves_no_row(
    runtime_factory: StartRuntime,
    client: Client,
    postgres_schema: str,
    postgres_connection: psycopg.Connection,
) -> None:
    secret = "Ada-Lovelace"

    def tells(ctx: OrchestrationContext, value: str) -> Any:
        ctx.set_custom_status(value)
        ctx.set_kv_value("name", value)
        event = yield ctx.schedule_wait("go")
        return (yield ctx.schedule_activity("echo", event))

    def holding() -> list[str]:
        """The tables with a row that has the secret."""
        question = "SELECT tablename FROM pg_tables WHERE schemaname = %s"
        tables = [row[0] for row in postgres_connection.execute(question, [postgres_schema])]
        search = "SELECT count(*) FROM {schema}.{table} AS row WHERE row::text LIKE %s"
        return [
            table
            for table in tables
            if postgres_connection.execute(
                sql.SQL(search).format(schema=sql.Identifier(postgres_schema), table=sql.Identifier(table)),
                [f"%{secret}%"],
            ).fetchone()
            != (0,)
        ]

    runtime_factory({"echo": lambda _, value: value}, {"tells": tells})
    client.start_orchestration("order", "tells", secret)
    client.enqueue_event("order", "unread", secret)
    client.raise_event("order", "go", secret)
    assert client.wait_for_orchestration("order", 20_000).result() == secret
    assert holding() != []
    client.delete_instance("order")
    assert holding() == []
