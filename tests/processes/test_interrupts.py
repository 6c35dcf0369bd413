"""Ctrl-C ends every wait at once, and ends the program as it ends any other."""

from __future__ import annotations

import signal
import socket
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from duroxide import Client, Runtime, SqliteProvider
from processes.conftest import AnyProvider, Start, first_line, hello
from support.waiting import wait_until

# Far less than the waits, and enough for a busy machine.
AT_ONCE_SECONDS = 20

WAITS = {
    "wait_for_orchestration": "client.wait_for_orchestration('waiting', 600_000)",
    "wait_for_status_change": "client.wait_for_status_change('waiting', 0, 100, 600_000)",
    "wait_for_kv_value": "client.wait_for_kv_value('waiting', 'key', 600_000)",
    "wait_for_unknown": "client.wait_for_orchestration('unknown', 600_000)",
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_ctrl_c_ends_every_wait_at_once_and_the_program_cleanly(wait: str, start_program: Start) -> None:
    process = start_program(
        f"""
        with runtime:
            client.start_orchestration("waiting", "waiting")
            print("ready", flush=True)
            try:
                {wait}
            except KeyboardInterrupt:
                print("interrupted", flush=True)
        print("left", client.get_status("waiting").status, flush=True)
        """
    )
    assert first_line(process) == "ready"
    interrupt(process)
    began = time.monotonic()
    assert first_line(process) == "interrupted"
    assert time.monotonic() - began < AT_ONCE_SECONDS
    output, errors = process.communicate(timeout=30)
    assert output == "left Running\n"
    assert errors == ""
    assert process.returncode == 0


def interrupt(process: subprocess.Popen[str]) -> None:
    """Press Ctrl-C once the process has entered the wait that it has announced."""
    # Nothing reports that a call blocks; it does when the process no longer uses the processor.
    wait_until(lambda: is_asleep(process.pid))
    process.send_signal(signal.SIGINT)


def is_asleep(process: int) -> bool:
    """Whether the main thread of a process sleeps in the kernel, at two checks."""
    status = Path(f"/proc/{process}/stat")

    def look() -> tuple[str, str]:
        fields = status.read_text().rpartition(")")[2].split()
        return fields[0], fields[11]

    first = look()
    time.sleep(0.02)
    return first[0] == "S" and first == look()


def test_uncaught_ctrl_c_ends_the_program_like_any_other(
    start_program: Start,
) -> None:
    process = start_program(
        """
        runtime.start()
        client.start_orchestration("waiting", "waiting")
        print("ready", flush=True)
        client.wait_for_orchestration("waiting", 600_000)
        """
    )
    assert first_line(process) == "ready"
    interrupt(process)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert "panicked" not in errors


def test_ctrl_c_in_a_shutdown_ends_the_shutdown(start_program: Start) -> None:
    process = start_program(
        """
        import os
        runtime.start()
        client.start_orchestration("blocked", "blocked", 600)
        blocking.wait()
        print("ready", flush=True)
        try:
            runtime.shutdown(600_000)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        os._exit(0)
        """
    )
    assert first_line(process) == "ready"
    interrupt(process)
    began = time.monotonic()
    assert first_line(process) == "interrupted"
    assert time.monotonic() - began < AT_ONCE_SECONDS


def test_a_runtime_starts_again_after_ctrl_c_in_a_wait(start_program: Start) -> None:
    process = start_program(
        """
        try:
            with runtime:
                print("ready", flush=True)
                client.wait_for_orchestration("unknown", 600_000)
        except KeyboardInterrupt:
            pass
        with runtime:
            client.start_orchestration("hello-1", "hello", "again")
            print(client.wait_for_orchestration("hello-1", 20_000).result())
        """
    )
    assert first_line(process) == "ready"
    interrupt(process)
    output, errors = process.communicate(timeout=30)
    assert (output, errors) == ("Hello, again!\n", "")


def test_ctrl_c_ends_the_connection_to_a_server_that_does_not_answer(
    start_program: Start,
) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        process = start_program(
            f"""
            print("ready", flush=True)
            try:
                PostgresProvider.connect("postgresql://user:password@127.0.0.1:{server.getsockname()[1]}/database")
            except KeyboardInterrupt:
                print("interrupted", flush=True)
            """
        )
        assert first_line(process) == "ready"
        interrupt(process)
        began = time.monotonic()
        assert first_line(process) == "interrupted"
        assert time.monotonic() - began < AT_ONCE_SECONDS
        assert process.wait(30) == 0


def test_ctrl_c_ends_the_opening_of_a_file_that_another_process_has_locked(
    start_program: Start, tmp_path: Path
) -> None:
    SqliteProvider.open(tmp_path / "locked.db").close()
    with closing(sqlite3.connect(tmp_path / "locked.db", isolation_level=None)) as holder:
        holder.execute("PRAGMA journal_mode=DELETE")
        holder.execute("BEGIN EXCLUSIVE")
        process = start_program(
            f"""
            print("ready", flush=True)
            try:
                SqliteProvider.open({str(tmp_path / "locked.db")!r})
            except KeyboardInterrupt:
                print("interrupted", flush=True)
            """
        )
        assert first_line(process) == "ready"
        interrupt(process)
        began = time.monotonic()
        assert first_line(process) == "interrupted"
        assert time.monotonic() - began < AT_ONCE_SECONDS
        assert process.wait(30) == 0


def test_a_store_closed_during_work_does_not_delay_the_shutdown(
    hello_runtime: Runtime, client: Client, provider: AnyProvider
) -> None:
    hello_runtime.start()
    hello(client, "hello-1")
    provider.close()
    began = time.monotonic()
    hello_runtime.shutdown(60_000)
    assert time.monotonic() - began < AT_ONCE_SECONDS
    assert "stopped" in repr(hello_runtime)
