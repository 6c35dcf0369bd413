"""Clocks that jump, on the server or on a node: no work fails, and none waits until the clock is right again."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from duroxide import Client
from faults.clocks import Clock
from faults.load import Load
from faults.nodes import Nodes
from faults.outages import SOON_SECONDS
from faults.servers import ServerAtHand
from support.waiting import wait_until

pytestmark = [pytest.mark.alone, pytest.mark.slow]

MakeLoad = Callable[..., Load]
# Longer than all leases, and shorter than the timers of the programs that must not fire.
JUMP = 300
JUMPS = pytest.mark.parametrize("jump", [JUMP, -JUMP], ids=["ahead", "back"])


@JUMPS
def test_work_continues_when_the_clock_of_the_server_jumps(
    jump: int, clock: Clock, server: ServerAtHand, nodes: Nodes, make_load: MakeLoad
) -> None:
    server.stop_fast()
    server.start(clock.environment)
    nodes.start("one")
    nodes.start("other")
    load = make_load()
    load.start()
    clock.set(jump)
    assert load.wait_for_progress() < SOON_SECONDS
    clock.set(0)
    assert load.wait_for_progress() < SOON_SECONDS
    load.finish()


def test_a_start_is_taken_that_commits_after_the_clock_of_the_server_was_set_back(
    clock: Clock, server: ServerAtHand, schema: str, nodes: Nodes, client: Client
) -> None:
    server.stop_fast()
    clock.set(JUMP)
    server.start(clock.environment)
    client.start_orchestration("late", "chain", 2)
    with psycopg.connect(server.url) as late:
        late.execute(f"SET search_path = {schema}".encode())
        columns = "instance_id, work_item, visible_at, created_at"
        start = late.execute(f"DELETE FROM orchestrator_queue RETURNING {columns}".encode()).fetchone()
        late.commit()
        late.execute(f"INSERT INTO orchestrator_queue ({columns}) VALUES (%s, %s, %s, %s)".encode(), start)
        node = nodes.start("one")
        client.start_orchestration("early", "chain", 2)
        assert client.wait_for_orchestration("early", 20_000).result() == 1
        clock.set(0)
        wait_until(lambda: node.count_logged("was set back"))
        late.commit()
    assert client.wait_for_orchestration("late", 20_000).result() == 1


def test_work_of_a_server_whose_clock_was_ahead_is_taken_by_a_node_that_starts_later(
    clock: Clock, server: ServerAtHand, nodes: Nodes, client: Client
) -> None:
    server.stop_fast()
    clock.set(JUMP)
    server.start(clock.environment)
    client.start_orchestration("early", "chain", 2)
    clock.set(0)
    nodes.start("one")
    assert client.wait_for_orchestration("early", 20_000).result() == 1


@JUMPS
def test_work_continues_when_the_clock_of_a_node_jumps(
    jump: int, clock: Clock, server: ServerAtHand, nodes: Nodes, make_load: MakeLoad
) -> None:
    nodes.start("jumping", environment=clock.environment)
    nodes.start("right")
    # A timer that is made at the moment of the jump follows one clock or the other.
    load = make_load(without=["timers"])
    load.start()
    clock.set(jump)
    assert load.wait_for_progress() < SOON_SECONDS
    clock.set(0)
    assert load.wait_for_progress() < SOON_SECONDS
    load.finish()


@JUMPS
def test_timers_of_a_node_with_a_wrong_clock_are_right(jump: int, clock: Clock, nodes: Nodes, client: Client) -> None:
    clock.set(jump)
    nodes.start("wrong", environment=clock.environment)
    for number in range(10):
        client.start_orchestration(f"timers-{number}", "timers", 3)
    for number in range(10):
        # The timers of a few milliseconds have fired, and the one of ten minutes has not.
        assert client.wait_for_orchestration(f"timers-{number}", 20_000).result() == [0, 1]


@JUMPS
def test_a_node_with_a_wrong_clock_takes_no_work_from_others(
    jump: int, clock: Clock, nodes: Nodes, client: Client
) -> None:
    nodes.block("hold", "right")
    nodes.start("right")
    client.start_orchestration("held", "held")
    wait_until(lambda: nodes.begun("held"))
    clock.set(jump)
    nodes.start("wrong", environment=clock.environment)
    # While it works on others, it sees the held instance; by its clock, that lease ended long ago, or lasts forever.
    for number in range(20):
        client.start_orchestration(f"other-{number}", "chain", 2)
    for number in range(20):
        assert client.wait_for_orchestration(f"other-{number}", 20_000).result() == 1
    nodes.unblock("hold", "right")
    assert client.wait_for_orchestration("held", 20_000).result() == "right"
    assert nodes.begun("held") == ["right"]


@JUMPS
def test_work_of_a_killed_node_with_a_wrong_clock_moves_in_time(
    jump: int, clock: Clock, nodes: Nodes, client: Client
) -> None:
    nodes.block("hold", "wrong")
    clock.set(jump)
    wrong = nodes.start("wrong", environment=clock.environment)
    client.start_orchestration("held", "held")
    wait_until(lambda: nodes.begun("held"))
    wrong.kill()
    nodes.start("right")
    assert client.wait_for_orchestration("held", 20_000).result() == "right"


@pytest.mark.parametrize("days", [40, -40], ids=["ahead", "back"])
def test_retention_goes_by_the_clock_of_the_server(  # noqa: PLR0917  (fixtures)
    days: int, clock: Clock, server: ServerAtHand, schema: str, nodes: Nodes, client: Client
) -> None:
    right = nodes.start("right")
    for instance in ("old", "young"):
        client.start_orchestration(instance, "chain", 1)
        client.wait_for_orchestration(instance, 20_000)
    right.shutdown()
    age = f"UPDATE {schema}.executions SET completed_at = now() - interval '31 days' WHERE instance_id = 'old'"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(age.encode())
    clock.set(days * 86_400)
    nodes.start("wrong", environment=clock.environment, retention_days=30)
    wait_until(lambda: "old" not in client.list_all_instances())
    assert client.list_all_instances() == ["young"]


def test_a_node_with_a_wrong_clock_keeps_an_event_that_came_early(
    clock: Clock, server: ServerAtHand, schema: str, nodes: Nodes, client: Client
) -> None:
    client.raise_event("later", "go", "went")
    clock.set(40 * 86_400)
    nodes.start("wrong", environment=clock.environment)
    held = f"SELECT count(*) FROM {schema}.orchestrator_queue WHERE instance_id = 'later' AND lock_token = 'held'"
    with psycopg.connect(server.url, autocommit=True) as connection:
        wait_until(lambda: connection.execute(held.encode()).fetchone() == (1,), "the node has seen the event")
