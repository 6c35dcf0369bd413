"""What the engine alone would lose, stall on or make uncatchable, and what becomes of it here."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Generator
from typing import Any

import pytest

from conftest import OpenProvider, StartRuntime
from deadline import wait_until
from duroxide import (
    MAX_KV_VALUE_BYTES,
    Client,
    InstanceAlreadyExists,
    InstanceStillRunning,
    OrchestrationContext,
    PostgresProvider,
    Runtime,
    RuntimeOptions,
    SqliteProvider,
    SubOrchestrationFailed,
    WaitTimedOut,
)

Steps = Generator[Any, Any, Any]
Provider = SqliteProvider | PostgresProvider

WAIT_MS = 30_000
SHORT_MS = 1_500
QUICK = RuntimeOptions(dispatcher_poll_interval_ms=20)


def echo(ctx: Any, input: Any) -> Any:
    return input


def healthy(ctx: OrchestrationContext, input: Any) -> Steps:
    return (yield ctx.schedule_activity("echo", input))


def kinds(client: Client, instance: str) -> list[str]:
    """The kinds of the recorded events of an instance; none while it does not exist."""
    if client.get_status(instance).status == "NotFound":
        return []
    return [event.kind for event in client.read_execution_history(instance)]


def wait_for_kind(client: Client, instance: str, kind: str) -> None:
    wait_until(lambda: kind in kinds(client, instance))


# Children that fail inside the engine.

LIMITS: dict[str, Callable[[Any], Any]] = {
    "status": lambda ctx: ctx.set_custom_status("x" * 300_000),
    "value": lambda ctx: ctx.set_kv_value("key", "x" * (MAX_KV_VALUE_BYTES + 1)),
    "keys": lambda ctx: [ctx.set_kv_value(f"key-{number}", "value") for number in range(200)],
    "tag": lambda ctx: ctx.schedule_activity("echo", 1, tag="x" * 300),
    "id": lambda ctx: ctx.start_orchestration("healthy", "sub::1"),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_a_child_that_breaks_a_limit_fails_and_its_parent_can_catch_it(
    limit: str, runtime_factory: StartRuntime, client: Client
) -> None:
    def child(ctx: OrchestrationContext, _: Any) -> Steps:
        LIMITS[limit](ctx)
        yield ctx.schedule_activity("echo", 1)

    def parent(ctx: OrchestrationContext, _: Any) -> Steps:
        try:
            yield ctx.schedule_sub_orchestration("child")
        except SubOrchestrationFailed as error:
            return [error.is_caused_by(ValueError), (yield ctx.schedule_activity("echo", "goes on"))]
        return "not failed"

    runtime_factory({"echo": echo}, {"child": child, "parent": parent, "healthy": healthy}, QUICK)
    client.start_orchestration("parent", "parent")
    assert client.wait_for_orchestration("parent", WAIT_MS).result() == [True, "goes on"]


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


# Poison.


def test_an_activity_that_is_given_up_reaches_its_orchestration_as_a_failure(
    runtime_factory: StartRuntime, client: Client
) -> None:
    started, over = threading.Event(), threading.Event()

    def block(ctx: Any, _: Any) -> str:
        started.set()
        over.wait(60)
        return "late"

    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        try:
            yield ctx.schedule_activity("block")
        except Exception as error:
            return [error.error_type, (yield ctx.schedule_activity("echo", "goes on"))]  # type: ignore[attr-defined]
        return "not given up"

    # One delivery is all that it gets, and a shutdown takes that one back.
    options = RuntimeOptions(
        max_attempts=1,
        worker_lock_timeout_ms=1_000,
        dispatcher_poll_interval_ms=20,
        activity_cancellation_grace_period_ms=0,
    )
    activities, orchestrations = {"echo": echo, "block": block}, {"tested": orchestration}
    first = runtime_factory(activities, orchestrations, options)
    client.start_orchestration("tested", "tested")
    assert started.wait(20)
    first.shutdown(0)
    over.set()
    runtime_factory(activities, orchestrations, options)
    assert client.wait_for_orchestration("tested", WAIT_MS).result() == ["PoisonMessageError", "goes on"]


# Ids that exist.


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


# Activities that nobody waits for.


def test_a_spawned_activity_whose_result_nobody_awaits_does_not_hold_up_the_end(
    runtime_factory: StartRuntime, client: Client
) -> None:
    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        ctx.spawn(ctx.schedule_activity("echo", "spawned"))
        return (yield ctx.schedule_activity("echo", "done"))

    runtime_factory({"echo": echo}, {"tested": orchestration}, QUICK)
    client.start_orchestration("tested", "tested")
    assert client.wait_for_orchestration("tested", WAIT_MS).result() == "done"


def test_an_activity_that_was_not_yielded_does_not_run(runtime_factory: StartRuntime, client: Client) -> None:
    ran: list[Any] = []

    def work(ctx: Any, input: Any) -> None:
        ran.append(input)

    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        ctx.schedule_activity("work", "forgotten")
        return (yield ctx.schedule_activity("echo", "done"))

    runtime_factory({"echo": echo, "work": work}, {"tested": orchestration}, QUICK)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        client.start_orchestration("tested", "tested")
        assert client.wait_for_orchestration("tested", WAIT_MS).result() == "done"
    assert ran == []
    assert kinds(client, "tested").count("ActivityScheduled") == 1


# Code that changed under a running orchestration.


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


def run_code(provider: Provider, code: Callable[..., Any]) -> Runtime:
    runtime = Runtime(provider, QUICK)
    runtime.register_activity("echo", echo)
    runtime.register_orchestration("healthy", healthy)
    runtime.register_orchestration("changed", code)
    runtime.start()
    return runtime


def start_with_old_code(provider: Provider) -> None:
    """Record the old code up to its wait."""
    client = Client(provider)
    runtime = run_code(provider, old_code)
    client.start_orchestration("changed", "changed")
    wait_for_kind(client, "changed", "ExternalSubscribed")
    runtime.shutdown()


@changes
def test_an_instance_whose_code_changed_waits_and_says_so(change: Callable[..., Any], provider: Provider) -> None:
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
        # Nobody else is held up.
        client.start_orchestration("healthy", "healthy", "well")
        assert client.wait_for_orchestration("healthy", WAIT_MS).result() == "well"
    finally:
        runtime.shutdown()


@changes
def test_the_code_that_recorded_the_history_completes_it(change: Callable[..., Any], provider: Provider) -> None:
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


def test_an_instance_whose_code_changed_can_be_cancelled(provider: Provider) -> None:
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
    provider: Provider, reopen: OpenProvider
) -> None:
    start_with_old_code(provider)
    provider = reopen()
    client = Client(provider)
    with Runtime(provider, QUICK, functions=[healthy]):
        client.raise_event("changed", "go", "went")
        with pytest.raises(WaitTimedOut) as timed_out:
            client.wait_for_orchestration("changed", SHORT_MS)
        assert "not registered" in str(timed_out.value)
    assert client.get_status("changed").status == "Running"
    runtime = run_code(provider, old_code)
    try:
        assert client.wait_for_orchestration("changed", WAIT_MS).result() == ["old", "went"]
    finally:
        runtime.shutdown()


def test_code_that_grew_at_its_end_goes_on(provider: Provider) -> None:
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


# What only a store of ours can close.

ONLY_OUR_STORE = "only a store of ours can hold such messages back (design, section 6); it comes with the stores"


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


@pytest.mark.parametrize(
    "store",
    [
        pytest.param("memory", marks=pytest.mark.xfail(strict=True, reason=ONLY_OUR_STORE)),
        pytest.param("sqlite", marks=pytest.mark.xfail(strict=True, reason=ONLY_OUR_STORE)),
        "postgres",
    ],
)
def test_a_message_to_an_instance_that_does_not_exist_does_not_stall_the_others(
    runtime_factory: StartRuntime, client: Client
) -> None:
    client.raise_event("nobody", "event", "data")
    runtime_factory({"echo": echo}, {"healthy": healthy}, QUICK)
    client.start_orchestration("healthy", "healthy", "well")
    assert client.wait_for_orchestration("healthy", 5_000).result() == "well"


@pytest.mark.xfail(strict=True, reason=ONLY_OUR_STORE)
def test_a_hundred_messages_can_be_read_in_one_turn(runtime_factory: StartRuntime, client: Client) -> None:
    count = 120
    client.start_orchestration("mailbox", "mailbox", count)
    for number in range(count):
        client.enqueue_event("mailbox", "inbox", str(number))
    runtime_factory({}, {"mailbox": mailbox}, QUICK)
    assert client.wait_for_orchestration("mailbox", WAIT_MS).result() == sum(range(count))


@pytest.mark.xfail(strict=True, reason=ONLY_OUR_STORE)
def test_a_burst_of_messages_crosses_continue_as_new_whole(runtime_factory: StartRuntime, client: Client) -> None:
    count = 120
    client.start_orchestration("mailbox", "endless_mailbox", {"left": count, "total": 0})
    for number in range(count):
        client.enqueue_event("mailbox", "inbox", str(number))
    runtime_factory({}, {"endless_mailbox": endless_mailbox}, QUICK)
    assert client.wait_for_orchestration("mailbox", WAIT_MS // 3).result() == sum(range(count))


@pytest.mark.xfail(strict=True, reason=ONLY_OUR_STORE)
def test_an_event_that_is_raised_before_it_is_waited_for_is_kept(runtime_factory: StartRuntime, client: Client) -> None:
    def late(ctx: OrchestrationContext, _: Any) -> Steps:
        yield ctx.wait_for_event("first")
        return (yield ctx.wait_for_event("second"))

    runtime_factory({}, {"late": late}, QUICK)
    client.start_orchestration("late", "late")
    wait_for_kind(client, "late", "ExternalSubscribed")
    client.raise_event("late", "second", "early")
    wait_until(lambda: kinds(client, "late").count("ExternalEvent") == 1)
    client.raise_event("late", "first")
    assert client.wait_for_orchestration("late", 3_000).result() == "early"


def test_ninety_messages_can_be_read_in_one_turn(runtime_factory: StartRuntime, client: Client) -> None:
    count = 90
    client.start_orchestration("mailbox", "mailbox", count)
    for number in range(count):
        client.enqueue_event("mailbox", "inbox", str(number))
    runtime_factory({}, {"mailbox": mailbox}, QUICK)
    assert client.wait_for_orchestration("mailbox", WAIT_MS).result() == sum(range(count))
