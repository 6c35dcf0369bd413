"""Children and activities that the engine gives up: their parents get a failure, and can continue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from conftest import StartRuntime
from duroxide import (
    MAX_KV_VALUE_BYTES,
    Client,
    OrchestrationContext,
    RuntimeOptions,
    SubOrchestrationFailed,
)
from engine_workarounds.programs import QUICK, WAIT_MS, Steps, echo, healthy, wait_for_kind

LIMITS: dict[str, Callable[[Any], Any]] = {
    "status": lambda ctx: ctx.set_custom_status("x" * 300_000),
    "value": lambda ctx: ctx.set_kv_value("key", "x" * (MAX_KV_VALUE_BYTES + 1)),
    "keys": lambda ctx: [ctx.set_kv_value(f"key-{number}", "value") for number in range(200)],
    "tag": lambda ctx: ctx.schedule_activity("echo", 1, tag="x" * 300),
    "id": lambda ctx: ctx.start_orchestration("healthy", "sub::1"),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_a_child_that_exceeds_a_limit_fails_and_its_parent_can_catch_it(
    limit: str, runtime_factory: StartRuntime, client: Client
) -> None:
    def child(ctx: OrchestrationContext, _: Any) -> Steps:
        LIMITS[limit](ctx)
        yield ctx.schedule_activity("echo", 1)

    def parent(ctx: OrchestrationContext, _: Any) -> Steps:
        try:
            yield ctx.schedule_sub_orchestration("child")
        except SubOrchestrationFailed as error:
            return [error.is_caused_by(ValueError), (yield ctx.schedule_activity("echo", "continues"))]
        return "not failed"

    runtime_factory({"echo": echo}, {"child": child, "parent": parent, "healthy": healthy}, QUICK)
    client.start_orchestration("parent", "parent")
    assert client.wait_for_orchestration("parent", WAIT_MS).result() == [True, "continues"]


def test_a_cancelled_child_reaches_its_parent_as_a_failure(runtime_factory: StartRuntime, client: Client) -> None:
    def child(ctx: OrchestrationContext, _: Any) -> Steps:
        yield ctx.wait_for_event("never")

    def parent(ctx: OrchestrationContext, _: Any) -> Steps:
        try:
            yield ctx.schedule_sub_orchestration_with_id("child", "the-child", None)
        except SubOrchestrationFailed as error:
            return str(error)
        return "not failed"

    runtime_factory({}, {"child": child, "parent": parent}, QUICK)
    client.start_orchestration("parent", "parent")
    wait_for_kind(client, "the-child", "ExternalSubscribed")
    client.cancel_instance("the-child", "not wanted")
    assert "not wanted" in client.wait_for_orchestration("parent", WAIT_MS).result()


def test_a_child_whose_id_is_taken_fails_and_its_parent_can_catch_it(
    runtime_factory: StartRuntime, client: Client
) -> None:
    def parent(ctx: OrchestrationContext, _: Any) -> Steps:
        try:
            yield ctx.schedule_sub_orchestration_with_id("healthy", "taken", 1)
        except SubOrchestrationFailed as error:
            return str(error)
        return "not failed"

    runtime_factory({"echo": echo}, {"healthy": healthy, "parent": parent}, QUICK)
    client.start_orchestration("taken", "healthy", "first")
    client.wait_for_orchestration("taken", WAIT_MS).result()
    client.start_orchestration("parent", "parent")
    assert "taken" in client.wait_for_orchestration("parent", WAIT_MS).result()


def test_of_two_children_that_one_turn_starts_with_the_same_id_the_second_fails(
    runtime_factory: StartRuntime, client: Client
) -> None:
    def parent(ctx: OrchestrationContext, _: Any) -> Steps:
        calls = [ctx.schedule_sub_orchestration("healthy", number, instance_id="same") for number in range(2)]
        return [dict(outcome) for outcome in (yield ctx.all(calls))]

    runtime_factory({"echo": echo}, {"healthy": healthy, "parent": parent}, QUICK)
    client.start_orchestration("parent", "parent")
    first, second = client.wait_for_orchestration("parent", WAIT_MS).result()
    assert first == {"ok": 0}
    assert "'same' already exists" in str(second["err"])


def test_a_child_fails_if_a_detached_start_of_the_same_turn_has_its_id(
    runtime_factory: StartRuntime, client: Client
) -> None:
    def parent(ctx: OrchestrationContext, _: Any) -> Steps:
        yield ctx.start_orchestration("healthy", "same", "detached")
        try:
            yield ctx.schedule_sub_orchestration("healthy", "child", instance_id="same")
        except SubOrchestrationFailed as error:
            return str(error)
        return "not failed"

    runtime_factory({"echo": echo}, {"healthy": healthy, "parent": parent}, QUICK)
    client.start_orchestration("parent", "parent")
    assert "'same' already exists" in client.wait_for_orchestration("parent", WAIT_MS).result()
    assert client.wait_for_orchestration("same", WAIT_MS).result() == "detached"


def test_of_two_parents_that_ask_for_one_child_id_at_once_one_gets_the_child(
    runtime_factory: StartRuntime, client: Client
) -> None:
    def parent(ctx: OrchestrationContext, number: int) -> Steps:
        try:
            return (yield ctx.schedule_sub_orchestration("healthy", number, instance_id="same"))
        except SubOrchestrationFailed:
            return "failed"

    for number in range(2):
        client.start_orchestration(f"parent-{number}", "parent", number)
    # With one slot, both parents have their turns before the child.
    options = RuntimeOptions(dispatcher_poll_interval_ms=20, orchestration_concurrency=1)
    runtime_factory({"echo": echo}, {"healthy": healthy, "parent": parent}, options)
    results = [client.wait_for_orchestration(f"parent-{number}", WAIT_MS).result() for number in range(2)]
    assert results in ([0, "failed"], ["failed", 1])
