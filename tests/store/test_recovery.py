"""The work of a killed process, as a new process finds it."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from store.processes import StoreProcesses
from support.waiting import wait_until

pytestmark = [pytest.mark.alone, pytest.mark.slow]

# Shorter than the lease of an activity, which is half a minute.
SOON_SECONDS = 20.0


def test_an_activity_of_a_killed_process_runs_again_without_waiting_for_a_lease(
    processes: StoreProcesses, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    first = processes.start(serve=True)
    first.call("start_orchestration", "held", "holding", str(gate))
    wait_until(lambda: processes.ledger.exists() and processes.begun()["held"] == 1)
    first.kill()
    gate.unlink()

    began = time.monotonic()
    second = processes.start(serve=True)
    assert second.result("held") == 2, "the attempt that was killed was not counted"
    assert time.monotonic() - began < SOON_SECONDS
    assert processes.begun()["held"] == 2


def test_an_activity_that_kills_its_process_is_given_up(processes: StoreProcesses) -> None:
    first = processes.start(serve=True, max_attempts=3)
    first.call("start_orchestration", "healthy", "waiting")
    first.send("call", "start_orchestration", "deadly", "deadly")
    first.running.wait(30)
    for _ in range(2):
        process = processes.start()
        # It may be killed before it can answer.
        process.send("serve", max_attempts=3)
        process.running.wait(30)

    survivor = processes.start(serve=True, max_attempts=3)
    status = survivor.call("wait_for_orchestration", "deadly", 20_000)
    assert status["status"] == "Failed"
    assert "poison" in status["error"].lower(), status["error"]
    assert processes.begun()["deadly"] == 3
    survivor.call("raise_event", "healthy", "go", "unharmed")
    assert survivor.result("healthy") == "unharmed"


@pytest.mark.parametrize("table", ["messages", "activities"])
def test_a_row_that_cannot_be_read_is_named_and_stops_no_other_work(
    table: str, file: Path, processes: StoreProcesses
) -> None:
    first = processes.start()
    first.call("start_orchestration", "waits", "waiting")
    first.ask("close")
    row = f"INSERT INTO {table} (sequence, instance, visible_ms, data) VALUES (77, 1, 0, 'no work item')"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(row)
    process = processes.start(serve=True)
    process.call("raise_event", "waits", "go", "unharmed")
    assert process.result("waits") == "unharmed"
    messages = [message for level, message in process.ask("records") if level == "ERROR"]
    assert len(messages) == 1
    assert table in messages[0]
    assert "77" in messages[0]
