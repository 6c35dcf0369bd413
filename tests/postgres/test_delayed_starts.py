"""Messages to an instance that begins later wait longer than those to an instance that does not exist."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import psycopg
import pytest

from conftest import StartRuntime
from duroxide import Client, OrchestrationContext
from support.waiting import wait_until

pytestmark = pytest.mark.parametrize("store", ["postgres"])


def order(ctx: OrchestrationContext, input: Any) -> Generator[Any, Any, Any]:
    return (yield ctx.dequeue_event("inbox"))


def test_a_message_of_an_hour_ago_waits_for_the_beginning(
    client: Client, runtime_factory: StartRuntime, postgres_connection: psycopg.Connection, postgres_schema: str
) -> None:
    queue = f'"{postgres_schema}".orchestrator_queue'
    client.start_orchestration("later", "order", delay=3_600_000)
    for instance in ("later", "unknown"):
        client.enqueue_event(instance, "inbox", "early")
    postgres_connection.execute(f"UPDATE {queue} SET created_at = created_at - interval '1 hour'")

    runtime_factory(orchestrations={"order": order})

    def messages(instance: str) -> list[str]:
        read = f"SELECT work_item FROM {queue} WHERE instance_id = %s AND work_item LIKE '{{\"QueueMessage%%'"
        return [item for (item,) in postgres_connection.execute(read, [instance])]

    # The store drops the message to the unknown instance, and looks at the other one in the same turns.
    wait_until(lambda: not messages("unknown"))
    held = f"SELECT count(*) FROM {queue} WHERE instance_id = 'later' AND lock_token = 'held'"
    wait_until(lambda: postgres_connection.execute(held).fetchone() == (1,))
    # The instance is due: nodes find it in the queue.
    postgres_connection.execute(f"UPDATE {queue} SET visible_at = now() WHERE instance_id = 'later'")
    assert client.wait_for_orchestration("later", 30_000).result() == "early"
