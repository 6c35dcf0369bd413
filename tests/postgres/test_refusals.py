"""Refusals of the server: work waits for what an operator can mend, and fails visibly if its own data is to blame."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from duroxide import (
    Client,
    ConfigurationError,
    OrchestrationContext,
    PostgresOptions,
    PostgresProvider,
    Runtime,
    SubOrchestrationFailed,
)
from postgres.other_role import MakeRole
from postgres.test_migrations import GRANTS, as_role
from support.waiting import wait_until

Steps = Generator[Any, Any, Any]
VERIFY = PostgresOptions(migrate="verify")
# Refuses what an instance records: its first turn, a later turn, and the end of an activity.
REFUSE = """
CREATE FUNCTION {schema}.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW::text LIKE '%refuse-me%' THEN
        RAISE EXCEPTION 'not on a Monday' USING ERRCODE = {code};
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE INSERT ON {schema}.{table} FOR EACH ROW EXECUTE FUNCTION {schema}.refuse();
"""
# A refusal of an administrator's trigger, and one that is about the data.
BY_OPERATOR, BY_DATA = "P0001", "54000"


def echo(_: Any, value: Any) -> Any:
    return value


def first(ctx: OrchestrationContext, value: str) -> Steps:
    return (yield ctx.schedule_activity("echo", value))


def later(ctx: OrchestrationContext, value: str) -> Steps:
    yield ctx.schedule_activity("echo", "harmless")
    return (yield ctx.schedule_activity("echo", value[::-1]))[::-1]


def parent(ctx: OrchestrationContext, child: str) -> Steps:
    try:
        return (yield ctx.schedule_sub_orchestration(child, "refuse-me"[:: -1 if child == "later" else 1]))
    except SubOrchestrationFailed as error:
        return str(error)


@pytest.fixture
def provider(postgres_url: str, postgres_schema: str) -> Iterator[PostgresProvider]:
    """A provider on a migrated schema."""
    with PostgresProvider.connect_with_schema(postgres_url, postgres_schema) as provider:
        yield provider


def refuse(connection: psycopg.Connection, schema: str, table: str, code: str) -> None:
    names = {"schema": sql.Identifier(schema), "table": sql.Identifier(table), "code": sql.Literal(code)}
    connection.execute(sql.SQL(REFUSE).format(**names))


def allow(connection: psycopg.Connection, schema: str) -> None:
    connection.execute(sql.SQL("DROP FUNCTION {}.refuse CASCADE").format(sql.Identifier(schema)))


@pytest.mark.parametrize("table", ["history", "orchestrator_queue", "worker_queue"])
def test_an_instance_waits_while_an_operator_refuses_what_it_records(
    table: str,
    provider: PostgresProvider,
    postgres_schema: str,
    postgres_connection: psycopg.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = Client(provider)
    if table == "orchestrator_queue":
        # The start itself is a row of this table.
        client.start_orchestration("one", "first", "refuse-me")
    refuse(postgres_connection, postgres_schema, table, BY_OPERATOR)
    with Runtime(provider, functions=[echo, first]):
        client.start_orchestration("one", "first", "refuse-me")
        wait_until(lambda: "not on a Monday" in caplog.text)
        allow(postgres_connection, postgres_schema)
        assert client.wait_for_orchestration("one", 20_000).result() == "refuse-me"


@pytest.mark.parametrize("child", ["first", "later"])
def test_an_instance_whose_data_the_server_refuses_fails_and_its_parent_learns_why(
    child: str, provider: PostgresProvider, postgres_schema: str, postgres_connection: psycopg.Connection
) -> None:
    refuse(postgres_connection, postgres_schema, "worker_queue", BY_DATA)
    client = Client(provider)
    with Runtime(provider, functions=[echo, first, later, parent]):
        client.start_orchestration("parent", "parent", child)
        assert "not on a Monday" in client.wait_for_orchestration("parent", 20_000).result()


def test_an_id_can_be_used_again_after_the_server_refused_the_data_of_its_first_turn(
    provider: PostgresProvider, postgres_schema: str, postgres_connection: psycopg.Connection
) -> None:
    refuse(postgres_connection, postgres_schema, "worker_queue", BY_DATA)
    client = Client(provider)
    with Runtime(provider, functions=[echo, first]):
        client.start_orchestration("one", "first", "refuse-me")
        assert client.wait_for_orchestration("one", 20_000).status == "Failed"
        client.delete_instance("one")
        client.start_orchestration("one", "first", "harmless")
        assert client.wait_for_orchestration("one", 20_000).result() == "harmless"


def test_a_result_that_the_server_refuses_fails_its_activity(
    provider: PostgresProvider, postgres_schema: str, postgres_connection: psycopg.Connection
) -> None:
    def reverse(_: Any, value: str) -> str:
        return value[::-1]

    def reversed(ctx: OrchestrationContext, value: str) -> Steps:  # noqa: A001
        return (yield ctx.schedule_activity("reverse", value))

    refuse(postgres_connection, postgres_schema, "orchestrator_queue", BY_DATA)
    client = Client(provider)
    with Runtime(provider, functions=[reverse, reversed]):
        client.start_orchestration("one", "reversed", "refuse-me"[::-1])
        failed = client.wait_for_orchestration("one", 20_000)
    assert "not on a Monday" in str(failed.error)


@pytest.fixture
def poor_url(
    postgres_url: str,
    postgres_schema: str,
    postgres_connection: psycopg.Connection,
    provider: PostgresProvider,
    make_role: MakeRole,
) -> str:
    """The URL of a role without the right to use one sequence."""
    role, password = make_role()
    names = {"schema": sql.Identifier(postgres_schema), "role": sql.Identifier(role)}
    revoke = "REVOKE USAGE ON SEQUENCE {schema}.worker_queue_id_seq FROM {role}"
    postgres_connection.execute(sql.SQL(GRANTS + revoke).format(**names))
    return as_role(postgres_url, role, password)


def test_the_log_names_the_rights_that_a_role_lacks(
    poor_url: str, postgres_schema: str, caplog: pytest.LogCaptureFixture
) -> None:
    PostgresProvider.connect_with_schema(poor_url, postgres_schema, options=VERIFY).close()
    wait_until(lambda: f"GRANT USAGE ON SEQUENCE {postgres_schema}.worker_queue_id_seq TO " in caplog.text)


def test_a_check_of_the_migration_names_the_rights_that_the_role_lacks(poor_url: str, postgres_schema: str) -> None:
    command = [sys.executable, "-m", "duroxide", "migrate", "--check", "--schema", postgres_schema, poor_url]
    checked = subprocess.run(command, check=False, capture_output=True, text=True)
    assert checked.returncode == 1
    assert f"GRANT USAGE ON SEQUENCE {postgres_schema}.worker_queue_id_seq TO " in checked.stderr


def test_a_database_whose_encoding_is_not_utf8_is_refused(
    postgres_url: str, postgres_schema: str, postgres_connection: psycopg.Connection
) -> None:
    name = sql.Identifier(postgres_schema)
    postgres_connection.execute(
        sql.SQL("CREATE DATABASE {} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0").format(name)
    )
    url = postgres_url.rsplit("/", 1)[0] + "/" + postgres_schema
    try:
        with pytest.raises(ConfigurationError, match="LATIN1.*ENCODING 'UTF8'"):
            PostgresProvider.connect(url)
    finally:
        postgres_connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
