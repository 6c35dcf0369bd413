"""Files of the engine's bundled provider open as stores of this package, and their running instances continue.

The dumps are of real files: see ``orchestrations`` and ``earlier``. They include work that a kill interrupted:
activities and a turn under the locks of a process that is gone, and a start, an event and a cancellation that no
runtime has taken.
"""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from duroxide import Client, OrchestrationCancelled, OrchestrationFailed, Runtime, RuntimeOptions, SqliteProvider
from support.waiting import wait_until
from upgrade import earlier, orchestrations
from upgrade.files import contents, copies, load

WAIT_MS = 30_000
OPTIONS = RuntimeOptions(worker_tag_filter=orchestrations.TAGS)


def let_the_timer_be_due(file: Path, instance: str) -> None:
    """Move a recorded timer, which is due in days, into the past."""
    with closing(sqlite3.connect(file)) as connection, connection:
        moved = connection.execute(
            "UPDATE orchestrator_queue SET visible_at = 1, work_item = json_set(work_item, '$.TimerFired.fire_at_ms', 1) "
            "WHERE instance_id = ? AND json_type(work_item, '$.TimerFired') IS NOT NULL",
            [instance],
        )
        assert moved.rowcount == 1


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of the bundled provider, with a timer that is due."""
    file = load("bundled-running.sql", tmp_path / "store.db")
    let_the_timer_be_due(file, "sleeper")
    return file


@pytest.fixture
def upgraded(file: Path) -> Iterator[SqliteProvider]:
    """The store in that file, before any runtime has worked on it."""
    with SqliteProvider.open(file) as provider:
        yield provider


@pytest.fixture
def client(upgraded: SqliteProvider) -> Client:
    return Client(upgraded)


@pytest.fixture
def runtime(upgraded: SqliteProvider) -> Iterator[Runtime]:
    """A running runtime with the recorded orchestrations."""
    with orchestrations.register(Runtime(upgraded, OPTIONS)) as runtime:
        yield runtime


def kinds(client: Client, instance: str, execution: int | None = None) -> list[str]:
    return [event.kind for event in client.read_execution_history(instance, execution)]


@pytest.mark.parametrize("instance", orchestrations.COMPLETED)
def test_completed_instances_read_as_before(instance: str, client: Client) -> None:
    status = client.get_status(instance)
    assert (status.status, status.output) == ("Completed", orchestrations.COMPLETED[instance])


@pytest.mark.parametrize("instance", orchestrations.FAILED)
def test_failed_instances_read_as_before(instance: str, client: Client) -> None:
    status = client.get_status(instance)
    assert status.status == "Failed"
    assert orchestrations.FAILED[instance] in str(status.error)


def test_failures_keep_their_kind(client: Client) -> None:
    with pytest.raises(OrchestrationCancelled):
        client.get_status("done-cancelled").result()
    with pytest.raises(OrchestrationFailed) as failed:
        client.get_status("done-refusal").result()
    assert failed.value.is_caused_by(ValueError)


def test_histories_of_all_executions_are_kept(client: Client) -> None:
    assert client.list_executions("done-countdown") == [1, 2, 3]
    first, last = kinds(client, "done-countdown", 1), kinds(client, "done-countdown", 3)
    assert (first[0], first[-1]) == ("OrchestrationStarted", "OrchestrationContinuedAsNew")
    assert (last[0], last[-1]) == ("OrchestrationStarted", "OrchestrationCompleted")
    assert [client.get_execution_info("done-countdown", number).status for number in (1, 2, 3)] == [
        "ContinuedAsNew",
        "ContinuedAsNew",
        "Completed",
    ]


def test_histories_keep_every_event_as_it_was(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        rows = connection.execute(
            "SELECT event_data FROM history WHERE instance_id = 'fan-out' ORDER BY execution_id, event_id"
        ).fetchall()
    recorded = [json.loads(data) for (data,) in rows]
    with SqliteProvider.open(file) as provider:
        events = Client(provider).read_execution_history("fan-out")
    assert [event.event_id for event in events] == [each["event_id"] for each in recorded]
    assert [event.timestamp_ms for event in events] == [each["timestamp_ms"] for each in recorded]
    assert [event.source_event_id for event in events] == [each["source_event_id"] for each in recorded]


def test_times_are_kept(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        query = "SELECT CAST(strftime('%s', created_at) AS INTEGER) * 1000 FROM instances WHERE instance_id = 'chain'"
        (created,) = connection.execute(query).fetchone()
        query = "SELECT completed_at FROM executions WHERE instance_id = 'done-greeting'"
        (completed,) = connection.execute(query).fetchone()
    with SqliteProvider.open(file) as provider:
        client = Client(provider)
        # SQLite's clock had written whole seconds.
        assert client.get_instance_info("chain").created_at // 1000 == created // 1000
        assert client.get_execution_info("done-greeting", 1).completed_at == completed


def test_keys_and_custom_status_read_as_before(client: Client) -> None:
    assert client.get_kv_all_values("records") == {"kept": "from the first execution", "changed": "new"}
    assert client.get_kv_value("records", "cleared") is None
    assert client.get_status("records").custom_status == "waiting for go"
    assert client.get_kv_value("done-countdown", "last") == "0"


def test_parents_have_their_children(client: Client) -> None:
    assert client.get_instance_tree("parent").all_ids == ["parent", "parent-child"]
    assert client.get_instance_info("parent-child").parent_instance_id == "parent"


def test_lists_and_counts_are_complete(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        instances, executions, events = (
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("instances", "executions", "history")
        )
        running = connection.execute("SELECT count(*) FROM executions WHERE status = 'Running'").fetchone()[0]
        # An instance exists from the moment of its start, before a runtime has taken it.
        waiting = connection.execute(
            "SELECT count(*) FROM orchestrator_queue WHERE json_type(work_item, '$.StartOrchestration') IS NOT NULL "
            "AND instance_id NOT IN (SELECT instance_id FROM instances)"
        ).fetchone()[0]
    with SqliteProvider.open(file) as provider:
        client = Client(provider)
        metrics = client.get_system_metrics()
        assert (metrics.total_executions, metrics.total_events) == (executions, events)
        assert (metrics.running_instances, metrics.total_instances) == (running + waiting, instances + waiting)
        assert set(client.list_instances_by_status("Completed")) == set(orchestrations.COMPLETED)
        assert set(client.list_instances_by_status("Failed")) == set(orchestrations.FAILED)


@pytest.mark.usefixtures("runtime")
def test_running_instances_continue_to_their_results(client: Client) -> None:
    orchestrations.resume(client)
    results = {
        instance: client.wait_for_orchestration(instance, WAIT_MS).result() for instance in orchestrations.RUNNING
    }
    assert results == orchestrations.RUNNING


@pytest.mark.usefixtures("runtime")
def test_a_pending_cancellation_is_delivered(client: Client) -> None:
    with pytest.raises(OrchestrationCancelled, match="no longer wanted"):
        client.wait_for_orchestration(orchestrations.CANCELLED, WAIT_MS).result()


@pytest.mark.usefixtures("runtime")
def test_a_timer_that_is_not_due_keeps_waiting(client: Client) -> None:
    assert client.wait_for_orchestration("sleeper", WAIT_MS).result() == "awake"
    assert client.get_status(orchestrations.STILL_ASLEEP).status == "Running"
    assert kinds(client, orchestrations.STILL_ASLEEP) == ["OrchestrationStarted", "TimerCreated"]


@pytest.mark.usefixtures("runtime")
def test_recorded_steps_do_not_run_again(client: Client) -> None:
    before = [event.event_id for event in client.read_execution_history("chain")]
    client.wait_for_orchestration("chain", WAIT_MS).result()
    after = client.read_execution_history("chain")
    assert [event.event_id for event in after][: len(before)] == before
    completed = [event.source_event_id for event in after if event.kind == "ActivityCompleted"]
    assert len(completed) == len(set(completed)) == 4


@pytest.mark.usefixtures("runtime")
def test_new_work_runs_beside_the_old(client: Client) -> None:
    client.start_orchestration("new", "greeting", "Barbara")
    assert client.wait_for_orchestration("new", WAIT_MS).result() == "Hello, Barbara! 14"
    assert client.start_orchestration("done-greeting", "greeting", "Ada") is False


def test_a_copy_of_the_file_is_kept_beside_it(file: Path) -> None:
    before = contents(file)
    with SqliteProvider.open(file):
        pass
    copy = file.with_name("store.db.before-upgrade")
    assert contents(copy) == before
    # It is still a file of the bundled provider: restored, it is upgraded as the first one was.
    second = file.with_name("second.db")
    second.write_bytes(copy.read_bytes())
    with SqliteProvider.open(second) as provider:
        assert Client(provider).get_status("done-greeting").output == orchestrations.COMPLETED["done-greeting"]


def test_an_upgraded_file_is_not_upgraded_again(file: Path) -> None:
    with SqliteProvider.open(file):
        pass
    copy = file.with_name("store.db.before-upgrade")
    names, stamp = copies(file), (copy.stat().st_mtime_ns, copy.stat().st_ino)
    with SqliteProvider.open(file) as provider, orchestrations.register(Runtime(provider, OPTIONS)):
        assert Client(provider).wait_for_orchestration("chain", WAIT_MS).result() == 12
    assert (copies(file), (copy.stat().st_mtime_ns, copy.stat().st_ino)) == (names, stamp)


def test_an_older_copy_is_not_overwritten(file: Path) -> None:
    older = file.with_name("store.db.before-upgrade")
    older.write_text("an older copy")
    with SqliteProvider.open(file):
        pass
    assert older.read_text() == "an older copy"
    assert len(copies(file)) == 2


def test_a_file_of_the_bundled_provider_that_is_empty_becomes_a_store(tmp_path: Path) -> None:
    file = load("bundled-running.sql", tmp_path / "empty.db")
    with closing(sqlite3.connect(file)) as connection, connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
            if table not in ("_sqlx_migrations", "sqlite_sequence"):
                connection.execute(f"DELETE FROM {table}")
    with SqliteProvider.open(file) as provider, orchestrations.register(Runtime(provider, OPTIONS)):
        client = Client(provider)
        assert client.list_all_instances() == []
        client.start_orchestration("first", "greeting", "Ada")
        assert client.wait_for_orchestration("first", WAIT_MS).result() == "Hello, Ada! 6"


def test_a_process_that_does_not_start_a_runtime_can_read_an_old_file(file: Path) -> None:
    program = (
        "import sys; from duroxide import Client, SqliteProvider\n"
        "with SqliteProvider.open(sys.argv[1]) as provider: print(Client(provider).get_status('done-greeting').output)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(file)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.stdout, ended.stderr) == ("Hello, Ada! 6\n", "")


def test_instances_of_a_file_of_the_earlier_package_continue(tmp_path: Path) -> None:
    file = load("earlier-package.sql", tmp_path / "earlier.db")
    with SqliteProvider.open(file) as provider, earlier.register(Runtime(provider)):
        client = Client(provider)
        assert client.get_status("parcel").custom_status == "labelled"
        assert client.get_kv_value("parcel", "label") == "Ü/1.5"
        earlier.resume(client)
        instances = [*earlier.COMPLETED, *earlier.RUNNING]
        results = {instance: client.wait_for_orchestration(instance, WAIT_MS).result() for instance in instances}
    assert results == earlier.COMPLETED | earlier.RUNNING


def enlarge(file: Path, count: int) -> None:
    """Add completed instances, so that the upgrade takes long enough to be interrupted."""
    with closing(sqlite3.connect(file)) as connection, connection:
        for table in ("instances", "executions", "history"):
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            values = ", ".join("'bulk-' || number" if name == "instance_id" else name for name in columns)
            connection.execute(
                "WITH RECURSIVE numbers(number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < ?) "
                f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM {table}, numbers "
                "WHERE instance_id = 'done-greeting'",
                [count],
            )


@pytest.mark.alone
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_killed_upgrade_can_be_repeated(seed: int, file: Path) -> None:
    enlarge(file, 20_000)
    moments = random.Random(seed)
    opening = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from duroxide import SqliteProvider; SqliteProvider.open(sys.argv[1])",
            file,
        ]
    )
    wait_until(lambda: copies(file) or opening.poll() is not None)
    due = time.monotonic() + moments.random() * 0.3
    wait_until(lambda: time.monotonic() > due or opening.poll() is not None)
    opening.kill()
    opening.wait()

    contents(file)
    results: dict[str, Any] = {}
    with SqliteProvider.open(file) as provider, orchestrations.register(Runtime(provider, OPTIONS)):
        client = Client(provider)
        orchestrations.resume(client)
        for instance in orchestrations.RUNNING:
            results[instance] = client.wait_for_orchestration(instance, WAIT_MS).result()
        assert client.get_status("bulk-20000").output == orchestrations.COMPLETED["done-greeting"]
        assert client.get_system_metrics().completed_instances == 20_000 + len(orchestrations.COMPLETED) + len(results)
    assert results == orchestrations.RUNNING
