"""An application with orders, beside a store: in a schema of the same PostgreSQL, or in a SQLite file of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from duroxide import Client, Outbox, PostgresProvider, Provider, Runtime, SqliteProvider, activity, orchestration
from duroxide import dequeue_event as next_message
from duroxide import wait_for_event as next_event

WAIT_SECONDS = 20


@activity
def pack(number: int) -> str:
    return f"packed {number}"


@orchestration
def fulfil(number: int) -> Any:
    return (yield pack(number))


@orchestration
def paid(number: int) -> Any:
    amount = yield next_event("paid", int)
    return [number, amount]


@orchestration
def listen(count: int) -> Any:
    heard = []
    for _ in range(count):
        heard.append((yield next_message("inbox", int)))
    return heard


FUNCTIONS = [pack, fulfil, paid, listen]


@pytest.fixture
def schema(postgres_schema: str) -> str:
    return postgres_schema


@pytest.fixture
def shop(postgres_url: str, schema: str) -> Iterator[PostgresProvider]:
    """The store, with the application's table beside its own."""
    with PostgresProvider.connect_with_schema(postgres_url, schema) as provider:
        with psycopg.connect(postgres_url) as connection:
            connection.execute(f"CREATE TABLE {schema}.orders (number int)")
        yield provider


@pytest.fixture
def orders(postgres_connection: psycopg.Connection, schema: str) -> Callable[[], list[int]]:
    """The orders that are committed."""

    def read() -> list[int]:
        return [row[0] for row in postgres_connection.execute(f"SELECT number FROM {schema}.orders ORDER BY number")]

    return read


@pytest.fixture
def queued(postgres_connection: psycopg.Connection, schema: str) -> Callable[[], int]:
    """How many messages are committed to the queue of the store, while no runtime works on it."""

    def count() -> int:
        row = postgres_connection.execute(f"SELECT count(*) FROM {schema}.orchestrator_queue").fetchone()
        assert row is not None
        return int(row[0])

    return count


@pytest.fixture
def work() -> Iterator[Callable[..., Client]]:
    """Starts a runtime with the functions of the application, and gives its client."""
    made: list[Runtime] = []

    def start(provider: Provider, **options: Any) -> Client:
        runtime = Runtime(provider, functions=FUNCTIONS, **options)
        made.append(runtime)
        runtime.start()
        return runtime.client

    yield start
    for each in reversed(made):
        each.shutdown()


@pytest.fixture
def database(tmp_path: Path) -> str:
    """The application's SQLite database, with an outbox."""
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE orders (number int)")
        Outbox.create(connection)
    return str(path)


@pytest.fixture
def rows(database: str) -> Callable[[str], list[Any]]:
    """The rows that a question to the application's database has."""

    def read(sql: str) -> list[Any]:
        with closing(sqlite3.connect(database)) as connection:
            return connection.execute(sql).fetchall()

    return read


@pytest.fixture
def file_store(tmp_path: Path) -> Iterator[SqliteProvider]:
    """A store in a file."""
    with SqliteProvider.open(tmp_path / "store.db") as provider:
        yield provider
