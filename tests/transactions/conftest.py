"""Fixtures: an application with orders, and a store in a schema of the same PostgreSQL, or in another SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from duroxide import Client, Outbox, PostgresProvider, Provider, Runtime, SqliteProvider
from transactions.shop import FUNCTIONS


@dataclass(frozen=True)
class Shop:
    """A store on PostgreSQL, and the application's table of orders in the same schema.

    Attributes:
        provider: The store.
        schema: Its schema.
        url: Where the database is.
        beside: A separate connection to it.
    """

    provider: PostgresProvider
    schema: str
    url: str
    beside: psycopg.Connection

    @property
    def insert(self) -> str:
        """A function that adds order 7."""
        return f"INSERT INTO {self.schema}.orders VALUES (7)"

    def orders(self) -> list[int]:
        """The orders that are committed."""
        return [row[0] for row in self.beside.execute(f"SELECT number FROM {self.schema}.orders ORDER BY number")]

    def queued(self) -> list[Any]:
        """The messages that are committed to the queue of the store, while no runtime works on it."""
        select = "SELECT instance_id, work_item, lock_token, attempt_count FROM"
        return self.beside.execute(f"{select} {self.schema}.orchestrator_queue ORDER BY id").fetchall()


@pytest.fixture
def shop(postgres_url: str, postgres_schema: str, postgres_connection: psycopg.Connection) -> Iterator[Shop]:
    """The application's table, beside the tables of the store."""
    with PostgresProvider.connect_with_schema(postgres_url, postgres_schema) as provider:
        shop = Shop(provider, postgres_schema, postgres_url, postgres_connection)
        with psycopg.connect(postgres_url) as connection:
            connection.execute(f"CREATE TABLE {postgres_schema}.orders (number int)")
        yield shop


@pytest.fixture
def work() -> Iterator[Callable[..., Client]]:
    """Starts a runtime with the functions of the application, and returns its client."""
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
    """The rows of a query on the application's database."""

    def read(sql: str) -> list[Any]:
        with closing(sqlite3.connect(database)) as connection:
            return connection.execute(sql).fetchall()

    return read


@pytest.fixture
def file_store(tmp_path: Path) -> Iterator[SqliteProvider]:
    """A store in a file."""
    with SqliteProvider.open(tmp_path / "store.db") as provider:
        yield provider
