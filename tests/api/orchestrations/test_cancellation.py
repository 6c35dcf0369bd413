"""Cancellation: of an orchestration, its children and its activities."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Generator
from typing import Any

import pytest

from conftest import OpenProvider, StartRuntime
from duroxide import ActivityContext, Client, OrchestrationCancelled, OrchestrationContext
from support.waiting import wait_for_event_kind, wait_until

Steps = Generator[Any, Any, Any]


def forever(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.wait_for_event("never")


def test_cancelled_orchestration_raises_with_its_reason(runtime_factory: StartRuntime, client: Client) -> None:
    runtime_factory(orchestrations={"forever": forever})
    client.start_orchestration("cancelled", "forever")
    wait_for_event_kind(client, "cancelled", "ExternalSubscribed")

    client.cancel_instance("cancelled", "no longer needed")

    with pytest.raises(OrchestrationCancelled) as caught:
        client.wait_for_orchestration("cancelled").result()
    assert (caught.value.reason, caught.value.instance_id) == ("no longer needed", "cancelled")


def test_cancellation_without_a_reason_has_an_empty_one(runtime_factory: StartRuntime, client: Client) -> None:
    runtime_factory(orchestrations={"forever": forever})
    client.start_orchestration("cancelled", "forever")

    client.cancel_instance("cancelled")

    with pytest.raises(OrchestrationCancelled) as caught:
        client.wait_for_orchestration("cancelled").result()
    assert caught.value.reason == ""


def test_orchestration_can_be_cancelled_before_it_begins(client: Client, runtime_factory: StartRuntime) -> None:
    began: list[str] = []

    def note(ctx: ActivityContext, input: Any) -> None:
        began.append("activity")

    def noting(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.schedule_activity("note")

    client.start_orchestration("early", "noting")
    client.cancel_instance("early", "too early")
    runtime_factory({"note": note}, {"noting": noting})

    assert client.wait_for_orchestration("early").error == "canceled: too early"
    assert began == []


def test_cancellation_reaches_children_and_their_children(runtime_factory: StartRuntime, client: Client) -> None:
    def nest(ctx: OrchestrationContext, input: int) -> Steps:
        if input == 0:
            yield ctx.wait_for_event("never")
        yield ctx.schedule_sub_orchestration("nest", input - 1, instance_id=f"nest-{input - 1}")

    runtime_factory(orchestrations={"nest": nest})
    client.start_orchestration("nest-2", "nest", 2)
    wait_for_event_kind(client, "nest-0", "ExternalSubscribed")

    client.cancel_instance("nest-2", "from the top")

    for number in (2, 1, 0):
        with pytest.raises(OrchestrationCancelled):
            client.wait_for_orchestration(f"nest-{number}").result()


def test_cancellation_reaches_all_children_of_a_fan_out(runtime_factory: StartRuntime, client: Client) -> None:
    def fan(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.gather([ctx.schedule_sub_orchestration("forever", instance_id=f"leaf-{n}") for n in range(3)])

    runtime_factory(orchestrations={"fan": fan, "forever": forever})
    client.start_orchestration("fan", "fan")
    for number in range(3):
        wait_for_event_kind(client, f"leaf-{number}", "ExternalSubscribed")

    client.cancel_instance("fan")

    assert [client.wait_for_orchestration(f"leaf-{number}").status for number in range(3)] == ["Failed"] * 3


def test_detached_orchestration_is_not_cancelled_with_its_starter(
    runtime_factory: StartRuntime, client: Client
) -> None:
    def detach(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.start_orchestration("waiter", "detached")
        yield ctx.wait_for_event("never")

    def waiter(ctx: OrchestrationContext, input: Any) -> Steps:
        return (yield ctx.wait_for_event("go"))

    runtime_factory(orchestrations={"detach": detach, "waiter": waiter})
    client.start_orchestration("starter", "detach")
    wait_for_event_kind(client, "detached", "ExternalSubscribed")
    client.cancel_instance("starter")
    client.wait_for_orchestration("starter")

    client.raise_event("detached", "go", "still here")

    assert client.wait_for_orchestration("detached").result() == "still here"


def test_running_activity_of_a_cancelled_orchestration_sees_the_cancellation(
    runtime_factory: StartRuntime, client: Client
) -> None:
    running, informed = threading.Event(), threading.Event()
    over = threading.Event()

    def work(ctx: ActivityContext, input: Any) -> None:
        running.set()
        while not ctx.is_cancelled():
            if over.wait(0.01):
                return
        informed.set()

    def wait(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.schedule_activity("work")

    runtime_factory({"work": work}, {"wait": wait})
    client.start_orchestration("working", "wait")
    assert running.wait(20)

    client.cancel_instance("working")
    was_informed = informed.wait(10)
    over.set()

    # Half of the lock's timeout is 15 s; within one process the cancellation arrives at once.
    assert was_informed


def test_async_activity_of_a_cancelled_orchestration_is_cancelled(
    runtime_factory: StartRuntime, client: Client
) -> None:
    running, informed, over = threading.Event(), threading.Event(), threading.Event()

    async def work(ctx: ActivityContext, input: Any) -> None:
        running.set()
        try:
            # Only the cancellation, or the end of the test, wakes it.
            await asyncio.to_thread(over.wait, 20)
        finally:
            informed.set()

    def wait(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.schedule_activity("work")

    runtime_factory({"work": work}, {"wait": wait})
    client.start_orchestration("working", "wait")
    assert running.wait(20)

    client.cancel_instance("working")
    was_informed = informed.wait(10)
    over.set()

    assert was_informed


def test_cancelled_orchestration_runs_no_further_step(runtime_factory: StartRuntime, client: Client) -> None:
    went_on: list[str] = []

    def note(ctx: ActivityContext, input: str) -> None:
        went_on.append(input)

    def stubborn(ctx: OrchestrationContext, input: Any) -> Steps:
        with contextlib.suppress(Exception):
            yield ctx.wait_for_event("never")
        yield ctx.schedule_activity("note", "after the wait")

    runtime_factory({"note": note}, {"stubborn": stubborn, "forever": forever})
    client.start_orchestration("stubborn", "stubborn")
    wait_for_event_kind(client, "stubborn", "ExternalSubscribed")
    client.cancel_instance("stubborn")

    assert client.wait_for_orchestration("stubborn").status == "Failed"
    # The next work on the same runtime would run after the activity, too.
    client.start_orchestration("next", "forever")
    wait_for_event_kind(client, "next", "ExternalSubscribed")
    assert went_on == []


def test_second_cancellation_changes_nothing(runtime_factory: StartRuntime, client: Client) -> None:
    runtime_factory(orchestrations={"forever": forever})
    client.start_orchestration("cancelled", "forever")
    wait_for_event_kind(client, "cancelled", "ExternalSubscribed")
    client.cancel_instance("cancelled", "first")
    client.wait_for_orchestration("cancelled")

    client.cancel_instance("cancelled", "second")

    assert client.get_status("cancelled").error == "canceled: first"


def test_cancellation_while_a_timer_runs_does_not_wait_for_it(runtime_factory: StartRuntime, client: Client) -> None:
    def sleep(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.schedule_timer(3_600_000)

    runtime_factory(orchestrations={"sleep": sleep})
    client.start_orchestration("sleeping", "sleep")
    wait_for_event_kind(client, "sleeping", "TimerCreated")

    client.cancel_instance("sleeping")

    assert client.wait_for_orchestration("sleeping").status == "Failed"


def test_cancellation_between_executions_ends_the_newest(runtime_factory: StartRuntime, client: Client) -> None:
    def loop(ctx: OrchestrationContext, input: int) -> Steps:
        yield ctx.schedule_timer(1)
        yield ctx.continue_as_new(input + 1)

    runtime_factory(orchestrations={"loop": loop})
    client.start_orchestration("looping", "loop", 0)
    wait_until(
        lambda: client.get_status("looping").status == "Running" and client.list_executions("looping")[-1] > 3,
        "some executions",
    )

    client.cancel_instance("looping", "enough")

    assert client.wait_for_orchestration("looping").error == "canceled: enough"


@pytest.mark.parametrize("store", ["postgres"])
def test_cancellation_through_a_second_provider_arrives(
    runtime_factory: StartRuntime, client: Client, open_store: OpenProvider
) -> None:
    runtime_factory(orchestrations={"forever": forever})
    client.start_orchestration("remote", "forever")
    wait_for_event_kind(client, "remote", "ExternalSubscribed")

    with open_store() as other:
        Client(other).cancel_instance("remote", "from elsewhere")

        assert client.wait_for_orchestration("remote").error == "canceled: from elsewhere"


def test_a_cancelled_activity_is_logged_as_cancelled_without_a_traceback(
    runtime_factory: StartRuntime, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    running = threading.Event()

    async def work(ctx: ActivityContext, input: Any) -> None:
        running.set()
        await asyncio.Event().wait()

    def wait(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.schedule_activity("work")

    def logged() -> list[tuple[str, str, Any]]:
        records = [record for record in caplog.records if record.name == "duroxide.activity"]
        return [(record.levelname, record.getMessage(), record.exc_info) for record in records]

    with caplog.at_level(logging.INFO, logger="duroxide.activity"):
        runtime_factory({"work": work}, {"wait": wait})
        client.start_orchestration("working", "wait")
        assert running.wait(20)
        client.cancel_instance("working")
        wait_until(logged, "the end of the activity")

    assert logged() == [("INFO", "activity 'work' of instance 'working' was cancelled", None)]
