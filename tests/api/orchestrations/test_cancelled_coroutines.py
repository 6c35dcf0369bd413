"""Cancelling an ``async def`` orchestration: its code gets a ``CancelledError``, cleans up, and ends as cancelled."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Generator
from datetime import timedelta
from typing import Any

import pytest

from conftest import StartRuntime
from duroxide import (
    ActivityContext,
    Client,
    OrchestrationCancelled,
    OrchestrationContext,
    RuntimeOptions,
    SubOrchestrationFailed,
)
from support.waiting import wait_for_event_kind, wait_for_execution, wait_until

pytestmark = [
    pytest.mark.task_groups,
    pytest.mark.parametrize("sticky", [True, False], ids=["awake", "replayed"]),
]


@pytest.fixture
def options(sticky: bool) -> RuntimeOptions:
    return RuntimeOptions(sticky=sticky)


def echo(ctx: ActivityContext, input: Any) -> Any:
    return input


def cancel_where_it_waits(client: Client, orchestration: str, reason: str) -> None:
    """Start an orchestration as the instance ``order``, and cancel it where it waits for an event."""
    client.start_orchestration("order", orchestration)
    wait_for_event_kind(client, "order", "ExternalSubscribed")
    client.cancel_instance("order", reason)


def kinds(client: Client, instance: str) -> list[str]:
    return [event.kind for event in client.read_execution_history(instance, 1)]


async def cleans_up(ctx: OrchestrationContext, _: Any) -> Any:
    try:
        await ctx.wait_for_event("never")
    finally:
        refunded = await ctx.schedule_activity("echo", "refunded")
        ctx.set_custom_status(refunded)


def test_the_code_cleans_up_with_activities_and_then_ends_as_cancelled(
    runtime_factory: StartRuntime, client: Client, options: RuntimeOptions
) -> None:
    runtime_factory({"echo": echo}, {"cleans_up": cleans_up}, options=options)
    cancel_where_it_waits(client, "cleans_up", "no longer needed")

    ended = client.wait_for_orchestration("order")
    with pytest.raises(OrchestrationCancelled) as caught:
        ended.result()
    assert (caught.value.reason, ended.custom_status) == ("no longer needed", "refunded")
    assert kinds(client, "order").count("ActivityCompleted") == 1


def test_the_reason_is_the_message_of_cancelled_error(
    runtime_factory: StartRuntime, client: Client, options: RuntimeOptions
) -> None:
    async def notes_it(ctx: OrchestrationContext, _: Any) -> Any:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError as error:
            ctx.set_custom_status(str(error))
            raise

    runtime_factory({}, {"notes_it": notes_it}, options=options)
    client.start_orchestration("order", "notes_it")
    wait_for_event_kind(client, "order", "TimerCreated")
    client.cancel_instance("order", "out of stock")

    assert client.wait_for_orchestration("order").custom_status == "out of stock"


def test_except_exception_does_not_catch_the_cancellation(
    runtime_factory: StartRuntime, client: Client, options: RuntimeOptions
) -> None:
    async def swallows(ctx: OrchestrationContext, _: Any) -> str:
        while True:
            try:
                await ctx.wait_for_event("never")
            except Exception:
                return "swallowed"

    runtime_factory({}, {"swallows": swallows}, options=options)
    cancel_where_it_waits(client, "swallows", "enough")

    assert client.wait_for_orchestration("order").error == "canceled: enough"


def test_a_return_or_raise_after_the_cancellation_still_ends_as_cancelled(
    runtime_factory: StartRuntime, client: Client, options: RuntimeOptions
) -> None:
    async def returns(ctx: OrchestrationContext, _: Any) -> str:
        try:
            await ctx.wait_for_event("never")
        except asyncio.CancelledError:
            return "rolled back"
        return "done"

    async def raises(ctx: OrchestrationContext, _: Any) -> str:
        try:
            await ctx.wait_for_event("never")
        finally:
            raise ValueError("the clean-up failed")

    runtime_factory({}, {"returns": returns, "raises": raises}, options=options)
    for name in ("returns", "raises"):
        client.start_orchestration(name, name)
        wait_for_event_kind(client, name, "ExternalSubscribed")
        client.cancel_instance(name, "enough")
        ended = client.wait_for_orchestration(name)
        assert (ended.status, ended.output) == ("Failed", None)
        assert isinstance(ended.failure, OrchestrationCancelled)
        assert ended.failure.reason == "enough"


async def fails_to_refund(ctx: OrchestrationContext, _: Any) -> Any:
    try:
        await ctx.wait_for_event("never")
    finally:
        raise ConnectionError("the bank is down")


async def lingers(ctx: OrchestrationContext, _: Any) -> None:
    try:
        await ctx.wait_for_event("never")
    finally:
        await ctx.wait_for_event("never either")


FAILED_CLEAN_UPS = [
    (fails_to_refund, ConnectionError, "ConnectionError: the bank is down"),
    (lingers, TimeoutError, "TimeoutError: it did not end within 50 ms, and was given up"),
]


@pytest.mark.parametrize("clean_up", FAILED_CLEAN_UPS, ids=["raises", "lingers"])
def test_the_status_says_that_a_clean_up_failed(
    runtime_factory: StartRuntime, client: Client, sticky: bool, clean_up: tuple[Any, type[Exception], str]
) -> None:
    orchestration, cause, text = clean_up
    runtime_factory({}, {"order": orchestration}, options=RuntimeOptions(sticky=sticky, cleanup_timeout_ms=50))
    cancel_where_it_waits(client, "order", "enough")

    ended = client.wait_for_orchestration("order")
    assert ended.error == f"canceled: enough; its clean-up failed: {text}"
    assert isinstance(ended.failure, OrchestrationCancelled)
    assert ended.failure.cleanup_failure is not None
    assert ended.failure.cleanup_failure.is_caused_by(cause)
    assert client.get_instance_info("order").output == ended.error


def test_a_parent_learns_that_the_clean_up_of_its_child_failed(
    runtime_factory: StartRuntime, client: Client, options: RuntimeOptions
) -> None:
    async def parent(ctx: OrchestrationContext, _: Any) -> str:
        try:
            await ctx.schedule_sub_orchestration("fails_to_refund", instance_id="child")
        except SubOrchestrationFailed as error:
            return str(error)
        return "no failure"

    runtime_factory({}, {"fails_to_refund": fails_to_refund, "parent": parent}, options=options)
    client.start_orchestration("parent", "parent")
    wait_for_event_kind(client, "child", "ExternalSubscribed")
    client.cancel_instance("child", "enough")

    output = client.wait_for_orchestration("parent").output
    assert output == "canceled: enough; its clean-up failed: ConnectionError: the bank is down"


async def waits_for_the_refund(ctx: OrchestrationContext, _: Any) -> None:
    try:
        await ctx.wait_for_event("never")
    finally:
        ctx.set_custom_status("cleaning")
        await ctx.wait_for_event("refunded")
        ctx.set_custom_status("cleaned")


def test_a_clean_up_without_a_timeout_has_ten_years(
    runtime_factory: StartRuntime, client: Client, sticky: bool
) -> None:
    options = RuntimeOptions(sticky=sticky, cleanup_timeout_ms=None)
    runtime_factory({}, {"order": waits_for_the_refund}, options=options)
    cancel_where_it_waits(client, "order", "enough")
    wait_for_event_kind(client, "order", "TimerCreated")

    timers = [event for event in client.read_execution_history("order") if event.kind == "TimerCreated"]
    assert json.loads(timers[0].data)["fire_at_ms"] - timers[0].timestamp_ms > 3_650 * 86_400_000
    client.raise_event("order", "refunded")
    ended = client.wait_for_orchestration("order")
    assert (ended.error, ended.custom_status) == ("canceled: enough", "cleaned")


@pytest.mark.parametrize(("before", "after"), [(None, 30_000), (30_000, None)], ids=["set", "unset"])
def test_a_clean_up_under_way_keeps_its_limit_when_the_option_changes(
    runtime_factory: StartRuntime, client: Client, sticky: bool, before: int | None, after: int | None
) -> None:
    first = runtime_factory(
        {}, {"order": waits_for_the_refund}, options=RuntimeOptions(sticky=sticky, cleanup_timeout_ms=before)
    )
    cancel_where_it_waits(client, "order", "enough")
    wait_for_event_kind(client, "order", "TimerCreated")
    first.shutdown(timedelta(seconds=5))
    runtime_factory(
        {}, {"order": waits_for_the_refund}, options=RuntimeOptions(sticky=sticky, cleanup_timeout_ms=after)
    )
    client.raise_event("order", "refunded")

    ended = client.wait_for_orchestration("order")
    assert (ended.error, ended.custom_status) == ("canceled: enough", "cleaned")


def test_a_shielded_activity_ends_and_its_result_is_known_to_the_clean_up(
    runtime_factory: StartRuntime, client: Client, options: RuntimeOptions
) -> None:
    asked, answered = threading.Event(), threading.Event()

    def charge(ctx: ActivityContext, _: Any) -> str:
        asked.set()
        answered.wait(30)
        return "interrupted" if ctx.is_cancelled() else "receipt"

    async def sells(ctx: OrchestrationContext, _: Any) -> Any:
        charging = asyncio.ensure_future(ctx.schedule_activity("charge"))
        try:
            return await asyncio.shield(charging)
        except asyncio.CancelledError:
            ctx.set_custom_status("cancelling")
            ctx.set_custom_status(f"refunded {await ctx.schedule_activity('echo', await charging)}")
            raise

    runtime_factory({"charge": charge, "echo": echo}, {"sells": sells}, options=options)
    client.start_orchestration("order", "sells")
    assert asked.wait(30)
    client.cancel_instance("order", "out of stock")
    wait_until(lambda: client.get_status("order").custom_status == "cancelling", "the cancellation")
    answered.set()

    ended = client.wait_for_orchestration("order")
    assert (ended.error, ended.custom_status) == ("canceled: out of stock", "refunded receipt")


def test_uncancel_refuses_the_cancellation(
    runtime_factory: StartRuntime, client: Client, options: RuntimeOptions
) -> None:
    async def refuses(ctx: OrchestrationContext, _: Any) -> str:
        try:
            await ctx.wait_for_event("never")
        except asyncio.CancelledError:
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
        return str(await ctx.schedule_activity("echo", "shipped all the same"))

    runtime_factory({"echo": echo}, {"refuses": refuses}, options=options)
    cancel_where_it_waits(client, "refuses", "too late")

    assert client.wait_for_orchestration("order").output == "shipped all the same"


def test_a_clean_up_that_takes_too_long_is_aborted(
    runtime_factory: StartRuntime, client: Client, sticky: bool, caplog: pytest.LogCaptureFixture
) -> None:
    runtime_factory({}, {"lingers": lingers}, options=RuntimeOptions(sticky=sticky, cleanup_timeout_ms=50))
    cancel_where_it_waits(client, "lingers", "enough")

    assert isinstance(client.wait_for_orchestration("order").failure, OrchestrationCancelled)
    wait_until(lambda: "has not ended within 50 ms" in caplog.text, "the warning")


def test_a_parent_sees_the_cancellation_of_its_child_after_the_clean_up(
    runtime_factory: StartRuntime, client: Client, options: RuntimeOptions
) -> None:
    async def parent(ctx: OrchestrationContext, _: Any) -> str:
        try:
            await ctx.schedule_sub_orchestration("cleans_up", instance_id="child")
        except SubOrchestrationFailed as error:
            return str(error)
        return "no failure"

    runtime_factory({"echo": echo}, {"cleans_up": cleans_up, "parent": parent}, options=options)
    client.start_orchestration("parent", "parent")
    wait_for_event_kind(client, "child", "ExternalSubscribed")
    client.cancel_instance("child", "no longer needed")

    assert client.wait_for_orchestration("parent").output == "canceled: no longer needed"
    assert client.get_status("child").custom_status == "refunded"


def test_a_cancelled_parent_cancels_its_child_which_cleans_up_too(
    runtime_factory: StartRuntime, client: Client, options: RuntimeOptions
) -> None:
    async def parent(ctx: OrchestrationContext, _: Any) -> Any:
        return await ctx.schedule_sub_orchestration("cleans_up", instance_id="child")

    runtime_factory({"echo": echo}, {"cleans_up": cleans_up, "parent": parent}, options=options)
    client.start_orchestration("parent", "parent")
    wait_for_event_kind(client, "child", "ExternalSubscribed")
    client.cancel_instance("parent", "everything")

    assert client.wait_for_orchestration("parent").error == "canceled: everything"
    child = client.wait_for_orchestration("child")
    assert (child.status, child.custom_status) == ("Failed", "refunded")


def test_an_orchestration_that_has_not_begun_is_ended_without_running(
    runtime_factory: StartRuntime, client: Client, options: RuntimeOptions
) -> None:
    client.start_orchestration("early", "cleans_up")
    client.cancel_instance("early", "too early")
    runtime_factory({"echo": echo}, {"cleans_up": cleans_up}, options=options)

    ended = client.wait_for_orchestration("early")
    assert (ended.error, ended.custom_status) == ("canceled: too early", None)


def test_the_cancellation_reaches_the_next_execution_after_continue_as_new(
    runtime_factory: StartRuntime, client: Client, options: RuntimeOptions
) -> None:
    async def rounds(ctx: OrchestrationContext, number: int) -> Any:
        try:
            await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            ctx.set_custom_status("cancelled")
            raise
        return await ctx.continue_as_new(number + 1)

    runtime_factory({}, {"rounds": rounds}, options=options)
    client.start_orchestration("rounds", "rounds", 1)
    wait_for_execution(client, "rounds", 3)
    client.cancel_instance("rounds", "enough")

    ended = client.wait_for_orchestration("rounds")
    assert (ended.error, ended.custom_status) == ("canceled: enough", "cancelled")


def test_a_cancelled_orchestration_does_not_continue_as_new(
    runtime_factory: StartRuntime, client: Client, options: RuntimeOptions
) -> None:
    async def tries(ctx: OrchestrationContext, _: Any) -> Any:
        try:
            await ctx.wait_for_event("never")
        finally:
            await ctx.continue_as_new(None)

    runtime_factory({}, {"tries": tries}, options=options)
    cancel_where_it_waits(client, "tries", "enough")

    assert client.wait_for_orchestration("order").error == "canceled: enough"
    assert client.get_instance_info("order").current_execution_id == 1


def test_a_second_request_changes_nothing(
    runtime_factory: StartRuntime, client: Client, options: RuntimeOptions
) -> None:
    async def asks(ctx: OrchestrationContext, _: Any) -> Any:
        try:
            await ctx.wait_for_event("never")
        finally:
            ctx.set_custom_status("cleaning")
            await ctx.wait_for_event("cleaned")

    runtime_factory({}, {"asks": asks}, options=options)
    cancel_where_it_waits(client, "asks", "first")
    wait_until(lambda: client.get_status("order").custom_status == "cleaning", "the clean-up")
    client.cancel_instance("order", "second")
    wait_for_event_kind(client, "order", "QueueEventDelivered", count=2)
    client.raise_event("order", "cleaned")

    assert client.wait_for_orchestration("order").error == "canceled: first"


def test_a_coroutine_on_the_history_of_a_generator_is_cancelled_without_clean_up(
    runtime_factory: StartRuntime, client: Client, options: RuntimeOptions
) -> None:
    def generator(ctx: OrchestrationContext, _: Any) -> Generator[Any, Any, Any]:
        yield ctx.schedule_activity("echo", 1)
        return (yield ctx.wait_for_event("go"))

    async def coroutine(ctx: OrchestrationContext, _: Any) -> Any:
        await ctx.schedule_activity("echo", 1)
        return await ctx.wait_for_event("go")

    first = runtime_factory({"echo": echo}, {"rewritten": generator}, options=options)
    for name in ("continuing", "cancelled"):
        client.start_orchestration(name, "rewritten")
        wait_for_event_kind(client, name, "ExternalSubscribed")
    first.shutdown()
    runtime_factory({"echo": echo}, {"rewritten": coroutine}, options=options)
    client.raise_event("continuing", "go", 7)
    client.cancel_instance("cancelled", "enough")

    assert client.wait_for_orchestration("continuing").output == 7
    assert client.wait_for_orchestration("cancelled").error == "canceled: enough"
    assert "OrchestrationCancelRequested" in kinds(client, "cancelled")


def test_a_clean_up_continues_in_the_next_process(
    runtime_factory: StartRuntime, client: Client, options: RuntimeOptions
) -> None:
    async def asks(ctx: OrchestrationContext, _: Any) -> Any:
        try:
            await ctx.wait_for_event("never")
        finally:
            ctx.set_custom_status("cleaning")
            await ctx.wait_for_event("cleaned")
            ctx.set_custom_status("cleaned")

    first = runtime_factory({}, {"asks": asks}, options=options)
    cancel_where_it_waits(client, "asks", "enough")
    wait_until(lambda: client.get_status("order").custom_status == "cleaning", "the clean-up")
    first.shutdown(timedelta(seconds=5))
    runtime_factory({}, {"asks": asks}, options=options)
    client.raise_event("order", "cleaned")

    ended = client.wait_for_orchestration("order")
    assert (ended.error, ended.custom_status) == ("canceled: enough", "cleaned")


def test_an_orchestration_cannot_use_the_reserved_queue(
    runtime_factory: StartRuntime, client: Client, options: RuntimeOptions
) -> None:
    async def reads(ctx: OrchestrationContext, _: Any) -> Any:
        return await ctx.dequeue_event("__duroxide_cancellation")

    runtime_factory({}, {"reads": reads}, options=options)
    client.start_orchestration("order", "reads")

    assert "choose another name" in str(client.wait_for_orchestration("order").error)


def test_a_client_cannot_use_the_reserved_queue(client: Client, options: RuntimeOptions) -> None:
    for enqueue in (client.enqueue_event, client.enqueue_event_typed):
        with pytest.raises(ValueError, match="call cancel_instance"):
            enqueue("order", "__duroxide_cancellation", "a reason")


def test_after_a_refused_cancellation_the_code_runs_unbounded_until_the_next_one(
    runtime_factory: StartRuntime, client: Client, sticky: bool
) -> None:
    async def refuses_once(ctx: OrchestrationContext, _: Any) -> Any:
        try:
            await ctx.wait_for_event("never")
        except asyncio.CancelledError:
            task: Any = asyncio.current_task()
            task.uncancel()
        ctx.set_custom_status("refused")
        await asyncio.sleep(0.1)
        ctx.set_custom_status("continued")
        await ctx.wait_for_event("never")

    options = RuntimeOptions(sticky=sticky, cleanup_timeout_ms=20)
    runtime_factory({}, {"refuses_once": refuses_once}, options=options)
    cancel_where_it_waits(client, "refuses_once", "first")
    wait_until(lambda: client.get_status("order").custom_status == "continued", "the code to continue")
    client.cancel_instance("order", "second")

    assert client.wait_for_orchestration("order").error == "canceled: second"


def test_a_clean_up_that_swallows_every_cancellation_is_aborted(
    runtime_factory: StartRuntime, client: Client, sticky: bool
) -> None:
    async def swallows(ctx: OrchestrationContext, _: Any) -> Any:
        while True:
            try:
                await ctx.wait_for_event("never")
            except BaseException:
                continue

    runtime_factory({}, {"swallows": swallows}, options=RuntimeOptions(sticky=sticky, cleanup_timeout_ms=20))
    cancel_where_it_waits(client, "swallows", "enough")

    assert isinstance(client.wait_for_orchestration("order").failure, OrchestrationCancelled)


def test_a_coroutine_that_continues_as_new_without_waiting_is_ended(
    runtime_factory: StartRuntime, client: Client, options: RuntimeOptions
) -> None:
    async def hurries(ctx: OrchestrationContext, number: int) -> Any:
        return await ctx.continue_as_new(number + 1)

    runtime_factory({}, {"hurries": hurries}, options=options)
    client.start_orchestration("hurries", "hurries", 1)
    wait_for_execution(client, "hurries", 3)
    client.cancel_instance("hurries", "enough")

    assert client.wait_for_orchestration("hurries").error == "canceled: enough"


def test_a_cancellation_during_continue_as_new_is_delivered_once(
    runtime_factory: StartRuntime, client: Client, options: RuntimeOptions
) -> None:
    async def count_cancellations(ctx: OrchestrationContext, cancellations: int) -> Any:
        try:
            await ctx.wait_for_event("go")
        except asyncio.CancelledError:
            task: Any = asyncio.current_task()
            task.uncancel()
            cancellations += 1
            return await ctx.continue_as_new(cancellations)
        if cancellations:
            return cancellations
        return await ctx.continue_as_new(cancellations)

    client.start_orchestration("continuing", "count_cancellations", 0)
    first = runtime_factory({}, {"count_cancellations": count_cancellations}, options=options)
    wait_for_event_kind(client, "continuing", "ExternalSubscribed")
    first.shutdown()
    client.raise_event("continuing", "go")
    client.cancel_instance("continuing", "once")
    runtime_factory({}, {"count_cancellations": count_cancellations}, options=options)
    wait_for_execution(client, "continuing", 2)
    wait_until(
        lambda: client.get_instance_info("continuing").current_execution_id >= 3, "the execution after the cancellation"
    )
    wait_for_event_kind(client, "continuing", "ExternalSubscribed")
    client.raise_event("continuing", "go")

    assert client.wait_for_orchestration("continuing").output == 1
