"""A process of an application, which the tests kill: it prints what it has done, and waits for its end."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from typing import Any

import psycopg

from duroxide import Outbox, PostgresProvider, Provider, Runtime, SqliteProvider, TransactionClient
from transactions.shop import FUNCTIONS


def say_and_wait(word: str) -> None:
    print(word, flush=True)
    sys.stdin.read()


def order(connection: Any, schema: str | None, moment: str) -> None:
    """Take an order, and stop before or after the commit."""
    connection.execute(f"INSERT INTO {schema + '.' if schema else ''}orders VALUES (7)")
    TransactionClient(connection, schema).start_orchestration("order-7", "fulfil", 7)
    if moment == "after":
        connection.commit()
    say_and_wait("ready")


class NeverDeleting(sqlite3.Connection):
    """Stops when the rows are in the store, and not yet deleted."""

    def executemany(self, *arguments: Any) -> Any:
        say_and_wait("relayed")
        return super().executemany(*arguments)


def open_store(kind: str, place: str, schema: str) -> Provider:
    return PostgresProvider.connect_with_schema(place, schema) if kind == "postgres" else SqliteProvider.open(place)


def relay(store: tuple[str, str, str], database: str, stops: bool) -> None:
    """Relay, and stop before the rows are deleted if requested."""
    kind = NeverDeleting if stops else sqlite3.Connection
    outbox = Outbox(lambda: sqlite3.connect(database, timeout=30, check_same_thread=False, factory=kind))
    with open_store(*store) as provider, Runtime(provider, functions=FUNCTIONS, outboxes=[outbox]):
        say_and_wait("working")


def main(command: str, *arguments: str) -> None:
    if command == "postgres":
        url, schema, moment = arguments
        with psycopg.connect(url) as connection:
            order(connection, schema, moment)
    elif command == "sqlite":
        database, moment = arguments
        with closing(sqlite3.connect(database)) as connection:
            order(connection, None, moment)
    else:
        kind, place, schema, database, stops = arguments
        relay((kind, place, schema), database, stops == "stops")


if __name__ == "__main__":
    main(*sys.argv[1:])
