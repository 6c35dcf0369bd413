"""The context belongs to its turn and to its thread, and code in an orchestration must not block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from typing import Any

import pytest

from duroxide import (
    Client,
    DuroxideError,
    NotAllowedInOrchestration,
    OrchestrationContext,
    PostgresProvider,
    Runtime,
    SqliteProvider,
    TurnClosed,
)
from support.waiting import wait_until
from validation.conftest import Play

Steps = Generator[Any, Any, Any]
Provider = SqliteProvider | PostgresProvider

in_memory = pytest.mark.parametrize("store", ["memory"])


@in_memory
def test_a_context_that_was_kept_is_refused_after_its_turn(play: Play) -> None:
    kept: list[OrchestrationContext] = []

    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        kept.append(ctx)
        return (yield ctx.schedule_activity("echo", 1))

    assert play(orchestration).result() == 1
    for ctx in kept:
        with pytest.raises(TurnClosed) as refused:
            ctx.schedule_activity("echo", 2)
        assert "after its turn" in str(refused.value)
        assert "do not keep it" in str(refused.value)


@in_memory
@pytest.mark.parametrize(
    "use",
    [
        lambda ctx: ctx.now(),
        lambda ctx: ctx.uuid(),
        lambda ctx: ctx.random(),
        lambda ctx: ctx.set_custom_status("late"),
        lambda ctx: ctx.get_custom_status(),
        lambda ctx: ctx.set_kv_value("late", "late"),
        lambda ctx: ctx.get_kv_value("late"),
        lambda ctx: ctx.get_kv_all_values(),
        lambda ctx: ctx.clear_all_kv_values(),
        lambda ctx: ctx.trace_info("late"),
        lambda ctx: ctx.is_replaying(),
        lambda ctx: ctx.all([]),
        lambda ctx: ctx.schedule_timer(1),
        lambda ctx: ctx.wait_for_event("late"),
        lambda ctx: ctx.continue_as_new(1),
    ],
)
def test_no_method_of_a_context_works_after_its_turn(use: Any, play: Play) -> None:
    kept: list[OrchestrationContext] = []

    def orchestration(ctx: OrchestrationContext, _: Any) -> Any:
        kept.append(ctx)

    play(orchestration).result()
    with pytest.raises(TurnClosed):
        use(kept[0])


@in_memory
def test_a_context_is_refused_on_another_thread(play: Play) -> None:
    errors: list[BaseException] = []

    def elsewhere(ctx: OrchestrationContext) -> None:
        try:
            ctx.schedule_activity("echo", 1)
        except BaseException as error:
            errors.append(error)

    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        thread = threading.Thread(target=elsewhere, args=(ctx,))
        thread.start()
        thread.join()
        return (yield ctx.schedule_activity("echo", "continues"))

    assert play(orchestration, strict=False).result() == "continues"
    assert errors
    for error in errors:
        assert isinstance(error, NotAllowedInOrchestration)
        assert "another thread" in str(error)
        assert "activity" in str(error)


@in_memory
def test_the_context_of_a_suspended_orchestration_is_refused_in_another_one(runtime: Runtime, client: Client) -> None:
    kept: list[OrchestrationContext] = []

    def waiting(ctx: OrchestrationContext, _: Any) -> Steps:
        kept.append(ctx)
        return (yield ctx.wait_for_event("go"))

    def user(ctx: OrchestrationContext, _: Any) -> Steps:
        try:
            yield kept[0].schedule_activity("echo", 1)
        except (TurnClosed, DuroxideError) as error:
            return str(error)
        return "not refused"

    runtime.register_activity("echo", lambda ctx, input: input)
    runtime.register_orchestration("waiting", waiting)
    runtime.register_orchestration("user", user)
    with runtime:
        client.start_orchestration("waiting", "waiting")
        wait_for_subscription(client, "waiting")
        client.start_orchestration("user", "user")
        assert "'waiting'" in client.wait_for_orchestration("user").result()
        client.raise_event("waiting", "go", "went")
        assert client.wait_for_orchestration("waiting").result() == "went"


def wait_for_subscription(client: Client, instance: str) -> None:
    """Wait until an instance waits for an event."""

    def subscribed() -> bool:
        if client.get_status(instance).status == "NotFound":
            return False
        return any("Subscribed" in event.kind for event in client.read_execution_history(instance))

    wait_until(subscribed)


CLIENT_CALLS: dict[str, Any] = {
    "start_orchestration": lambda client: client.start_orchestration("x", "healthy"),
    "wait_for_orchestration": lambda client: client.wait_for_orchestration("x", 100),
    "get_status": lambda client: client.get_status("x"),
    "raise_event": lambda client: client.raise_event("x", "go"),
    "enqueue_event": lambda client: client.enqueue_event("x", "inbox", "message"),
    "cancel_instance": lambda client: client.cancel_instance("x"),
    "wait_for_status_change": lambda client: client.wait_for_status_change("x", 0, 10, 100),
    "wait_for_kv_value": lambda client: client.wait_for_kv_value("x", "key", 100),
    "list_all_instances": lambda client: client.list_all_instances(),
    "delete_instance": lambda client: client.delete_instance("x"),
    "read_execution_history": lambda client: client.read_execution_history("x"),
}


@pytest.mark.parametrize("call", CLIENT_CALLS)
@in_memory
def test_a_call_of_the_client_inside_an_orchestration_is_refused(call: str, provider: Provider, play: Play) -> None:
    client = Client(provider)

    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        try:
            CLIENT_CALLS[call](client)
        except NotAllowedInOrchestration as error:
            return [str(error), (yield ctx.schedule_activity("echo", "continues"))]
        return "not refused"

    message, value = play(orchestration).result()
    assert "inside an orchestration" in message
    assert "activity" in message
    assert value == "continues"


@in_memory
def test_opening_a_store_inside_an_orchestration_is_refused(play: Play) -> None:
    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        try:
            SqliteProvider.in_memory()
        except NotAllowedInOrchestration as error:
            return [str(error), (yield ctx.schedule_activity("echo", "continues"))]
        return "not refused"

    message, value = play(orchestration).result()
    assert "inside an orchestration" in message
    assert value == "continues"


def test_a_call_of_the_client_inside_an_activity_is_allowed(provider: Provider, play: Play) -> None:
    def activity(ctx: Any, _: Any) -> str:
        client = ctx.get_client()
        client.start_orchestration("from-activity", "healthy", "started")
        output: str = client.wait_for_orchestration("from-activity", 20_000).result()
        return output

    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        return (yield ctx.schedule_activity("start", None))

    assert play(orchestration, activities={"start": activity}).result() == "started"


@in_memory
def test_a_call_of_the_client_inside_an_async_activity_is_allowed(play: Play) -> None:
    async def activity(ctx: Any, _: Any) -> str:
        client = ctx.get_client()
        client.start_orchestration("from-activity", "healthy", "started")
        output: str = client.wait_for_orchestration("from-activity", 20_000).result()
        return output

    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        return (yield ctx.schedule_activity("start", None))

    assert play(orchestration, activities={"start": activity}).result() == "started"


@in_memory
def test_a_blocking_call_of_the_client_on_a_running_loop_blocks_and_answers(provider: Provider) -> None:
    runtime = Runtime(provider)
    runtime.register_orchestration("hello", lambda ctx, name: f"Hello, {name}!")
    client = Client(provider)

    async def main() -> Any:
        with runtime:
            client.start_orchestration("hello-1", "hello", "World")
            return client.wait_for_orchestration("hello-1", 20_000).result()

    assert asyncio.run(main()) == "Hello, World!"
