"""Nodes that are killed, paused, replaced and shut down: other nodes continue their work, and none is done twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from duroxide import Client
from faults.load import Load
from faults.nodes import LEASE_SECONDS, Nodes
from faults.servers import ServerAtHand
from support.waiting import wait_for_event_kind, wait_until

pytestmark = [pytest.mark.alone, pytest.mark.slow]

MakeLoad = Callable[..., Load]

# The time that a survivor may take to notice the end of a lease.
NOTICE_SECONDS = 0.5
# Allows for a busy machine.
MACHINE_SECONDS = 1.0
# Less than a lease: no work waits for one here.
LONG_LEASES: dict[str, Any] = {
    "orchestrator_lock_timeout_ms": 60_000,
    "worker_lock_timeout_ms": 60_000,
    "session_lock_timeout_ms": 60_000,
}
WAIT_MS = 20_000


def recorded_results(client: Client, instance: str) -> list[str]:
    """The recorded results of an instance's activities."""
    return [event.data for event in client.read_execution_history(instance) if event.kind == "ActivityCompleted"]


def test_an_activity_of_a_killed_node_moves_within_its_lease(nodes: Nodes, client: Client) -> None:
    nodes.block("hold", "killed")
    killed = nodes.start("killed")
    for number in range(8):
        client.start_orchestration(f"held-{number}", "held")
    wait_until(lambda: all(nodes.begun(f"held-{number}") for number in range(8)))
    nodes.start("survivor")
    killed.kill()
    moment = time.monotonic()

    for number in range(8):
        assert client.wait_for_orchestration(f"held-{number}", WAIT_MS).result() == "survivor"
    moved = [line.moment for line in nodes.ledger() if line.node == "survivor"]
    assert len(moved) == 8
    assert max(moved) - moment < LEASE_SECONDS + NOTICE_SECONDS + MACHINE_SECONDS


def test_a_turn_of_a_killed_node_moves_within_its_lease(nodes: Nodes, client: Client) -> None:
    nodes.block("turn", "killed")
    killed = nodes.start("killed")
    client.start_orchestration("slow", "slow_turn")
    wait_for_event_kind(client, "slow", "ExternalSubscribed")
    client.raise_event("slow", "go")
    wait_until(lambda: any(line.word == "turn" for line in nodes.ledger()))
    nodes.start("survivor")
    killed.kill()
    moment = time.monotonic()

    assert client.wait_for_orchestration("slow", WAIT_MS).result() == "survivor"
    moved = [line.moment for line in nodes.ledger() if line.node == "survivor" and line.word == "turn"]
    assert moved[0] - moment < LEASE_SECONDS + NOTICE_SECONDS + MACHINE_SECONDS


def test_everything_of_a_killed_node_moves_to_the_survivor(
    server: ServerAtHand, nodes: Nodes, make_load: MakeLoad
) -> None:
    nodes.start("survivor")
    load = make_load()
    for life in range(3):
        killed = nodes.start(f"killed-{life}")
        if life == 0:
            load.start()
        load.wait_for_progress()
        killed.kill()
    load.finish()


def test_a_paused_node_loses_its_activity_and_reports_no_result(nodes: Nodes, client: Client) -> None:
    nodes.block("hold", "zombie")
    zombie = nodes.start("zombie")
    client.start_orchestration("held", "held")
    wait_until(lambda: nodes.begun("held") == ["zombie"])
    zombie.pause()
    survivor = nodes.start("survivor")
    assert client.wait_for_orchestration("held", WAIT_MS).result() == "survivor"
    before = client.read_execution_history("held")
    nodes.unblock("hold", "zombie")
    zombie.resume()

    # It works again, so it has sent anything that it had to report.
    survivor.shutdown()
    client.start_orchestration("after", "place")
    assert client.wait_for_orchestration("after", WAIT_MS).result() == "zombie"
    zombie.shutdown()
    assert client.read_execution_history("held") == before
    assert len(recorded_results(client, "held")) == 1


def test_a_paused_node_does_not_commit_a_turn_that_another_node_has_taken(nodes: Nodes, client: Client) -> None:
    nodes.block("turn", "zombie")
    zombie = nodes.start("zombie")
    client.start_orchestration("slow", "slow_turn")
    wait_for_event_kind(client, "slow", "ExternalSubscribed")
    client.raise_event("slow", "go")
    wait_until(lambda: any(line.word == "turn" for line in nodes.ledger()))
    zombie.pause()
    survivor = nodes.start("survivor")
    assert client.wait_for_orchestration("slow", WAIT_MS).result() == "survivor"
    before = client.read_execution_history("slow")
    nodes.unblock("turn", "zombie")
    zombie.resume()

    survivor.shutdown()
    client.start_orchestration("after", "place")
    assert client.wait_for_orchestration("after", WAIT_MS).result() == "zombie"
    zombie.shutdown()
    assert client.read_execution_history("slow") == before
    assert client.get_status("slow").custom_status == "turned on survivor"
    assert nodes.begun("slow") == ["survivor"]


def test_nodes_that_are_paused_in_turn_under_load_cause_no_fault(
    server: ServerAtHand, nodes: Nodes, make_load: MakeLoad
) -> None:
    pair = [nodes.start("one"), nodes.start("other")]
    load = make_load()
    load.start()
    for node in pair:
        node.pause()
        paused = time.monotonic()
        wait_until(lambda paused=paused: time.monotonic() > paused + LEASE_SECONDS + NOTICE_SECONDS)  # type: ignore[misc]
        node.resume()
        load.wait_for_progress()
    load.finish()


def test_a_node_returns_its_leases_at_shutdown(nodes: Nodes, client: Client) -> None:
    nodes.block("hold", "leaving")
    leaving = nodes.start("leaving", **LONG_LEASES)
    for number in range(4):
        client.start_orchestration(f"held-{number}", "held")
    wait_until(lambda: all(nodes.begun(f"held-{number}") for number in range(4)))
    nodes.start("staying", **LONG_LEASES)
    leaving.shutdown(200)
    leaving.kill()
    for number in range(4):
        assert client.wait_for_orchestration(f"held-{number}", WAIT_MS).result() == "staying"


def test_no_work_waits_for_a_lease_during_a_rolling_restart(
    server: ServerAtHand, nodes: Nodes, make_load: MakeLoad
) -> None:
    nodes_of_now = [nodes.start("one-0", **LONG_LEASES), nodes.start("other-0", **LONG_LEASES)]
    load = make_load()
    load.start()
    for number in range(1, 3):
        for place, name in enumerate(("one", "other")):
            nodes_of_now[place].shutdown()
            nodes_of_now[place].kill()
            nodes_of_now[place] = nodes.start(f"{name}-{number}", **LONG_LEASES)
            load.wait_for_progress(4, seconds=10)
    load.finish()


def say_go_on(client: Client, times: int) -> list[str]:
    """Run the activity of the session once more, and return the nodes that have run it until now."""
    client.enqueue_event("talk", "inbox", "continue")
    wait_until(lambda: len((client.get_status("talk").custom_status or "").split()) == times)
    return (client.get_status("talk").custom_status or "").split()


def test_a_session_moves_when_its_node_is_killed(nodes: Nodes, client: Client) -> None:
    first = nodes.start("first")
    client.start_orchestration("talk", "talk", "session")
    assert say_go_on(client, 1) == ["first"]
    nodes.start("second")
    assert [say_go_on(client, 2)[-1], say_go_on(client, 3)[-1]] == ["first", "first"]
    first.kill()
    moment = time.monotonic()
    assert say_go_on(client, 4)[-1] == "second"
    assert time.monotonic() - moment < LEASE_SECONDS + NOTICE_SECONDS + MACHINE_SECONDS


def test_a_session_moves_at_once_when_its_node_is_shut_down(nodes: Nodes, client: Client) -> None:
    # Its name lasts for this life only, so it cannot return for the session.
    first = nodes.start("first", worker_node_id=None, **LONG_LEASES)
    client.start_orchestration("talk", "talk", "session")
    assert say_go_on(client, 1) == ["first"]
    nodes.start("second", worker_node_id=None, **LONG_LEASES)
    first.shutdown()
    assert say_go_on(client, 2)[-1] == "second"


def test_a_session_stays_with_a_node_that_restarts_under_its_name(nodes: Nodes, client: Client) -> None:
    first = nodes.start("first", **LONG_LEASES)
    client.start_orchestration("talk", "talk", "session")
    assert say_go_on(client, 1) == ["first"]
    first.kill()
    nodes.start("first", **LONG_LEASES)
    assert say_go_on(client, 2) == ["first", "first"]


def test_activities_go_to_the_node_with_their_tag(nodes: Nodes, client: Client) -> None:
    nodes.start("plain")
    gpu = nodes.start("gpu", tags=["gpu"])
    for number in range(10):
        client.start_orchestration(f"tagged-{number}", "place", "gpu")
        client.start_orchestration(f"untagged-{number}", "place")
    for number in range(10):
        assert client.wait_for_orchestration(f"tagged-{number}", WAIT_MS).result() == "gpu"
        assert client.wait_for_orchestration(f"untagged-{number}", WAIT_MS).result() == "plain"
    gpu.kill()
    client.start_orchestration("late", "place", "gpu")
    wait_for_event_kind(client, "late", "ActivityScheduled")
    assert nodes.begun("late") == []
    nodes.start("another-gpu", tags=["gpu"])
    assert client.wait_for_orchestration("late", WAIT_MS).result() == "another-gpu"


def test_a_node_does_not_take_versions_that_it_has_not_registered(nodes: Nodes, client: Client) -> None:
    older = nodes.start("older", versions=["1.0.0"])
    newer = nodes.start("newer", versions=["1.0.0", "2.0.0"])
    for number in range(20):
        client.start_orchestration_versioned(f"new-{number}", "story", None, "2.0.0")
        client.start_orchestration_versioned(f"old-{number}", "story", None, "1.0.0")
    for number in range(20):
        assert client.wait_for_orchestration(f"new-{number}", WAIT_MS).result()[0] == "2.0.0"
        assert client.wait_for_orchestration(f"old-{number}", WAIT_MS).result()[0] == "1.0.0"
    newer.shutdown()
    client.start_orchestration_versioned("orphan", "story", None, "2.0.0")
    client.start_orchestration_versioned("old", "story", None, "1.0.0")
    # The remaining node polls the queue, and skips the versions that it has not registered.
    assert client.wait_for_orchestration("old", WAIT_MS).result() == ["1.0.0", "older"]
    assert client.get_status("orphan").status in ("Running", "NotFound", "Pending")
    nodes.start("newest", versions=["1.0.0", "2.0.0"])
    assert client.wait_for_orchestration("orphan", WAIT_MS).result()[0] == "2.0.0"
    assert older.is_alive()
