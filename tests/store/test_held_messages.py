"""The store holds messages and events that arrive too early, and loses none.

These are the cases that the engine would drop or fail on: many messages in one turn, more than it carries across
continue-as-new, an event without a wait, and messages for instances that do not exist.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from conftest import SHUTDOWN_MS, StartRuntime
from duroxide import Client, InstanceNotFound, OrchestrationContext, Provider, Runtime, SqliteProvider
from store.programs import STOP, Steps
from support.waiting import wait_for_event_kind, wait_for_execution, wait_until
from upgrade.files import load

WAIT_MS = 60_000


def drain(ctx: OrchestrationContext, count: int) -> Steps:
    """Reads this many messages without another step between them."""
    received: list[int] = []
    for _ in range(count):
        message = yield ctx.dequeue_event("inbox")
        received.append(int(message))
    return received


def drain_in_executions(ctx: OrchestrationContext, state: dict[str, Any]) -> Steps:
    """Reads ``each`` messages an execution until a message says to stop."""
    received = list(state["received"])
    for _ in range(state["each"]):
        message = yield ctx.dequeue_event("inbox")
        if message == STOP:
            return received
        received.append(int(message))
    yield ctx.continue_as_new({"each": state["each"], "received": received})
    return None


def deaf_executions(ctx: OrchestrationContext, left: int) -> Steps:
    """Continues as new at every ``next``, without reading; the last execution reads 500 messages."""
    if left:
        yield ctx.wait_for_event("next")
        yield ctx.continue_as_new(left - 1)
    received: list[int] = []
    for _ in range(500):
        message = yield ctx.dequeue_event("inbox")
        received.append(int(message))
    return received


def two_queues(ctx: OrchestrationContext, count: int) -> Steps:
    """Reads one queue to its end, and then the other."""
    yield ctx.wait_for_event("go")
    received: list[list[int]] = []
    for queue in ("second", "first"):
        numbers: list[int] = []
        for _ in range(count):
            message = yield ctx.dequeue_event(queue)
            numbers.append(int(message))
        received.append(numbers)
    return received


def late_listener(ctx: OrchestrationContext, count: int) -> Steps:
    yield ctx.wait_for_event("ready")
    received: list[Any] = []
    for _ in range(count):
        data = yield ctx.wait_for_event("news")
        received.append(data)
    return received


def listening_executions(ctx: OrchestrationContext, state: list[Any]) -> Steps:
    """Takes one event an execution."""
    data = yield ctx.wait_for_event("news")
    received = [*state, data]
    if len(received) < 4:
        yield ctx.continue_as_new(received)
    return received


def busy_listener(ctx: OrchestrationContext, _: Any) -> Steps:
    """An execution that does not wait for the event ends, and the next one does."""
    yield ctx.wait_for_event("ready")
    if ctx.get_kv_value("was here") is None:
        ctx.set_kv_value("was here", "yes")
        yield ctx.continue_as_new(None)
    return (yield ctx.wait_for_event("news"))


def losing_listener(ctx: OrchestrationContext, _: Any) -> Steps:
    """The event loses its race against a message, and a second wait takes it."""
    first = yield ctx.race(ctx.wait_for_event("news"), ctx.dequeue_event("inbox"))
    yield ctx.wait_for_event("ready")
    second = yield ctx.wait_for_event("news")
    return [first["index"], first["value"], second]


def answer(ctx: OrchestrationContext, value: Any) -> Steps:
    yield ctx.schedule_timer(0)
    return value


def orphan_maker(ctx: OrchestrationContext, _: Any) -> str:
    """Ends in the turn that starts a child, so that the engine cancels a child that never began."""
    ctx.spawn(ctx.schedule_sub_orchestration("answer", 1))
    return "ended"


ORCHESTRATIONS = {
    function.__name__: function
    for function in (
        drain,
        drain_in_executions,
        deaf_executions,
        two_queues,
        late_listener,
        listening_executions,
        busy_listener,
        losing_listener,
        answer,
        orphan_maker,
    )
}


@pytest.fixture
def started(runtime_factory: StartRuntime) -> Runtime:
    """A running runtime."""
    return runtime_factory(orchestrations=ORCHESTRATIONS)


def send_numbers(client: Client, instance: str, count: int, queue: str = "inbox", first: int = 0) -> None:
    for number in range(first, first + count):
        client.enqueue_event(instance, queue, str(number))


def test_a_thousand_messages_are_read_in_one_turn_in_order(runtime_factory: StartRuntime, client: Client) -> None:
    client.start_orchestration("drain", "drain", 1_000)
    send_numbers(client, "drain", 1_000)
    runtime_factory(orchestrations=ORCHESTRATIONS)
    assert client.wait_for_orchestration("drain", WAIT_MS).result() == list(range(1_000))


@pytest.mark.usefixtures("started")
def test_a_thousand_messages_are_read_while_they_arrive(client: Client) -> None:
    client.start_orchestration("drain", "drain", 1_000)
    send_numbers(client, "drain", 1_000)
    assert client.wait_for_orchestration("drain", WAIT_MS).result() == list(range(1_000))


@pytest.mark.parametrize("each", [1, 7, 120, 499])
def test_bursts_of_five_hundred_survive_continue_as_new(
    each: int, runtime_factory: StartRuntime, client: Client
) -> None:
    client.start_orchestration("drain", "drain_in_executions", {"each": each, "received": []})
    send_numbers(client, "drain", 500)
    runtime_factory(orchestrations=ORCHESTRATIONS)
    send_numbers(client, "drain", 500, first=500)
    client.enqueue_event("drain", "inbox", STOP)
    assert client.wait_for_orchestration("drain", WAIT_MS).result() == list(range(1_000))


@pytest.mark.usefixtures("started")
def test_unread_messages_survive_several_executions_that_read_none(client: Client) -> None:
    client.start_orchestration("deaf", "deaf_executions", 3)
    wait_for_event_kind(client, "deaf", "ExternalSubscribed")
    for execution in range(3):
        send_numbers(client, "deaf", 150, first=execution * 150)
        client.raise_event("deaf", "next")
        wait_for_execution(client, "deaf", execution + 2)
    send_numbers(client, "deaf", 50, first=450)
    assert client.wait_for_orchestration("deaf", WAIT_MS).result() == list(range(500))


@pytest.mark.usefixtures("started")
def test_a_full_queue_does_not_block_events_and_other_queues(client: Client) -> None:
    client.start_orchestration("two", "two_queues", 200)
    wait_for_event_kind(client, "two", "ExternalSubscribed")
    send_numbers(client, "two", 200, "first")
    send_numbers(client, "two", 200, "second")
    client.raise_event("two", "go")
    assert client.wait_for_orchestration("two", WAIT_MS).result() == [list(range(200)), list(range(200))]


def test_a_held_message_does_not_block_a_cancellation(runtime_factory: StartRuntime, client: Client) -> None:
    client.start_orchestration("deaf", "late_listener", 1)
    send_numbers(client, "deaf", 300)
    runtime_factory(orchestrations=ORCHESTRATIONS)
    wait_for_event_kind(client, "deaf", "ExternalSubscribed")
    client.cancel_instance("deaf", "enough")
    assert client.wait_for_orchestration("deaf", WAIT_MS).error == "canceled: enough"


@pytest.mark.usefixtures("started")
def test_events_that_are_raised_early_are_kept_in_order(client: Client) -> None:
    client.start_orchestration("late", "late_listener", 3)
    for data in ("first", "second", "third"):
        client.raise_event("late", "news", data)
    client.raise_event("late", "ready")
    assert client.wait_for_orchestration("late", WAIT_MS).result() == ["first", "second", "third"]


def test_events_that_are_raised_before_a_runtime_starts_are_kept(runtime_factory: StartRuntime, client: Client) -> None:
    client.start_orchestration("late", "late_listener", 2)
    client.raise_event("late", "news", "first")
    client.raise_event("late", "ready")
    client.raise_event("late", "news", "second")
    runtime_factory(orchestrations=ORCHESTRATIONS)
    assert client.wait_for_orchestration("late", WAIT_MS).result() == ["first", "second"]


@pytest.mark.usefixtures("started")
def test_events_of_one_name_reach_the_executions_in_order(client: Client) -> None:
    client.start_orchestration("listening", "listening_executions", [])
    for number in range(4):
        client.raise_event("listening", "news", number)
    assert client.wait_for_orchestration("listening", WAIT_MS).result() == [0, 1, 2, 3]
    assert client.list_executions("listening") == [1, 2, 3, 4]


@pytest.mark.usefixtures("started")
def test_an_event_waits_for_an_execution_that_waits_for_it(client: Client) -> None:
    client.start_orchestration("busy", "busy_listener")
    wait_for_event_kind(client, "busy", "ExternalSubscribed")
    client.raise_event("busy", "news", "kept")
    client.raise_event("busy", "ready")
    wait_for_execution(client, "busy", 2)
    client.raise_event("busy", "ready")
    assert client.wait_for_orchestration("busy", WAIT_MS).result() == "kept"


@pytest.mark.usefixtures("started")
def test_an_event_after_a_lost_race_waits_for_the_next_wait(client: Client) -> None:
    client.start_orchestration("losing", "losing_listener")
    wait_for_event_kind(client, "losing", "ExternalSubscribed", "news")
    client.enqueue_event("losing", "inbox", "the message wins")
    wait_for_event_kind(client, "losing", "ExternalSubscribed", "ready")
    client.raise_event("losing", "news", "kept")
    client.raise_event("losing", "ready")
    assert client.wait_for_orchestration("losing", WAIT_MS).result() == [1, "the message wins", "kept"]


def test_held_messages_survive_a_restart(provider: Provider, store: str, tmp_path: Path) -> None:
    if store != "sqlite":
        pytest.skip("a store in memory ends with its process, and a server does not restart with it")
    client = Client(provider)
    runtime = register(Runtime(provider))
    runtime.start()
    client.start_orchestration("late", "late_listener", 2)
    wait_for_event_kind(client, "late", "ExternalSubscribed")
    client.raise_event("late", "news", "first")
    client.raise_event("late", "news", "second")
    client.start_orchestration("drain", "deaf_executions", 1)
    wait_for_event_kind(client, "drain", "ExternalSubscribed")
    send_numbers(client, "drain", 500)
    runtime.shutdown(SHUTDOWN_MS)
    provider.close()

    with SqliteProvider.open(tmp_path / "store.db") as reopened, register(Runtime(reopened)):
        client = Client(reopened)
        client.raise_event("late", "ready")
        client.raise_event("drain", "next")
        assert client.wait_for_orchestration("late", WAIT_MS).result() == ["first", "second"]
        assert client.wait_for_orchestration("drain", WAIT_MS).result() == list(range(500))


def register(runtime: Runtime) -> Runtime:
    for name, function in ORCHESTRATIONS.items():
        runtime.register_orchestration(name, function)
    return runtime


@pytest.mark.usefixtures("started")
def test_messages_to_an_ended_instance_are_dropped(client: Client) -> None:
    client.start_orchestration("finished", "answer", "done")
    client.wait_for_orchestration("finished", WAIT_MS).result()
    before = client.read_execution_history("finished")
    for number in range(20):
        client.raise_event("finished", "news", number)
        client.enqueue_event("finished", "inbox", number)
    wait_until(lambda: client.get_queue_depths().orchestrator_queue == 0)
    assert client.read_execution_history("finished") == before


@pytest.mark.usefixtures("started")
def test_a_deleted_instance_takes_its_held_messages_with_it(client: Client) -> None:
    client.start_orchestration("again", "late_listener", 1)
    wait_for_event_kind(client, "again", "ExternalSubscribed")
    client.raise_event("again", "news", "of the first life")
    send_numbers(client, "again", 150)
    client.delete_instance("again", force=True)
    assert client.get_queue_depths().orchestrator_queue == 0

    client.start_orchestration("again", "late_listener", 1)
    client.raise_event("again", "news", "of the second life")
    client.raise_event("again", "ready")
    assert client.wait_for_orchestration("again", WAIT_MS).result() == ["of the second life"]


@pytest.mark.usefixtures("started")
def test_a_child_that_never_began_does_not_block_the_others(client: Client) -> None:
    for number in range(20):
        client.start_orchestration(f"maker-{number}", "orphan_maker")
        assert client.wait_for_orchestration(f"maker-{number}", WAIT_MS).result() == "ended"
    client.start_orchestration("healthy", "answer", "well")
    assert client.wait_for_orchestration("healthy", 5_000).result() == "well"


@pytest.fixture
def with_orphans(tmp_path: Path) -> Iterator[Client]:
    """A store file of the bundled provider, with messages for an instance that was never started."""
    file = load("bundled-running.sql", tmp_path / "orphans.db")
    with closing(sqlite3.connect(file)) as connection, connection:
        for table in ("orchestrator_queue", "worker_queue", "instance_locks"):
            connection.execute(f"DELETE FROM {table}")
        for message in (
            {"ExternalRaised": {"instance": "unborn", "name": "ready", "data": "null"}},
            {"ExternalRaised": {"instance": "unborn", "name": "news", "data": '"early"'}},
            {"QueueMessage": {"instance": "other-unborn", "name": "inbox", "data": "0"}},
            {"QueueMessage": {"instance": "other-unborn", "name": "inbox", "data": "1"}},
        ):
            ((body),) = message.values()
            connection.execute(
                "INSERT INTO orchestrator_queue (instance_id, work_item, visible_at) VALUES (?, ?, 1)",
                [body["instance"], json.dumps(message)],
            )
    with SqliteProvider.open(file) as provider, register(Runtime(provider)):
        yield Client(provider)


def test_messages_for_unknown_instances_do_not_block_others(with_orphans: Client) -> None:
    with_orphans.start_orchestration("healthy", "answer", "well")
    assert with_orphans.wait_for_orchestration("healthy", 5_000).result() == "well"
    assert with_orphans.get_status("unborn").status == "NotFound"
    assert "unborn" not in with_orphans.list_all_instances()
    with pytest.raises(InstanceNotFound):
        with_orphans.get_instance_info("unborn")


def test_messages_for_an_instance_that_starts_later_are_kept_for_it(with_orphans: Client) -> None:
    assert with_orphans.start_orchestration("unborn", "late_listener", 1) is True
    assert with_orphans.start_orchestration("other-unborn", "drain", 2) is True
    assert with_orphans.wait_for_orchestration("unborn", WAIT_MS).result() == ["early"]
    assert with_orphans.wait_for_orchestration("other-unborn", WAIT_MS).result() == [0, 1]


def test_held_messages_cause_no_turns(runtime_factory: StartRuntime, client: Client) -> None:
    runtime = runtime_factory(orchestrations=ORCHESTRATIONS)
    client.start_orchestration("late", "late_listener", 2)
    wait_for_event_kind(client, "late", "ExternalSubscribed")
    for number in range(2):
        client.raise_event("late", "news", number)
        client.enqueue_event("late", "inbox", number)
    before = runtime.metrics_snapshot().orch_dispatcher_items_fetched
    for number in range(20):
        client.start_orchestration(f"other-{number}", "answer", number)
        assert client.wait_for_orchestration(f"other-{number}", WAIT_MS).result() == number
    # Each of the others takes two turns.
    assert runtime.metrics_snapshot().orch_dispatcher_items_fetched - before <= 2 * 20 + 1
    client.raise_event("late", "ready")
    assert client.wait_for_orchestration("late", WAIT_MS).result() == [0, 1]
