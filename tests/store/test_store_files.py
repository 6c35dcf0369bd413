"""Store files: backed up, moved, opened with options, opened by mistake."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from conftest import SHUTDOWN_MS
from duroxide import Client, ConfigurationError, ProviderError, Runtime, SqliteProvider
from store.processes import StoreProcesses, check_integrity
from store.programs import register
from support.waiting import wait_for_event_kind, wait_until

WAIT_MS = 30_000


@pytest.fixture
def provider(file: Path) -> Iterator[SqliteProvider]:
    with SqliteProvider.open(file) as provider:
        yield provider


@pytest.fixture
def client(provider: SqliteProvider) -> Client:
    return Client(provider)


@pytest.fixture
def started(provider: SqliteProvider) -> Iterator[Runtime]:
    with register(Runtime(provider)) as runtime:
        yield runtime


def play(provider: SqliteProvider, instance: str, value: Any) -> Any:
    """Run one orchestration in a new runtime."""
    with register(Runtime(provider)):
        Client(provider).start_orchestration(instance, "echo", value)
        return Client(provider).wait_for_orchestration(instance, WAIT_MS).result()


@pytest.mark.usefixtures("started")
def test_a_backup_of_a_live_file_opens_and_its_instances_continue(
    provider: SqliteProvider, client: Client, tmp_path: Path
) -> None:
    client.start_orchestration("done", "echo", "kept")
    assert client.wait_for_orchestration("done", WAIT_MS).result() == "kept"
    client.start_orchestration("waiting", "waiting")
    wait_for_event_kind(client, "waiting", "ExternalSubscribed")
    client.start_orchestration("mailbox", "mailbox")
    for number in range(5):
        client.enqueue_event("mailbox", "inbox", str(number))

    backup = tmp_path / "backup.db"
    provider.backup(backup)
    client.raise_event("waiting", "go", "in the original")
    client.enqueue_event("mailbox", "inbox", "stop")
    client.wait_for_orchestration("mailbox", WAIT_MS)

    check_integrity(backup, tmp_path / "scratch")
    with SqliteProvider.open(backup) as copy, register(Runtime(copy)):
        restored = Client(copy)
        assert restored.get_status("done").output == "kept"
        restored.raise_event("waiting", "go", "in the copy")
        restored.enqueue_event("mailbox", "inbox", "stop")
        assert restored.wait_for_orchestration("waiting", WAIT_MS).result() == "in the copy"
        assert restored.wait_for_orchestration("mailbox", WAIT_MS).result() == ["0", "1", "2", "3", "4"]
    assert client.wait_for_orchestration("waiting", WAIT_MS).result() == "in the original"


@pytest.mark.usefixtures("started")
def test_backups_under_load_have_all_work_acknowledged_before(
    provider: SqliteProvider, client: Client, tmp_path: Path
) -> None:
    acknowledged: list[str] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            instance = f"load-{len(acknowledged)}"
            client.start_orchestration(instance, "echo", instance)
            acknowledged.append(instance)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        for number in range(3):
            wait_until(lambda number=number: len(acknowledged) > 50 * (number + 1))  # type: ignore[misc]
            before = list(acknowledged)
            provider.backup(tmp_path / f"backup-{number}.db")
            check_integrity(tmp_path / f"backup-{number}.db", tmp_path / "scratch")
            with SqliteProvider.open(tmp_path / f"backup-{number}.db") as copy, register(Runtime(copy)):
                for instance in before:
                    assert Client(copy).wait_for_orchestration(instance, WAIT_MS).result() == instance
    finally:
        stop.set()
        thread.join()


def test_a_path_that_is_too_long_for_sqlite_is_refused_for_that_reason(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["d" * 50] * 10)
    folder.mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="too long: .* SQLite takes 512; choose a shorter one"):
        SqliteProvider.open(folder / "store.db")


def test_a_backup_does_not_overwrite_a_file(provider: SqliteProvider, tmp_path: Path) -> None:
    there = tmp_path / "there.db"
    there.write_text("other text")
    with pytest.raises((ConfigurationError, FileExistsError), match="there.db"):
        provider.backup(there)
    assert there.read_text() == "other text"


def test_a_backup_into_a_missing_directory_is_refused(provider: SqliteProvider, tmp_path: Path) -> None:
    with pytest.raises((ConfigurationError, ProviderError), match="missing"):
        provider.backup(tmp_path / "missing" / "backup.db")


def test_a_backup_onto_the_file_itself_is_refused(provider: SqliteProvider, file: Path) -> None:
    with pytest.raises(ConfigurationError, match=file.name):
        provider.backup(file)
    assert play(provider, "still", "works") == "works"


def test_a_store_in_memory_can_be_backed_up_into_a_file(tmp_path: Path) -> None:
    with SqliteProvider.in_memory() as provider:
        assert play(provider, "kept", "in memory") == "in memory"
        provider.backup(tmp_path / "backup.db")
    with SqliteProvider.open(tmp_path / "backup.db") as copy:
        assert Client(copy).get_status("kept").output == "in memory"


@pytest.mark.parametrize("durability", ["full", "normal"])
def test_a_store_works_with_either_durability(durability: str, file: Path) -> None:
    with SqliteProvider.open(file, durability=durability) as provider:
        assert play(provider, "first", 1) == 1
    with SqliteProvider.open(file) as provider:
        assert Client(provider).get_status("first").output == 1


@pytest.mark.alone
def test_normal_durability_survives_the_kill_of_the_process(processes: StoreProcesses) -> None:
    process = processes.start()
    process.ask("close")
    process.ask("open", durability="normal")
    process.ask("serve")
    process.ask("start_many", "kept", 50, "echo", "value")
    process.ask("wait_for_many", "kept", 50)
    process.kill()
    assert processes.start(serve=True).ask("wait_for_many", "kept", 50) == ["value"] * 50


@pytest.mark.parametrize("durability", ["", "off", "FULL", 1])
def test_an_unknown_durability_is_refused(durability: Any, file: Path) -> None:
    with pytest.raises((ConfigurationError, TypeError), match="durability"):
        SqliteProvider.open(file, durability=durability)
    assert not file.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_in_a_folder_that_became_read_only_is_refused(file: Path) -> None:
    with SqliteProvider.open(file) as provider:
        play(provider, "first", 1)
    file.parent.chmod(0o555)
    try:
        with pytest.raises(ConfigurationError, match=file.name):
            SqliteProvider.open(file)
    finally:
        file.parent.chmod(0o755)


@pytest.mark.usefixtures("started")
def test_reading_the_lock_file_lets_no_other_process_work(processes: StoreProcesses, file: Path) -> None:
    file.with_name(f"{file.name}-lock").read_bytes()

    other = processes.start(serve=True)

    other.call("start_orchestration", "one", "where")
    assert other.result("one") == os.getpid()


def test_a_file_with_a_hard_link_is_refused_by_both_names(file: Path) -> None:
    SqliteProvider.open(file).close()
    other = file.with_name("other.db")
    other.hardlink_to(file)
    for name in (file, other):
        with pytest.raises(ConfigurationError, match=rf"{name.name}.*hard links.*remove the other names"):
            SqliteProvider.open(name)

    other.unlink()

    SqliteProvider.open(file).close()


@pytest.mark.parametrize("version", [99, 1_000_000])
def test_a_file_of_a_newer_version_is_refused_and_not_changed(version: int, file: Path) -> None:
    with SqliteProvider.open(file) as provider:
        play(provider, "first", 1)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    before = file.read_bytes()
    with pytest.raises(ConfigurationError, match=rf"{file.name}.*(newer|{version})"):
        SqliteProvider.open(file)
    assert file.read_bytes() == before


def test_a_file_has_its_application_id_and_version(file: Path) -> None:
    with SqliteProvider.open(file) as provider:
        play(provider, "first", 1)
    with closing(sqlite3.connect(file)) as connection:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    assert application == int.from_bytes(b"duro", "big")
    assert version >= 1
    assert mode == "wal"


def test_running_instances_continue_after_closing_and_opening(file: Path) -> None:
    with SqliteProvider.open(file) as provider, register(Runtime(provider)):
        client = Client(provider)
        client.start_orchestration("waiting", "waiting")
        wait_for_event_kind(client, "waiting", "ExternalSubscribed")
    for number in range(3):
        with SqliteProvider.open(file) as provider:
            assert Client(provider).get_status("waiting").status == "Running"
            assert play(provider, f"echo-{number}", number) == number
    with SqliteProvider.open(file) as provider, register(Runtime(provider)):
        Client(provider).raise_event("waiting", "go", "at last")
        assert Client(provider).wait_for_orchestration("waiting", WAIT_MS).result() == "at last"


def test_a_runtime_can_be_started_again_on_an_open_store(provider: SqliteProvider, client: Client) -> None:
    for number in range(5):
        runtime = register(Runtime(provider))
        runtime.start()
        client.start_orchestration(f"echo-{number}", "echo", number)
        assert client.wait_for_orchestration(f"echo-{number}", WAIT_MS).result() == number
        runtime.shutdown(SHUTDOWN_MS)


def test_a_closed_file_can_be_moved(file: Path, tmp_path: Path) -> None:
    with SqliteProvider.open(file) as provider:
        play(provider, "first", 1)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    # Only the file is moved: its side files are empty or gone.
    moved = Path(shutil.move(file, elsewhere / "moved.db"))
    with SqliteProvider.open(moved) as provider:
        assert Client(provider).get_status("first").output == 1
        assert play(provider, "second", 2) == 2


@pytest.mark.alone
def test_the_log_of_a_killed_process_is_read(processes: StoreProcesses, file: Path) -> None:
    process = processes.start(serve=True)
    process.ask("start_many", "kept", 30, "echo", "value")
    process.ask("wait_for_many", "kept", 30)
    process.kill()
    assert file.with_name(f"{file.name}-wal").stat().st_size > 0
    with SqliteProvider.open(file) as provider:
        outputs = [Client(provider).get_status(f"kept-{number}").output for number in range(30)]
    assert outputs == ["value"] * 30


def test_stores_in_memory_are_separate_and_end_when_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with SqliteProvider.in_memory() as one, SqliteProvider.in_memory() as other:
        assert play(one, "first", 1) == 1
        assert Client(other).list_all_instances() == []
        assert play(other, "first", 2) == 2
        assert Client(one).get_status("first").output == 1
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ProviderError, match="closed"):
        Client(one).list_all_instances()


def test_many_instances_are_listed_and_counted_across_a_restart(file: Path) -> None:
    with SqliteProvider.open(file) as provider, register(Runtime(provider)):
        client = Client(provider)
        for number in range(300):
            client.start_orchestration(f"echo-{number}", "echo", number)
        for number in range(300):
            client.wait_for_orchestration(f"echo-{number}", WAIT_MS)
        before = client.get_system_metrics()
    with SqliteProvider.open(file) as provider:
        client = Client(provider)
        assert client.get_system_metrics() == before
        assert (before.total_instances, before.completed_instances, before.total_events) == (300, 300, 1_200)
        assert sorted(client.list_instances_by_status("Completed")) == sorted(f"echo-{number}" for number in range(300))
