"""Another user of the machine gets nothing by the files that they put beside a store."""

from __future__ import annotations

import os
import sqlite3
import stat
import struct
import sys
from pathlib import Path

import pytest

from duroxide import Client, ConfigurationError, Runtime, SqliteProvider
from store.processes import StoreProcesses
from support.waiting import wait_until
from upgrade.files import load

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="files have other rights there")

VICTIM = "the text of another file\n"
COMPANIONS = ("-lock", "-wal", "-inbox")


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file of the user of this process that lies elsewhere."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    file = folder / "victim.txt"
    file.write_text(VICTIM)
    file.chmod(0o640)
    return file


def beside(file: Path, ending: str) -> Path:
    return file.with_name(file.name + ending)


def rights(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


def use(file: Path) -> None:
    """Do what writes to every file beside a store."""
    with SqliteProvider.open(file) as provider, Runtime(provider):
        Client(provider).list_all_instances()


@pytest.mark.parametrize("ending", COMPANIONS)
@pytest.mark.parametrize("dangling", [False, True], ids=["to a file", "to no file"])
def test_a_link_in_the_place_of_a_companion_is_refused(
    ending: str, *, dangling: bool, file: Path, victim: Path
) -> None:
    target = victim.with_name("missing.txt") if dangling else victim
    beside(file, ending).symlink_to(target)
    with pytest.raises(ConfigurationError, match=f"{file.name}{ending}' is a symbolic link.*no other user may write"):
        use(file)
    assert victim.read_text() == VICTIM
    assert rights(victim) == 0o640
    assert target.exists() != dangling


@pytest.mark.parametrize("ending", COMPANIONS)
def test_a_hard_link_in_the_place_of_a_companion_is_refused(ending: str, file: Path, victim: Path) -> None:
    beside(file, ending).hardlink_to(victim)
    with pytest.raises(ConfigurationError, match="has another name"):
        use(file)
    assert victim.read_text() == VICTIM


@pytest.mark.parametrize("ending", COMPANIONS)
def test_a_companion_that_is_a_pipe_is_refused(ending: str, file: Path) -> None:
    os.mkfifo(beside(file, ending))
    with pytest.raises(ConfigurationError, match="is not a regular file"):
        use(file)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("ending", COMPANIONS)
def test_a_companion_of_another_user_is_refused(ending: str, file: Path) -> None:
    use(file)
    beside(file, ending).touch()
    os.chown(beside(file, ending), 12345, 12345)
    with pytest.raises(ConfigurationError, match="belongs to user 12345, who may not write to the store"):
        use(file)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
def test_a_companion_of_a_user_who_may_write_to_the_store_is_used(file: Path) -> None:
    use(file)
    file.chmod(0o660)
    beside(file, "-inbox").touch()
    os.chown(beside(file, "-inbox"), 12345, file.stat().st_gid)
    use(file)


def test_an_upgrade_writes_into_no_file_behind_a_link(file: Path, victim: Path) -> None:
    load("bundled-running.sql", file)
    beside(file, ".before-upgrade.unfinished").symlink_to(victim)
    use(file)
    assert victim.read_text() == VICTIM
    assert rights(victim) == 0o640


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o027, 0o640), (0o022, 0o644)])
def test_a_new_store_has_the_rights_that_the_umask_leaves(umask: int, mode: int, file: Path) -> None:
    before = os.umask(umask)
    try:
        with SqliteProvider.open(file) as provider, Runtime(provider):
            Client(provider).list_all_instances()
            found = {path.name.removeprefix(file.name): rights(path) for path in file.parent.glob(f"{file.name}*")}
    finally:
        os.umask(before)
    assert found.pop("-lock") == 0o600
    assert set(found.values()) == {mode}, found


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_the_copies_of_a_store_have_its_rights(mode: int, file: Path) -> None:
    load("bundled-running.sql", file)
    file.chmod(mode)
    with SqliteProvider.open(file) as provider:
        provider.backup(beside(file, ".backup"))
    assert rights(beside(file, ".backup")) == mode
    assert rights(beside(file, ".before-upgrade")) == mode


def test_a_backup_is_not_written_through_a_link(file: Path, victim: Path) -> None:
    target = victim.with_name("missing.txt")
    beside(file, ".backup").symlink_to(target)
    with SqliteProvider.open(file) as provider, pytest.raises(ConfigurationError, match="exists already"):
        provider.backup(beside(file, ".backup"))
    assert not target.exists()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o660])
def test_the_files_beside_a_store_have_the_rights_that_it_has_now(
    mode: int, file: Path, processes: StoreProcesses
) -> None:
    use(file)
    file.chmod(mode)
    owner, client = processes.start(serve=True), processes.start()
    client.ask("round_trips", "before", 1)
    for ending in ("-wal", "-shm", "-inbox", "-inbox-journal"):
        assert rights(beside(file, ending)) == mode, ending
    assert owner.is_alive()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_only_those_who_may_write_to_a_store_can_open_its_lock(mode: int, file: Path) -> None:
    use(file)
    file.chmod(mode)
    use(file)
    assert rights(beside(file, "-lock")) == 0o600


def test_an_inbox_row_that_is_no_text_stops_no_other_request(file: Path, processes: StoreProcesses) -> None:
    client = processes.start()
    client.call("start_orchestration", "first", "echo", "World")
    with sqlite3.connect(beside(file, "-inbox")) as inbox:
        for payload in (b"\xff\x00", struct.pack("d", 1.0)):
            inbox.execute("INSERT INTO requests (kind, payload, waits) VALUES ('start', ?, 0)", (payload,))
        inbox.execute(
            "INSERT INTO requests (kind, payload, waits) VALUES ('start', CAST(? AS TEXT), 0)", (b"\xc3\x28",)
        )
    inbox.close()
    client.call("start_orchestration", "second", "echo", "World")
    owner = processes.start(serve=True)
    wait_until(lambda: client.call("get_status", "second")["status"] == "Completed")
    assert owner.is_alive()


@pytest.mark.parametrize("size", [100, 20_000], ids=["in a cell", "on pages of its own"])
def test_a_deleted_instance_leaves_no_copy_in_the_files(size: int, file: Path, processes: StoreProcesses) -> None:
    secret = "Ada-Lovelace-" * (size // 13)
    owner, client = processes.start(serve=True), processes.start()
    client.call("start_orchestration", "of-ada", "echo", secret)
    assert client.result("of-ada") is not None
    # Requests and answers stay in the inbox until the next ones come.
    client.call("delete_instance", "of-ada")
    client.ask("round_trips", "after", 3)
    owner.ask("close")
    client.ask("close")
    holding = [path.name for path in file.parent.iterdir() if path.is_file() and b"Ada-Lovelace" in path.read_bytes()]
    assert holding == []


def test_a_backup_keeps_an_instance_that_is_deleted_later(file: Path) -> None:
    with SqliteProvider.open(file) as provider:
        client = Client(provider)
        client.start_orchestration("of-ada", "echo", "Ada-Lovelace")
        provider.backup(beside(file, ".backup"))
        client.delete_instance("of-ada", force=True)
    assert b"Ada-Lovelace" not in file.read_bytes()
    assert b"Ada-Lovelace" in beside(file, ".backup").read_bytes()
