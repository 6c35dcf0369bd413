"""Gaps of the engine with messages, which the stores close."""

from __future__ import annotations

from typing import Any

import pytest

from conftest import StartRuntime
from duroxide import Client, InstanceNotFound, OrchestrationContext
from engine_workarounds.programs import QUICK, WAIT_MS, Steps, echo, healthy, wait_for_kind


def mailbox(ctx: OrchestrationContext, count: int) -> Steps:
    total = 0
    for _ in range(count):
        total += int((yield ctx.dequeue_event("inbox")))
    return total


def endless_mailbox(ctx: OrchestrationContext, state: Any) -> Steps:
    total = state["total"] + int((yield ctx.dequeue_event("inbox")))
    if state["left"] == 1:
        return total
    return (yield ctx.continue_as_new({"left": state["left"] - 1, "total": total}))


def test_a_message_to_an_unknown_instance_does_not_block_the_others(
    runtime_factory: StartRuntime, client: Client
) -> None:
    client.raise_event("unknown", "event", "data")
    with pytest.raises(InstanceNotFound, match="unknown"):
        client.cancel_instance("unknown")
    runtime_factory({"echo": echo}, {"healthy": healthy}, QUICK)
    client.start_orchestration("healthy", "healthy", "well")
    assert client.wait_for_orchestration("healthy", WAIT_MS).result() == "well"


def test_a_message_before_the_start_of_its_instance_is_kept_for_a_while(
    runtime_factory: StartRuntime, client: Client
) -> None:
    client.enqueue_event("mailbox", "inbox", "7")
    client.start_orchestration("mailbox", "mailbox", 1)
    runtime_factory({}, {"mailbox": mailbox}, QUICK)
    assert client.wait_for_orchestration("mailbox", WAIT_MS).result() == 7


def test_a_hundred_messages_can_be_read_in_one_turn(runtime_factory: StartRuntime, client: Client) -> None:
    count = 120
    client.start_orchestration("mailbox", "mailbox", count)
    for number in range(count):
        client.enqueue_event("mailbox", "inbox", str(number))
    runtime_factory({}, {"mailbox": mailbox}, QUICK)
    assert client.wait_for_orchestration("mailbox", WAIT_MS).result() == sum(range(count))


def test_a_burst_of_messages_survives_continue_as_new(runtime_factory: StartRuntime, client: Client) -> None:
    count = 120
    client.start_orchestration("mailbox", "endless_mailbox", {"left": count, "total": 0})
    for number in range(count):
        client.enqueue_event("mailbox", "inbox", str(number))
    runtime_factory({}, {"endless_mailbox": endless_mailbox}, QUICK)
    assert client.wait_for_orchestration("mailbox", WAIT_MS).result() == sum(range(count))


def test_an_event_that_is_raised_before_its_wait_is_kept(runtime_factory: StartRuntime, client: Client) -> None:
    def late(ctx: OrchestrationContext, _: Any) -> Steps:
        yield ctx.wait_for_event("first")
        return (yield ctx.wait_for_event("second"))

    runtime_factory({}, {"late": late}, QUICK)
    client.start_orchestration("late", "late")
    wait_for_kind(client, "late", "ExternalSubscribed")
    client.raise_event("late", "second", "early")
    client.raise_event("late", "first")
    assert client.wait_for_orchestration("late", WAIT_MS).result() == "early"


def test_ninety_messages_can_be_read_in_one_turn(runtime_factory: StartRuntime, client: Client) -> None:
    count = 90
    client.start_orchestration("mailbox", "mailbox", count)
    for number in range(count):
        client.enqueue_event("mailbox", "inbox", str(number))
    runtime_factory({}, {"mailbox": mailbox}, QUICK)
    assert client.wait_for_orchestration("mailbox", WAIT_MS).result() == sum(range(count))
