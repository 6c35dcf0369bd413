"""A process that waits for work sleeps.

The tests count how often its threads wake up. What a wake-up costs depends on the machine: one and the same wait took
1 % of a processor on one machine and 5 % on another. A thread that never sleeps wakes up seldom, but takes a processor.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from store.processes import StoreProcess, StoreProcesses
from support.waiting import wait_until

pytestmark = [pytest.mark.alone, pytest.mark.slow]

SPAN_SECONDS = 3.0
MOST_WAKE_UPS_PER_SECOND = 100
"""Of all threads together. One thread that polls every 5 ms would wake up 200 times."""

LARGEST_SHARE = 0.1
"""Of one processor."""

ROUNDS = 3


def rests(use: Callable[[], tuple[float, float]]) -> bool:
    """Whether threads sleep in one span of several: a poll or a busy loop would show in each of them."""
    return any(is_little(*use()) for _ in range(ROUNDS))


def is_little(wake_ups: float, processor_seconds: float) -> bool:
    return wake_ups / SPAN_SECONDS < MOST_WAKE_UPS_PER_SECOND and processor_seconds / SPAN_SECONDS < LARGEST_SHARE


def is_at_rest(process: StoreProcess) -> bool:
    return rests(lambda: process.ask("use", SPAN_SECONDS))


def test_an_idle_runtime_rests(processes: StoreProcesses) -> None:
    process = processes.start(serve=True)
    process.ask("round_trips", "before", 3)
    assert is_at_rest(process)


def test_a_runtime_with_waiting_instances_rests(processes: StoreProcesses) -> None:
    process = processes.start(serve=True)
    process.ask("start_many", "waiting", 200, "waiting")
    process.ask("wait_for_events", 400)
    assert is_at_rest(process)


def test_an_owner_clients_and_a_standby_rest(processes: StoreProcesses) -> None:
    owner, standby, client = (processes.start(serve=serve) for serve in (True, True, False))
    client.ask("round_trips", "before", 3)
    for process in (owner, standby, client):
        assert is_at_rest(process)


def test_a_waiting_client_rests(processes: StoreProcesses) -> None:
    owner, client = processes.start(serve=True), processes.start()
    client.call("start_orchestration", "long", "waiting")
    wait_until(lambda: client.call("get_status", "long")["status"] == "Running")
    assert rests(lambda: client.ask("use_of_a_wait", "long", SPAN_SECONDS))
    assert owner.is_alive()
