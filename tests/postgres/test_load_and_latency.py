"""What a wrong result would not show: nodes wake each other up at once, and a held message costs no work."""

from __future__ import annotations

import statistics
import time
from collections.abc import Generator, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from duroxide import ActivityContext, Client, OrchestrationContext, PostgresProvider, Runtime, RuntimeOptions, TagFilter
from support.waiting import wait_for_event_kind, wait_until

Steps = Generator[Any, Any, Any]

POLL_SECONDS = 0.55
"""How often a node looks for work without a notification."""
SHORTEST_HOLD_SECONDS = 30


def echo(ctx: ActivityContext, value: Any) -> Any:
    return value


def remote(ctx: OrchestrationContext, value: Any) -> Steps:
    return (yield ctx.schedule_activity("echo", value).with_tag("other node"))


def waits(ctx: OrchestrationContext, _: Any) -> Steps:
    return (yield ctx.wait_for_event("go"))


@pytest.fixture
def nodes(postgres_url: str, postgres_schema: str) -> Iterator[list[PostgresProvider]]:
    """Three nodes of one store, as three processes would open it."""
    opened = [PostgresProvider.connect_with_schema(postgres_url, postgres_schema) for _ in range(3)]
    yield opened
    for each in opened:
        each.close()


@pytest.mark.alone
def test_nodes_wake_each_other_up(nodes: list[PostgresProvider]) -> None:
    of_client, of_turns, of_activities = nodes
    client = Client(of_client)
    tagged = RuntimeOptions(worker_tag_filter=TagFilter.tags("other node"), orchestration_concurrency=1)
    spans: list[float] = []
    with (
        Runtime(of_turns, functions=[remote]),
        Runtime(of_activities, tagged, functions=[echo]),
    ):
        for number in range(15):
            began = time.monotonic()
            client.start_orchestration(f"instance-{number}", "remote", number)
            assert client.wait_for_orchestration(f"instance-{number}").result() == number
            spans.append(time.monotonic() - began)
    # The client wakes the first node, that wakes the second, and back. A single look instead takes half of this.
    assert statistics.median(spans) < POLL_SECONDS / 4


def test_a_held_message_stays_hidden_until_its_instance_waits_for_it(
    nodes: list[PostgresProvider], postgres_schema: str, postgres_connection: psycopg.Connection
) -> None:
    client = Client(nodes[0])
    select = sql.SQL(
        "SELECT extract(epoch FROM visible_at - clock_timestamp()) FROM {}.orchestrator_queue "
        "WHERE instance_id = %s AND lock_token = 'held'"
    ).format(sql.Identifier(postgres_schema))

    def hidden_for() -> float:
        row = postgres_connection.execute(select, ["instance"]).fetchone()
        return 0 if row is None else float(row[0])

    with Runtime(nodes[0], functions=[waits]):
        client.start_orchestration("instance", "waits")
        wait_for_event_kind(client, "instance", "ExternalSubscribed")
        client.raise_event("instance", "too early")
        wait_until(lambda: hidden_for() > SHORTEST_HOLD_SECONDS, "the message to be hidden")
        client.raise_event("instance", "go", 7)
        assert client.wait_for_orchestration("instance").result() == 7
