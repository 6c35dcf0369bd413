"""The orchestrations of the files in this folder, as they were when the files were recorded, and their expected ends.

This package wrote the files of the dumps ``bundled-*.sql`` while its file store was the engine's bundled provider. A
change here must not be visible to the recorded histories.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from duroxide import ActivityContext, Client, OrchestrationContext, Runtime, TagFilter

Steps = Generator[Any, Any, Any]


def double(ctx: ActivityContext, number: int) -> int:
    return number * 2


def refuse(ctx: ActivityContext, address: str) -> None:
    raise ValueError("email is required")


def greeting(ctx: OrchestrationContext, name: str) -> Steps:
    number = yield ctx.schedule_activity("double", len(name))
    return f"Hello, {name}! {number}"


def refusal(ctx: OrchestrationContext, address: str) -> Steps:
    yield ctx.schedule_activity("refuse", address)


def countdown(ctx: OrchestrationContext, left: int) -> Steps:
    """Ends after ``left`` more executions, each of which leaves a key and replaces another."""
    ctx.set_kv_value(f"execution {ctx.execution_id}", str(left))
    ctx.set_kv_value("last", str(left))
    yield ctx.schedule_activity("double", left)
    if left:
        yield ctx.continue_as_new(left - 1)
    return ctx.get_kv_all_values()


def parent(ctx: OrchestrationContext, number: int) -> Steps:
    child = ctx.instance_id + "-child"
    value = yield ctx.schedule_sub_orchestration_with_id("child", child, number)
    return ["parent", value]


def child(ctx: OrchestrationContext, number: int) -> Steps:
    doubled = yield ctx.schedule_activity("double", number)
    if number < 0:
        doubled += yield ctx.wait_for_event("go")
    return doubled


def events(ctx: OrchestrationContext, _: Any) -> Steps:
    first = yield ctx.wait_for_event("go")
    second = yield ctx.wait_for_event("go")
    return [first, second]


def mailbox(ctx: OrchestrationContext, count: int) -> Steps:
    received: list[str] = []
    yield ctx.wait_for_event("go")
    for _ in range(count):
        message = yield ctx.dequeue_event("inbox")
        received.append(message)
    return received


def reader(ctx: OrchestrationContext, count: int) -> Steps:
    received: list[str] = []
    for _ in range(count):
        message = yield ctx.dequeue_event("inbox")
        received.append(message)
    return received


def sleeper(ctx: OrchestrationContext, days: int) -> Steps:
    yield ctx.schedule_timer(days * 86_400_000)
    return "awake"


def chain(ctx: OrchestrationContext, length: int) -> Steps:
    total = 0
    for number in range(length):
        total += yield ctx.schedule_activity("double", number)
    return total


def fan_out(ctx: OrchestrationContext, width: int) -> Steps:
    outcomes = yield ctx.all([ctx.schedule_activity("double", number) for number in range(width)])
    return sum(outcome.unwrap() for outcome in outcomes)


def tagged(ctx: OrchestrationContext, number: int) -> Steps:
    return (yield ctx.schedule_activity("double", number, tag="gpu"))


def in_session(ctx: OrchestrationContext, number: int) -> Steps:
    total = yield ctx.schedule_activity("double", number, session_id="session-1")
    yield ctx.wait_for_event("go")
    total += yield ctx.schedule_activity("double", number, session_id="session-1")
    return total


def record_keeper(ctx: OrchestrationContext, left: int) -> Steps:
    """Has keys from the execution before, and sets, changes and clears one of each."""
    if left:
        ctx.set_kv_value("kept", "from the first execution")
        ctx.set_kv_value("changed", "old")
        ctx.set_kv_value("cleared", "old")
        ctx.set_custom_status("first")
        yield ctx.continue_as_new(left - 1)
    ctx.set_kv_value("changed", "new")
    ctx.clear_kv_value("cleared")
    ctx.set_custom_status("waiting for go")
    yield ctx.wait_for_event("go")
    return ctx.get_kv_all_values()


def patient(ctx: OrchestrationContext, _: Any) -> Steps:
    """A race that a message wins while its timer has days to go."""
    winner = yield ctx.race(ctx.wait_for_event("go"), ctx.schedule_timer(30 * 86_400_000))
    yield ctx.wait_for_event("again")
    return winner["index"]


def old_version(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.wait_for_event("go")
    return "1.0.0"


def new_version(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.schedule_activity("double", 1)
    return "2.0.0"


def moments(ctx: OrchestrationContext, _: Any) -> Steps:
    """Time and chance, which replay must return as recorded."""
    drawn = [ctx.now().isoformat(), str(ctx.uuid()), ctx.random().random()]
    ctx.set_kv_value_typed("drawn", drawn)
    yield ctx.wait_for_event("go")
    return drawn == ctx.get_kv_value_typed("drawn")


ORCHESTRATIONS = (
    greeting,
    refusal,
    countdown,
    parent,
    child,
    events,
    mailbox,
    reader,
    sleeper,
    chain,
    fan_out,
    tagged,
    in_session,
    record_keeper,
    patient,
    moments,
)
TAGS = TagFilter.default_and("gpu")


def register(runtime: Runtime, *, versions: int = 2) -> Runtime:
    """Register everything; only one version, as when the instances of ``versioned`` were started."""
    runtime.register_activity("double", double)
    runtime.register_activity("refuse", refuse)
    for function in ORCHESTRATIONS:
        runtime.register_orchestration(function.__name__, function)
    runtime.register_orchestration_versioned("versioned", "1.0.0", old_version)
    if versions == 2:
        runtime.register_orchestration_versioned("versioned", "2.0.0", new_version)
    return runtime


COMPLETED: dict[str, Any] = {
    "done-greeting": "Hello, Ada! 6",
    "done-countdown": {
        "execution 1": "2",
        "execution 2": "1",
        "execution 3": "0",
        "last": "0",
    },
    "done-parent": ["parent", 8],
    "done-parent-child": 8,
}
"""The instances that had completed when the file was recorded, with their outputs."""

FAILED: dict[str, str] = {
    "done-refusal": "email is required",
    "done-cancelled": "canceled: no longer wanted",
}
"""The failed instances, each with a part of its error."""

RUNNING: dict[str, Any] = {
    "event": ["recorded before", "raised after"],
    "event-not-taken": ["not taken", "raised after"],
    "mailbox": ["one", "two", "three"],
    "sleeper": "awake",
    "parent": ["parent", 6],
    "parent-child": 6,
    "tagged": 14,
    "session": 20,
    "session-queued": 20,
    "in-turn": "Hello, Alan! 8",
    "records": {"kept": "from the first execution", "changed": "new"},
    "patient": 0,
    "versioned": "1.0.0",
    "moments": True,
    "chain": sum(2 * number for number in range(4)),
    "fan-out": sum(2 * number for number in range(6)),
    "not-started": "Hello, Grace! 10",
    "not-started-reader": ["first", "second"],
    "not-started-versioned": "2.0.0",
}
"""The running instances, with their expected outputs; ``resume`` sends what the waiting ones wait for."""

CANCELLED = "to-be-cancelled"
"""A running instance, with a cancellation that no runtime has taken."""

STILL_ASLEEP = "far-sleeper"
"""The instance that keeps waiting for its timer."""


def resume(client: Client) -> None:
    """Send the waiting instances what they wait for."""
    for instance in ("event", "event-not-taken"):
        client.raise_event(instance, "go", "raised after")
    for instance in ("mailbox", "session", "session-queued", "records", "versioned", "moments"):
        client.raise_event(instance, "go")
    client.raise_event("parent-child", "go", 12)
    client.raise_event("patient", "again")
