"""The defaults of a role for its transactions do not change what a store promises, with and without a pooler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from psycopg import sql

from duroxide import Client, InstanceAlreadyExists, PostgresProvider, Runtime, StartRequest
from postgres.conftest import elsewhere
from postgres.other_role import MakeRole
from postgres.test_migrations import GRANTS, as_role
from postgres.transaction_pooler import TransactionPooler
from support.waiting import wait_until

Start = Callable[[Client, str, str], bool]

# The lock of an id, and the transactions that wait for it: see functions.sql.
LOCK = "SELECT FROM {}.python_start_locks WHERE place = hashtext(%s) & 16383 FOR UPDATE"
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s"


def start_one(client: Client, instance: str, orchestration: str) -> bool:
    return client.start_orchestration(instance, orchestration, if_exists="raise")


def start_many(client: Client, instance: str, orchestration: str) -> bool:
    return client.start_orchestrations([StartRequest(instance, orchestration)], if_exists="raise")[0]


@pytest.fixture(params=["repeatable read", "serializable"])
def isolation(request: pytest.FixtureRequest) -> str:
    """An isolation that the role of the store has by default."""
    value: str = request.param
    return value


@pytest.fixture(params=["direct", "pooler"])
def url(  # noqa: PLR0917  (fixtures)
    request: pytest.FixtureRequest,
    isolation: str,
    postgres_url: str,
    postgres_schema: str,
    postgres_connection: psycopg.Connection,
    make_role: MakeRole,
) -> Iterator[str]:
    """The URL of a migrated schema for a role with this isolation, of the server itself or of a pooler."""
    role, password = make_role()
    PostgresProvider.connect_with_schema(postgres_url, postgres_schema).close()
    names = {
        "schema": sql.Identifier(postgres_schema),
        "role": sql.Identifier(role),
        "isolation": sql.Literal(isolation),
    }
    change = GRANTS + "ALTER ROLE {role} SET default_transaction_isolation = {isolation}"
    postgres_connection.execute(sql.SQL(change).format(**names))
    own = as_role(postgres_url, role, password)
    if request.param == "direct":
        yield own
        return
    with TransactionPooler(own) as pooler:
        yield elsewhere(own, pooler.port)


@pytest.mark.parametrize("start", [start_one, start_many])
def test_of_two_processes_that_start_one_id_at_once_only_one_is_told_so(
    start: Start, url: str, postgres_schema: str, postgres_connection: psycopg.Connection
) -> None:
    def outcome(client: Client, orchestration: str) -> bool:
        try:
            return start(client, instance, orchestration)
        except InstanceAlreadyExists:
            return False

    instance = "one"
    lock = sql.SQL(LOCK).format(sql.Identifier(postgres_schema))

    def both_wait() -> bool:
        # A transaction sees the activity of its first look until it drops that look.
        postgres_connection.execute("SELECT pg_stat_clear_snapshot()")
        return postgres_connection.execute(WAITING, (f"%{postgres_schema}%",)).fetchone() == (2,)

    with ExitStack() as stack:
        clients = [
            Client(stack.enter_context(PostgresProvider.connect_with_schema(url, postgres_schema))) for _ in "ab"
        ]
        threads = stack.enter_context(ThreadPoolExecutor(2))
        # Both transactions have begun to wait for the lock before either of them can look for the instance.
        with postgres_connection.transaction():
            postgres_connection.execute(lock, (instance,))
            started = [threads.submit(outcome, client, name) for client, name in zip(clients, "ab", strict=True)]
            wait_until(both_wait)
        assert sorted(future.result(20) for future in started) == [False, True]


def test_orchestrations_run_whatever_isolation_the_role_has_by_default(url: str, postgres_schema: str) -> None:
    def double(_: Any, number: int) -> int:
        return 2 * number

    def doubled(ctx: Any, number: int) -> Any:
        yield ctx.schedule_timer(1)
        return (yield ctx.schedule_activity("double", number))

    with (
        PostgresProvider.connect_with_schema(url, postgres_schema) as provider,
        Runtime(provider, functions=[double, doubled]) as runtime,
    ):
        client = runtime.client
        client.start_orchestrations([StartRequest(f"run-{number}", "doubled", number) for number in range(20)])
        results = [client.wait_for_orchestration(f"run-{number}", 20_000).result() for number in range(20)]
    assert results == [2 * number for number in range(20)]
