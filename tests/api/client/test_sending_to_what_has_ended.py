"""A cancellation, an event or a message to an instance that has ended: the call says so, and changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

import pytest

from conftest import StartRuntime
from duroxide import (
    AsyncClient,
    Client,
    EventToRaise,
    InstanceNotFound,
    OrchestrationContext,
    QueueMessage,
)
from duroxide._store.providers import Provider
from support.waiting import wait_for_event_kind


def waits(ctx: OrchestrationContext, _: Any) -> Generator[Any, Any, Any]:
    return (yield ctx.wait_for_event("go"))


def returns(ctx: OrchestrationContext, _: Any) -> str:
    return "done"


def fails(ctx: OrchestrationContext, _: Any) -> str:
    raise ValueError("broken")


@pytest.fixture
def ended(runtime_factory: StartRuntime, client: Client) -> list[str]:
    """The ids of instances that have ended, one in each way; ``running`` waits for an event."""
    runtime_factory({}, {"waits": waits, "returns": returns, "fails": fails})
    client.start_orchestration("running", "waits")
    client.start_orchestration("completed", "returns")
    client.start_orchestration("failed", "fails")
    client.start_orchestration("cancelled", "waits")
    client.cancel_instance("cancelled", "enough")
    instances = ["completed", "failed", "cancelled"]
    for instance in instances:
        client.wait_for_orchestration(instance)
    wait_for_event_kind(client, "running", "ExternalSubscribed")
    return instances


def test_every_call_says_whether_the_instance_had_ended(client: Client, ended: list[str]) -> None:
    for instance in ended:
        before = client.read_execution_history(instance)
        assert client.cancel_instance(instance, "too late") is False
        assert client.raise_event(instance, "go", 1) is False
        assert client.raise_event_typed(instance, "go", 1) is False
        assert client.enqueue_event(instance, "queue", 1) is False
        assert client.enqueue_event_typed(instance, "queue", 1) is False
        assert client.read_execution_history(instance) == before
    assert client.enqueue_event("running", "queue", 1) is True
    assert client.raise_event("running", "go", 7) is True
    assert client.wait_for_orchestration("running").output == 7


def test_a_cancellation_of_a_running_instance_returns_true(client: Client, ended: list[str]) -> None:
    assert client.cancel_instance("running", "enough") is True
    assert client.wait_for_orchestration("running").error == "canceled: enough"


def test_an_event_for_an_instance_that_starts_later_is_sent(client: Client) -> None:
    assert client.raise_event("later", "go", 7) is True
    assert client.enqueue_event("later", "queue", 7) is True
    with pytest.raises(InstanceNotFound):
        client.cancel_instance("later", "enough")


def test_an_instance_that_has_not_begun_can_be_cancelled(client: Client) -> None:
    client.start_orchestration("waiting", "waits")
    assert client.cancel_instance("waiting", "enough") is True


def test_a_call_for_many_says_which_of_them_had_ended(client: Client, ended: list[str]) -> None:
    instances = [*ended, "running", "later"]
    expected = [False, False, False, True, True]
    assert client.enqueue_events([QueueMessage(each, "queue", 1) for each in instances]) == expected
    assert client.raise_events([EventToRaise(each, "go", 7) for each in instances]) == expected
    assert client.wait_for_orchestration("running").output == 7


def test_a_handle_says_the_same(client: Client, ended: list[str]) -> None:
    handle, running = client.handle("completed"), client.handle("running")
    assert [handle.cancel(), handle.raise_event("go"), handle.enqueue("queue", 1)] == [False] * 3
    assert [running.enqueue("queue", 1), running.raise_event("unheard"), running.cancel()] == [True] * 3


def test_asyncio_says_the_same(provider: Provider, ended: list[str]) -> None:
    async def call() -> list[object]:
        client = AsyncClient(provider)
        handle, running = client.handle("failed"), client.handle("running")
        return [
            await client.cancel_instance("completed"),
            await client.raise_event("completed", "go"),
            await client.enqueue_event("completed", "queue"),
            await handle.cancel(),
            await handle.raise_event("go"),
            await handle.enqueue("queue", 1),
            await running.enqueue("queue", 1),
            await running.raise_event("go"),
        ]

    assert asyncio.run(call()) == [False] * 6 + [True] * 2
