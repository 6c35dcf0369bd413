"""Creating and verifying tables and functions: who may do it, and the errors."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

from duroxide import Client, ConfigurationError, PostgresOptions, PostgresProvider, ProviderError, Runtime
from postgres.other_role import MakeRole

VERIFY = PostgresOptions(migrate="verify")

# As in docs/guides/postgres.md.
GRANTS = """
GRANT USAGE ON SCHEMA {schema} TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role};
GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role};
"""


def as_role(url: str, role: str, password: str) -> str:
    split = urlsplit(url)
    return urlunsplit((split.scheme, f"{role}:{password}@{split.hostname}:{split.port}", split.path, "", ""))


def duroxide(*arguments: str, url: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **({} if url is None else {"DATABASE_URL": url})}
    command = [sys.executable, "-m", "duroxide", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment)


def our_functions(connection: psycopg.Connection, schema: str) -> list[str]:
    rows = connection.execute(
        "SELECT proname FROM pg_proc WHERE pronamespace = %s::regnamespace AND proname LIKE 'python\\_%%'", (schema,)
    )
    return sorted(row[0] for row in rows)


def test_an_empty_schema_is_not_opened_for_verification(
    postgres_url: str, postgres_schema: str, postgres_connection: psycopg.Connection
) -> None:
    with pytest.raises(ProviderError, match=f"run `python -m duroxide migrate URL --schema {postgres_schema}`"):
        PostgresProvider.connect_with_schema(postgres_url, postgres_schema, options=VERIFY)
    assert postgres_connection.execute("SELECT to_regnamespace(%s)", (postgres_schema,)).fetchone() == (None,)


def test_a_manual_migration_passes_verification(postgres_url: str, postgres_schema: str) -> None:
    checked = duroxide("migrate", "--check", "--schema", postgres_schema, url=postgres_url)
    assert checked.returncode == 1
    assert "python -m duroxide migrate" in checked.stderr
    migrated = duroxide("migrate", postgres_url, "--schema", postgres_schema)
    assert (migrated.returncode, migrated.stderr) == (0, "")
    assert duroxide("migrate", "--check", "--schema", postgres_schema, url=postgres_url).returncode == 0
    with PostgresProvider.connect_with_schema(postgres_url, postgres_schema, options=VERIFY) as provider:
        assert Client(provider).list_all_instances() == []


def test_a_migration_of_the_adapter_that_is_missing_is_named(
    postgres_url: str, postgres_schema: str, postgres_connection: psycopg.Connection
) -> None:
    PostgresProvider.connect_with_schema(postgres_url, postgres_schema).close()
    table = sql.Identifier(postgres_schema, "_duroxide_migrations")
    postgres_connection.execute(sql.SQL("DELETE FROM {} WHERE version = 26").format(table))
    with pytest.raises(ProviderError, match=r"missing versions \[26\]; run `python -m duroxide migrate"):
        PostgresProvider.connect_with_schema(postgres_url, postgres_schema, options=VERIFY)


def test_a_schema_of_a_newer_adapter_is_not_changed(
    postgres_url: str, postgres_schema: str, postgres_connection: psycopg.Connection
) -> None:
    PostgresProvider.connect_with_schema(postgres_url, postgres_schema).close()
    table = sql.Identifier(postgres_schema, "_duroxide_migrations")
    postgres_connection.execute(sql.SQL("INSERT INTO {} VALUES (9999, 'later')").format(table))
    for options in (VERIFY, PostgresOptions()):
        with pytest.raises(
            ProviderError, match=r"9999.*install the version of duroxide here that the other nodes have"
        ):
            PostgresProvider.connect_with_schema(postgres_url, postgres_schema, options=options)


def test_a_renamed_schema_is_refused_with_its_earlier_name(
    postgres_url: str, postgres_schema: str, postgres_connection: psycopg.Connection
) -> None:
    renamed = f"{postgres_schema}_old"
    PostgresProvider.connect_with_schema(postgres_url, postgres_schema).close()
    names = {"earlier": sql.Identifier(postgres_schema), "renamed": sql.Identifier(renamed)}
    postgres_connection.execute(sql.SQL("ALTER SCHEMA {earlier} RENAME TO {renamed}").format(**names))
    try:
        with pytest.raises(ProviderError, match=f"rename it back to '{postgres_schema}'"):
            PostgresProvider.connect_with_schema(postgres_url, renamed)
    finally:
        postgres_connection.execute(sql.SQL("DROP SCHEMA {renamed} CASCADE").format(**names))


@pytest.mark.parametrize(
    "table", ["sessions (id bigint, user_name text)", "history (instance_id text)", "python_outboxes (id bigint)"]
)
def test_a_table_of_an_application_under_one_of_our_names_is_refused(
    table: str, postgres_url: str, postgres_schema: str, postgres_connection: psycopg.Connection
) -> None:
    postgres_connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(postgres_schema)))
    statement = sql.SQL("CREATE TABLE {}." + table)  # type: ignore[arg-type]
    postgres_connection.execute(statement.format(sql.Identifier(postgres_schema)))
    name = table.partition(" ")[0]
    with pytest.raises(ConfigurationError, match=rf"'{postgres_schema}\.{name}' .*connect_with_schema"):
        PostgresProvider.connect_with_schema(postgres_url, postgres_schema)
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = %s"
    assert postgres_connection.execute(tables, (postgres_schema,)).fetchone() == (1,)


def test_missing_functions_are_named_and_created(
    postgres_url: str, postgres_schema: str, postgres_connection: psycopg.Connection
) -> None:
    PostgresProvider.connect_with_schema(postgres_url, postgres_schema).close()
    made = our_functions(postgres_connection, postgres_schema)
    assert made
    for name in made:
        postgres_connection.execute(sql.SQL("DROP FUNCTION {} CASCADE").format(sql.Identifier(postgres_schema, name)))
    with pytest.raises(ProviderError, match="functions of this version are missing; run `python -m duroxide migrate"):
        PostgresProvider.connect_with_schema(postgres_url, postgres_schema, options=VERIFY)
    PostgresProvider.connect_with_schema(postgres_url, postgres_schema).close()
    assert our_functions(postgres_connection, postgres_schema) == made


def test_many_nodes_may_start_on_an_empty_schema_at_once(postgres_url: str, postgres_schema: str) -> None:
    def start(_: int) -> None:
        PostgresProvider.connect_with_schema(postgres_url, postgres_schema).close()

    with ThreadPoolExecutor(8) as nodes:
        list(nodes.map(start, range(8)))
    PostgresProvider.connect_with_schema(postgres_url, postgres_schema, options=VERIFY).close()


@pytest.mark.parametrize("migrate", ["apply", "verify"])
def test_a_role_without_create_rights_works_on_an_existing_schema(
    migrate: str, postgres_url: str, postgres_schema: str, postgres_connection: psycopg.Connection, make_role: MakeRole
) -> None:
    def double(_: object, number: int) -> int:
        return 2 * number

    def doubled(ctx, number):  # type: ignore[no-untyped-def]
        ctx.set_custom_status("under way")
        return (yield ctx.schedule_activity("double", number))

    role, password = make_role()
    PostgresProvider.connect_with_schema(postgres_url, postgres_schema).close()
    grants = sql.SQL(GRANTS).format(schema=sql.Identifier(postgres_schema), role=sql.Identifier(role))
    postgres_connection.execute(grants)
    options = PostgresOptions(migrate=migrate)  # type: ignore[arg-type]
    url = as_role(postgres_url, role, password)
    with PostgresProvider.connect_with_schema(url, postgres_schema, options=options) as provider:
        with Runtime(provider, functions=[double, doubled]):
            client = Client(provider)
            client.start_orchestration("one", "doubled", 21)
            assert client.wait_for_orchestration("one", 20_000).result() == 42
        client.delete_instance("one")


def test_the_error_for_a_role_without_create_rights_says_who_must_migrate(
    postgres_url: str, postgres_schema: str, make_role: MakeRole
) -> None:
    role, password = make_role()
    with pytest.raises(ProviderError, match=r"permission denied.*let a role that may create run `python -m duroxide"):
        PostgresProvider.connect_with_schema(as_role(postgres_url, role, password), postgres_schema)


def test_tuning_adds_missing_indexes_and_none_twice(
    postgres_url: str, postgres_schema: str, postgres_connection: psycopg.Connection
) -> None:
    with PostgresProvider.connect_with_schema(postgres_url, postgres_schema) as provider:
        table = sql.Identifier(postgres_schema, "worker_queue")
        postgres_connection.execute(sql.SQL("ALTER TABLE {} SET (autovacuum_vacuum_threshold = 7)").format(table))
        done = provider.tune()
        assert [line.split()[:2] for line in done[:2]] == [
            ["index", "python_orchestrator_queue_next"],
            ["index", "python_executions_ended"],
        ]
        assert provider.tune() == []
    kept = postgres_connection.execute(
        "SELECT reloptions FROM pg_class WHERE oid = %s::regclass", (f"{postgres_schema}.worker_queue",)
    ).fetchone()
    assert kept is not None
    assert "autovacuum_vacuum_threshold=7" in kept[0]
    assert duroxide("tune", postgres_url, "--schema", postgres_schema).stdout == "nothing was left to do\n"


def test_an_interrupted_index_is_built_again(
    postgres_url: str, postgres_schema: str, postgres_connection: psycopg.Connection
) -> None:
    with PostgresProvider.connect_with_schema(postgres_url, postgres_schema) as provider:
        provider.tune()
        name = f"{postgres_schema}.python_executions_ended"
        postgres_connection.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass", (name,))
        assert [line.split()[1] for line in provider.tune()] == ["python_executions_ended"]
        valid = postgres_connection.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = %s::regclass", (name,))
        assert valid.fetchone() == (True,)


def test_the_command_line_tunes_only_a_store_in_postgres() -> None:
    refused = duroxide("tune", "sqlite:///file.db")
    assert refused.returncode == 1
    assert "postgresql://" in refused.stderr
