"""Custom status: what an orchestration reports while it runs, and how clients wait for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from typing import Any

import pytest

from conftest import Run, StartRuntime
from duroxide import (
    ActivityContext,
    Client,
    LimitExceeded,
    OrchestrationContext,
    OrchestrationFailed,
    RuntimeOptions,
)
from support.waiting import wait_for_event_kind

Steps = Generator[Any, Any, Any]


def report_and_wait(ctx: OrchestrationContext, input: Any) -> Steps:
    ctx.set_custom_status("waiting")
    yield ctx.wait_for_event("go")
    ctx.set_custom_status("gone")
    return "done"


def test_wait_for_status_change_gives_the_first_status(runtime_factory: StartRuntime, client: Client) -> None:
    runtime_factory(orchestrations={"report": report_and_wait})
    client.start_orchestration("first", "report")

    status = client.wait_for_status_change("first", 0, 50, 20_000)

    assert status is not None
    assert (status.custom_status, status.custom_status_version, status.status) == ("waiting", 1, "Running")


def test_wait_for_status_change_gives_the_next_status(runtime_factory: StartRuntime, client: Client) -> None:
    runtime_factory(orchestrations={"report": report_and_wait})
    client.start_orchestration("next", "report")
    first = client.wait_for_status_change("next", 0, 50, 20_000)
    wait_for_event_kind(client, "next", "ExternalSubscribed")
    client.raise_event("next", "go")

    assert first is not None
    status = client.wait_for_status_change("next", first.custom_status_version, 50, 20_000)

    assert status is not None
    assert (status.custom_status, status.custom_status_version) == ("gone", 2)


def test_wait_for_status_change_gives_none_at_its_timeout(runtime_factory: StartRuntime, client: Client) -> None:
    runtime_factory(orchestrations={"report": report_and_wait})
    client.start_orchestration("quiet", "report")
    client.wait_for_status_change("quiet", 0, 50, 20_000)

    assert client.wait_for_status_change("quiet", 1, 20, 100) is None


def test_wait_for_status_change_gives_none_at_once_after_the_end(runtime_factory: StartRuntime, client: Client) -> None:
    runtime_factory(orchestrations={"silent": lambda ctx, input: input})
    client.start_orchestration("silent", "silent")
    client.wait_for_orchestration("silent")
    begin = time.monotonic()

    assert client.wait_for_status_change("silent", 0, 50, 60_000) is None
    assert time.monotonic() - begin < 30


def test_wait_for_status_change_ends_when_the_orchestration_ends(runtime_factory: StartRuntime, client: Client) -> None:
    def silent(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.wait_for_event("go")

    runtime_factory(orchestrations={"silent": silent})
    client.start_orchestration("ending", "silent")
    wait_for_event_kind(client, "ending", "ExternalSubscribed")
    seen: list[Any] = []
    waiter = threading.Thread(target=lambda: seen.append(client.wait_for_status_change("ending", 0, 50, 60_000)))
    waiter.start()

    client.raise_event("ending", "go")
    waiter.join(30)

    assert seen == [None]


def test_last_status_of_a_turn_is_the_visible_one(run: Run, client: Client) -> None:
    def busy(ctx: OrchestrationContext, input: Any) -> Steps:
        ctx.set_custom_status("one")
        ctx.set_custom_status("two")
        yield ctx.schedule_timer(0)

    run(busy, instance="busy")

    assert client.get_status("busy").custom_status == "two"


def test_reset_status_is_none(run: Run, client: Client) -> None:
    def shy(ctx: OrchestrationContext, input: Any) -> Steps:
        ctx.set_custom_status("here")
        yield ctx.schedule_timer(0)
        ctx.reset_custom_status()

    run(shy, instance="shy")

    status = client.get_status("shy")
    assert (status.custom_status, status.custom_status_version) == (None, 2)


def test_orchestration_reads_its_own_status(run: Run) -> None:
    def reflect(ctx: OrchestrationContext, input: Any) -> Steps:
        before = ctx.get_custom_status()
        ctx.set_custom_status("set")
        yield ctx.schedule_timer(0)
        after = ctx.get_custom_status()
        ctx.reset_custom_status()
        return [before, after, ctx.get_custom_status()]

    assert run(reflect) == [None, "set", None]


def test_status_stays_across_continue_as_new(run: Run, client: Client) -> None:
    def again(ctx: OrchestrationContext, input: int) -> Steps:
        if input == 0:
            ctx.set_custom_status("set by the first execution")
            yield ctx.continue_as_new(1)
        yield ctx.schedule_timer(0)
        return ctx.get_custom_status()

    assert run(again, 0, instance="again") == "set by the first execution"
    assert client.get_status("again").custom_status == "set by the first execution"


@pytest.mark.parametrize("sticky", [True, False], ids=["awake", "replayed"])
def test_status_set_after_continue_as_new_replaces_the_inherited_one(run: Run, sticky: bool) -> None:
    def again(ctx: OrchestrationContext, input: int) -> Steps:
        if input == 0:
            ctx.set_custom_status("first")
            yield ctx.continue_as_new(1)
        ctx.set_custom_status("second")
        yield ctx.schedule_timer(0)
        return ctx.get_custom_status()

    assert run(again, 0, options=RuntimeOptions(sticky=sticky)) == "second"


def test_status_version_keeps_counting_across_continue_as_new(run: Run, client: Client) -> None:
    def count(ctx: OrchestrationContext, input: int) -> Steps:
        ctx.set_custom_status(f"execution {input}")
        yield ctx.schedule_timer(0)
        if input < 3:
            yield ctx.continue_as_new(input + 1)

    run(count, 1, instance="count")

    status = client.get_status("count")
    assert (status.custom_status, status.custom_status_version) == ("execution 3", 3)


def test_status_survives_the_end(run: Run, client: Client) -> None:
    def leave(ctx: OrchestrationContext, input: Any) -> str:
        ctx.set_custom_status("last words")
        return "done"

    run(leave, instance="leave")

    assert client.get_status("leave").custom_status == "last words"


def test_status_is_recorded_once_however_often_it_is_replayed(run: Run, client: Client) -> None:
    def steps(ctx: OrchestrationContext, input: Any) -> Steps:
        ctx.set_custom_status("begun")
        for _ in range(3):
            yield ctx.schedule_activity("step")

    def step(ctx: ActivityContext, input: Any) -> None:
        return None

    run(steps, instance="steps", activities={"step": step})

    kinds = [event.kind for event in client.read_execution_history("steps")]
    assert kinds.count("CustomStatusUpdated") == 1


def test_status_keeps_any_text(run: Run, client: Client) -> None:
    text = 'über "quotes" \n 🎉 {"json": [1]}'

    def set_texts(ctx: OrchestrationContext, input: Any) -> None:
        ctx.set_custom_status(text)

    run(set_texts, instance="set_texts")

    assert client.get_status("set_texts").custom_status == text


@pytest.mark.parametrize("store", ["memory"])
def test_status_that_is_too_long_is_refused_at_the_call(run: Run) -> None:
    def shout(ctx: OrchestrationContext, input: Any) -> str:
        try:
            ctx.set_custom_status("x" * 300_000)
        except LimitExceeded:
            return "refused"
        return "taken"

    assert run(shout) == "refused"


@pytest.mark.parametrize("store", ["memory"])
def test_status_that_is_not_text_is_refused(run: Run) -> None:
    def number(ctx: OrchestrationContext, input: Any) -> None:
        ctx.set_custom_status(7)  # type: ignore[arg-type]

    with pytest.raises(OrchestrationFailed) as caught:
        run(number)

    assert caught.value.error_type == "TypeError"
