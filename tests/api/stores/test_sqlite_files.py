"""SQLite files that cannot be stores are refused when they are opened, and the error says what to do."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from duroxide import (
    Client,
    ConfigurationError,
    DuroxideError,
    OrchestrationContext,
    ProviderError,
    Runtime,
    SqliteProvider,
    Task,
)

Steps = Generator[Task[Any], Any, Any]
REFUSAL = (ConfigurationError, ProviderError)


def hello(ctx: OrchestrationContext, name: str) -> Steps:
    return (yield ctx.schedule_activity("greet", name))


def greet(ctx: Any, name: str) -> str:
    return f"Hello, {name}!"


def say_hello(path: Path | str, instance: str = "hello-1") -> str:
    """Open the store in a file, run one orchestration on it and close it."""
    with SqliteProvider.open(path) as provider:
        runtime = Runtime(provider)
        runtime.register_activity("greet", greet)
        runtime.register_orchestration("hello", hello)
        with runtime:
            Client(provider).start_orchestration(instance, "hello", "World")
            output: str = Client(provider).wait_for_orchestration(instance, 20_000).result()
            return output


def refusal(path: Path | str) -> str:
    """The message with which a file is refused."""
    with pytest.raises(REFUSAL) as refused:
        SqliteProvider.open(path)
    assert isinstance(refused.value, DuroxideError)
    return str(refused.value)


def test_a_file_in_a_missing_directory_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path / "missing" / "store.db")
    assert "missing" in message
    assert "does not exist" in message
    assert "create" in message


def test_a_directory_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path)
    assert str(tmp_path) in message
    assert "directory" in message


def test_an_empty_path_is_refused() -> None:
    assert "in_memory" in refusal("")


def test_a_value_that_is_not_a_path_is_refused() -> None:
    with pytest.raises(TypeError):
        SqliteProvider.open(17)  # type: ignore[arg-type]


def test_a_path_with_a_null_character_is_refused(tmp_path: Path) -> None:
    with pytest.raises((ValueError, *REFUSAL)):
        SqliteProvider.open(f"{tmp_path}/a\0b.db")


def test_a_text_file_is_refused_and_not_changed(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("not a database, but plain notes\n" * 100)
    before = file.read_bytes()
    assert "notes.txt" in refusal(file)
    assert file.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt"]


def test_a_database_of_another_application_is_refused_and_not_changed(tmp_path: Path) -> None:
    file = tmp_path / "shop.db"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE orders (id INTEGER)")
    before = file.read_bytes()
    assert "another application" in refusal(file)
    assert file.read_bytes() == before


def test_a_damaged_store_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    say_hello(file)
    content = bytearray(file.read_bytes())
    # Damages the schema's page, except the header by which SQLite recognises its files.
    content[100:4096] = b"\xa5" * (4096 - 100)
    file.write_bytes(content)
    message = refusal(file)
    assert "store.db" in message
    assert "damaged" in message


def test_a_truncated_store_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    say_hello(file)
    file.write_bytes(file.read_bytes()[:5000])
    assert "store.db" in refusal(file)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_read_only_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    say_hello(file)
    file.chmod(0o444)
    assert "cannot be written" in refusal(file)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_file_in_a_read_only_directory_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    message = refusal(folder / "store.db")
    assert "store.db" in message
    assert "permissions" in message


def test_a_special_file_is_refused_at_once() -> None:
    began = time.monotonic()
    assert "/dev/null" in refusal("/dev/null")
    assert time.monotonic() - began < 10


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    file.touch()
    assert say_hello(file) == "Hello, World!"


@pytest.mark.parametrize("name", ["with space.db", "ümläut.db", "50%25.db", "a?mode=ro.db", "#hash.db", "file:x.db"])
def test_a_store_may_have_any_file_name_that_the_system_allows(name: str, tmp_path: Path) -> None:
    assert say_hello(tmp_path / name) == "Hello, World!"
    assert (tmp_path / name).exists()


def test_a_good_file_opens_after_a_refused_one(tmp_path: Path) -> None:
    refusal(tmp_path)
    assert say_hello(tmp_path / "store.db") == "Hello, World!"


def test_a_relative_path_names_a_file_in_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert say_hello("store.db") == "Hello, World!"
    assert (tmp_path / "store.db").exists()


def test_a_file_that_is_opened_twice_in_a_process_is_one_store(tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    with SqliteProvider.open(file):
        assert say_hello(file) == "Hello, World!"
        with SqliteProvider.open(file) as provider:
            assert Client(provider).get_status("hello-1").output == "Hello, World!"


def test_a_file_is_not_opened_with_two_durabilities_at_once(tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    with SqliteProvider.open(file):
        with pytest.raises(ConfigurationError, match=r"store.db.*durability 'full'.*'normal'"):
            SqliteProvider.open(file, durability="normal")
        with SqliteProvider.open(file, durability="full"):
            pass
    with SqliteProvider.open(file, durability="normal") as provider:
        assert Client(provider).list_all_instances() == []


@pytest.mark.parametrize("durability", ["", "off", "FULL", 1, None, []])
def test_an_unknown_durability_is_refused_with_the_known_ones(durability: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="durability must be 'full' or 'normal', not"):
        SqliteProvider.open(tmp_path / "store.db", durability=durability)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [":memory:", "file::memory:"])
def test_the_name_of_a_database_in_memory_is_refused_as_a_path(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r"write SqliteProvider\.in_memory\(\)"):
        SqliteProvider.open(name)
    assert not list(tmp_path.iterdir())


def test_a_store_is_not_backed_up_into_itself_or_an_existing_file(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    other.write_text("other text")
    with SqliteProvider.open(tmp_path / "store.db") as provider:
        for target, message in (
            (tmp_path / "store.db", "store.db' is the file of the store itself"),
            (tmp_path / "." / "store.db", "store.db' is the file of the store itself"),
            (other, "other.db' exists already"),
            (tmp_path, "is a directory"),
            (tmp_path / "missing" / "copy.db", "does not exist; create it first"),
            ("", "path is empty"),
            (":memory:", "not the path of a file"),
        ):
            with pytest.raises(ConfigurationError, match=message):
                provider.backup(target)
        with pytest.raises(TypeError):
            provider.backup(17)  # type: ignore[arg-type]
    assert other.read_text() == "other text"


def test_a_backup_has_the_work_that_no_runtime_has_taken_yet(tmp_path: Path) -> None:
    with SqliteProvider.open(tmp_path / "store.db") as provider:
        Client(provider).start_orchestration("hello-1", "hello", "World")
        provider.backup(tmp_path / "copy.db")
    with SqliteProvider.open(tmp_path / "copy.db") as copy:
        assert Client(copy).start_orchestration("hello-1", "hello") is False


def test_a_closed_store_is_not_backed_up(tmp_path: Path) -> None:
    with SqliteProvider.open(tmp_path / "store.db") as provider:
        pass
    with pytest.raises(ProviderError, match="closed"):
        provider.backup(tmp_path / "copy.db")


def test_a_closed_store_refuses_every_call_with_the_reason(tmp_path: Path) -> None:
    provider = SqliteProvider.open(tmp_path / "store.db")
    client = Client(provider)
    provider.close()
    provider.close()
    with pytest.raises(ProviderError, match="closed"):
        client.get_status("hello-1")
    with pytest.raises(ProviderError, match="closed"):
        Runtime(provider).start()


def test_a_closed_store_has_no_file_open_and_leaves_no_log(tmp_path: Path) -> None:
    # Repeated, since a close that is late is in time now and then.
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        say_hello(folder / "store.db")
        logs = [path.name for path in folder.iterdir() if path.name.endswith(("-wal", "-shm"))]
        links = [entry.readlink() for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
        assert (logs, [link for link in links if link.is_relative_to(folder)]) == ([], [])


@pytest.mark.parametrize("gone", ["folder", "file", "log"])
def test_a_store_whose_file_is_gone_closes_at_once_and_blames_no_code(
    gone: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    provider = SqliteProvider.open(folder / "store.db")
    runtime = Runtime(provider)
    runtime.register_activity("greet", greet)
    runtime.register_orchestration("hello", hello)
    runtime.start()
    Client(provider).start_orchestration("hello-1", "hello", "World")
    Client(provider).wait_for_orchestration("hello-1", 20_000)
    if gone == "folder":
        # The store may make a file in it at the same moment.
        while folder.exists():
            shutil.rmtree(folder, ignore_errors=True)
    else:
        (folder / ("store.db" if gone == "file" else "store.db-wal")).unlink()
    began = time.monotonic()
    runtime.shutdown()
    provider.close()
    # A wait for another process, or for the disk, takes longer.
    assert time.monotonic() - began < 8
    assert "belongs into an activity" not in caplog.text
