"""A commit that meets a renewal of its own lease is recorded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from typing import Any

import psycopg
import pytest

from conftest import StartRuntime
from duroxide import ActivityContext, Client, OrchestrationContext
from support.waiting import wait_until

pytestmark = pytest.mark.parametrize("store", ["postgres"])

Steps = Generator[Any, Any, Any]


class Gate:
    """Code that stops until the test lets it continue, and counts how often it came here."""

    def __init__(self) -> None:
        self.runs = 0
        self._begun, self._may_end = threading.Event(), threading.Event()

    def passes(self) -> None:
        self.runs += 1
        self._begun.set()
        assert self._may_end.wait(30)

    def wait_for_arrival(self) -> None:
        assert self._begun.wait(30)

    def open(self) -> None:
        self._may_end.set()


@pytest.fixture
def renew_beside_the_commit(
    gate: Gate, postgres_url: str, postgres_schema: str, postgres_connection: psycopg.Connection
) -> Callable[[str], None]:
    """Renews the lease of the code at the gate, in a transaction that commits after the commit of the code has begun."""

    def blocked() -> bool:
        """Whether a transaction waits for the row of the lease."""
        question = "SELECT true FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted"
        return bool(postgres_connection.execute(question).fetchone())

    def renew(table: str) -> None:
        gate.wait_for_arrival()
        with psycopg.connect(postgres_url) as renewal:
            statement = f"UPDATE {postgres_schema}.{table} SET locked_until = locked_until + 1000"
            assert renewal.execute(statement.encode()).rowcount == 1
            gate.open()
            wait_until(blocked, "the commit to wait for the renewal")

    return renew


@pytest.fixture
def gate() -> Gate:
    return Gate()


def test_a_turn_commits_beside_a_renewal_of_its_lease(
    runtime_factory: StartRuntime, client: Client, gate: Gate, renew_beside_the_commit: Callable[[str], None]
) -> None:
    def held(ctx: OrchestrationContext, _: Any) -> str:
        gate.passes()
        return "held"

    runtime_factory({}, {"held": held})
    client.start_orchestration("order", "held")
    renew_beside_the_commit("instance_locks")
    assert client.wait_for_orchestration("order").output == "held"
    assert gate.runs == 1


def test_an_activity_reports_beside_a_renewal_of_its_lease(
    runtime_factory: StartRuntime, client: Client, gate: Gate, renew_beside_the_commit: Callable[[str], None]
) -> None:
    def hold(ctx: ActivityContext, _: Any) -> str:
        gate.passes()
        return "held"

    def holding(ctx: OrchestrationContext, _: Any) -> Steps:
        return (yield ctx.schedule_activity("hold"))

    runtime_factory({"hold": hold}, {"holding": holding})
    client.start_orchestration("order", "holding")
    renew_beside_the_commit("worker_queue")
    assert client.wait_for_orchestration("order").output == "held"
    assert gate.runs == 1
