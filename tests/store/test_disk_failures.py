"""The store when its disk is full, its file disappears, or its pages change underneath.

Callers get an error with the cause, no acknowledged work is lost, and the process neither ends nor spins. Once the
cause is removed, work continues.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from store.processes import StoreProcess, StoreProcesses, check_integrity, is_busy, refusal
from support.child_process import RequestFailed
from support.waiting import wait_until

pytestmark = [pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(300)]

NO_ROOM = re.compile(r"full|space|too large|disk|I/O|written", re.IGNORECASE)
IS_GONE = re.compile(r"delet|remov|replac|gone|no longer|missing|another file", re.IGNORECASE)
IS_DAMAGED = re.compile(
    r"damaged|corrupt|malformed|truncat|short|cut off|I/O|not a (duroxide )?database", re.IGNORECASE
)
# More than the log holds before SQLite writes it back into the file.
LARGE = "x" * 100_000


def says(pattern: re.Pattern[str], message: str) -> bool:
    """Whether a message matches outside its quoted paths, which contain the name of the test."""
    return pattern.search(re.sub(r"'[^']*'", "", message)) is not None


def has_started(process: StoreProcess, instance: str) -> bool:
    status: str = process.call("get_status", instance)["status"]
    return status == "Running"


def assert_lives_and_rests(process: StoreProcess) -> None:
    assert process.is_alive()
    assert not is_busy(process), "the process spins"


def finish_all(process: StoreProcess, name: str, count: int) -> None:
    """Bring waiting instances to their ends, each with a different number."""
    for number in range(count):
        process.call("raise_event", f"{name}-{number}", "go", number)
    assert process.ask("wait_for_many", name, count) == list(range(count))


def start_until_refused(
    process: StoreProcess, name: str, input: str = "", within_seconds: float = 30
) -> tuple[int, str]:
    """Start instances until the store refuses one; return how many it took, and the error."""
    count, kind, message = process.ask("start_until_refused", name, input, within_seconds)
    assert kind is not None, f"{count} starts were acknowledged, and none failed"
    assert kind in ("ProviderError", "ConfigurationError"), (kind, message)
    return count, message


def test_a_process_that_cannot_write_reports_it_and_continues_when_it_can(processes: StoreProcesses) -> None:
    process = processes.start(serve=True)
    process.ask("start_many", "before", 20, "waiting")
    wait_until(lambda: has_started(process, "before-19"))

    process.ask("limit_file_size", 1)
    taken, message = start_until_refused(process, "during")
    assert says(NO_ROOM, message), message
    assert_lives_and_rests(process)
    # Data in memory and data that can be read is still available.
    assert process.call("get_status", "before-0")["status"] == "Running"

    process.ask("limit_file_size", None)
    process.call("start_orchestration", "after", "echo", "works again")
    assert process.result("after") == "works again"
    finish_all(process, "before", 20)
    finish_all(process, "during", taken)


def test_a_process_that_is_killed_while_it_cannot_write_loses_nothing(
    processes: StoreProcesses, file: Path, tmp_path: Path
) -> None:
    process = processes.start(serve=True)
    process.ask("start_many", "before", 20, "waiting")
    process.ask("limit_file_size", 1)
    taken, _ = start_until_refused(process, "during")
    process.kill()
    check_integrity(file, tmp_path / "scratch")

    successor = processes.start(serve=True)
    finish_all(successor, "before", 20)
    finish_all(successor, "during", taken)


def test_a_turn_that_could_not_be_written_is_written_when_it_can(processes: StoreProcesses) -> None:
    process = processes.start(serve=True)
    process.call("start_orchestration", "said", "conversation")
    process.call("raise_event", "said", "go", "one")
    process.call("enqueue_event", "said", "inbox", "two")
    wait_until(lambda: has_started(process, "said"))

    process.ask("limit_file_size", 1)
    with pytest.raises(RequestFailed) as failed:
        process.call("enqueue_event", "said", "inbox", "lost?")
    assert says(NO_ROOM, str(failed.value)), failed.value
    process.ask("limit_file_size", None)

    # The message was not acknowledged: it may have arrived, or not.
    process.call("enqueue_event", "said", "inbox", "three")
    assert process.result("said") in (["one", "two", "lost?"], ["one", "two", "three"])


def test_clients_of_an_owner_that_cannot_write_get_its_error_or_a_late_answer(
    processes: StoreProcesses,
) -> None:
    owner, client = processes.start(serve=True), processes.start()
    owner.call("start_orchestration", "before", "waiting")
    wait_until(lambda: has_started(client, "before"))
    owner.ask("limit_file_size", 1)
    client.send("call", "start_orchestration", "during", "echo", "from the client")
    start_until_refused(owner, "own")
    owner.ask("limit_file_size", None)
    message = refusal(client.answer)
    if message is not None:
        assert says(NO_ROOM, message), message
        client.call("start_orchestration", "during", "echo", "from the client")
    assert client.result("during") == "from the client"
    client.call("raise_event", "before", "go", "kept")
    assert client.result("before") == "kept"


def small_disk() -> tuple[str, ...] | str:
    """A command that runs another one with a small disk mounted, or the reason why that is impossible."""
    if shutil.which("unshare") is None:
        return "unshare is not installed"
    command = ("unshare", "-m", "sh", "-c")
    mount = "mount -t tmpfs -o size=96m tmpfs {}"
    tried = subprocess.run([*command, mount.format("/mnt")], capture_output=True, text=True, timeout=20, check=False)
    if tried.returncode != 0:
        return f"no file system can be mounted: {tried.stderr.strip()}"
    return (*command, mount + ' && exec "$@"')


def test_work_waits_while_the_disk_is_full(processes: StoreProcesses, tmp_path: Path) -> None:
    command = small_disk()
    if isinstance(command, str):
        pytest.skip(command)
    disk = tmp_path / "disk"
    disk.mkdir()
    on_disk = StoreProcesses(disk / "store.db", processes.ledger, processes.started)
    process = on_disk.start(serve=True, before=(*command[:-1], command[-1].format(disk), "sh"))
    process.ask("start_many", "before", 20, "waiting")
    wait_until(lambda: has_started(process, "before-19"))

    process.ask("fill_disk", str(disk / "filler"))
    taken, message = start_until_refused(process, "during", LARGE)
    assert says(NO_ROOM, message), message
    assert_lives_and_rests(process)

    process.ask("remove", str(disk / "filler"))
    process.call("start_orchestration", "after", "echo", LARGE)
    assert process.result("after") == LARGE
    finish_all(process, "before", 20)
    finish_all(process, "during", taken)


def fill(processes: StoreProcesses) -> StoreProcess:
    """A served store whose file, without its log, holds ``old-0`` to ``old-199``; ``new-0`` to ``new-19`` wait."""
    process = processes.start(serve=True)
    process.ask("start_many", "old", 200, "echo", "y" * 500)
    process.ask("wait_for_many", "old", 200)
    process.ask("shutdown")
    process.ask("close")
    process.leave()
    process = processes.start(serve=True)
    process.ask("start_many", "new", 20, "waiting")
    wait_until(lambda: has_started(process, "new-19"))
    return process


def is_in_backup(process: StoreProcess, backup: Path, processes: StoreProcesses, taken: int) -> bool:
    """Whether a backup succeeds and has all acknowledged work; an error must name the file and the fault."""
    message = refusal(lambda: process.ask("backup", str(backup)))
    if message is not None:
        assert processes.file.name in message, message
        assert says(IS_GONE, message) or says(IS_DAMAGED, message), message
        return False
    with closing(sqlite3.connect(backup)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    successor = StoreProcesses(backup, processes.ledger, processes.started).start(serve=True)
    finish_all(successor, "new", 20)
    finish_all(successor, "during", taken)
    return True


def delete(file: Path) -> None:
    file.unlink()


def replace(file: Path) -> None:
    other = file.with_name("other.db")
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE of_somebody_else (id INTEGER)")
    other.replace(file)


@pytest.mark.parametrize("removal", [delete, replace])
def test_a_deleted_or_replaced_file_is_reported_by_name(
    removal: Callable[[Path], None], processes: StoreProcesses, file: Path, tmp_path: Path
) -> None:
    process = fill(processes)
    removal(file)
    left = file.read_bytes() if file.exists() else None

    # Noticed soon: work that is acknowledged into a deleted file is lost with the process.
    taken, message = start_until_refused(process, "during", within_seconds=5)
    assert file.name in message, message
    assert says(IS_GONE, message), message
    assert_lives_and_rests(process)
    is_in_backup(process, tmp_path / "rescued.db", processes, taken)
    assert (file.read_bytes() if file.exists() else None) == left, "the replacing file was written"

    process.kill()
    if removal is replace:
        with pytest.raises(RequestFailed, match="another application|damaged"):
            processes.start()
    else:
        assert processes.start().call("list_all_instances") == []


def truncate(file: Path) -> None:
    with file.open("r+b") as handle:
        handle.truncate(file.stat().st_size // 2)


def overwrite(file: Path) -> None:
    """Overwrite every page but the first, by which SQLite recognises its files."""
    size = file.stat().st_size
    assert size > 2 * 4096, "the file is too small to damage"
    with file.open("r+b") as handle:
        handle.seek(4096)
        handle.write(b"\xa5" * (size - 4096))


@pytest.mark.parametrize("damage", [truncate, overwrite])
def test_a_process_survives_damage_to_its_file(
    damage: Callable[[Path], None], processes: StoreProcesses, file: Path, tmp_path: Path
) -> None:
    process = fill(processes)
    damage(file)

    outputs: list[str] = []

    def read(number: int) -> None:
        outputs.append(process.call("get_status", f"old-{number}")["output"])

    refusals = [refusal(lambda number=number: read(number)) for number in range(0, 200, 10)]  # type: ignore[misc]
    wrong = [message for message in refusals if message is not None]
    assert set(outputs) <= {"y" * 500}, "a damaged page was read as if it were whole"
    taken, kind, message = process.ask("start_until_refused", "during", LARGE, 5)
    if kind is not None:
        wrong.append(message)
    for message in wrong:
        assert file.name in message, message
        assert says(IS_DAMAGED, message), message
    assert_lives_and_rests(process)
    was_rescued = is_in_backup(process, tmp_path / "rescued.db", processes, taken)
    assert was_rescued or wrong, "only the backup noticed the damage"

    process.kill()
    message = refusal(lambda: processes.start(serve=True))
    if message is None:
        # The damaged file opens: its log may have held the missing pages.
        message = refusal(lambda: processes.started[-1].call("get_status", "old-0"))
    if message is not None:
        assert file.name in message, message
        assert says(IS_DAMAGED, message), message


def test_a_deleted_log_is_reported_or_loses_nothing(processes: StoreProcesses, file: Path) -> None:
    process = fill(processes)
    file.with_name(f"{file.name}-wal").unlink()
    taken, kind, message = process.ask("start_until_refused", "during", "", 3)
    if kind is not None:
        assert file.name in message, message
    assert_lives_and_rests(process)
    if kind is None:
        process.ask("shutdown")
        process.ask("close")
        process.leave()
        successor = processes.start(serve=True)
        finish_all(successor, "new", 20)
        assert has_started(successor, f"during-{taken - 1}")
