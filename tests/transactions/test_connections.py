"""Which connections are recognised, and the errors about others."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from contextlib import closing

import psycopg
import pytest
import sqlalchemy

from duroxide import (
    AsyncTransactionClient,
    Client,
    ConfigurationError,
    Outbox,
    Runtime,
    SqliteProvider,
    TransactionClient,
    orchestration,
)
from transactions.shop import fulfil, pack


@pytest.mark.parametrize("wrong", [None, "postgresql://", object()])
def test_the_error_about_a_value_that_is_not_a_connection_lists_the_supported_ones(wrong):
    with pytest.raises(TypeError, match=r"must be a psycopg\.Connection, sqlalchemy\.Connection, .* or sqlite3"):
        TransactionClient(wrong)
    with pytest.raises(TypeError, match=r"must be a psycopg\.AsyncConnection, asyncpg\.Connection"):
        AsyncTransactionClient(wrong)


def test_an_engine_is_refused_as_a_connection():
    engine = sqlalchemy.create_engine("sqlite://")
    with pytest.raises(TypeError, match=r"not sqlalchemy\.engine\.base\.Engine"):
        TransactionClient(engine)


def test_the_error_about_an_async_or_sync_mismatch_names_the_other_client(postgres_url):
    async def connect() -> None:
        async with await psycopg.AsyncConnection.connect(postgres_url) as connection:
            with pytest.raises(TypeError, match="use AsyncTransactionClient"):
                TransactionClient(connection)

    asyncio.run(connect())
    with psycopg.connect(postgres_url) as connection, pytest.raises(TypeError, match="use TransactionClient"):
        AsyncTransactionClient(connection)


def test_a_database_of_another_kind_is_refused():
    from sqlalchemy.dialects import mysql

    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as connection:
        # No test server of this kind is available.
        connection.dialect = mysql.dialect()
        with pytest.raises(ConfigurationError, match="the connection is to mysql"):
            TransactionClient(connection)
    engine.dispose()


def test_a_store_that_is_not_in_postgres_is_refused(postgres_url):
    with psycopg.connect(postgres_url) as connection, SqliteProvider.in_memory() as provider:
        with pytest.raises(TypeError, match="must be a PostgresProvider, the name of its schema, or None"):
            TransactionClient(connection, provider)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="at most 63 letters, digits and underscores"):
            TransactionClient(connection, 'x"; DROP TABLE orders; --')


def test_the_schema_of_a_provider_has_the_spelling_of_the_server(postgres_url, postgres_schema):
    from duroxide import PostgresProvider

    with PostgresProvider.connect_with_schema(postgres_url, postgres_schema.upper()) as provider:
        with psycopg.connect(postgres_url) as connection:
            TransactionClient(connection, provider).start(fulfil, 7, id="order-7")
            TransactionClient(connection, postgres_schema.upper()).start(fulfil, 8, id="order-8")
        assert Client(provider).start_orchestration("order-7", fulfil, 7) is False
        assert Client(provider).start_orchestration("order-8", fulfil, 8) is False


def test_the_error_about_a_missing_outbox_says_how_to_make_one():
    with closing(sqlite3.connect(":memory:")) as connection:
        with pytest.raises(ConfigurationError, match=r"Outbox\.create\(connection\)"):
            TransactionClient(connection).start(fulfil, 7)
        Outbox.create(connection)
        Outbox.create(connection)
        TransactionClient(connection).start(fulfil, 7)


def test_an_outbox_is_only_for_sqlite(postgres_url):
    with psycopg.connect(postgres_url) as connection, pytest.raises(ConfigurationError, match="needs none"):
        Outbox.create(connection)


def test_a_transaction_client_is_refused_in_an_orchestration(tmp_path):
    with closing(sqlite3.connect(":memory:", check_same_thread=False)) as connection:
        Outbox.create(connection)

        @orchestration
        def writes(_: int):
            TransactionClient(connection).start(fulfil, 7)
            yield pack(1)

        with SqliteProvider.in_memory() as provider, Runtime(provider, functions=[writes, pack]) as runtime:
            result = runtime.client.wait_for_orchestration(runtime.client.start(writes, 1).id)
        assert result.error is not None
        assert "use the transaction in an activity" in str(result.error)


def test_the_module_imports_no_database_library():
    program = (
        "import sys, duroxide; "
        "print([name for name in ('psycopg', 'asyncpg', 'sqlalchemy', 'django') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
