"""``client.terminate``: an instance ends at once, and its code does not clean up."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from conftest import OpenProvider, StartRuntime
from duroxide import (
    ActivityContext,
    AsyncClient,
    Backoff,
    Client,
    InstanceNotFound,
    OrchestrationCancelled,
    OrchestrationContext,
    OrchestrationTerminated,
    Provider,
    RetryPolicy,
    RuntimeOptions,
    SubOrchestrationFailed,
)
from support.waiting import wait_for_event_kind, wait_until

Steps = Generator[Any, Any, Any]
Terminate = Callable[..., bool]
WAIT_MS = 20_000

# Terminates an instance in another process, which has no runtime.
TERMINATE = """
import json
import sys
from duroxide import Client, PostgresProvider, SqliteProvider
place, schema, instance, options = sys.argv[1:]
store = PostgresProvider.connect_with_schema(place, schema) if schema else SqliteProvider.open(place)
with store:
    print(Client(store).terminate(instance, **json.loads(options)))
"""


def complete(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.schedule_timer(0)
    return input


def fail(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.schedule_timer(0)
    raise ValueError(input)


def wait(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.wait_for_event("go")
    return "went"


def parent(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.schedule_sub_orchestration_with_id("wait", "child", None)


def grandparent(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.schedule_sub_orchestration_with_id("parent", "middle", None)


def handles_failure(ctx: OrchestrationContext, input: Any) -> Steps:
    try:
        yield ctx.schedule_sub_orchestration_with_id("wait", "child", None)
    except SubOrchestrationFailed as failure:
        return str(failure)


def continue_forever(ctx: OrchestrationContext, input: int) -> Steps:
    yield ctx.schedule_timer(0)
    yield ctx.continue_as_new(input + 1)


def run_activity(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.schedule_activity("run", None)


ORCHESTRATIONS = {
    each.__name__: each
    for each in (
        complete,
        fail,
        wait,
        parent,
        grandparent,
        handles_failure,
        continue_forever,
        run_activity,
    )
}


@pytest.fixture(params=["here", "another process"])
def terminate(request: pytest.FixtureRequest, store: str, client: Client, tmp_path: Path) -> Terminate:
    """Terminates an instance from this process, or from another one, which has no runtime."""
    if request.param == "here":
        return client.terminate
    if store == "memory":
        pytest.skip("no other process sees a store in memory")
    is_file = store == "sqlite"
    place = str(tmp_path / "store.db") if is_file else request.getfixturevalue("postgres_url")
    schema = "" if is_file else request.getfixturevalue("postgres_schema")

    def terminate(instance: str, **options: Any) -> bool:
        arguments = [sys.executable, "-c", TERMINATE, place, schema, instance, json.dumps(options)]
        ended = subprocess.run(arguments, check=False, timeout=60, capture_output=True, text=True)
        if "InstanceNotFound" in ended.stderr:
            raise InstanceNotFound(ended.stderr)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.strip() == "True"

    return terminate


def listed(client: Client, instance: str) -> str:
    """The status of an instance in lists, which counts and descriptions confirm."""
    [summary] = client.list(id_prefix=instance)
    assert client.count(status=summary.status, id_prefix=instance) == 1
    assert client.describe(instance).status == summary.status
    assert [each.id for each in client.list(id_prefix=instance, status=summary.status)] == [instance]
    return summary.status


def test_an_instance_that_waits_ends_at_once(
    client: Client, runtime_factory: StartRuntime, terminate: Terminate
) -> None:
    runtime_factory(orchestrations=ORCHESTRATIONS)
    client.start_orchestration("it", "wait", None)
    wait_for_event_kind(client, "it", "ExternalSubscribed")

    assert terminate("it", reason="enough") is True

    status = client.wait_for_orchestration("it", WAIT_MS)
    assert (status.status, status.error) == ("Failed", "canceled: enough")
    assert isinstance(status.failure, OrchestrationTerminated)
    assert (status.failure.reason, status.failure.output) == ("enough", None)
    assert listed(client, "it") == "Terminated"


def test_an_instance_without_a_runtime_ends(client: Client, terminate: Terminate) -> None:
    client.start_orchestration("it", "wait", {"order": 1})

    assert terminate("it", reason="enough") is True

    assert client.wait_for_orchestration("it", WAIT_MS).status == "Failed"
    assert [event.kind for event in client.read_execution_history("it")] == [
        "OrchestrationStarted",
        "OrchestrationCancelRequested",
        "OrchestrationFailed",
    ]
    assert listed(client, "it") == "Terminated"


def test_a_runtime_does_not_begin_what_was_terminated_before(
    client: Client, runtime_factory: StartRuntime, terminate: Terminate
) -> None:
    client.start_orchestration("it", "complete", 1)
    terminate("it")

    runtime_factory(orchestrations=ORCHESTRATIONS)
    client.start_orchestration("next", "complete", 2)

    assert client.wait_for_orchestration("next", WAIT_MS).status == "Completed"
    assert listed(client, "it") == "Terminated"


def test_the_output_of_a_termination_is_in_its_exception(client: Client) -> None:
    client.start_orchestration("it", "wait", None)

    client.terminate("it", "enough", output={"shipped": [1, 2]})

    with pytest.raises(OrchestrationTerminated, match="canceled: enough") as raised:
        client.handle("it").result()
    assert raised.value.output == {"shipped": [1, 2]}
    [summary] = client.list(status="Terminated")
    assert isinstance(summary.failure, OrchestrationTerminated)
    assert summary.failure.output == {"shipped": [1, 2]}


def test_statuses_tell_a_termination_from_a_cancellation_and_a_failure(
    client: Client, runtime_factory: StartRuntime
) -> None:
    runtime_factory(orchestrations=ORCHESTRATIONS)
    forged = '"details":{"Application":{"kind":{"Cancelled":{"reason":"x"}},"message":"","retryable":true}}}'
    for instance, name in [("cancelled", "wait"), ("failed", "fail"), ("terminated", "wait")]:
        client.start_orchestration(instance, name, forged)
    client.cancel_instance("cancelled", forged)
    client.terminate("terminated")
    for instance in ("cancelled", "failed", "terminated"):
        client.wait_for_orchestration(instance, WAIT_MS)

    assert {instance: listed(client, instance) for instance in ("cancelled", "failed", "terminated")} == {
        "cancelled": "Cancelled",
        "failed": "Failed",
        "terminated": "Terminated",
    }
    assert client.count_by_name() == {"fail": {"Failed": 1}, "wait": {"Cancelled": 1, "Terminated": 1}}
    assert client.count(status=["Cancelled", "Terminated"], name="wait", id_prefix="") == 2
    assert client.list_instances_by_status("Failed") == ["cancelled", "failed", "terminated"]


@pytest.mark.parametrize("name", ["complete", "fail"])
def test_an_instance_that_has_ended_stays_as_it_is(
    client: Client, runtime_factory: StartRuntime, terminate: Terminate, name: str
) -> None:
    runtime_factory(orchestrations=ORCHESTRATIONS)
    client.start_orchestration("it", name, "x")
    before = client.wait_for_orchestration("it", WAIT_MS)
    history = client.read_execution_history("it")

    assert terminate("it") is False

    assert client.get_status("it") == before
    assert client.read_execution_history("it") == history


def test_a_second_termination_changes_nothing(client: Client) -> None:
    client.start_orchestration("it", "wait", None)

    assert client.terminate("it", "first") is True
    assert client.terminate("it", "second") is False

    assert client.get_status("it").error == "canceled: first"


def test_an_unknown_instance_is_refused(client: Client, terminate: Terminate) -> None:
    with pytest.raises(InstanceNotFound, match="'nothing'"):
        terminate("nothing")


def test_all_sub_orchestrations_end_with_their_parent(
    client: Client, runtime_factory: StartRuntime, terminate: Terminate
) -> None:
    runtime_factory(orchestrations=ORCHESTRATIONS)
    client.start_orchestration("root", "grandparent", None)
    wait_for_event_kind(client, "child", "ExternalSubscribed")

    assert terminate("root", reason="enough") is True

    assert [listed(client, instance) for instance in ("root", "middle", "child")] == ["Terminated"] * 3
    assert client.get_status("child").error == "canceled: enough"


def test_a_sub_orchestration_that_no_runtime_has_begun_ends_with_its_parent(
    client: Client, runtime_factory: StartRuntime
) -> None:
    runtime_factory(orchestrations={"parent": parent})
    client.start_orchestration("root", "parent", None)
    wait_for_event_kind(client, "root", "SubOrchestrationScheduled")

    client.terminate("root")

    assert [listed(client, instance) for instance in ("root", "child")] == ["Terminated"] * 2


def test_sub_orchestrations_stay_without_recursion(client: Client, runtime_factory: StartRuntime) -> None:
    runtime_factory(orchestrations=ORCHESTRATIONS)
    client.start_orchestration("root", "parent", None)
    wait_for_event_kind(client, "child", "ExternalSubscribed")

    client.terminate("root", recursive=False)
    client.raise_event("child", "go")

    assert client.wait_for_orchestration("child", WAIT_MS).output == "went"
    assert listed(client, "root") == "Terminated"


def test_a_waiting_parent_gets_the_failure_of_a_cancelled_child(
    client: Client, runtime_factory: StartRuntime, terminate: Terminate
) -> None:
    runtime_factory(orchestrations=ORCHESTRATIONS)
    client.start_orchestration("root", "handles_failure", None)
    wait_for_event_kind(client, "child", "ExternalSubscribed")

    terminate("child", reason="enough")

    ended = client.wait_for_orchestration("root", WAIT_MS)
    assert ended.status == "Completed"
    assert "canceled: enough" in ended.output


def test_a_running_activity_is_told(client: Client, runtime_factory: StartRuntime, terminate: Terminate) -> None:
    started, told = threading.Event(), threading.Event()

    def run(ctx: ActivityContext, input: Any) -> None:
        started.set()
        wait_until(ctx.is_cancelled, "the activity learns of its end")
        told.set()

    options = RuntimeOptions(worker_lock_timeout_ms=2_000)
    runtime_factory(activities={"run": run}, orchestrations=ORCHESTRATIONS, options=options)
    client.start_orchestration("it", "run_activity", None)
    assert started.wait(20)

    terminate("it")

    assert told.wait(20)
    assert client.get_queue_depths().worker_queue == 0


def test_a_turn_that_runs_loses_its_end(client: Client, runtime_factory: StartRuntime, terminate: Terminate) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def think(ctx: OrchestrationContext, input: Any) -> Steps:
        begun.set()
        may_end.wait(20)
        yield ctx.schedule_activity("run", None)

    runs: list[object] = []

    def run(ctx: ActivityContext, input: object) -> None:
        runs.append(input)

    runtime_factory(activities={"run": run}, orchestrations={"think": think} | ORCHESTRATIONS)
    client.start_orchestration("it", "think", None)
    assert begun.wait(20)

    assert terminate("it", reason="enough") is True
    may_end.set()
    client.start_orchestration("next", "complete", 1)

    assert client.wait_for_orchestration("next", WAIT_MS).status == "Completed"
    assert listed(client, "it") == "Terminated"
    assert [event.kind for event in client.read_execution_history("it")][-1] == "OrchestrationFailed"
    assert runs == []


def test_an_instance_that_continues_as_new_all_the_time_ends(
    client: Client, runtime_factory: StartRuntime, terminate: Terminate
) -> None:
    runtime_factory(orchestrations=ORCHESTRATIONS)
    client.start_orchestration("it", "continue_forever", 0)
    wait_until(lambda: client.list_executions("it")[-1] > 3)

    assert terminate("it") is True

    executions = client.list_executions("it")
    assert listed(client, "it") == "Terminated"
    assert client.list_executions("it") == executions


def test_an_activity_between_two_tries_has_no_other_try(client: Client, runtime_factory: StartRuntime) -> None:
    def retries(ctx: OrchestrationContext, input: Any) -> Steps:
        policy = RetryPolicy(max_attempts=100, backoff=Backoff.fixed(3_600_000))
        yield ctx.schedule_activity_with_retry("broken", None, policy)

    def broken(ctx: ActivityContext, input: Any) -> None:
        raise ValueError("not yet")

    runtime_factory(activities={"broken": broken}, orchestrations={"retries": retries})
    client.start_orchestration("it", "retries", None)
    wait_for_event_kind(client, "it", "TimerCreated")

    assert client.terminate("it") is True

    assert listed(client, "it") == "Terminated"


def test_a_terminated_instance_stays_ended_after_a_restart(
    provider: Provider, reopen: OpenProvider, runtime_factory: StartRuntime
) -> None:
    client = Client(provider)
    client.start_orchestration("it", "wait", None)
    client.terminate("it", "enough", output=1)

    later = Client(reopen())

    assert listed(later, "it") == "Terminated"
    with pytest.raises(OrchestrationTerminated) as raised:
        later.handle("it").result()
    assert raised.value.output == 1


def test_a_terminated_instance_can_be_deleted_and_started_again(client: Client, runtime_factory: StartRuntime) -> None:
    client.start_orchestration("it", "wait", None)
    client.terminate("it")
    client.delete_instance("it")

    runtime_factory(orchestrations=ORCHESTRATIONS)
    client.start_orchestration("it", "complete", 2)

    assert client.wait_for_orchestration("it", WAIT_MS).output == 2


def test_a_handle_terminates_its_instance(client: Client) -> None:
    client.start_orchestration("it", "wait", None)
    handle = client.handle("it")

    assert handle.terminate("enough", output=1, recursive=False) is True

    with pytest.raises(OrchestrationCancelled):
        handle.result()


def test_an_async_client_terminates(provider: Provider, client: Client) -> None:
    async def terminate() -> list[bool]:
        asynchronous = AsyncClient(provider)
        await asynchronous.start_orchestration("it", "wait", None)
        await asynchronous.start_orchestration("other", "wait", None)
        return [
            await asynchronous.terminate("it", "enough"),
            await asynchronous.handle("other").terminate("enough", output=1),
            await asynchronous.terminate("it", "enough"),
        ]

    assert asyncio.run(terminate()) == [True, True, False]
    assert client.count(status="Terminated") == 2


def test_a_wait_ends_with_the_termination(client: Client, terminate: Terminate) -> None:
    client.start_orchestration("it", "wait", None)
    waited: list[str] = []
    waiting = threading.Thread(target=lambda: waited.append(client.wait_for_orchestration("it", WAIT_MS).status))
    waiting.start()

    terminate("it")

    waiting.join(10)
    assert waited == ["Failed"]


def test_a_reason_that_is_no_text_is_refused(client: Client) -> None:
    with pytest.raises(TypeError, match="the reason"):
        client.terminate("it", 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="recursive must be a bool"):
        client.terminate("it", recursive="no")  # type: ignore[arg-type]
