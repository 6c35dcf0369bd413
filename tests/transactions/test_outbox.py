"""The outbox of an application's SQLite database is relayed into the store, each message once."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import sys
import threading
import time
from contextlib import closing, contextmanager, suppress
from typing import Any

import pytest

from duroxide import (
    AsyncTransactionClient,
    Client,
    ClientError,
    ConfigurationError,
    Outbox,
    PostgresProvider,
    Runtime,
    TransactionClient,
)
from support.proxy import COMMIT, Proxy
from support.waiting import wait_until
from transactions.libraries import AWAITED_ON_SQLITE, ON_SQLITE
from transactions.shop import FUNCTIONS, WAIT_SECONDS, fulfil, listen, paid


class OutOfStock(Exception):
    """Makes the application roll back."""


@pytest.fixture(params=ON_SQLITE)
def begin(request: pytest.FixtureRequest) -> Any:
    return ON_SQLITE[request.param]


@contextmanager
def writing(database: str) -> Any:
    with ON_SQLITE["sqlite3"](database) as (connection, _):
        yield TransactionClient(connection)


def test_a_start_commits_with_the_data(begin, database, rows, provider, work):
    with begin(database) as (connection, run):
        run("INSERT INTO orders VALUES (7)")
        transaction = TransactionClient(connection)
        assert transaction.start(fulfil, 7, id="order-7") == "order-7"
        transaction.start_orchestration("listener", listen, 2)
        transaction.enqueue_event("listener", "inbox", 1)
        transaction.enqueue_event("listener", "inbox", 2)

    client = work(provider, outboxes=[Outbox(database)])
    assert rows("SELECT number FROM orders") == [(7,)]
    assert client.handle("order-7", fulfil).result(WAIT_SECONDS) == "packed 7"
    assert client.handle("listener").result(WAIT_SECONDS) == [1, 2]
    wait_until(lambda: rows("SELECT count(*) FROM duroxide_outbox") == [(0,)])


def test_nothing_is_sent_when_the_transaction_rolls_back(begin, database, rows):
    with suppress(OutOfStock), begin(database) as (connection, run):
        run("INSERT INTO orders VALUES (7)")
        TransactionClient(connection).start(fulfil, 7, id="order-7")
        raise OutOfStock

    assert rows("SELECT * FROM orders") == []
    assert rows("SELECT * FROM duroxide_outbox") == []


@pytest.mark.parametrize("library", AWAITED_ON_SQLITE)
def test_an_awaited_start_commits_with_the_data(library, database, file_store, work):
    async def order() -> None:
        async with AWAITED_ON_SQLITE[library](database) as (connection, run):
            await run("INSERT INTO orders VALUES (7)")
            await AsyncTransactionClient(connection).start(fulfil, 7, id="order-7")

    asyncio.run(order())

    client = work(file_store, outboxes=[Outbox(database)])
    assert client.handle("order-7", fulfil).result(WAIT_SECONDS) == "packed 7"


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_commits_during_the_runtimes_work_are_relayed(journal, database, rows, file_store, work):
    rows(f"PRAGMA journal_mode = {journal}")
    client = work(file_store, outboxes=[Outbox(database)])
    for number in range(20):
        with writing(database) as transaction:
            transaction.start(fulfil, number, id=f"order-{number}")
        assert client.handle(f"order-{number}", fulfil).result(WAIT_SECONDS) == f"packed {number}"


def test_an_event_reaches_an_instance_that_runs(database, provider, work):
    client = work(provider, outboxes=[Outbox(database)])
    client.start(paid, 7, id="order-7")
    wait_until(lambda: waits(client, "order-7"))

    with writing(database) as transaction:
        transaction.raise_event("order-7", "paid", 12)

    assert client.handle("order-7").result(WAIT_SECONDS) == [7, 12]


def waits(client: Client, instance: str) -> bool:
    if client.get_status(instance).status == "NotFound":
        return False
    return any(event.kind == "ExternalSubscribed" for event in client.read_execution_history(instance, 1))


def test_a_savepoint_rolls_back_alone(database, rows):
    with ON_SQLITE["sqlite3"](database) as (connection, run):
        transaction = TransactionClient(connection)
        transaction.start(fulfil, 1, id="outer")
        run("SAVEPOINT inner")
        transaction.start(fulfil, 2, id="inner")
        run("ROLLBACK TO inner")
        transaction.start(fulfil, 3, id="kept")

    assert rows("SELECT instance_id FROM duroxide_outbox ORDER BY id") == [("outer",), ("kept",)]


def test_messages_keep_their_order_across_many_batches(database, rows, provider, work):
    with writing(database) as transaction:
        start_listeners(transaction, 70)
        for number in range(70):
            send_to_listeners(transaction, number)

    client = work(provider, outboxes=[Outbox(database)])
    assert received(client) == [list(range(70))] * LISTENERS
    assert rows("SELECT count(*) FROM duroxide_outbox") == [(0,)]


LISTENERS = 10


def start_listeners(transaction: Any, count: int) -> None:
    for listener in range(LISTENERS):
        transaction.start(listen, count, id=f"listener-{listener}")


def send_to_listeners(transaction: Any, number: int) -> None:
    for listener in range(LISTENERS):
        transaction.enqueue_event(f"listener-{listener}", "inbox", number)


def received(client: Client) -> list[Any]:
    return [client.handle(f"listener-{listener}").result(60) for listener in range(LISTENERS)]


def test_concurrent_relays_deliver_every_message_once(database, provider, work):
    client = work(provider)
    with writing(database) as transaction:
        start_listeners(transaction, 40)
    outboxes = [Outbox(database) for _ in range(3)]
    counts: list[int] = []
    is_over = threading.Event()

    def relay(outbox: Outbox) -> None:
        count = 0
        while not is_over.is_set():
            count += outbox.relay(client)
        counts.append(count + outbox.relay(client))

    threads = [threading.Thread(target=relay, args=[outbox]) for outbox in outboxes]
    for thread in threads:
        thread.start()
    for number in range(40):
        with writing(database) as transaction:
            send_to_listeners(transaction, number)
    is_over.set()
    for thread in threads:
        thread.join()

    assert sum(counts) == 41 * LISTENERS
    assert received(client) == [list(range(40))] * LISTENERS


@pytest.mark.parametrize("store", ["memory", "postgres"])
def test_a_manual_relay_empties_the_outbox(store, database, rows, provider):
    client = Client(provider)
    with writing(database) as transaction:
        transaction.start(fulfil, 7, id="order-7")
        transaction.start(fulfil, 8, id="order-8")

    assert Outbox(database).relay(client) == 2
    assert Outbox(database).relay(client) == 0
    assert rows("SELECT * FROM duroxide_outbox") == []
    assert client.start_orchestration("order-7", fulfil, 7) is False


def test_a_manual_relay_refuses_a_store_that_another_process_owns(database, file_store):
    with writing(database) as transaction:
        transaction.start(fulfil, 7, id="order-7")

    with pytest.raises(ClientError, match="relay where its runtime runs"):
        Outbox(database).relay(Client(file_store))


def test_a_start_of_a_taken_id_does_not_change_the_instance(database, rows, provider, work):
    client = work(provider, outboxes=[Outbox(database)])
    assert client.start(fulfil, 7, id="order-7").result(WAIT_SECONDS) == "packed 7"

    with writing(database) as transaction:
        transaction.start(fulfil, 8, id="order-7")
        transaction.start(fulfil, 9, id="order-9")

    assert client.handle("order-9").result(WAIT_SECONDS) == "packed 9"
    wait_until(lambda: rows("SELECT count(*) FROM duroxide_outbox") == [(0,)])
    assert client.handle("order-7").result(WAIT_SECONDS) == "packed 7"


def test_a_start_whose_id_another_orchestration_has_is_set_aside(database, provider, work, caplog):
    outbox = Outbox(database)
    client = work(provider, outboxes=[outbox])
    assert client.start(fulfil, 7, id="order-7").result(WAIT_SECONDS) == "packed 7"

    with writing(database) as transaction:
        transaction.start(fulfil, 8, id="order-8")
        transaction.start(paid, 7, id="order-7")
        transaction.start(fulfil, 9, id="order-9")

    assert client.handle("order-9").result(WAIT_SECONDS) == "packed 9"
    assert client.handle("order-8").result(WAIT_SECONDS) == "packed 8"
    (row,) = outbox.set_aside()
    assert (row.kind, row.instance_id, row.name) == ("start", "order-7", "paid")
    assert "already exists and runs orchestration 'fulfil'" in row.error


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        (("start", "", "fulfil", "7", None), "an instance id is empty"),
        (("start", "x" * 2000, "fulfil", "7", None), "an instance id has 2000 bytes"),
        (("start", "order-7", "fulfil", b"\xff", None), "must be a str, not bytes"),
        (("start", "order-7", "fulfil", "7", "new"), "version"),
        (("message", "order-7", "__no__" * 400, "7", None), "the name of a queue has 2400 bytes"),
    ],
)
def test_a_malformed_row_is_set_aside_and_does_not_block_the_others(columns, reason, database, file_store, work):
    outbox = Outbox(database)
    with closing(sqlite3.connect(database)) as connection, connection:
        insert = "INSERT INTO duroxide_outbox (kind, instance_id, name, data, version) VALUES (?, ?, ?, ?, ?)"
        connection.execute(insert, columns)
        connection.execute(insert, ("start", "order-8", "fulfil", "8", None))

    client = work(file_store, outboxes=[outbox])

    assert client.handle("order-8").result(WAIT_SECONDS) == "packed 8"
    (row,) = outbox.set_aside()
    assert reason in row.error


def test_a_row_whose_text_is_not_utf_8_is_set_aside(database, file_store, work):
    outbox = Outbox(database)
    with closing(sqlite3.connect(database)) as connection, connection:
        into = "INSERT INTO duroxide_outbox (kind, instance_id, name, data)"
        connection.execute(f"{into} VALUES ('start', 'order-7', 'fulfil', CAST(x'ff' AS TEXT))")
        connection.execute(f"{into} VALUES ('start', 'order-8', 'fulfil', '8')")

    client = work(file_store, outboxes=[outbox])

    assert client.handle("order-8").result(WAIT_SECONDS) == "packed 8"
    assert "UTF-8" in outbox.set_aside()[0].error


def test_an_unknown_kind_fails_in_the_application(database):
    with pytest.raises(sqlite3.IntegrityError), closing(sqlite3.connect(database)) as connection:
        connection.execute(
            "INSERT INTO duroxide_outbox (kind, instance_id, name, data) VALUES ('begin', 'order-7', 'fulfil', '7')"
        )


def test_a_row_that_was_set_aside_can_be_retried(database, rows, provider, work):
    outbox = Outbox(database)
    with writing(database) as transaction:
        transaction.start(paid, 7, id="order-7")
        transaction.start(fulfil, 7, id="order-7")
    client = work(provider, outboxes=[outbox])
    wait_until(outbox.set_aside)
    (row,) = outbox.set_aside()
    assert row.name == "fulfil"
    wait_until(lambda: client.get_status("order-7").status == "Running")
    client.delete_instance("order-7", force=True)

    outbox.retry(row.id)

    assert client.handle("order-7", fulfil).result(WAIT_SECONDS) == "packed 7"
    assert outbox.set_aside() == []
    with pytest.raises(ValueError, match="was not set aside"):
        outbox.retry(row.id)


def test_a_restarted_runtime_continues_the_relay(database, file_store):
    runtime = Runtime(file_store, functions=FUNCTIONS, outboxes=[Outbox(database)])
    for number in range(3):
        with writing(database) as transaction:
            transaction.start(fulfil, number, id=f"order-{number}")
        with runtime:
            assert runtime.client.handle(f"order-{number}").result(WAIT_SECONDS) == f"packed {number}"


def test_the_relay_waits_for_a_locked_database(database, file_store, work, caplog):
    caplog.set_level(logging.INFO, "duroxide.outbox")

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(database, timeout=0, check_same_thread=False)

    client = work(file_store, outboxes=[Outbox(connect)])
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        with writing(database) as transaction:
            transaction.start(fulfil, 7, id="order-7")
        connection.execute("BEGIN EXCLUSIVE")
        wait_until(lambda: "database is locked" in caplog.text)
        connection.execute("COMMIT")

    assert client.handle("order-7").result(WAIT_SECONDS) == "packed 7"
    wait_until(lambda: "continues" in caplog.text)
    assert caplog.text.count("waits:") == 1


def test_an_outbox_restored_from_a_backup_loses_nothing(database, tmp_path, rows, file_store, work):
    backup = tmp_path / "backup.db"
    with closing(sqlite3.connect(database)) as connection, closing(sqlite3.connect(backup)) as copy:
        connection.backup(copy)
    with Runtime(file_store, functions=FUNCTIONS, outboxes=[Outbox(database)]) as runtime:
        for number in range(5):
            with writing(database) as transaction:
                transaction.start(fulfil, number, id=f"order-{number}")
        runtime.client.handle("order-4").result(WAIT_SECONDS)
        wait_until(lambda: rows("SELECT count(*) FROM duroxide_outbox") == [(0,)])

    # Its numbers begin again, below those that the store has seen.
    with writing(str(backup)) as transaction:
        transaction.start(fulfil, 8, id="order-8")
    client = work(file_store, outboxes=[Outbox(backup)])

    assert client.handle("order-8").result(WAIT_SECONDS) == "packed 8"


def test_a_database_that_takes_the_place_of_the_outbox_is_relayed(database, tmp_path, file_store, work):
    copied = tmp_path / "copied.db"
    client = work(file_store, outboxes=[Outbox(database)])
    with writing(database) as transaction:
        transaction.start(fulfil, 7, id="order-7")
    client.handle("order-7", fulfil).result(WAIT_SECONDS)
    with closing(sqlite3.connect(database)) as connection, closing(sqlite3.connect(copied)) as copy:
        connection.backup(copy)
    copied.replace(database)
    with writing(database) as transaction:
        transaction.start(fulfil, 8, id="order-8")
    assert client.handle("order-8", fulfil).result(WAIT_SECONDS) == "packed 8"


def test_a_connection_that_commits_by_itself_is_refused(database, rows):
    by_itself = sqlite3.connect(database, isolation_level=None)
    with closing(by_itself), pytest.raises(ConfigurationError, match='execute "BEGIN" first'):
        TransactionClient(by_itself).start(fulfil, 7)

    assert rows("SELECT * FROM duroxide_outbox") == []


def test_a_missing_database_or_outbox_is_reported_at_the_start(tmp_path, file_store):
    with closing(sqlite3.connect(tmp_path / "empty.db")) as connection, connection:
        connection.execute("CREATE TABLE orders (number int)")
    with pytest.raises(ConfigurationError, match=r"Outbox\.create\(connection\)"):
        Runtime(file_store, outboxes=[Outbox(tmp_path / "empty.db")]).start()
    with pytest.raises(ConfigurationError, match="cannot be opened"):
        Runtime(file_store, outboxes=[Outbox(tmp_path / "missing.db")]).start()
    assert not (tmp_path / "missing.db").exists()
    with pytest.raises(ConfigurationError, match="cannot be opened: division by zero"):
        Outbox(lambda: 1 / 0).set_aside()  # type: ignore[arg-type,return-value]


def test_a_table_of_the_application_under_the_outboxs_name_is_refused(begin, tmp_path, file_store):
    path = str(tmp_path / "other.db")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE duroxide_outbox (id INTEGER PRIMARY KEY, letter TEXT)")
    with begin(path) as (connection, _), pytest.raises(ConfigurationError, match="rename that table"):
        Outbox.create(connection)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE IF NOT EXISTS duroxide_outbox_name (name TEXT NOT NULL)")
    with pytest.raises(ConfigurationError, match="rename that table"):
        Runtime(file_store, outboxes=[Outbox(path)]).start()


def test_a_value_that_is_not_an_outbox_is_refused(file_store):
    with pytest.raises(TypeError, match=r'outboxes=\[Outbox\("app\.db"\)\]'):
        Runtime(file_store, outboxes="app.db")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="holds a str"):
        Runtime(file_store, outboxes=["app.db"])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="a path or a function that connects"):
        Outbox(7)  # type: ignore[arg-type]


def test_the_statements_make_the_same_tables_as_create(tmp_path, rows, database):
    with closing(sqlite3.connect(tmp_path / "migrated.db")) as connection:
        for statement in Outbox.statements():
            connection.execute(statement)
        found = connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
    assert found == rows("SELECT name, sql FROM sqlite_master WHERE name <> 'orders' ORDER BY name")


def test_a_shutdown_does_not_wait_for_an_outbox_that_is_locked(database, file_store):
    runtime = Runtime(file_store, functions=FUNCTIONS, outboxes=[Outbox(database)])
    runtime.start()
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        with writing(database) as transaction:
            transaction.start(fulfil, 7, id="order-7")
        connection.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        runtime.shutdown(500)
        # The relay itself waits half a minute for a lock.
        assert time.monotonic() - began < 15


def test_a_commit_whose_reply_is_lost_delivers_no_message_twice(database, rows, postgres_url, postgres_schema, work):
    with writing(database) as transaction:
        start_listeners(transaction, 2)
        send_to_listeners(transaction, 0)
    proxy = Proxy(postgres_url)
    with PostgresProvider.connect_with_schema(proxy.url, postgres_schema) as provider:
        proxy.swallow_answer(COMMIT)
        with Runtime(provider, functions=FUNCTIONS, outboxes=[Outbox(database)]) as runtime:
            assert proxy.has_swallowed.wait(WAIT_SECONDS)
            with writing(database) as transaction:
                send_to_listeners(transaction, 1)
            assert received(runtime.client) == [[0, 1]] * LISTENERS
            wait_until(lambda: rows("SELECT count(*) FROM duroxide_outbox") == [(0,)])
    proxy.close()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="older connections have no autocommit")
def test_connections_with_the_autocommit_attribute_work(database, rows, file_store, work):
    def connect(autocommit: bool) -> sqlite3.Connection:
        return sqlite3.connect(database, autocommit=autocommit, check_same_thread=False)  # type: ignore[call-arg]

    by_itself = connect(autocommit=True)
    with closing(by_itself), pytest.raises(ConfigurationError, match='execute "BEGIN" first'):
        TransactionClient(by_itself).start(fulfil, 6)
    with closing(connect(autocommit=False)) as connection:
        TransactionClient(connection).start(fulfil, 7, id="order-7")
        connection.rollback()
        TransactionClient(connection).start(fulfil, 8, id="order-8")
        connection.commit()

    assert rows("SELECT instance_id FROM duroxide_outbox") == [("order-8",)]
    client = work(file_store, outboxes=[Outbox(lambda: connect(autocommit=False))])
    assert client.handle("order-8").result(WAIT_SECONDS) == "packed 8"
