"""Processes are killed at any moment: no acknowledged work is lost, and no recorded step runs again."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from crash.conftest import Workers
from crash.worker import MESSAGES, open_store
from duroxide import Client

pytestmark = [pytest.mark.alone, pytest.mark.slow]

SIZES = {"chain": 20, "fan_out": 60}
KILLS = 3
WAIT_MS = 60_000

CompletedSteps = Callable[[str], set[int]]


def next_line(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout is not None
    return worker.stdout.readline().strip()


def check_integrity(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        answer = connection.execute("PRAGMA integrity_check").fetchall()
    connection.close()
    assert answer == [("ok",)]


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("workload", ["chain", "fan_out"])
def test_the_successor_of_a_killed_worker_continues_where_it_was(
    workload: str, seed: int, workers: Workers, completed_steps: CompletedSteps, database: Path
) -> None:
    size = SIZES[workload]
    moments = random.Random(seed)
    recorded: list[set[int]] = []
    for _ in range(KILLS):
        worker = workers.start(f"run {workload} {size}")
        workers.kill_after(worker, moments.randint(1, 2 * size // KILLS))
        recorded.append(completed_steps(workload))
    assert any(worker.returncode == -signal.SIGKILL for worker in workers.started), "no kill hit a worker"

    assert workers.result(workers.start(f"run {workload} {size}")) == sum(range(size))

    begun = [(life, number) for life, word, number in workers.lines() if word == "begin"]
    again = [(life, number) for life, number in begun if any(number in done for done in recorded[:life])]
    assert again == [], "a recorded activity ran again"
    assert len(begun) == len(set(begun)), "an activity ran twice in one life of the worker"
    assert {number for _, number in begun} == set(range(size))
    if database.exists():
        check_integrity(database)


def test_sub_orchestrations_survive_the_kill_of_their_worker(workers: Workers) -> None:
    moments = random.Random(3)
    for _ in range(2):
        workers.kill_after(workers.start("run family 6"), moments.randint(2, 10))
    assert workers.result(workers.start("run family 6")) == sum(sum(range(length)) for length in range(6))


def test_every_acknowledged_start_survives_a_kill(workers: Workers) -> None:
    count = 15
    starter = workers.start(f"start {count}")
    while next_line(starter) != f"started {count - 1}":
        assert starter.poll() is None
    workers.kill(starter)

    assert workers.result(workers.start(f"await {count}")) == [1] * count


def test_every_acknowledged_message_survives_a_kill_in_order(workers: Workers) -> None:
    sender = workers.start("send mailbox")
    while next_line(sender) != f"sent {MESSAGES - 1}":
        assert sender.poll() is None
    workers.kill(sender)

    assert workers.result(workers.start("run mailbox 0")) == list(range(MESSAGES))


@pytest.mark.parametrize("store", ["postgres"])
def test_another_node_takes_over_the_work_of_a_killed_node(workers: Workers) -> None:
    first, second = workers.start("serve"), workers.start("serve")
    assert [next_line(first), next_line(second)] == ["serving", "serving"]
    with open_store(workers.address) as provider:
        client = Client(provider)
        client.start_orchestration("shared", "fan_out", 60)
        workers.kill_after(first, 30)
        assert client.wait_for_orchestration("shared", WAIT_MS).result() == sum(range(60))
    assert max(workers.begun().values()) <= 2
