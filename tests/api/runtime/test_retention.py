"""A running runtime removes instances that ended long ago."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import Any

import pytest

from conftest import SHUTDOWN_MS, WAIT_MS, StartRuntime
from duroxide import Client, ConfigurationError, OrchestrationContext, RuntimeOptions, StartRequest
from store.programs import Steps
from support.waiting import wait_until

SHORT = RuntimeOptions(retention=timedelta(milliseconds=1))
LONG = RuntimeOptions(retention=timedelta(days=1))


def echo(ctx: OrchestrationContext, value: Any) -> Any:
    return value


def fail(ctx: OrchestrationContext, _: Any) -> Any:
    raise ValueError("on purpose")


def wait_for_go(ctx: OrchestrationContext, _: Any) -> Steps:
    return (yield ctx.wait_for_event("go"))


def parent(ctx: OrchestrationContext, child: str) -> Steps:
    return (yield ctx.schedule_sub_orchestration_with_id("echo", child, "from the child"))


def endless(ctx: OrchestrationContext, round_: int) -> Steps:
    yield ctx.wait_for_event("go")
    return (yield ctx.continue_as_new(round_ + 1))


PROGRAMS = {"echo": echo, "fail": fail, "wait_for_go": wait_for_go, "parent": parent, "endless": endless}


def test_ended_instances_are_removed_with_their_children_and_running_ones_stay(
    runtime_factory: StartRuntime, client: Client
) -> None:
    before = runtime_factory(orchestrations=PROGRAMS)
    starts = [
        StartRequest("completed", "echo"),
        StartRequest("failed", "fail"),
        StartRequest("parent", "parent", "child"),
        StartRequest("running", "wait_for_go"),
        StartRequest("endless", "endless", 0),
    ]
    client.start_orchestrations(starts)
    for instance in ("completed", "failed", "parent"):
        client.wait_for_orchestration(instance, WAIT_MS)
    before.shutdown(SHUTDOWN_MS)

    runtime_factory(orchestrations=PROGRAMS, options=SHORT)
    wait_until(lambda: sorted(client.list_all_instances()) == ["endless", "running"])
    client.raise_event("running", "go", "still there")
    # Removal follows its end at once, so only the removal shows that it ended.
    wait_until(lambda: client.list_all_instances() == ["endless"])


def test_an_id_that_was_removed_can_be_started_again(runtime_factory: StartRuntime, client: Client) -> None:
    runtime_factory(orchestrations=PROGRAMS, options=SHORT)
    assert client.start_orchestration("again", "echo") is True
    wait_until(lambda: client.start_orchestration("again", "echo"))


def test_ended_instances_stay_for_the_whole_retention(runtime_factory: StartRuntime, client: Client) -> None:
    runtime_factory(orchestrations=PROGRAMS, options=RuntimeOptions(retention=timedelta(seconds=2)))
    began = time.monotonic()
    client.start_orchestration("kept", "echo", "for a while")
    assert client.wait_for_orchestration("kept", WAIT_MS).result() == "for a while"
    wait_until(lambda: client.get_status("kept").status == "NotFound")
    # A little less, for a clock that counts whole milliseconds.
    assert time.monotonic() - began > 1.9


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_more_than_one_batch_is_removed_at_once(
    runtime_factory: StartRuntime, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    before = runtime_factory(orchestrations=PROGRAMS)
    client.start_orchestrations([StartRequest(f"echo-{number}", "echo") for number in range(350)])
    for number in range(350):
        client.wait_for_orchestration(f"echo-{number}", WAIT_MS)
    before.shutdown(SHUTDOWN_MS)

    with caplog.at_level(logging.INFO, logger="duroxide"):
        runtime_factory(orchestrations=PROGRAMS, options=RuntimeOptions(retention=SHORT.retention, log_level="info"))
        wait_until(lambda: client.list_all_instances() == [])
        wait_until(lambda: any("350 instances were removed" in record.getMessage() for record in caplog.records))


def test_a_shutdown_does_not_wait_for_the_next_removal(runtime_factory: StartRuntime) -> None:
    runtime = runtime_factory(orchestrations=PROGRAMS, options=LONG)
    began = time.monotonic()
    runtime.shutdown(60_000)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("retention", [60_000, "1 day", timedelta(0), timedelta(days=-1), timedelta(days=5_000)])
def test_a_retention_that_is_not_a_duration_is_refused(retention: Any) -> None:
    with pytest.raises(ConfigurationError, match="retention"):
        RuntimeOptions(retention=retention)


def test_nothing_is_removed_by_default() -> None:
    assert RuntimeOptions().retention is None
    assert RuntimeOptions().to_native()["retention_ms"] is None
