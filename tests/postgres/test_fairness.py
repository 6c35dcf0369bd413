"""No work waits until a node has nothing else to do."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any

import psycopg
from psycopg import sql

from duroxide import (
    Client,
    OrchestrationContext,
    PostgresProvider,
    Runtime,
    RuntimeOptions,
    TagFilter,
)
from support.waiting import wait_until

OTHERS = 200
# As a node leaves its activity behind that was killed.
LEAVE = "UPDATE {}.worker_queue SET lock_token = 'dead', locked_until = 1, attempt_count = 1 WHERE instance_id = 'held'"


def test_an_activity_of_a_dead_node_does_not_wait_until_a_busy_node_is_idle(
    postgres_url: str, postgres_schema: str, postgres_connection: psycopg.Connection
) -> None:
    ran: list[str] = []

    def step(ctx: Any, _: Any) -> None:
        time.sleep(0.01)  # long enough that the others keep the node busy
        ran.append(ctx.instance_id)

    def fan_out(ctx: OrchestrationContext, count: int) -> Generator[Any, Any, None]:
        yield ctx.all([ctx.schedule_activity("step", number) for number in range(count)])

    schema = sql.Identifier(postgres_schema)
    with PostgresProvider.connect_with_schema(postgres_url, postgres_schema) as provider:
        client = Client(provider)
        with Runtime(provider, RuntimeOptions(worker_tag_filter=TagFilter.none()), functions=[step, fan_out]):
            client.start_orchestration("held", "fan_out", 1)
            client.start_orchestration("others", "fan_out", OTHERS)
            count = sql.SQL("SELECT count(*) FROM {}.worker_queue").format(schema)
            wait_until(lambda: postgres_connection.execute(count).fetchone() == (OTHERS + 1,))
        postgres_connection.execute(sql.SQL(LEAVE).format(schema))
        with Runtime(provider, RuntimeOptions(worker_concurrency=2), functions=[step, fan_out]):
            client.wait_for_orchestration("held", 20_000)
            done = ran.count("others")
            client.wait_for_orchestration("others", 20_000)
    assert done < OTHERS
