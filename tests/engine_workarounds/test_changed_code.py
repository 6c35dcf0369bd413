"""Code that changed under a running orchestration: the instance waits for matching code, and reports it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from conftest import OpenProvider
from duroxide import (
    Client,
    InstanceStillRunning,
    OrchestrationContext,
    Runtime,
    WaitTimedOut,
)
from engine_workarounds.programs import QUICK, SHORT_MS, WAIT_MS, AnyProvider, Steps, echo, healthy, wait_for_kind
from support.waiting import wait_until


def old_code(ctx: OrchestrationContext, _: Any) -> Steps:
    first = yield ctx.schedule_activity("echo", "old")
    event = yield ctx.wait_for_event("go")
    return [first, event]


def with_another_input(ctx: OrchestrationContext, _: Any) -> Steps:
    first = yield ctx.schedule_activity("echo", "new")
    event = yield ctx.wait_for_event("go")
    return [first, event]


def with_another_operation(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.schedule_timer(0)
    return (yield ctx.wait_for_event("go"))


def that_returns_early(ctx: OrchestrationContext, _: Any) -> Steps:
    return (yield ctx.schedule_activity("echo", "old"))


def that_returns_at_once(ctx: OrchestrationContext, _: Any) -> Any:
    return "early"


def that_raises_early(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.schedule_activity("echo", "old")
    raise ValueError("new code")


CHANGES = [with_another_input, with_another_operation, that_returns_early, that_returns_at_once, that_raises_early]
changes = pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)


def run_code(provider: AnyProvider, code: Callable[..., Any]) -> Runtime:
    runtime = Runtime(provider, QUICK)
    runtime.register_activity("echo", echo)
    runtime.register_orchestration("healthy", healthy)
    runtime.register_orchestration("changed", code)
    runtime.start()
    return runtime


def start_with_old_code(provider: AnyProvider) -> None:
    """Record the old code up to its wait."""
    client = Client(provider)
    runtime = run_code(provider, old_code)
    client.start_orchestration("changed", "changed")
    wait_for_kind(client, "changed", "ExternalSubscribed")
    runtime.shutdown()


@changes
def test_an_instance_whose_code_changed_waits_and_reports_it(change: Callable[..., Any], provider: AnyProvider) -> None:
    start_with_old_code(provider)
    client = Client(provider)
    runtime = run_code(provider, change)
    try:
        client.raise_event("changed", "go", "went")
        wait_until(lambda: client.get_status("changed").mismatch)
        status = client.get_status("changed")
        assert status.status == "Running"
        assert "'changed'" in (status.mismatch or "")
        with pytest.raises(InstanceStillRunning, match="history"):
            status.result()
        with pytest.raises(WaitTimedOut) as timed_out:
            client.wait_for_orchestration("changed", SHORT_MS)
        assert "history" in str(timed_out.value)
        # Other instances continue.
        client.start_orchestration("healthy", "healthy", "well")
        assert client.wait_for_orchestration("healthy", WAIT_MS).result() == "well"
    finally:
        runtime.shutdown()


@changes
def test_the_code_that_recorded_the_history_completes_it(change: Callable[..., Any], provider: AnyProvider) -> None:
    start_with_old_code(provider)
    client = Client(provider)
    runtime = run_code(provider, change)
    client.raise_event("changed", "go", "went")
    wait_until(lambda: client.get_status("changed").mismatch)
    runtime.shutdown()

    runtime = run_code(provider, old_code)
    try:
        status = client.wait_for_orchestration("changed", WAIT_MS)
        assert status.result() == ["old", "went"]
        assert status.mismatch is None
    finally:
        runtime.shutdown()


def test_an_instance_whose_code_changed_can_be_cancelled(provider: AnyProvider) -> None:
    start_with_old_code(provider)
    client = Client(provider)
    runtime = run_code(provider, with_another_operation)
    try:
        client.raise_event("changed", "go", "went")
        wait_until(lambda: client.get_status("changed").mismatch)
        client.cancel_instance("changed", "given up")
        assert "given up" in (client.wait_for_orchestration("changed", WAIT_MS).error or "")
    finally:
        runtime.shutdown()


def test_an_instance_whose_code_is_no_longer_registered_waits_for_it(
    provider: AnyProvider, reopen: OpenProvider
) -> None:
    start_with_old_code(provider)
    reopened = reopen()
    client = Client(reopened)
    with Runtime(reopened, QUICK, functions=[healthy]):
        client.raise_event("changed", "go", "went")
        with pytest.raises(WaitTimedOut) as timed_out:
            client.wait_for_orchestration("changed", SHORT_MS)
        assert "not registered" in str(timed_out.value)
    assert client.get_status("changed").status == "Running"
    runtime = run_code(reopened, old_code)
    try:
        assert client.wait_for_orchestration("changed", WAIT_MS).result() == ["old", "went"]
    finally:
        runtime.shutdown()


def test_an_instance_continues_with_code_that_was_extended_at_its_end(provider: AnyProvider) -> None:
    def longer(ctx: OrchestrationContext, input: Any) -> Steps:
        before = yield from old_code(ctx, input)
        return [*before, (yield ctx.schedule_activity("echo", "more"))]

    start_with_old_code(provider)
    client = Client(provider)
    runtime = run_code(provider, longer)
    try:
        client.raise_event("changed", "go", "went")
        assert client.wait_for_orchestration("changed", WAIT_MS).result() == ["old", "went", "more"]
    finally:
        runtime.shutdown()
