"""What another role of the same database can do to a store: nothing that the rights of the store do not grant."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from threading import Event
from typing import Any

import psycopg
import pytest
from psycopg import sql

from duroxide import (
    Client,
    ConfigurationError,
    DuroxideError,
    OrchestrationContext,
    PostgresOptions,
    PostgresProvider,
    ProviderError,
    Runtime,
    StartRequest,
    TransactionClient,
)
from postgres.conftest import elsewhere
from postgres.other_role import STORE, Database, MakeRole
from postgres.test_migrations import GRANTS, as_role
from postgres.transaction_pooler import TransactionPooler
from support.waiting import wait_until


def echo(_: Any, value: Any) -> Any:
    return value


def child(ctx: OrchestrationContext, value: Any) -> Any:
    return (yield ctx.schedule_activity("echo", value))


def busy(ctx: OrchestrationContext, value: int) -> Any:
    """Use what has a place of its own in the store."""
    ctx.set_custom_status("under way")
    ctx.set_kv_value("key", "value")
    yield ctx.schedule_timer(5)
    yield ctx.schedule_activity("echo", value, session_id="session")
    event = yield ctx.schedule_wait("go")
    return (yield ctx.schedule_sub_orchestration("child", event))


# Operators that PostgreSQL itself lacks for exactly these types, so that one of another role is the best match.
TYPES = ("int4", "int8", "numeric", "float8", "text", "interval", "timestamptz", "json", "text[]")
ARITHMETIC = ("+", "-", "*", "/", "=", "<>", "<", ">", "<=", ">=", "||", "#>>")
# A sequence keeps its number when the transaction is rolled back, so a trap that breaks a statement leaves a trace, too.
TRAP = """
CREATE SEQUENCE public.sprung;
GRANT ALL ON SEQUENCE public.sprung TO PUBLIC;
CREATE FUNCTION public.spring(trap bigint) RETURNS void LANGUAGE sql AS 'SELECT setval(''public.sprung'', trap)';
"""
OPERATOR = """
CREATE FUNCTION public.trap_{number}({left}, {right}) RETURNS {result} LANGUAGE plpgsql AS
'BEGIN PERFORM public.spring({number}); RETURN NULL; END';
CREATE OPERATOR public.{operator} (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = public.trap_{number});
"""
# Functions that fit exactly, where PostgreSQL's own are polymorphic.
FUNCTIONS = """
CREATE FUNCTION public.unnest(text[]) RETURNS SETOF text LANGUAGE plpgsql AS
'BEGIN PERFORM public.spring(10001); RETURN; END';
CREATE FUNCTION public.cardinality(text[]) RETURNS integer LANGUAGE plpgsql AS
'BEGIN PERFORM public.spring(10002); RETURN 0; END';
CREATE FUNCTION public.gather(bigint, text) RETURNS bigint LANGUAGE plpgsql AS
'BEGIN PERFORM public.spring(10003); RETURN 0; END';
CREATE AGGREGATE public.count(text) (SFUNC = public.gather, STYPE = bigint, INITCOND = '0');
"""


def lay_traps(database: Database) -> None:
    """Create, as the other role, each operator and function that could take the place of one of PostgreSQL."""
    known = "SELECT EXISTS (SELECT FROM pg_operator WHERE oprname = %s AND oprleft = %s::regtype AND oprright = %s::regtype)"
    statements = [TRAP, FUNCTIONS]
    kinds = itertools.product(ARITHMETIC, TYPES, TYPES)
    with database.as_other() as other:
        for number, (operator, left, right) in enumerate(kinds, start=1):
            if other.execute(known, (operator, left, right)).fetchone() == (True,):
                continue
            result = {"+": left, "-": left, "*": left, "/": left}.get(operator, "boolean")
            if "interval" in {left, right} and operator == "*":
                result = "interval"
            result = {"||": "text", "#>>": "text"}.get(operator, result)
            statements.append(OPERATOR.format(number=number, operator=operator, left=left, right=right, result=result))
        other.execute("".join(statements))


def work(url: str, options: PostgresOptions | None = None) -> None:
    """Do with a store what runtimes and clients do."""
    with PostgresProvider.connect_with_schema(url, STORE, options=options) as provider:
        with Runtime(provider, functions=[echo, child, busy]) as runtime:
            client = runtime.client
            client.start_orchestration("one", "busy", 1)
            client.start_orchestrations([StartRequest(f"many-{number}", "child", number) for number in range(70)])
            client.raise_event("one", "go", "event")
            assert client.wait_for_orchestration("one", 20_000).result() == "event"
            assert client.wait_for_orchestration("many-69", 20_000).result() == 69
            client.get_instance_info("one")
            client.describe("one")
            client.get_system_metrics()
            client.get_queue_depths()
            client.list_all_instances()
            client.read_execution_history("one", 1)
            client.delete_instance("one")
        client.start_orchestration("waiting", "child", 1)
        client.describe("waiting")
        client.delete_instance("many-1")


@pytest.mark.parametrize("way", ["direct", "pooler"])
def test_no_operator_or_function_of_another_role_runs_with_the_rights_of_a_node(way: str, database: Database) -> None:
    PostgresProvider.connect_with_schema(database.owner_url, STORE).close()
    lay_traps(database)
    failures: list[DuroxideError] = []
    with TransactionPooler(database.owner_url) as pooler:
        try:
            work(database.owner_url if way == "direct" else elsewhere(database.owner_url, pooler.port))
        except DuroxideError as error:
            failures.append(error)
    with database.administrator() as administrator:
        sprung = administrator.execute("SELECT last_value FROM public.sprung WHERE is_called").fetchall()
        assert sprung == []
    assert failures == []


def test_each_function_of_a_store_sets_the_search_path_itself(database: Database) -> None:
    PostgresProvider.connect_with_schema(database.owner_url, STORE).close()
    with database.administrator() as administrator:
        lacking = administrator.execute(
            "SELECT proname FROM pg_proc WHERE pronamespace = %s::regnamespace AND NOT coalesce("
            "'search_path=pg_catalog, pg_temp' = ANY (proconfig), false)",
            (STORE,),
        ).fetchall()
    assert lacking == []


# What an application may do that starts orchestrations from its own transactions: see docs/guides/transactions.md.
APPLICATION = """
GRANT USAGE ON SCHEMA {schema} TO {role};
GRANT INSERT ON {schema}.orchestrator_queue TO {role};
GRANT USAGE ON SEQUENCE {schema}.orchestrator_queue_id_seq TO {role};
"""
POISON_OF_APPLICATION = {
    "a message that is never due": (
        "INSERT INTO {schema}.orchestrator_queue (instance_id, work_item, visible_at, created_at) "
        "VALUES ('victim', 'x', 'infinity', now())"
    ),
    "a message that the adapter's function makes due never": (
        "SELECT {schema}.enqueue_orchestrator_work('victim', 'x', 'infinity')"
    ),
    "a message that was never sent": (
        "INSERT INTO {schema}.orchestrator_queue (instance_id, work_item, visible_at, created_at) "
        "VALUES ('victim', 'x', now(), 'infinity')"
    ),
    "a message that was always there": (
        "INSERT INTO {schema}.orchestrator_queue (instance_id, work_item, visible_at, created_at) "
        "VALUES ('victim', 'x', '-infinity', '-infinity')"
    ),
}
MESSAGE = (
    "INSERT INTO {schema}.orchestrator_queue (instance_id, work_item, visible_at, created_at, attempt_count) "
    "VALUES ('victim', 'x', to_timestamp(1), to_timestamp(1), 2147483647)"
)
POISON_OF_WORKER = {
    "a message that was tried very often and has an ended lease": (
        f"{MESSAGE}; INSERT INTO {{schema}}.instance_locks (instance_id, lock_token, locked_until, locked_at) "
        "VALUES ('victim', 'ended', 2000, 2000)"
    ),
    "an activity that was tried very often": "INSERT INTO {schema}.worker_queue (work_item, visible_at, created_at, attempt_count) "
    "VALUES ('x', now(), now(), 2147483647)",
    "an activity that was tried very often and has an ended lease": (
        "INSERT INTO {schema}.worker_queue (work_item, visible_at, created_at, attempt_count, lock_token, locked_until) "
        "VALUES ('x', now(), now(), 2147483647, 'ended', 0)"
    ),
    "an activity that is never due": "INSERT INTO {schema}.worker_queue (work_item, visible_at, created_at) VALUES ('x', 'infinity', now())",
    "an instance with the largest version": "UPDATE {schema}.executions SET duroxide_version_minor = 2147483647 WHERE instance_id = 'victim'; "
    + MESSAGE,
    "an instance that was never created": "UPDATE {schema}.instances SET created_at = 'infinity' WHERE instance_id = 'victim'; "
    + MESSAGE,
    "an instance that was created at the latest time": "UPDATE {schema}.instances SET created_at = '294276-12-31' WHERE instance_id = 'victim'; "
    + MESSAGE,
    "an ended lease from the end of time": (
        f"{MESSAGE}; INSERT INTO {{schema}}.instance_locks (instance_id, lock_token, locked_until, locked_at) "
        "VALUES ('victim', 'ended', 0, 9223372036854775807)"
    ),
}


def waits(ctx: OrchestrationContext, value: Any) -> Any:
    yield ctx.schedule_wait("go")
    ctx.set_custom_status("heard")
    return (yield ctx.schedule_activity("echo", value))


def other_work_ends_after(poison: str, url: str, connection: psycopg.Connection, schema: str) -> None:
    """Poison the store while an instance waits; assert that the work of other instances ends.

    A commit leases what its own node can continue. So one node starts work and queues an activity without running it,
    and another node has to find both.
    """

    def has(client: Client, instance: str, event: str) -> bool:
        return event in [found.kind for found in client.read_execution_history(instance)]

    with PostgresProvider.connect_with_schema(url, schema) as first:
        client = Client(first)
        with Runtime(first, functions=[child, waits]):
            client.start_orchestration("victim", "waits", 1)
            client.start_orchestration("queued", "child", 1)
            wait_until(
                lambda: has(client, "victim", "ExternalSubscribed") and has(client, "queued", "ActivityScheduled")
            )
        client.start_orchestration("started", "child", 2)
    connection.execute(sql.SQL(poison).format(schema=sql.Identifier(schema)))
    with (
        PostgresProvider.connect_with_schema(url, schema) as second,
        Runtime(second, functions=[echo, child, waits]) as runtime,
    ):
        assert runtime.client.wait_for_orchestration("queued", 10_000).result() == 1
        assert runtime.client.wait_for_orchestration("started", 10_000).result() == 2


@pytest.fixture
def provider(postgres_url: str, postgres_schema: str) -> Iterator[PostgresProvider]:
    """A store of the administrator."""
    with PostgresProvider.connect_with_schema(postgres_url, postgres_schema) as provider:
        yield provider


@pytest.mark.parametrize("poison", POISON_OF_APPLICATION.values(), ids=POISON_OF_APPLICATION.keys())
def test_a_row_of_an_application_does_not_stop_the_work_of_others(
    poison: str,
    postgres_url: str,
    postgres_schema: str,
    postgres_connection: psycopg.Connection,
    make_role: MakeRole,
) -> None:
    role, password = make_role()
    PostgresProvider.connect_with_schema(postgres_url, postgres_schema).close()
    names = {"schema": sql.Identifier(postgres_schema), "role": sql.Identifier(role)}
    postgres_connection.execute(sql.SQL(APPLICATION).format(**names))
    with psycopg.connect(as_role(postgres_url, role, password), autocommit=True) as application:
        other_work_ends_after(poison, postgres_url, application, postgres_schema)


@pytest.mark.parametrize("poison", POISON_OF_WORKER.values(), ids=POISON_OF_WORKER.keys())
def test_a_row_of_another_node_does_not_stop_the_work_of_others(
    poison: str, postgres_url: str, postgres_schema: str, postgres_connection: psycopg.Connection
) -> None:
    other_work_ends_after(poison, postgres_url, postgres_connection, postgres_schema)


def test_an_instance_with_the_largest_version_of_a_custom_status_continues(
    provider: PostgresProvider, postgres_schema: str, postgres_connection: psycopg.Connection
) -> None:
    with Runtime(provider, functions=[echo, waits]) as runtime:
        client = runtime.client
        client.start_orchestration("one", "waits", 1)
        wait_until(lambda: "ExternalSubscribed" in [event.kind for event in client.read_execution_history("one")])
        statement = "UPDATE {schema}.instances SET custom_status_version = 2147483647"
        postgres_connection.execute(sql.SQL(statement).format(schema=sql.Identifier(postgres_schema)))
        client.raise_event("one", "go", None)
        assert client.wait_for_orchestration("one", 10_000).result() == 1


ENDS_OF_TIME = ("infinity", "-infinity", "294276-12-31")


@pytest.mark.parametrize("longest_ms", [None, 60_000])
def test_a_row_of_an_application_does_not_stop_the_repair_after_the_clock_was_set_back(
    longest_ms: int | None, provider: PostgresProvider, postgres_schema: str, postgres_connection: psycopg.Connection
) -> None:
    queue = f"{postgres_schema}.orchestrator_queue"
    insert = f"INSERT INTO {queue} (instance_id, work_item, visible_at, created_at) VALUES (%s, 'x', %s, %s)"
    for visible, created in itertools.product(ENDS_OF_TIME, repeat=2):
        postgres_connection.execute(insert.encode(), ("victim", visible, created))
    ahead = datetime.now(timezone.utc) + timedelta(hours=1)
    postgres_connection.execute(insert.encode(), ("other", ahead, ahead))
    name = postgres_connection.execute(
        "SELECT proname FROM pg_proc WHERE pronamespace = %s::regnamespace AND proname LIKE 'python\\_set\\_back\\_%%'",
        (postgres_schema,),
    ).fetchone()
    assert name is not None
    postgres_connection.execute(f"SELECT {postgres_schema}.{name[0]}(%s)".encode(), (longest_ms,))
    is_due = f"SELECT visible_at <= clock_timestamp() FROM {queue} WHERE instance_id = 'other'"
    assert postgres_connection.execute(is_due.encode()).fetchone() == (True,)


@pytest.mark.parametrize("time", ENDS_OF_TIME)
@pytest.mark.parametrize(
    "column", ["instances.created_at", "instances.updated_at", "executions.started_at", "executions.completed_at"]
)
def test_a_client_reads_an_instance_with_a_time_out_of_range(
    column: str, time: str, provider: PostgresProvider, postgres_schema: str, postgres_connection: psycopg.Connection
) -> None:
    with Runtime(provider, functions=[echo, child]) as runtime:
        client = runtime.client
        client.start_orchestration("one", "child", 1)
        client.wait_for_orchestration("one", 10_000)
        table, name = column.split(".")
        names = {"table": sql.Identifier(postgres_schema, table), "column": sql.Identifier(name)}
        postgres_connection.execute(sql.SQL("UPDATE {table} SET {column} = %s").format(**names), (time,))
        assert client.get_instance_info("one").status == "Completed"
        assert client.get_execution_info("one", 1).status == "Completed"
        client.describe("one")


# The server refuses to lease these rows, as it refuses a calculation with a value that is too large.
REFUSE_LEASE = """
CREATE FUNCTION {schema}.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW::text LIKE '%poison%' THEN
        RAISE EXCEPTION 'a value is out of range' USING ERRCODE = '22003';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON {schema}.{table} FOR EACH ROW EXECUTE FUNCTION {schema}.refuse();
"""


@pytest.mark.parametrize(
    ("table", "poison"),
    [
        (
            "instance_locks",
            (
                "INSERT INTO {schema}.orchestrator_queue (instance_id, work_item, visible_at, created_at) "
                "VALUES ('poison', 'x', now(), now()) RETURNING id"
            ),
        ),
        (
            "worker_queue",
            (
                "INSERT INTO {schema}.worker_queue (work_item, visible_at, created_at) "
                "VALUES ('poison', now(), now()) RETURNING id"
            ),
        ),
    ],
)
def test_the_log_names_the_row_that_a_node_leaves_out(
    *,
    table: str,
    poison: str,
    provider: PostgresProvider,
    postgres_schema: str,
    postgres_connection: psycopg.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    names = {"schema": sql.Identifier(postgres_schema), "table": sql.Identifier(table)}
    row = postgres_connection.execute(sql.SQL(poison).format(**names)).fetchone()
    assert row is not None
    postgres_connection.execute(sql.SQL(REFUSE_LEASE).format(**names))
    queue = {"instance_locks": "orchestrator_queue"}.get(table, table)
    with Runtime(provider, functions=[echo, child]) as runtime:
        client = runtime.client
        client.start_orchestration("other", "child", 1)
        assert client.wait_for_orchestration("other", 10_000).result() == 1
        wait_until(lambda: f"row {row[0]} of the table {postgres_schema}.{queue}" in caplog.text)
        assert runtime.metrics_snapshot().rows_left_out == 1
    assert "a value is out of range" in caplog.text


@pytest.mark.parametrize("queue", ["orchestrator_queue", "worker_queue"])
def test_the_log_names_a_row_that_is_never_due(
    queue: str,
    provider: PostgresProvider,
    postgres_schema: str,
    postgres_connection: psycopg.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    statement = (
        "INSERT INTO {queue} (work_item, visible_at, created_at, instance_id) "
        "VALUES ('x', 'infinity', now(), 'victim') RETURNING id"
    )
    names = {"queue": sql.Identifier(postgres_schema, queue)}
    row = postgres_connection.execute(sql.SQL(statement).format(**names)).fetchone()
    assert row is not None
    with Runtime(provider, functions=[echo, child]) as runtime:
        wait_until(lambda: f"row {row[0]} of the table {postgres_schema}.{queue}" in caplog.text)
        assert runtime.metrics_snapshot().rows_left_out == 1
    assert "it is never due" in caplog.text


def functions_of_a_store(database: Database, schema: str) -> str:
    """The statements that create the functions of this package in another schema."""
    PostgresProvider.connect_with_schema(database.owner_url, STORE).close()
    with database.administrator() as administrator:
        texts = administrator.execute(
            "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = %s::regnamespace "
            "AND proname LIKE 'python\\_%%'",
            (STORE,),
        ).fetchall()
    return ";\n".join(text.replace(f"{STORE}.", f"{schema}.").replace(f'"{STORE}".', f"{schema}.") for (text,) in texts)


def refuses_to_open(url: str, schema: str, match: str) -> None:
    with pytest.raises(ConfigurationError, match=match):
        PostgresProvider.connect_with_schema(url, schema)


def test_functions_that_another_role_made_first_are_refused(database: Database) -> None:
    functions = functions_of_a_store(database, "public")
    with database.as_other() as other:
        other.execute(functions)
    refuses_to_open(database.owner_url, "public", rf"function 'public\.python_.* role '{database.other}'.*OWNER TO")


def test_functions_of_another_role_are_refused_by_a_superuser_too(database: Database) -> None:
    functions = functions_of_a_store(database, "public")
    with database.as_other() as other:
        other.execute(functions)
    refuses_to_open(database.administrator_url, "public", rf"belongs to role '{database.other}'")


OBJECTS_OF_OTHERS = {
    "table 'public.python_waiting'": (
        "CREATE TABLE public.python_waiting (instance_id text, execution_id bigint, last_event_id bigint, report text)"
    ),
    "table 'public.python_nodes'": "CREATE TABLE public.python_nodes (node text, seen timestamptz, report text)",
    "view 'public.python_outboxes'": "CREATE VIEW public.python_outboxes AS SELECT 'o'::text AS outbox, 1::bigint AS last",
    "type 'public.python_nodes'": "CREATE TYPE public.python_nodes AS ENUM ('node')",
    "table 'public._duroxide_migrations'": "CREATE TABLE public._duroxide_migrations (version bigint, name text)",
    r"function 'public.list_instances\(text\)'": (
        "CREATE FUNCTION public.list_instances(text) RETURNS text LANGUAGE sql AS 'SELECT $1'"
    ),
}


@pytest.mark.parametrize(("name", "statement"), OBJECTS_OF_OTHERS.items(), ids=OBJECTS_OF_OTHERS.keys())
def test_an_object_of_another_role_under_a_name_of_the_store_is_refused(
    name: str, statement: str, database: Database
) -> None:
    with database.as_other() as other:
        other.execute(statement)
    refuses_to_open(database.owner_url, "public", rf"{name}.*role '{database.other}'")


def test_a_trigger_of_another_role_on_a_table_of_the_store_is_refused(database: Database) -> None:
    PostgresProvider.connect_with_schema(database.owner_url, STORE).close()
    with database.as_owner() as owner:
        owner.execute(f"GRANT USAGE ON SCHEMA {STORE} TO {database.other}")
        owner.execute(f"GRANT TRIGGER ON {STORE}.history TO {database.other}")
    with database.as_other() as other:
        other.execute("CREATE FUNCTION public.spy() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'")
        other.execute(f"CREATE TRIGGER spy BEFORE INSERT ON {STORE}.history EXECUTE FUNCTION public.spy()")
    refuses_to_open(
        database.owner_url, STORE, rf"trigger '{STORE}\.spy ON history'.*function of role '{database.other}'"
    )


@pytest.mark.parametrize("opener", ["owner", "administrator"])
def test_no_store_is_created_in_a_schema_of_another_role(opener: str, database: Database) -> None:
    with database.administrator() as administrator:
        administrator.execute(f"CREATE SCHEMA squatted AUTHORIZATION {database.other}")
        administrator.execute("GRANT ALL ON SCHEMA squatted TO PUBLIC")
    url = database.owner_url if opener == "owner" else database.administrator_url
    refuses_to_open(url, "squatted", rf"belongs to role '{database.other}'.*ALTER SCHEMA squatted OWNER TO")


def test_a_role_that_the_owner_lets_use_the_store_opens_it(database: Database) -> None:
    PostgresProvider.connect_with_schema(database.owner_url, STORE).close()
    with database.as_owner() as owner:
        names = {"schema": sql.Identifier(STORE), "role": sql.Identifier(database.other)}
        owner.execute(sql.SQL(GRANTS).format(**names))
    PostgresProvider.connect_with_schema(database.other_url, STORE, options=PostgresOptions(migrate="verify")).close()


def test_a_member_of_the_role_that_owns_the_tables_opens_the_store(database: Database) -> None:
    with database.administrator() as administrator:
        administrator.execute(f"GRANT {database.owner} TO {database.other}")
    PostgresProvider.connect_with_schema(database.owner_url, "public").close()
    PostgresProvider.connect_with_schema(database.other_url, "public").close()


def advisory_locks(connection: psycopg.Connection, ids: list[str]) -> None:
    """Take the locks that starts of earlier versions took, until the end of the connection."""
    for place in range(64):
        connection.execute("SELECT pg_advisory_lock(1685418607, %s)", (place,))
    for instance in ids:
        connection.execute("SELECT pg_advisory_lock(1685418608, hashtext(%s))", (instance,))


def starts_another(ctx: OrchestrationContext, value: Any) -> Any:
    return (yield ctx.schedule_sub_orchestration("child", value))


def test_a_role_that_holds_advisory_locks_stops_neither_starts_nor_turns(
    provider: PostgresProvider, postgres_url: str, make_role: MakeRole
) -> None:
    role, password = make_role()
    ids = ["one", "one::sub::2", *(f"many-{number}" for number in range(100))]
    with (
        psycopg.connect(as_role(postgres_url, role, password), autocommit=True) as other,
        Runtime(provider, functions=[echo, child, starts_another]) as runtime,
    ):
        advisory_locks(other, ids)
        client = runtime.client
        client.start_orchestration("one", "starts_another", 1)
        assert client.wait_for_orchestration("one", 5_000).result() == 1
        client.start_orchestrations([StartRequest(instance, "child", 1) for instance in ids[2:]])
        assert client.wait_for_orchestration("many-99", 5_000).result() == 1


def migration_lock(schema: str) -> int:
    """The key of the lock that migrations of the adapter take."""
    key = 0xCBF29CE484222325
    for byte in b"duroxide_pg:migrations:" + schema.encode():
        key = (key ^ byte) * 0x100000001B3 % 2**64
    return key - 2**64 if key >= 2**63 else key


def test_a_role_that_holds_advisory_locks_keeps_no_node_from_opening_a_store(
    provider: PostgresProvider, postgres_url: str, postgres_schema: str, make_role: MakeRole
) -> None:
    role, password = make_role()
    with psycopg.connect(as_role(postgres_url, role, password), autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", (migration_lock(postgres_schema),))
        with ThreadPoolExecutor(1) as thread:
            opened = thread.submit(PostgresProvider.connect_with_schema, postgres_url, postgres_schema)
            try:
                opened.result(10).close()
            finally:
                other.close()


def test_a_start_that_waits_in_one_schema_stops_no_start_in_another(database: Database) -> None:
    schemas = (STORE, "second")
    with ExitStack() as stack:
        first, second = (
            Client(stack.enter_context(PostgresProvider.connect_with_schema(database.owner_url, schema)))
            for schema in schemas
        )
        threads = stack.enter_context(ThreadPoolExecutor(1))
        owner = stack.enter_context(database.as_owner())
        # The first start waits in its transaction, with the lock of its id.
        owner.execute(f"BEGIN; LOCK TABLE {STORE}.orchestrator_queue IN SHARE MODE")
        started = threads.submit(first.start_orchestration, "one", "child")
        with database.administrator() as administrator:
            waiting = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock' "
                "AND query LIKE '%%python\\_commit%%'"
            )
            wait_until(lambda: administrator.execute(waiting, (database.name,)).fetchone() == (1,))
        second.start_orchestration("one", "child")
        assert not started.done()
        owner.execute("ROLLBACK")
        started.result(20)


def test_a_role_that_listens_does_not_learn_the_ids_of_instances(database: Database) -> None:
    heard: list[str] = []
    with (
        database.as_other() as other,
        PostgresProvider.connect_with_schema(database.owner_url, STORE) as provider,
        Runtime(provider, functions=[echo, child]) as runtime,
    ):
        other.execute(f"LISTEN duroxide_{STORE}")
        runtime.client.start_orchestration("invoice-of-ada", "child", 1)
        runtime.client.wait_for_orchestration("invoice-of-ada", 20_000)
        for received in other.notifies(timeout=10):
            heard.append(received.payload)
            if "digests" in received.payload or "ada" in received.payload:
                break
    assert heard
    assert "ada" not in "".join(heard)


ATTEMPTS_WITHOUT_RIGHTS = {
    "read a history": "SELECT FROM {store}.history",
    "read results": "SELECT FROM {store}.executions",
    "read the queue of messages": "SELECT FROM {store}.orchestrator_queue",
    "read the queue of activities": "SELECT FROM {store}.worker_queue",
    "read the entries of instances": "SELECT FROM {store}.kv_store",
    "forge a message": "INSERT INTO {store}.orchestrator_queue (instance_id) VALUES ('victim')",
    "delete instances": "DELETE FROM {store}.instances",
    "send": "SELECT {store}.python_send('victim', '')",
    "hold a table": "BEGIN; LOCK TABLE {store}.instances IN ACCESS SHARE MODE",
    "create in the schema": "CREATE TABLE {store}.another ()",
    "own the schema": "ALTER SCHEMA {store} OWNER TO CURRENT_USER",
}


@pytest.mark.parametrize("attempt", ATTEMPTS_WITHOUT_RIGHTS.values(), ids=ATTEMPTS_WITHOUT_RIGHTS.keys())
def test_a_role_that_may_only_connect_can_neither_read_nor_change_a_store(attempt: str, database: Database) -> None:
    PostgresProvider.connect_with_schema(database.owner_url, STORE).close()
    with database.as_other() as other, pytest.raises(psycopg.errors.InsufficientPrivilege):
        other.execute(attempt.format(store=STORE))


def test_a_role_that_listens_cannot_read_the_key_of_the_digests(database: Database) -> None:
    PostgresProvider.connect_with_schema(database.owner_url, STORE).close()
    with database.as_other() as other, pytest.raises(psycopg.errors.InsufficientPrivilege):
        other.execute(f"SELECT value FROM {STORE}.python_secrets")


def test_a_flood_of_notifications_makes_few_looks_at_the_server(database: Database) -> None:
    PostgresProvider.connect_with_schema(database.owner_url, STORE).close()
    with database.administrator() as administrator:
        administrator.execute(f"ALTER DATABASE {database.name} SET track_functions = 'all'")
    with (
        PostgresProvider.connect_with_schema(database.owner_url, STORE) as provider,
        Runtime(provider, functions=[echo, child]) as runtime,
        database.as_other() as other,
    ):
        client = runtime.client
        client.start_orchestration("before", "child", 1)
        client.wait_for_orchestration("before", 20_000)
        began = time.monotonic()
        for number in range(3_000):
            other.execute("SELECT pg_notify(%s, %s)", (f"duroxide_{STORE}", str(number)))
        seconds = time.monotonic() - began
        client.start_orchestration("after", "child", 1)
        assert client.wait_for_orchestration("after", 20_000).result() == 1
    looks = "SELECT coalesce(sum(calls), 0)::int FROM pg_stat_user_functions WHERE funcname LIKE 'python\\_claim\\_%'"
    with database.administrator() as administrator:

        def calls() -> int:
            row = administrator.execute(looks).fetchone()
            return 0 if row is None else int(row[0])

        wait_until(lambda: calls() > 0)
        # One look each 5 ms, and those that orchestrations and time cause.
        assert calls() < 200 * seconds + 100


GUIDES = Path(__file__).parents[2] / "docs" / "guides"


def grant(database: Database, *roles: str) -> None:
    """Create a store as its owner, in a database without the right of all roles to call functions, and grant rights.

    The scripts are those of the guides, with the names of this test: the other role is each of ``roles``.
    """
    with database.as_owner() as owner:
        owner.execute("ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
    PostgresProvider.connect_with_schema(database.owner_url, STORE).close()
    guides = "".join((GUIDES / guide).read_text() for guide in ("postgres.md", "transactions.md"))
    for role in roles:
        (script,) = re.findall(rf"```sql\n-- {role}\n(.*?)```", guides, re.DOTALL)
        script = re.sub(r"\b(orders|duroxide)\b", STORE, script)
        with database.as_owner() as owner:
            owner.execute(re.sub(rf"\b{role}\b", database.other, script))


VERIFY = PostgresOptions(migrate="verify")


def test_the_script_of_a_worker_lets_it_do_what_runtimes_and_clients_do(database: Database) -> None:
    grant(database, "worker")
    work(database.other_url, VERIFY)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO {store}._duroxide_migrations VALUES (9999, 'later')",
        "DELETE FROM {store}._duroxide_migrations",
        "DELETE FROM {store}.python_secrets",
        "CREATE TABLE {store}.another (id int)",
        "CREATE FUNCTION {store}.another() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ],
)
def test_a_worker_can_neither_make_the_store_unusable_nor_create_in_it(statement: str, database: Database) -> None:
    grant(database, "worker")
    with database.as_other() as other, pytest.raises(psycopg.errors.InsufficientPrivilege):
        other.execute(statement.format(store=STORE))


def test_the_script_of_a_client_lets_it_start_send_wait_and_read(database: Database) -> None:
    grant(database, "client")
    with (
        PostgresProvider.connect_with_schema(database.owner_url, STORE) as provider,
        Runtime(provider, functions=[echo, child, waits]),
        PostgresProvider.connect_with_schema(database.other_url, STORE, options=VERIFY) as other,
    ):
        client = Client(other)
        client.start_orchestration("one", "waits", 1)
        client.start_orchestrations([StartRequest(f"many-{number}", "child", number) for number in range(70)])
        client.raise_event("one", "go", None)
        assert client.wait_for_orchestration("one", 20_000).result() == 1
        assert client.wait_for_orchestration("many-69", 20_000).result() == 69
        client.describe("one")
        client.start_orchestration("two", "waits", 2)
        client.cancel_instance("two")
        assert client.wait_for_orchestration("two", 20_000).status == "Failed"


@pytest.mark.parametrize("table", ["history", "instances", "worker_queue", "python_nodes", "_duroxide_migrations"])
def test_a_client_changes_nothing_but_the_queue_of_messages(table: str, database: Database) -> None:
    grant(database, "client")
    with database.as_other() as other, pytest.raises(psycopg.errors.InsufficientPrivilege):
        other.execute(f"DELETE FROM {STORE}.{table}")


@contextmanager
def running_victim(database: Database) -> Iterator[tuple[Runtime, Event]]:
    """A runtime on the store, and an event: until it is set, an activity of the instance ``victim`` runs."""
    runs, may_end = Event(), Event()

    def slow(_: Any, value: Any) -> Any:
        runs.set()
        may_end.wait(20)
        return value

    def victim(ctx: OrchestrationContext, value: Any) -> Any:
        return (yield ctx.schedule_activity("slow", value))

    with (
        PostgresProvider.connect_with_schema(database.owner_url, STORE) as provider,
        Runtime(provider, functions=[slow, victim]) as runtime,
    ):
        runtime.client.start_orchestration("victim", "victim", "right")
        assert runs.wait(20)
        yield runtime, may_end


def test_a_client_can_forge_a_result_and_hold_up_starts(database: Database) -> None:
    grant(database, "client")
    with (
        database.as_other() as other,
        running_victim(database) as (runtime, may_end),
        ThreadPoolExecutor(1) as threads,
    ):
        other.execute(f"{INSERT} ('victim', {FORGED_RESULT}, now(), now())".format(store=STORE))
        assert runtime.client.wait_for_orchestration("victim", 20_000).result() == "forged"
        may_end.set()
        other.execute(f"BEGIN; SELECT FROM {STORE}.python_start_locks FOR UPDATE")
        started = threads.submit(runtime.client.start_orchestration, "later", "victim", "right")
        with database.administrator() as administrator:
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'"
            wait_until(lambda: administrator.execute(waiting, (database.name,)).fetchone() != (0,))
        assert not started.done()
        other.execute("ROLLBACK")
        started.result(20)


def test_the_script_of_a_reader_lets_it_read_and_not_start(database: Database) -> None:
    grant(database, "reader")
    with (
        PostgresProvider.connect_with_schema(database.owner_url, STORE) as provider,
        Runtime(provider, functions=[echo, child]) as runtime,
        PostgresProvider.connect_with_schema(database.other_url, STORE, options=VERIFY) as other,
    ):
        runtime.client.start_orchestration("one", "child", 1)
        reader = Client(other)
        assert reader.wait_for_orchestration("one", 20_000).result() == 1
        reader.describe("one")
        assert reader.list_all_instances() == ["one"]
        with pytest.raises(ProviderError, match="permission denied"):
            reader.start_orchestration("two", "child", 1)
    with database.as_other() as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(f"SELECT {STORE}.python_send('one', '')")
    with database.as_other() as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(f"SELECT value FROM {STORE}.python_secrets")


def test_the_script_of_an_application_lets_it_send_in_its_transactions(database: Database) -> None:
    grant(database, "shop")
    with (
        PostgresProvider.connect_with_schema(database.owner_url, STORE) as provider,
        Runtime(provider, functions=[echo, child, waits]) as runtime,
    ):
        with psycopg.connect(database.other_url) as connection:
            application = TransactionClient(connection, STORE)
            application.start_orchestration("one", "waits", 1)
            application.raise_event("one", "go", None)
        assert runtime.client.wait_for_orchestration("one", 20_000).result() == 1


INSERT = "INSERT INTO {store}.orchestrator_queue (instance_id, work_item, visible_at, created_at) VALUES"
FORGED_RESULT = """'{{"ActivityCompleted":{{"instance":"victim","execution_id":1,"id":2,"result":"\\"forged\\""}}}}'"""
ATTEMPTS_OF_APPLICATION = {
    "read a history": "SELECT FROM {store}.history",
    "read results": "SELECT FROM {store}.executions",
    "read the queue": "SELECT FROM {store}.orchestrator_queue",
    "read the key of digests": "SELECT FROM {store}.python_secrets",
    "write a result": INSERT + " ('victim', " + FORGED_RESULT + ", now(), now())",
    "write a row that is never due": INSERT + " ('victim', 'x', 'infinity', now())",
    "call the function of another adapter": "SELECT {store}.enqueue_orchestrator_work('victim', 'x', 'infinity')",
    "change the custom status": "UPDATE {store}.instances SET custom_status = 'forged'",
    "delete the queue": "TRUNCATE {store}.orchestrator_queue",
    "hold the locks of starts": "SELECT FROM {store}.python_start_locks FOR UPDATE",
    "hold the table of the locks of starts": "BEGIN; LOCK TABLE {store}.python_start_locks",
    "hold the queue": "BEGIN; LOCK TABLE {store}.orchestrator_queue IN ACCESS SHARE MODE",
    "create in the schema": "CREATE FUNCTION {store}.another() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "replace the function that it calls": (
        "CREATE OR REPLACE FUNCTION {store}.python_send(text, text) RETURNS void LANGUAGE sql AS ''"
    ),
    "let others call it": "ALTER FUNCTION {store}.python_send(text, text) OWNER TO CURRENT_USER",
}


@pytest.mark.parametrize("attempt", ATTEMPTS_OF_APPLICATION.values(), ids=ATTEMPTS_OF_APPLICATION.keys())
def test_an_application_may_only_send(attempt: str, database: Database) -> None:
    grant(database, "shop")
    with database.as_other() as other, pytest.raises(psycopg.errors.InsufficientPrivilege):
        other.execute(attempt.format(store=STORE))


@pytest.mark.parametrize("way", ["write", "send"])
def test_an_application_cannot_forge_the_result_of_an_activity(way: str, database: Database) -> None:
    grant(database, "shop")
    statement = f"{INSERT} ('victim', {FORGED_RESULT}, now(), now())"
    if way == "send":
        statement = f"SELECT {{store}}.python_send('victim', {FORGED_RESULT})"
    with database.as_other() as other, running_victim(database) as (runtime, may_end):
        with suppress(psycopg.errors.InsufficientPrivilege):
            other.execute(statement.format(store=STORE))
        may_end.set()
        assert runtime.client.wait_for_orchestration("victim", 20_000).result() == "right"


def test_a_transaction_of_an_application_that_stays_open_stops_no_work(database: Database) -> None:
    grant(database, "shop")
    with (
        psycopg.connect(database.other_url) as other,
        PostgresProvider.connect_with_schema(database.owner_url, STORE) as provider,
        Runtime(provider, functions=[echo, child, starts_another]) as runtime,
    ):
        application = TransactionClient(other, STORE)
        for instance in ("one", "one::sub::2"):
            application.start_orchestration(instance, "child", 2)
        runtime.client.start_orchestration("one", "starts_another", 1)
        assert runtime.client.wait_for_orchestration("one", 5_000).result() == 1
        other.rollback()


START = (
    '{"StartOrchestration":{"instance":"%s","orchestration":"child","input":"1","version":null,"parent_instance":%s,'
    '"parent_id":%s,"execution_id":%s}}'
)
FORGED = {
    "the result of an activity": (
        '{"ActivityCompleted":{"instance":"victim","execution_id":1,"id":2,"result":"\\"forged\\""}}'
    ),
    "a timer": '{"TimerFired":{"instance":"victim","execution_id":1,"id":2,"fire_at_ms":1}}',
    "the result of a child": (
        '{"SubOrchCompleted":{"parent_instance":"victim","parent_execution_id":1,"parent_id":2,"result":"1"}}'
    ),
    "the start of a child": START % ("victim", '"other"', 2, 1),
    "a start of another instance": START % ("other", "null", "null", 1),
    "the start of a later execution": START % ("victim", "null", "null", 2),
    "a start that nodes do not see among the waiting ones": " " + START % ("victim", "null", "null", 1),
    "two messages": '{"TimerFired":{"instance":"victim"},"QueueMessage":{"instance":"victim","name":"n","data":"1"}}',
    "nothing": "{}",
}


@pytest.mark.parametrize("item", FORGED.values(), ids=FORGED.keys())
def test_an_application_cannot_send_what_only_a_node_may(item: str, database: Database) -> None:
    PostgresProvider.connect_with_schema(database.owner_url, STORE).close()
    with database.as_owner() as owner:
        owner.execute(f"GRANT USAGE ON SCHEMA {STORE} TO {database.other}")
        owner.execute(f"GRANT EXECUTE ON FUNCTION {STORE}.python_send(text, text) TO {database.other}")
    with database.as_other() as other, pytest.raises(psycopg.errors.InsufficientPrivilege, match="may send a start"):
        other.execute(f"SELECT {STORE}.python_send('victim', %s)", (item,))


def test_a_role_that_only_uses_the_schema_cannot_send(database: Database) -> None:
    PostgresProvider.connect_with_schema(database.owner_url, STORE).close()
    with database.as_owner() as owner:
        owner.execute(f"GRANT USAGE ON SCHEMA {STORE} TO {database.other}")
    with database.as_other() as other, pytest.raises(psycopg.errors.InsufficientPrivilege):
        other.execute(f"SELECT {STORE}.python_send('one', '')")
