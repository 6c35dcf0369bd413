"""``client.restart``, and starts that let what has ended run again."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from datetime import timedelta
from typing import Any

import pytest

from conftest import OpenProvider, StartRuntime
from duroxide import (
    AsyncClient,
    Client,
    ClientError,
    InstanceAlreadyExists,
    InstanceNotFound,
    OrchestrationContext,
    Provider,
    Runtime,
    StartRequest,
)
from support.waiting import wait_until

Steps = Generator[Any, Any, Any]
WAIT_MS = 20_000
HOUR = timedelta(hours=1)


def order(ctx: OrchestrationContext, input: Any) -> Steps:
    seen = yield ctx.wait_for_event("go")
    kept = ctx.get_kv_value("kept")
    ctx.set_kv_value("kept", "from an earlier run")
    ctx.set_custom_status(f"saw {seen}")
    yield ctx.schedule_timer(0)
    return [input, seen, kept]


def answer(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.schedule_timer(0)
    return input


def fail(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.schedule_timer(0)
    raise ValueError(input)


def continue_twice(ctx: OrchestrationContext, input: int) -> Steps:
    yield ctx.schedule_timer(0)
    if input < 3:
        yield ctx.continue_as_new(input + 1)
    return input


def parent(ctx: OrchestrationContext, input: Any) -> Steps:
    return (yield ctx.schedule_sub_orchestration_with_id("answer", "child", input))


ORCHESTRATIONS = {
    "order": order,
    "answer": answer,
    "fail": fail,
    "continue_twice": continue_twice,
    "parent": parent,
}


def end(client: Client, instance: str, message: object = "first") -> Any:
    client.raise_event(instance, "go", message)
    return client.wait_for_orchestration(instance, WAIT_MS).result()


def test_what_has_ended_runs_again_with_its_input(client: Client, runtime_factory: StartRuntime) -> None:
    runtime_factory(orchestrations=ORCHESTRATIONS)
    client.start_orchestration("a", "order", 7)
    assert end(client, "a", "first") == [7, "first", None]

    assert client.restart("a") is True

    assert client.get_status("a").status == "Running"
    assert client.get_status("a").custom_status is None
    # The run sees nothing of the one before.
    assert end(client, "a", "second") == [7, "second", None]


def test_the_history_of_each_run_stays_readable(client: Client, runtime_factory: StartRuntime) -> None:
    runtime_factory(orchestrations=ORCHESTRATIONS)
    client.start_orchestration("a", "order", 7)
    end(client, "a", "first")
    client.restart("a")
    end(client, "a", "second")

    assert client.list_executions("a") == [1, 2]
    first, second = (client.get_execution_info("a", number) for number in (1, 2))
    assert (first.status, second.status) == ("Completed", "Completed")
    assert '"first"' in str(first.output)
    assert '"second"' in str(second.output)
    assert client.read_execution_history("a", 1)[-1].kind == "OrchestrationCompleted"


def test_a_run_may_get_another_input(client: Client, runtime_factory: StartRuntime) -> None:
    runtime_factory(orchestrations=ORCHESTRATIONS)
    handle = client.start("answer", 1, id="a")
    handle.result(20)

    handle.restart(input=2)
    assert client.wait_for_orchestration("a", WAIT_MS).result() == 2
    # The next one keeps the input of the last run.
    client.restart("a")
    assert client.wait_for_orchestration("a", WAIT_MS).result() == 2
    assert client.list_executions("a") == [1, 2, 3]


def test_a_run_that_continued_as_new_begins_at_its_first_input(client: Client, runtime_factory: StartRuntime) -> None:
    runtime_factory(orchestrations=ORCHESTRATIONS)
    client.start("continue_twice", 1, id="a").result(20)

    client.restart("a")

    assert client.wait_for_orchestration("a", WAIT_MS).result() == 3
    assert client.list_executions("a") == [1, 2, 3, 4, 5, 6]


def test_what_runs_stays_as_it_is(client: Client, runtime_factory: StartRuntime) -> None:
    client.start_orchestration("a", "order", 7)
    assert client.restart("a") is False

    runtime_factory(orchestrations=ORCHESTRATIONS)
    wait_until(lambda: client.get_instance_info("a").has_begun)
    assert client.restart("a") is False
    assert end(client, "a")[0] == 7
    assert client.list_executions("a") == [1]


def test_the_second_of_two_restarts_does_nothing(client: Client, runtime_factory: StartRuntime) -> None:
    runtime_factory(orchestrations=ORCHESTRATIONS)
    client.start_orchestration("a", "order", 7)
    end(client, "a")

    assert (client.restart("a"), client.restart("a")) == (True, False)


def test_a_new_instance_runs_in_place_of_another(client: Client, runtime_factory: StartRuntime) -> None:
    runtime_factory(orchestrations=ORCHESTRATIONS)
    client.start_orchestration("a", "order", 7)
    wait_until(lambda: client.get_instance_info("a").has_begun)

    assert client.restart("a", new_id="b") is True
    assert client.restart("a", new_id="b") is False

    assert end(client, "b") == [7, "first", None]
    assert client.get_status("a").status == "Running"
    client.start("answer", id="c")
    with pytest.raises(InstanceAlreadyExists):
        client.restart("a", new_id="c")


def test_a_parent_gets_one_result_of_its_child(client: Client, runtime_factory: StartRuntime) -> None:
    runtime_factory(orchestrations=ORCHESTRATIONS)
    client.start("parent", 1, id="a").result(20)

    assert client.restart("child", input=2) is True

    assert client.wait_for_orchestration("child", WAIT_MS).result() == 2
    assert client.get_status("a").result() == 1
    assert client.get_instance_info("child").parent_instance_id == "a"


def test_a_restart_survives_the_end_of_the_process(
    reopen: OpenProvider, provider: Provider, runtime_factory: StartRuntime
) -> None:
    client = Client(provider)
    runtime = runtime_factory(orchestrations=ORCHESTRATIONS)
    client.start_orchestration("a", "order", 7)
    end(client, "a")
    runtime.shutdown()
    client.restart("a")
    provider = reopen()
    client = Client(provider)
    client.raise_event("a", "go", "second")
    runtime = Runtime(provider)
    runtime.register_orchestration("order", order)
    with runtime:
        assert client.wait_for_orchestration("a", WAIT_MS).result() == [7, "second", None]
    assert client.list_executions("a") == [1, 2]


def test_an_unknown_instance_is_refused(client: Client) -> None:
    with pytest.raises(InstanceNotFound):
        client.restart("a")
    client.start_orchestration("a", "order")
    with pytest.raises(ClientError, match="give the input"):
        client.restart("a", new_id="b")


@pytest.mark.parametrize("if_exists", ["restart", "restart_failed"])
def test_a_start_lets_what_has_failed_run_again(client: Client, runtime_factory: StartRuntime, if_exists: Any) -> None:
    runtime_factory(orchestrations=ORCHESTRATIONS)
    assert client.start_orchestration("a", "fail", "first", if_exists=if_exists) is True
    assert client.wait_for_orchestration("a", WAIT_MS).status == "Failed"

    assert client.start_orchestration("a", "fail", "second", if_exists=if_exists) is True

    assert "second" in str(client.wait_for_orchestration("a", WAIT_MS).error)
    assert client.list_executions("a") == [1, 2]


def test_a_start_leaves_what_has_succeeded_if_it_restarts_failures(
    client: Client, runtime_factory: StartRuntime
) -> None:
    runtime_factory(orchestrations=ORCHESTRATIONS)
    client.start("answer", 1, id="a").result(20)

    assert client.start_orchestration("a", "answer", 2, if_exists="restart_failed") is False
    assert client.start("answer", 3, id="a", if_exists="restart").result(20) == 3
    with pytest.raises(InstanceAlreadyExists):
        client.start("order", id="a", if_exists="restart")


def test_a_cancelled_instance_counts_as_failed(client: Client, runtime_factory: StartRuntime) -> None:
    runtime_factory(orchestrations=ORCHESTRATIONS)
    client.start_orchestration("a", "order", 7)
    client.cancel_instance("a")
    client.wait_for_orchestration("a", WAIT_MS)

    assert client.start_orchestration("a", "order", 8, if_exists="restart_failed") is True
    assert end(client, "a") == [8, "first", None]


def test_many_starts_follow_the_policy(client: Client, runtime_factory: StartRuntime) -> None:
    runtime_factory(orchestrations=ORCHESTRATIONS)
    client.start("answer", 1, id="a").result(20)
    client.start_orchestration("b", "order")
    requests = [StartRequest("a", "answer", 2), StartRequest("b", "order"), StartRequest("c", "answer", 3)]

    assert client.start_orchestrations(requests, if_exists="restart") == [True, False, True]

    assert client.wait_for_orchestration("a", WAIT_MS).result() == 2
    assert client.wait_for_orchestration("c", WAIT_MS).result() == 3


def test_a_restart_may_be_due_later(client: Client, runtime_factory: StartRuntime) -> None:
    runtime_factory(orchestrations=ORCHESTRATIONS)
    client.start_orchestration("a", "order", 7)
    end(client, "a")

    assert client.start_orchestration("a", "order", 8, if_exists="restart", delay=700) is True
    client.raise_event("a", "go", "early")

    assert client.wait_for_orchestration("a", WAIT_MS).result() == [8, "early", None]


def test_an_asyncio_client_restarts(provider: Provider, runtime_factory: StartRuntime) -> None:
    runtime_factory(orchestrations=ORCHESTRATIONS)

    async def run() -> Any:
        client = AsyncClient(provider)
        handle = await client.start("answer", 1, id="a")
        await handle.result(20)
        await handle.restart(input=2)
        return await handle.result(20)

    assert asyncio.run(run()) == 2


def test_lists_and_counts_follow_a_restart(client: Client, runtime_factory: StartRuntime) -> None:
    runtime_factory(orchestrations=ORCHESTRATIONS)
    client.start_orchestration("a", "order", 7)
    end(client, "a")
    client.restart("a")

    assert [(each.status, each.ended) for each in client.list()] == [("Running", None)]
    assert (client.count(status="Running"), client.count(status="Completed")) == (1, 0)
    metrics = client.get_system_metrics()
    assert (metrics.running_instances, metrics.completed_instances, metrics.total_executions) == (1, 0, 2)
    end(client, "a")
    metrics = client.get_system_metrics()
    assert (metrics.running_instances, metrics.completed_instances, metrics.total_executions) == (0, 1, 2)


def test_a_restarted_instance_can_be_deleted(client: Client, runtime_factory: StartRuntime) -> None:
    runtime_factory(orchestrations=ORCHESTRATIONS)
    client.start_orchestration("a", "order", 7)
    end(client, "a")
    client.start_orchestration("a", "order", 7, if_exists="restart", delay=HOUR)

    client.delete_instance("a", force=True)

    with pytest.raises(InstanceNotFound):
        client.get_instance_info("a")
    assert client.start_orchestration("a", "order", 9) is True
    assert end(client, "a") == [9, "first", None]


@pytest.mark.parametrize("delay", [0, HOUR], ids=["at once", "later"])
def test_a_restarted_instance_can_be_terminated_before_it_begins(client: Client, delay: Any) -> None:
    runtime = Runtime(client._provider)
    runtime.register_orchestration("answer", answer)
    with runtime:
        client.start("answer", 1, id="a").result(20)
    client.start_orchestration("a", "answer", 2, if_exists="restart", delay=delay)

    assert client.terminate("a", "enough") is True

    assert [each.status for each in client.list()] == ["Terminated"]
    assert client.list_executions("a") == [1, 2]
    assert client.get_execution_info("a", 1).status == "Completed"
    assert client.start_orchestration("a", "answer", 3, if_exists="restart_failed") is True
    again = Runtime(client._provider)
    again.register_orchestration("answer", answer)
    with again:
        assert client.wait_for_orchestration("a", WAIT_MS).result() == 3


def test_a_start_that_is_not_due_can_be_terminated(client: Client, runtime_factory: StartRuntime) -> None:
    runtime_factory(orchestrations=ORCHESTRATIONS)
    client.start_orchestration("a", "answer", 1, delay=HOUR)

    assert client.terminate("a", "enough") is True

    assert client.describe("a").status == "Terminated"
    assert client.start_orchestration("a", "answer", 2, if_exists="restart") is True
    assert client.wait_for_orchestration("a", WAIT_MS).result() == 2
