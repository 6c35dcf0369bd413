"""Waiting for work uses almost no processor time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from store.processes import StoreProcess, StoreProcesses
from support.waiting import wait_until

pytestmark = [pytest.mark.alone, pytest.mark.slow]

SPAN_SECONDS = 3.0
LARGEST_SHARE = 0.02


ROUNDS = 3


def rests(used_seconds: Callable[[], float]) -> bool:
    """Whether almost none is used in one span of several: a poll would show in each of them."""
    return any(used_seconds() / SPAN_SECONDS < LARGEST_SHARE for _ in range(ROUNDS))


def is_at_rest(process: StoreProcess) -> bool:
    return rests(lambda: process.ask("processor_seconds", SPAN_SECONDS))


def test_an_idle_runtime_uses_almost_no_processor_time(processes: StoreProcesses) -> None:
    process = processes.start(serve=True)
    process.ask("round_trips", "before", 3)
    assert is_at_rest(process)


def test_a_runtime_with_waiting_instances_uses_almost_no_processor_time(processes: StoreProcesses) -> None:
    process = processes.start(serve=True)
    process.ask("start_many", "waiting", 200, "waiting")
    process.ask("wait_for_events", 400)
    assert is_at_rest(process)


def test_an_owner_clients_and_a_standby_use_almost_no_processor_time(processes: StoreProcesses) -> None:
    owner, standby, client = (processes.start(serve=serve) for serve in (True, True, False))
    client.ask("round_trips", "before", 3)
    for process in (owner, standby, client):
        assert is_at_rest(process)


def test_a_waiting_client_uses_almost_no_processor_time(processes: StoreProcesses) -> None:
    owner, client = processes.start(serve=True), processes.start()
    client.call("start_orchestration", "long", "waiting")
    wait_until(lambda: client.call("get_status", "long")["status"] == "Running")
    assert rests(lambda: client.ask("processor_seconds_of_a_wait", "long", SPAN_SECONDS))
    assert owner.is_alive()
