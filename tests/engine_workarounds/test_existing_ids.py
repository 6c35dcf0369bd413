"""Starting an id that exists: the start attaches or is refused, and is never dropped silently."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from conftest import StartRuntime
from duroxide import (
    Client,
    InstanceAlreadyExists,
    OrchestrationContext,
    Runtime,
    RuntimeOptions,
)
from engine_workarounds.programs import QUICK, WAIT_MS, Steps, echo, healthy, wait_for_kind


@pytest.fixture
def hello(runtime_factory: StartRuntime) -> Runtime:
    def waiting(ctx: OrchestrationContext, _: Any) -> Steps:
        return (yield ctx.wait_for_event("go"))

    return runtime_factory({"echo": echo}, {"healthy": healthy, "waiting": waiting}, QUICK)


@pytest.mark.usefixtures("hello")
def test_starting_an_id_again_attaches_to_the_same_orchestration(client: Client) -> None:
    assert client.start_orchestration("id", "healthy", "first") is True
    assert client.wait_for_orchestration("id", WAIT_MS).result() == "first"
    assert client.start_orchestration("id", "healthy", "second") is False
    assert client.wait_for_orchestration("id", WAIT_MS).result() == "first"


@pytest.mark.usefixtures("hello")
def test_starting_an_id_again_while_it_runs_attaches_to_it(client: Client) -> None:
    assert client.start_orchestration("id", "waiting") is True
    assert client.start_orchestration("id", "waiting") is False
    wait_for_kind(client, "id", "ExternalSubscribed")
    assert client.start_orchestration("id", "waiting") is False
    client.raise_event("id", "go", "went")
    assert client.wait_for_orchestration("id", WAIT_MS).result() == "went"


@pytest.mark.usefixtures("hello")
def test_starting_another_orchestration_under_a_taken_id_is_refused(client: Client) -> None:
    client.start_orchestration("id", "healthy", "first")
    with pytest.raises(InstanceAlreadyExists) as refused:
        client.start_orchestration("id", "waiting")
    assert "'id'" in str(refused.value)
    assert "'healthy'" in str(refused.value)
    assert "choose another id" in str(refused.value)


@pytest.mark.usefixtures("hello")
def test_a_strict_start_refuses_an_id_that_is_taken(client: Client) -> None:
    client.start_orchestration("id", "healthy", "first", if_exists="raise")
    with pytest.raises(InstanceAlreadyExists):
        client.start_orchestration("id", "healthy", "first", if_exists="raise")
    client.wait_for_orchestration("id", WAIT_MS).result()
    with pytest.raises(InstanceAlreadyExists):
        client.start_orchestration_versioned("id", "healthy", "first", "1.0.0", if_exists="raise")


@pytest.mark.usefixtures("hello")
def test_an_id_that_was_deleted_can_be_started_again(client: Client) -> None:
    client.start_orchestration("id", "healthy", "first")
    client.wait_for_orchestration("id", WAIT_MS).result()
    client.delete_instance("id")
    assert client.start_orchestration("id", "waiting") is True
    wait_for_kind(client, "id", "ExternalSubscribed")
    assert client.get_status("id").status == "Running"


@pytest.mark.usefixtures("hello")
def test_only_one_of_many_strict_starts_of_one_id_wins(client: Client) -> None:
    outcomes: list[bool] = []

    def start() -> None:
        try:
            outcomes.append(client.start_orchestration("id", "healthy", "first", if_exists="raise"))
        except InstanceAlreadyExists:
            outcomes.append(False)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False] * 7 + [True]


@pytest.mark.parametrize("by", ["child", "detached"])
def test_an_acknowledged_start_is_not_replaced_by_one_of_an_orchestration(
    by: str, runtime_factory: StartRuntime, client: Client
) -> None:
    def order(ctx: OrchestrationContext, _: Any) -> Steps:
        if by == "detached":
            yield ctx.start_orchestration("healthy", "customer", "the orchestration")
        else:
            yield ctx.schedule_sub_orchestration("healthy", "the orchestration", instance_id="customer")

    client.start_orchestration("order", "order")
    assert client.start_orchestration("customer", "healthy", "the client", if_exists="raise")
    # With one slot, the order has its turn before the customer.
    options = RuntimeOptions(dispatcher_poll_interval_ms=20, orchestration_concurrency=1)
    runtime_factory({"echo": echo}, {"healthy": healthy, "order": order}, options)
    assert client.wait_for_orchestration("customer", WAIT_MS).result() == "the client"
