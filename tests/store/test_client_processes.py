"""One process owns a file; any number of others use it as clients, with or without an owner, and one can replace it."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

import pytest

from store.processes import StoreProcess, StoreProcesses, check_integrity, wait_for_log
from support.child_process import RequestFailed
from support.waiting import wait_until

pytestmark = [pytest.mark.alone, pytest.mark.slow]

CLIENTS = 8
STANDBY = re.compile(r"stands? by|standby|another process", re.IGNORECASE)


def is_about_standby(message: str) -> bool:
    return STANDBY.search(message) is not None


def is_subscribed(process: StoreProcess, instance: str) -> bool:
    if process.call("get_status", instance)["status"] == "NotFound":
        return False
    return any(event["kind"] == "ExternalSubscribed" for event in process.call("read_execution_history", instance))


def test_eight_clients_use_every_operation_while_a_runtime_works(processes: StoreProcesses) -> None:
    processes.start(serve=True)
    clients = [processes.start() for _ in range(CLIENTS)]
    count = 15
    for number, client in enumerate(clients):
        client.send("crowd", str(number), count)

    for client in clients:
        # An error such as "database is locked" would be raised here.
        answered = client.answer()
        assert answered == [[[number, f"{number} one", f"{number} two"], "canceled: enough"] for number in range(count)]
    begun = processes.begun()
    assert {instance for instance in begun if instance.startswith("said")} == {
        f"said-{client}-{number}" for client in range(CLIENTS) for number in range(count)
    }
    assert set(begun.values()) == {1}


def test_messages_of_one_client_arrive_in_order_among_those_of_others(processes: StoreProcesses) -> None:
    processes.start(serve=True)
    clients = [processes.start() for _ in range(4)]
    for number, client in enumerate(clients):
        client.send("pour", f"mailbox-{number}", 60)
    for client in clients:
        client.answer()
    for number, client in enumerate(clients):
        assert client.result(f"mailbox-{number}") == [str(message) for message in range(60)]


def test_a_runtime_finds_the_work_of_clients_from_before_its_start(processes: StoreProcesses) -> None:
    first, second = processes.start(), processes.start()
    assert first.call("start_orchestration", "said", "conversation") is True
    assert second.call("start_orchestration", "said", "conversation") is False
    second.call("raise_event", "said", "go", "an event")
    first.call("enqueue_event", "said", "inbox", "from the first")
    second.call("enqueue_event", "said", "inbox", "from the second")
    first.call("start_orchestration", "unwanted", "waiting")
    second.call("cancel_instance", "unwanted", "no longer wanted")
    second.send("call", "wait_for_orchestration", "said", 60_000)
    first.leave()

    owner = processes.start(serve=True)

    assert second.answer()["output"] == ["an event", "from the first", "from the second"]
    assert owner.call("wait_for_orchestration", "unwanted")["error"] == "canceled: no longer wanted"


def test_the_work_of_clients_survives_a_kill_of_all_of_them(processes: StoreProcesses) -> None:
    clients = [processes.start() for _ in range(3)]
    for number, client in enumerate(clients):
        client.ask("pour", f"mailbox-{number}", 10)
    for client in clients:
        client.kill()

    owner = processes.start(serve=True)

    for number in range(3):
        assert owner.result(f"mailbox-{number}") == [str(message) for message in range(10)]


def test_a_start_of_an_id_that_is_taken_is_refused_with_and_without_an_owner(processes: StoreProcesses) -> None:
    client = processes.start()
    client.call("start_orchestration", "taken", "echo", 1)
    with pytest.raises(RequestFailed, match="InstanceAlreadyExists"):
        client.call("start_orchestration", "taken", "waiting")
    owner = processes.start(serve=True)
    assert client.result("taken") == 1
    with pytest.raises(RequestFailed, match="InstanceAlreadyExists"):
        client.call("start_orchestration", "taken", "echo", 2, if_exists="raise")
    assert owner.result("taken") == 1


def test_a_client_process_is_told_whether_the_instance_had_ended(processes: StoreProcesses) -> None:
    client, owner = processes.start(), processes.start(serve=True)
    client.call("start_orchestration", "ended", "echo", 1)
    assert client.result("ended") == 1
    client.call("start_orchestration", "running", "waiting")
    wait_until(lambda: is_subscribed(client, "running"), "the wait for the event")
    for process in (client, owner):
        assert process.call("cancel_instance", "ended", "too late") is False
        assert process.call("raise_event", "ended", "go") is False
        assert process.call("enqueue_event", "ended", "inbox") is False
    assert client.call("raise_event", "running", "go", "heard") is True
    assert owner.result("running") == "heard"


def test_messages_of_a_client_process_wait_for_their_instance(processes: StoreProcesses) -> None:
    client = processes.start()
    client.call("raise_event", "early", "go", "before any owner")
    processes.start(serve=True)
    client.call("raise_event", "late", "go", "with an owner")
    for instance, data in (("early", "before any owner"), ("late", "with an owner")):
        client.call("start_orchestration", instance, "waiting")
        assert client.result(instance) == data


def test_a_cancellation_of_an_unknown_instance_is_refused_in_a_client_process(processes: StoreProcesses) -> None:
    client = processes.start()
    for _ in ("without an owner", "with one"):
        with pytest.raises(RequestFailed, match="InstanceNotFound.*unknown"):
            client.call("cancel_instance", "unknown")
        processes.start(serve=True)


def test_instances_are_deleted_with_and_without_an_owner(processes: StoreProcesses) -> None:
    owner, client = processes.start(serve=True), processes.start()
    for instance in ("first", "second"):
        client.call("start_orchestration", instance, "echo", instance)
        client.result(instance)
    client.call("start_orchestration", "running", "waiting")
    wait_until(lambda: is_subscribed(client, "running"))
    assert client.call("delete_instance", "first")["instances_deleted"] == 1
    with pytest.raises(RequestFailed, match="InstanceStillRunning"):
        client.call("delete_instance", "running")
    owner.leave()

    assert client.call("delete_instance", "second")["instances_deleted"] == 1
    with pytest.raises(RequestFailed, match="InstanceStillRunning"):
        client.call("delete_instance", "running")
    assert client.call("list_all_instances") == ["running"]

    processes.start(serve=True)
    client.call("raise_event", "running", "go", "still there")
    assert client.result("running") == "still there"


def test_clients_read_what_the_owner_has_committed(processes: StoreProcesses) -> None:
    owner, client = processes.start(serve=True), processes.start()
    owner.call("start_orchestration", "known", "echo", [1])
    assert owner.result("known") == [1]
    assert client.call("get_status", "known")["output"] == [1]
    assert client.call("list_instances_by_status", "Completed") == ["known"]
    kinds = [event["kind"] for event in client.call("read_execution_history", "known")]
    assert kinds == ["OrchestrationStarted", "ActivityScheduled", "ActivityCompleted", "OrchestrationCompleted"]
    assert client.call("get_system_metrics") == owner.call("get_system_metrics")


def test_a_wait_in_a_client_process_ends_soon_after_the_commit(processes: StoreProcesses) -> None:
    owner, client, other = processes.start(serve=True), processes.start(), processes.start()
    spans: list[float] = []
    for number in range(15):
        instance = f"watched-{number}"
        client.call("start_orchestration", instance, "waiting")
        wait_until(lambda instance=instance: is_subscribed(owner, instance))  # type: ignore[misc]
        # Both wait before the event is raised, by a third process.
        client.send("moment_of_end", instance)
        owner.send("moment_of_end", instance)
        other.call("raise_event", instance, "go")
        spans.append(client.answer() - owner.answer())
    assert statistics.median(spans) < 0.1


def test_the_owner_starts_the_work_of_a_client_at_once(processes: StoreProcesses) -> None:
    processes.start(serve=True)
    client = processes.start()
    assert statistics.median(client.ask("round_trips", "quick", 20)) < 0.1


def test_a_second_runtime_logs_once_that_it_stands_by(processes: StoreProcesses, file: Path) -> None:
    processes.start(serve=True)
    second = processes.start(serve=True)
    messages = wait_for_log(second, is_about_standby)
    # Its work goes through the owner, and it logs no more.
    assert second.ask("round_trips", "by-the-standby", 5)
    assert wait_for_log(second, is_about_standby) == messages
    assert len(messages) == 1
    assert file.name in messages[0]


@pytest.mark.parametrize("end", ["kill", "shutdown", "leave"])
def test_a_standby_takes_over_when_the_first_ends(end: str, processes: StoreProcesses) -> None:
    first, second, client = (processes.start(serve=serve) for serve in (True, True, False))
    client.call("start_orchestration", "before", "where")
    assert client.result("before") == first.running.pid
    client.call("start_orchestration", "across", "waiting")
    wait_until(lambda: is_subscribed(client, "across"))

    if end == "shutdown":
        first.ask("shutdown")
    else:
        getattr(first, end)()
    client.call("start_orchestration", "after", "where")

    assert client.result("after") == second.running.pid
    client.call("raise_event", "across", "go", "kept")
    assert client.result("across") == "kept"


def test_a_runtime_leaves_the_file_to_others_at_shutdown_and_can_return(processes: StoreProcesses) -> None:
    first, second = processes.start(serve=True), processes.start()
    first.ask("shutdown")
    second.ask("serve")
    first.call("start_orchestration", "one", "where")
    assert first.result("one") == second.running.pid
    first.ask("serve")
    second.ask("shutdown")
    second.call("start_orchestration", "two", "where")
    assert second.result("two") == first.running.pid


def test_a_wait_of_a_client_outlives_the_owner(processes: StoreProcesses) -> None:
    owner, client = processes.start(serve=True), processes.start()
    client.call("start_orchestration", "long", "waiting")
    wait_until(lambda: is_subscribed(client, "long"))
    client.send("call", "wait_for_orchestration", "long", 60_000)

    owner.kill()
    successor = processes.start(serve=True)
    successor.call("raise_event", "long", "go", "after the kill")

    assert client.answer()["output"] == "after the kill"


def test_killing_the_owner_while_clients_write_loses_nothing(processes: StoreProcesses) -> None:
    owner = processes.start(serve=True)
    clients = [processes.start() for _ in range(3)]
    count = 150
    for number, client in enumerate(clients):
        client.send("pour", f"mailbox-{number}", count)
    for turn in range(3):
        # The owner that is killed has done some of this round.
        owner.call("start_orchestration", f"turn-{turn}", "echo", turn)
        assert owner.result(f"turn-{turn}") == turn
        owner.kill()
        owner = processes.start(serve=True)
    for client in clients:
        client.answer()
    for number, client in enumerate(clients):
        assert client.result(f"mailbox-{number}") == [str(message) for message in range(count)]


def test_a_client_that_is_killed_while_it_writes_blocks_no_other_process(
    processes: StoreProcesses, file: Path, tmp_path: Path
) -> None:
    owner, survivor = processes.start(serve=True), processes.start()
    for number in range(3):
        victim = processes.start()
        victim.send("pour", f"victim-{number}", 10_000)
        wait_until(lambda number=number: owner.call("get_status", f"victim-{number}")["status"] == "Running")  # type: ignore[misc]
        victim.kill()
        assert survivor.ask("round_trips", f"survivor-{number}", 3)
    for number in range(3):
        survivor.call("enqueue_event", f"victim-{number}", "inbox", "stop")
        received = survivor.result(f"victim-{number}")
        assert received == [str(message) for message in range(len(received))]
    owner.kill()
    check_integrity(file, tmp_path / "scratch")


def test_a_file_moves_from_process_to_process_with_its_work(processes: StoreProcesses) -> None:
    for number in range(4):
        process = processes.start(serve=True)
        process.call("start_orchestration", f"left-{number}", "waiting")
        if number:
            process.call("raise_event", f"left-{number - 1}", "go", number)
            assert process.result(f"left-{number - 1}") == number
        if number % 2:
            process.ask("shutdown")
            process.ask("close")
            process.leave()
        else:
            process.kill()


def test_a_client_process_says_which_process_runs_an_activity(processes: StoreProcesses, tmp_path: Path) -> None:
    block = tmp_path / "block"
    block.touch()
    owner, client = processes.start(serve=True), processes.start()
    client.call("start_orchestration", "held", "holding", str(block))

    def is_running() -> bool:
        waits = client.call("describe", "held")["waits"]
        return [wait["state"] for wait in waits] == ["running"]

    wait_until(is_running, "the activity runs")
    (wait,) = client.call("describe", "held")["waits"]

    assert wait["node"].endswith(f":{owner.ask('process_id')}")
    assert wait["running_since"] >= wait["since"] - 1000


def test_a_client_process_says_that_no_process_works_on_the_file(processes: StoreProcesses) -> None:
    client = processes.start()
    client.call("start_orchestration", "waits", "waiting")

    assert client.call("describe", "waits")["obstacle"]["kind"] == "no_runtime"
