"""Writes on the application's connection to PostgreSQL commit or roll back with its data."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from sqlalchemy.orm import Session

from duroxide import (
    AsyncTransactionClient,
    CodecError,
    ConfigurationError,
    LimitExceeded,
    PostgresProvider,
    TransactionClient,
)
from duroxide._native import CANCELLATION_QUEUE
from support.waiting import wait_until
from transactions.libraries import AWAITED_ON_POSTGRES, ON_POSTGRES, engine_of
from transactions.shop import WAIT_SECONDS, fulfil, listen, paid


class OutOfStock(Exception):
    """Makes the application roll back."""


@pytest.fixture(params=ON_POSTGRES)
def begin(request: pytest.FixtureRequest) -> Any:
    return ON_POSTGRES[request.param]


@pytest.fixture(params=AWAITED_ON_POSTGRES)
def begin_awaited(request: pytest.FixtureRequest) -> Any:
    return AWAITED_ON_POSTGRES[request.param]


def test_a_start_commits_with_the_data(begin, shop, work):
    with begin(shop.url) as (connection, run):
        run(shop.insert)
        transaction = TransactionClient(connection, shop.provider)
        assert transaction.start(fulfil, 7, id="order-7") == "order-7"
        transaction.start(listen, 2, id="listener")
        transaction.enqueue_event("listener", "inbox", 1)
        transaction.enqueue_event("listener", "inbox", 2)

    client = work(shop.provider)
    assert shop.orders() == [7]
    assert client.handle("order-7", fulfil).result(WAIT_SECONDS) == "packed 7"
    assert client.handle("listener").result(WAIT_SECONDS) == [1, 2]


def test_nothing_is_sent_when_the_transaction_rolls_back(begin, shop):
    with suppress(OutOfStock), begin(shop.url) as (connection, run):
        run(shop.insert)
        transaction = TransactionClient(connection, shop.schema)
        transaction.start_orchestration("order-7", "paid", 7)
        transaction.raise_event("order-7", "paid", 12)
        transaction.enqueue_event("order-7", "inbox", "hello")
        raise OutOfStock

    assert shop.orders() == []
    assert shop.queued() == []


def test_an_awaited_start_commits_with_the_data(begin_awaited, shop, work):
    async def order() -> None:
        async with begin_awaited(shop.url) as (connection, run):
            await run(shop.insert)
            transaction = AsyncTransactionClient(connection, shop.provider)
            assert await transaction.start(fulfil, 7, id="order-7") == "order-7"
            await transaction.start_orchestration("listener", listen, 1)
            await transaction.enqueue_event("listener", "inbox", 5)

    asyncio.run(order())

    client = work(shop.provider)
    assert shop.orders() == [7]
    assert client.handle("order-7", fulfil).result(WAIT_SECONDS) == "packed 7"
    assert client.handle("listener").result(WAIT_SECONDS) == [5]


def test_nothing_is_sent_when_an_awaited_transaction_rolls_back(begin_awaited, shop):
    async def order() -> None:
        async with begin_awaited(shop.url) as (connection, run):
            await run(shop.insert)
            transaction = AsyncTransactionClient(connection, shop.schema)
            await transaction.start(paid, 7, id="order-7")
            await transaction.raise_event("order-7", "paid", 12)
            raise OutOfStock

    with suppress(OutOfStock):
        asyncio.run(order())

    assert shop.orders() == []
    assert shop.queued() == []


def test_a_start_is_not_visible_before_the_commit(shop, work):
    client = work(shop.provider)
    with psycopg.connect(shop.url) as connection:
        TransactionClient(connection, shop.schema).start(fulfil, 7, id="order-7")
        # A later start has already run to its end.
        assert client.start(fulfil, 8).result(WAIT_SECONDS) == "packed 8"
        assert client.get_status("order-7").status == "NotFound"

    assert client.handle("order-7").result(WAIT_SECONDS) == "packed 7"


def test_an_event_reaches_an_instance_that_runs(begin, shop, work):
    client = work(shop.provider)
    client.start(paid, 7, id="order-7")
    wait_until(lambda: waits(client, "order-7"))

    with begin(shop.url) as (connection, _):
        TransactionClient(connection, shop.provider).raise_event("order-7", "paid", 12)

    assert client.handle("order-7").result(WAIT_SECONDS) == [7, 12]


def waits(client: Any, instance: str) -> bool:
    if client.get_status(instance).status == "NotFound":
        return False
    return any(event.kind == "ExternalSubscribed" for event in client.read_execution_history(instance, 1))


def test_a_start_of_a_taken_id_does_not_change_the_instance(shop, work):
    client = work(shop.provider)
    assert client.start(fulfil, 7, id="order-7").result(WAIT_SECONDS) == "packed 7"

    with psycopg.connect(shop.url) as connection:
        transaction = TransactionClient(connection, shop.schema)
        transaction.start(fulfil, 8, id="order-7")
        transaction.start(paid, 9, id="order-7")
        transaction.start(fulfil, 10, id="order-10")

    assert client.handle("order-10").result(WAIT_SECONDS) == "packed 10"
    assert client.handle("order-7").result(WAIT_SECONDS) == "packed 7"
    assert client.get_instance_info("order-7").orchestration_name == "fulfil"


def test_a_strict_start_sees_a_committed_start(shop):
    from duroxide import Client, InstanceAlreadyExists

    with psycopg.connect(shop.url) as connection:
        TransactionClient(connection, shop.schema).start(fulfil, 7, id="order-7")

    with pytest.raises(InstanceAlreadyExists):
        Client(shop.provider).start(fulfil, 7, id="order-7", if_exists="raise")


def test_an_inner_transaction_rolls_back_alone_with_psycopg(shop, work):
    with psycopg.connect(shop.url) as connection:
        transaction = TransactionClient(connection, shop.schema)
        transaction.start(fulfil, 1, id="outer")
        with suppress(OutOfStock), connection.transaction():
            transaction.start(fulfil, 2, id="inner")
            raise OutOfStock
        with connection.transaction():
            transaction.start(fulfil, 3, id="kept")

    assert_only_inner_is_missing(work(shop.provider))


def test_an_inner_transaction_rolls_back_alone_with_sqlalchemy(shop, work):
    with engine_of(shop.url) as engine, engine.begin() as connection:
        transaction = TransactionClient(connection, shop.schema)
        transaction.start(fulfil, 1, id="outer")
        with suppress(OutOfStock), connection.begin_nested():
            transaction.start(fulfil, 2, id="inner")
            raise OutOfStock
        with connection.begin_nested():
            transaction.start(fulfil, 3, id="kept")

    assert_only_inner_is_missing(work(shop.provider))


def test_an_inner_transaction_rolls_back_alone_with_django(shop, work):
    from django.db import transaction as django_transaction

    with ON_POSTGRES["django"](shop.url) as (connection, _):
        transaction = TransactionClient(connection, shop.schema)
        transaction.start(fulfil, 1, id="outer")
        with suppress(OutOfStock), django_transaction.atomic():
            transaction.start(fulfil, 2, id="inner")
            raise OutOfStock
        with django_transaction.atomic():
            transaction.start(fulfil, 3, id="kept")

    assert_only_inner_is_missing(work(shop.provider))


def assert_only_inner_is_missing(client: Any) -> None:
    assert client.handle("outer").result(WAIT_SECONDS) == "packed 1"
    assert client.handle("kept").result(WAIT_SECONDS) == "packed 3"
    assert client.get_status("inner").status == "NotFound"


def test_many_transactions_at_once_start_exactly_the_committed_instances(shop, work):
    def application(place: int) -> None:
        with psycopg.connect(shop.url) as connection:
            for number in range(10):
                transaction = TransactionClient(connection, shop.schema)
                transaction.start(fulfil, number, id=f"order-{place}-{number}")
                transaction.start(fulfil, 99, id="shared")
                connection.rollback() if number % 2 else connection.commit()

    client = work(shop.provider)
    threads = [threading.Thread(target=application, args=[place]) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    expected = {f"order-{place}-{number}" for place in range(4) for number in range(0, 10, 2)} | {"shared"}
    for each in expected:
        client.handle(each).result(WAIT_SECONDS)
    assert set(client.list_all_instances()) == expected


def test_the_recorded_history_equals_that_of_a_client(shop):
    from duroxide import Client

    value = {"text": 'é "quoted" % :name $1', "number": 1.5}
    client = Client(shop.provider)
    client.start_orchestration_versioned("same", "fulfil", value, "1.2.0")
    client.raise_event("same", "paid", value)
    client.enqueue_event("same", "inbox", "plain")
    with psycopg.connect(shop.url) as connection:
        transaction = TransactionClient(connection, shop.schema)
        transaction.start_orchestration("same", "fulfil", value, version="1.2.0")
        transaction.raise_event("same", "paid", value)
        transaction.enqueue_event("same", "inbox", "plain")

    items = shop.queued()
    assert items[:3] == items[3:]


@pytest.mark.parametrize("library", ["psycopg", "sqlalchemy connection", "sqlalchemy session", "django"])
def test_notify_wakes_the_nodes_after_the_commit(library, shop):
    from django.db import transaction as django_transaction

    with psycopg.connect(shop.url, autocommit=True) as node:
        node.execute(f"LISTEN duroxide_{shop.schema}")
        if library == "sqlalchemy connection":
            with engine_of(shop.url) as engine, engine.connect() as connection:
                start_and_notify(TransactionClient(connection, shop.schema), connection.commit)
        elif library == "sqlalchemy session":
            with engine_of(shop.url) as engine, Session(engine) as session:
                start_and_notify(TransactionClient(session, shop.schema), session.commit)
        elif library == "psycopg":
            with psycopg.connect(shop.url) as connection:
                start_and_notify(TransactionClient(connection, shop.schema), connection.commit)
        else:
            with ON_POSTGRES["django"](shop.url) as (connection, _):
                transaction = TransactionClient(connection, shop.schema)
                transaction.start(fulfil, 7, id="order-7")
                with pytest.raises(ConfigurationError, match="call it after the commit"):
                    transaction.notify()
                django_transaction.on_commit(transaction.notify)
        received = list(node.notifies(timeout=WAIT_SECONDS, stop_after=1))

    assert [(each.channel, each.payload) for each in received] == [(f"duroxide_{shop.schema}", "")]


@pytest.fixture
def long_schema(postgres_connection: psycopg.Connection, postgres_schema: str) -> Iterator[str]:
    """A schema whose name is as long as PostgreSQL allows."""
    name = postgres_schema.ljust(63, "x")
    yield name
    postgres_connection.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")


def test_notify_reaches_the_nodes_of_a_schema_with_a_long_name(postgres_url, long_schema):
    with (
        PostgresProvider.connect_with_schema(postgres_url, long_schema) as provider,
        psycopg.connect(postgres_url, autocommit=True) as node,
        psycopg.connect(postgres_url) as connection,
    ):
        # The server itself shortens the name of the channel here, as it does for the nodes.
        node.execute("SET client_min_messages = error")
        node.execute(f"LISTEN duroxide_{long_schema}")
        transaction = TransactionClient(connection, provider)
        transaction.start(fulfil, 7, id="order-7")
        connection.commit()
        transaction.notify()
        received = list(node.notifies(timeout=WAIT_SECONDS, stop_after=1))

    assert [each.payload for each in received] == [""]


def start_and_notify(transaction: TransactionClient, commit: Any) -> None:
    transaction.start(fulfil, 7, id="order-7")
    with pytest.raises(ConfigurationError, match="call it after the commit"):
        transaction.notify()
    commit()
    transaction.notify()


@pytest.mark.parametrize("library", ["psycopg", "asyncpg", "sqlalchemy"])
def test_notify_wakes_the_nodes_after_an_awaited_commit(library, shop):
    async def order() -> None:
        import asyncpg
        from sqlalchemy.ext.asyncio import AsyncSession

        from transactions.libraries import awaited_engine_of

        if library == "asyncpg":
            connection = await asyncpg.connect(shop.url)
            transaction = AsyncTransactionClient(connection, shop.schema)
            async with connection.transaction():
                await transaction.start(fulfil, 7, id="order-7")
                with pytest.raises(ConfigurationError, match="call it after the commit"):
                    await transaction.notify()
            await transaction.notify()
            await connection.close()
        elif library == "psycopg":
            async with await psycopg.AsyncConnection.connect(shop.url) as connection:
                await start_and_notify_awaited(AsyncTransactionClient(connection, shop.schema), connection.commit)
        else:
            async with awaited_engine_of(shop.url, "asyncpg") as engine, AsyncSession(engine) as session:
                await start_and_notify_awaited(AsyncTransactionClient(session, shop.schema), session.commit)

    with psycopg.connect(shop.url, autocommit=True) as node:
        node.execute(f"LISTEN duroxide_{shop.schema}")
        asyncio.run(order())
        received = list(node.notifies(timeout=WAIT_SECONDS, stop_after=1))

    assert [each.payload for each in received] == [""]


async def start_and_notify_awaited(transaction: AsyncTransactionClient, commit: Any) -> None:
    await transaction.start(fulfil, 7, id="order-7")
    with pytest.raises(ConfigurationError, match="call it after the commit"):
        await transaction.notify()
    await commit()
    await transaction.notify()


def test_a_connection_that_commits_by_itself_is_refused(shop):
    by_itself = psycopg.connect(shop.url, autocommit=True)
    with by_itself, pytest.raises(ConfigurationError, match=r"with connection\.transaction\(\)"):
        TransactionClient(by_itself, shop.schema).start(fulfil, 7)
    with engine_of(shop.url) as engine:
        automatic = engine.execution_options(isolation_level="AUTOCOMMIT")
        with automatic.connect() as connection, pytest.raises(ConfigurationError, match="AUTOCOMMIT"):
            TransactionClient(connection, shop.schema).start(fulfil, 7)
    with ON_POSTGRES["django"](shop.url) as (connection, _):
        pass
    with pytest.raises(ConfigurationError, match=r"transaction\.atomic\(\)"):
        TransactionClient(connection, shop.schema).start(fulfil, 7)
    connection.close()

    assert shop.queued() == []


def test_an_awaited_connection_that_commits_by_itself_is_refused(shop):
    async def order() -> None:
        import asyncpg

        from transactions.libraries import awaited_engine_of

        connection = await asyncpg.connect(shop.url)
        with pytest.raises(ConfigurationError, match=r"async with connection\.transaction\(\)"):
            await AsyncTransactionClient(connection, shop.schema).start(fulfil, 7)
        await connection.close()
        async with await psycopg.AsyncConnection.connect(shop.url, autocommit=True) as connection:
            with pytest.raises(ConfigurationError, match=r"async with connection\.transaction\(\)"):
                await AsyncTransactionClient(connection, shop.schema).start(fulfil, 7)
        async with awaited_engine_of(shop.url, "asyncpg") as engine, engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            with pytest.raises(ConfigurationError, match="AUTOCOMMIT"):
                await AsyncTransactionClient(connection, shop.schema).start(fulfil, 7)

    asyncio.run(order())

    assert shop.queued() == []


@pytest.mark.parametrize("library", ON_POSTGRES)
def test_the_error_about_a_schema_without_tables_says_what_to_do(library, postgres_url):
    def order() -> None:
        with ON_POSTGRES[library](postgres_url) as (connection, _):
            TransactionClient(connection, "elsewhere").start(fulfil, 7)

    with pytest.raises(ConfigurationError, match="'elsewhere' of this database has no tables of duroxide"):
        order()


@pytest.mark.parametrize("library", AWAITED_ON_POSTGRES)
def test_the_awaited_error_about_a_schema_without_tables_says_what_to_do(library, postgres_url):
    async def order() -> None:
        async with AWAITED_ON_POSTGRES[library](postgres_url) as (connection, _):
            await AsyncTransactionClient(connection, "elsewhere").raise_event("order-7", "paid")

    with pytest.raises(ConfigurationError, match="open the store once"):
        asyncio.run(order())


def test_the_error_about_missing_rights_names_them(shop):
    shop.beside.execute(f"CREATE ROLE {shop.schema} LOGIN PASSWORD 'x'")
    url = psycopg.conninfo.make_conninfo(shop.url, user=shop.schema, password="x")
    try:
        with psycopg.connect(url) as connection, pytest.raises(ConfigurationError, match="grant it USAGE"):
            TransactionClient(connection, shop.schema).start(fulfil, 7)
        # The rights that the message names are enough.
        for grant in (
            f"USAGE ON SCHEMA {shop.schema}",
            f"EXECUTE ON FUNCTION {shop.schema}.python_send(text, text)",
        ):
            shop.beside.execute(f"GRANT {grant} TO {shop.schema}")
        with psycopg.connect(url) as connection:
            transaction = TransactionClient(connection, shop.schema)
            transaction.start(paid, 7, id="order-7")
            transaction.raise_event("order-7", "paid", 12)
    finally:
        shop.beside.execute(f"DROP OWNED BY {shop.schema}")
        shop.beside.execute(f"DROP ROLE {shop.schema}")


def test_an_error_of_the_database_stays_the_error_of_its_library(shop):
    with psycopg.connect(shop.url) as connection:
        transaction = TransactionClient(connection, shop.schema)
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1 / 0")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            transaction.start(fulfil, 7)


def test_an_invalid_value_is_refused_before_it_is_written(shop):
    with psycopg.connect(shop.url) as connection:
        transaction = TransactionClient(connection, shop.schema)
        with pytest.raises(CodecError):
            transaction.start_orchestration("order-7", "fulfil", object())
        with pytest.raises(LimitExceeded):
            transaction.start_orchestration("x" * 2000, "fulfil")
        with pytest.raises(TypeError, match="missing"):
            transaction.start(fulfil)  # type: ignore[call-overload]
        with pytest.raises(ValueError, match="cancel_instance"):
            transaction.enqueue_event("order-7", CANCELLATION_QUEUE, "x")

    assert shop.queued() == []
