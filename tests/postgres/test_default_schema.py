"""The schema of a store that is opened without one: new databases get their own, and a store in ``public`` is found."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from typing import Any

import psycopg
import pytest
from psycopg import sql

from duroxide import (
    AsyncTransactionClient,
    Client,
    ConfigurationError,
    PostgresOptions,
    PostgresProvider,
    ProviderError,
    Runtime,
    TransactionClient,
)
from postgres.other_role import Database
from transactions.libraries import AWAITED_ON_POSTGRES, ON_POSTGRES

WAIT_MS = 20_000


def echo(_: Any, value: Any) -> Any:
    return value


def make_store(url: str, schema: str) -> None:
    PostgresProvider.connect_with_schema(url, schema).close()


def tables(database: Database, schema: str) -> int:
    with database.administrator() as administrator:
        row = administrator.execute("SELECT count(*) FROM pg_tables WHERE schemaname = %s", (schema,)).fetchone()
    assert row is not None
    return int(row[0])


def queued(database: Database, schema: str) -> list[str]:
    statement = sql.SQL("SELECT instance_id FROM {} ORDER BY id").format(sql.Identifier(schema, "orchestrator_queue"))
    with database.administrator() as administrator:
        return [str(row[0]) for row in administrator.execute(statement)]


def let_other_create_schemas(database: Database) -> None:
    grant = sql.SQL("GRANT CREATE ON DATABASE {} TO {}")
    with database.administrator() as administrator:
        administrator.execute(grant.format(sql.Identifier(database.name), sql.Identifier(database.other)))


def test_a_new_database_gets_a_schema_of_its_own(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        with PostgresProvider.connect(database.owner_url) as provider:
            assert "schema 'duroxide'" in repr(provider)
    assert tables(database, "public") == 0
    assert tables(database, "duroxide") > 0
    assert caplog.messages == []


def test_a_store_in_public_continues_with_its_instances(database: Database) -> None:
    with PostgresProvider.connect_with_schema(database.owner_url, "public") as provider:
        Client(provider).start_orchestration("one", "echo_back", 1)

    def echo_back(ctx: Any, value: Any) -> Any:
        return (yield ctx.schedule_activity("echo", value))

    with PostgresProvider.connect(database.owner_url) as provider:
        assert "schema 'public'" in repr(provider)
        with Runtime(provider, functions=[echo, echo_back]) as runtime:
            assert runtime.client.wait_for_orchestration("one", WAIT_MS).result() == 1
    assert tables(database, "duroxide") == 0


def test_the_log_names_the_risk_of_a_store_in_public_and_the_way_out(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    make_store(database.owner_url, "public")
    assert caplog.messages == []
    with caplog.at_level(logging.WARNING, "duroxide"):
        PostgresProvider.connect(database.owner_url).close()
    (message,) = caplog.messages
    assert "each role may create objects in this schema" in message
    assert "REVOKE CREATE ON SCHEMA public FROM PUBLIC" in message
    assert "connect_with_schema(url, 'public')" in message


def test_a_program_that_names_public_gets_no_warning(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "duroxide"):
        for _ in range(2):
            make_store(database.owner_url, "public")
    assert caplog.messages == []


def test_two_stores_are_refused_until_the_program_names_one(database: Database) -> None:
    for schema in ("duroxide", "public"):
        make_store(database.owner_url, schema)
    with pytest.raises(ConfigurationError, match=r"'public' and 'duroxide' .* name one, with .*connect_with_schema"):
        PostgresProvider.connect(database.owner_url)
    for schema in ("duroxide", "public"):
        make_store(database.owner_url, schema)


def test_an_empty_schema_does_not_hide_the_store_in_public(database: Database) -> None:
    make_store(database.owner_url, "public")
    with database.as_owner() as owner:
        owner.execute("CREATE SCHEMA duroxide")
    with PostgresProvider.connect(database.owner_url) as provider:
        assert "schema 'public'" in repr(provider)


def test_verification_of_an_empty_database_names_the_schema(database: Database) -> None:
    with pytest.raises(ProviderError, match="migrate URL --schema duroxide"):
        PostgresProvider.connect(database.owner_url, options=PostgresOptions(migrate="verify"))
    assert tables(database, "duroxide") == 0


def test_a_store_of_another_role_in_public_is_not_used(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    with database.as_other() as other:
        other.execute("CREATE TABLE public._duroxide_migrations (version bigint, name text)")
    with caplog.at_level(logging.WARNING, "duroxide"), PostgresProvider.connect(database.owner_url) as provider:
        assert "schema 'duroxide'" in repr(provider)
    (message,) = caplog.messages
    assert f"a store of role '{database.other}', which this user does not trust" in message


def test_a_schema_of_another_role_does_not_hide_the_store_in_public(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    make_store(database.owner_url, "public")
    let_other_create_schemas(database)
    make_store(database.other_url, "duroxide")
    with caplog.at_level(logging.WARNING, "duroxide"), PostgresProvider.connect(database.owner_url) as provider:
        assert "schema 'public'" in repr(provider)
    assert "not the one in the schema 'duroxide', which belongs to another role" in caplog.text


def run_command(*arguments: str, url: str) -> str:
    command = [sys.executable, "-m", "duroxide", *arguments]
    ended = subprocess.run(
        command, check=False, capture_output=True, text=True, env={**os.environ, "DATABASE_URL": url}
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize("earlier", [None, "public"])
def test_the_commands_use_the_schema_of_connect(earlier: str | None, database: Database) -> None:
    if earlier is not None:
        make_store(database.owner_url, earlier)
    expected = earlier or "duroxide"
    assert f"schema '{expected}'" in run_command("migrate", url=database.owner_url)
    assert f"schema '{expected}'" in run_command("migrate", "--check", url=database.owner_url)
    assert "index python_orchestrator_queue_next" in run_command("tune", url=database.owner_url)
    with database.as_owner() as owner:
        index = f"{expected}.python_orchestrator_queue_next"
        assert owner.execute("SELECT to_regclass(%s) IS NOT NULL", (index,)).fetchone() == (True,)


@pytest.mark.parametrize("schema", ["duroxide", "public"])
@pytest.mark.parametrize("library", ON_POSTGRES)
def test_a_transaction_without_a_schema_finds_the_store(library: str, schema: str, database: Database) -> None:
    make_store(database.owner_url, schema)
    with ON_POSTGRES[library](database.owner_url) as (connection, _):
        transaction = TransactionClient(connection)
        transaction.start_orchestration("one", "echo", 1)
        transaction.start_orchestration("two", "echo", 2)
    assert queued(database, schema) == ["one", "two"]


@pytest.mark.parametrize("schema", ["duroxide", "public"])
@pytest.mark.parametrize("library", AWAITED_ON_POSTGRES)
def test_an_awaited_transaction_without_a_schema_finds_the_store(library: str, schema: str, database: Database) -> None:
    async def order() -> None:
        async with AWAITED_ON_POSTGRES[library](database.owner_url) as (connection, _):
            transaction = AsyncTransactionClient(connection)
            await transaction.start_orchestration("one", "echo", 1)
            await transaction.start_orchestration("two", "echo", 2)

    make_store(database.owner_url, schema)
    asyncio.run(order())
    assert queued(database, schema) == ["one", "two"]


def test_a_transaction_looks_for_the_store_once(database: Database) -> None:
    make_store(database.owner_url, "public")
    with psycopg.connect(database.owner_url) as connection:
        transaction = TransactionClient(connection)
        transaction.start_orchestration("one", "echo", 1)
        make_store(database.owner_url, "duroxide")
        transaction.start_orchestration("two", "echo", 2)
    assert queued(database, "public") == ["one", "two"]


def test_a_transaction_refuses_two_stores_until_the_program_names_one(database: Database) -> None:
    for schema in ("duroxide", "public"):
        make_store(database.owner_url, schema)
    with psycopg.connect(database.owner_url) as connection:
        with pytest.raises(ConfigurationError, match="'public' and 'duroxide' of this database have a store each"):
            TransactionClient(connection).start_orchestration("one", "echo", 1)
        TransactionClient(connection, "public").start_orchestration("one", "echo", 1)
    assert queued(database, "public") == ["one"]


def test_a_transaction_does_not_run_functions_of_another_role(database: Database) -> None:
    """The function of another role would run with the rights of the application."""
    with database.as_other() as other:
        other.execute("CREATE TABLE public._duroxide_migrations (version bigint, name text)")
        other.execute("CREATE FUNCTION public.python_send(text, text) RETURNS void LANGUAGE sql AS 'SELECT 1 / 0'")
    refused = pytest.raises(ConfigurationError, match=f"belongs to role '{database.other}'.*if you trust it")
    with psycopg.connect(database.owner_url) as connection, refused:
        TransactionClient(connection).start_orchestration("one", "echo", 1)


def test_a_transaction_finds_the_store_with_operators_of_another_role(database: Database) -> None:
    make_store(database.owner_url, "duroxide")
    with database.as_other() as other:
        other.execute(
            "CREATE FUNCTION public.trap(name, name) RETURNS boolean LANGUAGE plpgsql AS "
            "'BEGIN RAISE EXCEPTION ''sprung''; END';"
            "CREATE OPERATOR public.= (LEFTARG = name, RIGHTARG = name, FUNCTION = public.trap)"
        )
    with psycopg.connect(database.owner_url) as connection:
        connection.execute("SET search_path = public, pg_catalog")
        TransactionClient(connection).start_orchestration("one", "echo", 1)
    assert queued(database, "duroxide") == ["one"]


@pytest.mark.parametrize("schema", ["duroxide", "public"])
def test_a_notification_without_a_schema_reaches_the_nodes(schema: str, database: Database) -> None:
    with database.as_owner() as node, psycopg.connect(database.owner_url) as connection:
        node.execute(f"LISTEN duroxide_{schema}")
        TransactionClient(connection).notify()
        (received,) = node.notifies(timeout=WAIT_MS / 1000, stop_after=1)
    assert received.payload == ""
