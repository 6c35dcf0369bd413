"""What another role of the same database can do to a store: nothing that the rights of the store do not grant."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from duroxide import Client, OrchestrationContext, PostgresProvider, Runtime, StartRequest
from postgres.conftest import MakeRole, elsewhere
from postgres.other_role import STORE, Database, make_database
from postgres.transaction_pooler import TransactionPooler
from support.waiting import wait_until


@pytest.fixture
def database(postgres_url: str, postgres_schema: str, make_role: MakeRole) -> Iterator[Database]:
    """A database with the owner of a store, and another role."""
    with make_database(postgres_url, f"db_{postgres_schema}", make_role) as database:
        yield database


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
    event = yield ctx.wait_for_external("go")
    return (yield ctx.schedule_sub_orchestration("child", event))


# Operators that PostgreSQL itself lacks for exactly these types, so that one of another role is the best match.
TYPES = ("int4", "int8", "numeric", "float8", "text", "interval", "timestamptz", "json", "text[]")
ARITHMETIC = ("+", "-", "*", "/", "=", "<>", "<", ">", "<=", ">=", "||", "#>>")
TRAP = """
CREATE TABLE public.loot (who text);
GRANT INSERT ON public.loot TO PUBLIC;
CREATE FUNCTION public.spring() RETURNS void LANGUAGE sql AS 'INSERT INTO public.loot VALUES (current_user)';
"""
OPERATOR = """
CREATE FUNCTION public.trap_{number}({left}, {right}) RETURNS {result} LANGUAGE plpgsql AS
'BEGIN PERFORM public.spring(); RETURN NULL; END';
CREATE OPERATOR public.{operator} (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = public.trap_{number});
"""
# Functions that fit exactly, where PostgreSQL's own are polymorphic.
FUNCTIONS = """
CREATE FUNCTION public.unnest(text[]) RETURNS SETOF text LANGUAGE plpgsql AS
'BEGIN PERFORM public.spring(); RETURN; END';
CREATE FUNCTION public.cardinality(text[]) RETURNS integer LANGUAGE plpgsql AS
'BEGIN PERFORM public.spring(); RETURN 0; END';
CREATE FUNCTION public.gather(bigint, text) RETURNS bigint LANGUAGE plpgsql AS
'BEGIN PERFORM public.spring(); RETURN 0; END';
CREATE AGGREGATE public.count(text) (SFUNC = public.gather, STYPE = bigint, INITCOND = '0');
"""


def lay_traps(database: Database) -> None:
    """Create, as the other role, each operator and function that could take the place of one of PostgreSQL."""
    known = "SELECT EXISTS (SELECT FROM pg_operator WHERE oprname = %s AND oprleft = %s::regtype AND oprright = %s::regtype)"
    statements = [TRAP, FUNCTIONS]
    with database.as_other() as other:
        for number, (operator, left, right) in enumerate(itertools.product(ARITHMETIC, TYPES, TYPES)):
            if other.execute(known, (operator, left, right)).fetchone() == (True,):
                continue
            result = {"+": left, "-": left, "*": left, "/": left}.get(operator, "boolean")
            if "interval" in {left, right} and operator == "*":
                result = "interval"
            result = {"||": "text", "#>>": "text"}.get(operator, result)
            statements.append(
                OPERATOR.format(number=number, operator=operator, left=left, right=right, result=result)
            )
        other.execute("".join(statements))  # type: ignore[call-overload]


def work(url: str) -> None:
    """Do with a store what runtimes and clients do."""
    with PostgresProvider.connect_with_schema(url, STORE) as provider:
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
    if way == "direct":
        work(database.owner_url)
    else:
        with TransactionPooler(database.owner_url) as pooler:
            work(elsewhere(database.owner_url, pooler.port))
    with database.administrator() as administrator:
        assert administrator.execute("SELECT count(*) FROM public.loot").fetchone() == (0,)


def test_each_function_of_a_store_sets_the_search_path_itself(database: Database) -> None:
    PostgresProvider.connect_with_schema(database.owner_url, STORE).close()
    with database.administrator() as administrator:
        lacking = administrator.execute(
            "SELECT proname FROM pg_proc WHERE pronamespace = %s::regnamespace AND NOT coalesce("
            "'search_path=pg_catalog, pg_temp' = ANY (proconfig), false)",
            (STORE,),
        ).fetchall()
    assert lacking == []
