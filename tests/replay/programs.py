"""Programs that together use every operation, and the events that each gets from outside, in order.

A program waits for one thing from outside at a time, so that every run of it records the same history: the order in
which parallel activities end follows their tags, which a runtime takes one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from duroxide import OrchestrationContext, Task

Steps = Generator[Task[Any], Any, Any]
Function = Callable[[OrchestrationContext, Any], Any]

HOUR = timedelta(hours=1)
MOMENT = timedelta(milliseconds=20)


@dataclass(frozen=True)
class Event:
    """A client raises an event."""

    name: str
    data: Any = None


@dataclass(frozen=True)
class Message:
    """A client appends to a queue."""

    queue: str
    data: str


@dataclass(frozen=True)
class Worker:
    """A worker starts that takes the activities of a tag."""

    tag: str


Stimulus = Event | Message | Worker


@dataclass(frozen=True)
class Program:
    """An orchestration, the orchestrations that it starts, what happens to it, and its output."""

    main: Function
    stimuli: tuple[Stimulus, ...] = ()
    children: Mapping[str, Function] = field(default_factory=dict)
    input: Any = None

    @property
    def name(self) -> str:
        """The name under which it is registered."""
        return self.main.__name__


def activity(ctx: OrchestrationContext, input: Any) -> Steps:
    return (yield ctx.schedule_activity("echo", input))


def chain(ctx: OrchestrationContext, _: Any) -> Steps:
    total = 0
    for number in range(4):
        total += yield ctx.schedule_activity("echo", number)
    return total


async def coroutine(ctx: OrchestrationContext, _: Any) -> Any:
    first = await ctx.schedule_activity("echo", "first")
    event = await ctx.wait_for_event("go")

    async def nested(value: Any) -> Any:
        return [value, await ctx.schedule_activity("echo", "nested")]

    return [first, event, await nested("value")]


def failure(ctx: OrchestrationContext, _: Any) -> Steps:
    try:
        yield ctx.schedule_activity("fail", "no such card")
    except Exception as error:
        yield ctx.schedule_activity("echo", str(error))
    yield ctx.schedule_activity("fail", "for good")
    return "not reached"


def timer(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.schedule_timer(MOMENT)
    yield ctx.schedule_timer(0)
    return "rang"


def event(ctx: OrchestrationContext, _: Any) -> Steps:
    first = yield ctx.wait_for_event("approval")
    second = yield ctx.wait_for_event("approval")
    return [first, second]


def queue(ctx: OrchestrationContext, _: Any) -> Steps:
    # The second message of "inbox" arrives while the program does not wait for it.
    first = yield ctx.dequeue_event("inbox")
    other = yield ctx.dequeue_event("other")
    second = yield ctx.dequeue_event("inbox")
    return [first, other, second]


def sub_orchestration(ctx: OrchestrationContext, input: Any) -> Steps:
    name = f"{ctx.instance_id}-child"
    first = yield ctx.schedule_sub_orchestration("child", 1)
    second = yield ctx.schedule_sub_orchestration_with_id("child", name, 2)
    third = yield ctx.schedule_sub_orchestration_versioned("child", "1.0.0", 3)
    try:
        yield ctx.schedule_sub_orchestration("failing_child", 4)
    except Exception as error:
        return [first, second, third, str(error)]
    return "not reached"


def child(ctx: OrchestrationContext, input: Any) -> Steps:
    return (yield ctx.schedule_activity("echo", {"child": input}))


def failing_child(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.schedule_activity("fail", f"child {input}")


def detached(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.start_orchestration("child", f"{ctx.instance_id}-beside", "beside")
    return (yield ctx.wait_for_event("go"))


def all_tasks(ctx: OrchestrationContext, _: Any) -> Steps:
    results = yield ctx.all(
        [
            ctx.schedule_activity("echo", "a", tag="first"),
            ctx.schedule_activity("fail", "b", tag="second"),
            ctx.wait_for_event("go"),
            ctx.schedule_timer(MOMENT),
        ]
    )
    return [[key if key == "err" else value for key, value in outcome.items()] for outcome in results]


def gather(ctx: OrchestrationContext, _: Any) -> Steps:
    texts = yield ctx.gather(ctx.schedule_activity("echo", "a", tag="first"), ctx.dequeue_event("inbox"))
    try:
        # It fails before the others have ended, and abandons them.
        yield ctx.gather(ctx.wait_for_event("never"), ctx.schedule_activity("fail", "early"))
    except Exception as error:
        yield ctx.schedule_activity("echo", str(error))
    return texts


def race(ctx: OrchestrationContext, _: Any) -> Steps:
    first = yield ctx.race(
        ctx.schedule_timer(HOUR),
        ctx.schedule_activity("echo", "late", tag="nobody"),
        ctx.wait_for_event("go"),
        ctx.dequeue_event("inbox"),
    )
    # The loser of the first race does not take the message.
    second = yield ctx.race(ctx.dequeue_event("inbox"), ctx.wait_for_event("never"))
    try:
        yield ctx.race(ctx.schedule_activity("fail", "winner"), ctx.wait_for_event("never"))
    except Exception as error:
        return [first, second, error.index]  # type: ignore[attr-defined]
    return "not reached"


def nested(ctx: OrchestrationContext, _: Any) -> Steps:
    winner = yield ctx.race(
        ctx.all([ctx.wait_for_event("a"), ctx.race(ctx.wait_for_event("b"), ctx.schedule_timer(HOUR))]),
        ctx.gather(ctx.wait_for_event("c"), ctx.wait_for_event("d")),
    )
    return winner


def spawn(ctx: OrchestrationContext, _: Any) -> Steps:
    early = ctx.spawn(ctx.schedule_activity("echo", "early", tag="first"))
    event = yield ctx.wait_for_event("go")
    between = yield ctx.schedule_activity("echo", "between")
    return [event, between, (yield early)]


def branches(ctx: OrchestrationContext, _: Any) -> Steps:
    def steps(name: str) -> Steps:
        first = yield ctx.wait_for_event(f"{name}-1")
        second = yield ctx.schedule_activity("echo", [name, first])
        return [second, (yield ctx.wait_for_event(f"{name}-2"))]

    async def coroutine_steps() -> Any:
        return await ctx.wait_for_event("c")

    beside = ctx.spawn(steps("beside"))
    outcomes = yield ctx.all([steps("a"), coroutine_steps()])
    winner = yield ctx.race(steps("loser"), beside)
    inline = yield from steps("inline")
    return [[outcome.unwrap() for outcome in outcomes], winner, inline]


def retry(ctx: OrchestrationContext, _: Any) -> Steps:
    policy = {"max_attempts": 3, "backoff": "fixed", "base_ms": 10}
    result = yield ctx.schedule_activity_with_retry("third_time", ctx.instance_id, policy)
    errors = []
    for refused in (
        ctx.schedule_activity_with_retry("stall", 1, {"max_attempts": 2, "backoff": "none", "timeout_ms": 30}),
        # No worker takes the tag.
        ctx.schedule_activity_with_retry("echo", 2, {"max_attempts": 9, "total_timeout_ms": 40}, tag="nobody"),
        ctx.schedule_activity_with_retry("fail", 3, {"max_attempts": 9, "non_retryable": ["ValueError"]}),
        ctx.schedule_activity_with_retry("fail", 4, {"max_attempts": 2, "backoff": "linear", "base_ms": 5}),
    ):
        try:
            yield refused
        except Exception as error:
            errors.append(str(error))
    return [result, errors]


def session(ctx: OrchestrationContext, _: Any) -> Steps:
    first = yield ctx.schedule_activity_on_session("echo", 1, "session-1")
    second = yield ctx.schedule_activity("echo", 2, session_id="session-1")
    retried = yield ctx.schedule_activity_with_retry_on_session("echo", 3, {"max_attempts": 2}, "session-1")
    return [first, second, retried]


def tag(ctx: OrchestrationContext, _: Any) -> Steps:
    first = yield ctx.schedule_activity("echo", 1, tag="first")
    second = yield ctx.schedule_activity("echo", 2).with_tag("second")
    return [first, second]


def key_values(ctx: OrchestrationContext, _: Any) -> Steps:
    ctx.set_kv_value("kept", "1")
    ctx.set_kv_value("cleared", "2")
    seen: list[Any] = [ctx.get_kv_value("kept"), ctx.get_kv_value("missing"), ctx.get_kv_length()]
    yield ctx.wait_for_event("go")
    ctx.clear_kv_value("cleared")
    ctx.set_kv_value("late", "3")
    seen.append(ctx.get_kv_all_values())
    yield ctx.schedule_activity("echo", seen)
    seen.append(sorted(ctx.get_kv_all_keys()))
    ctx.clear_all_kv_values()
    seen.append(ctx.get_kv_length())
    yield ctx.wait_for_event("on")
    ctx.set_kv_value("last", "4")
    return seen


def pruned_key_values(ctx: OrchestrationContext, _: Any) -> Steps:
    ctx.set_kv_value("old", "1")
    ctx.set_kv_value("renewed", "1")
    yield ctx.schedule_timer(MOMENT)
    cutoff = yield ctx.utc_now()
    yield ctx.schedule_timer(MOMENT)
    ctx.set_kv_value("renewed", "2")
    ctx.set_kv_value("new", "1")
    count = ctx.prune_kv_values_updated_before(cutoff)
    yield ctx.wait_for_event("go")
    return [count, ctx.get_kv_all_values()]


def value_of_another_instance(ctx: OrchestrationContext, _: Any) -> Steps:
    name = f"{ctx.instance_id}-other"
    yield ctx.schedule_sub_orchestration_with_id("writer", name, None)
    found = yield ctx.get_kv_value_from_instance(name, "key")
    missing = yield ctx.get_kv_value_from_instance(name, "missing")
    return [found, missing]


def writer(ctx: OrchestrationContext, _: Any) -> Steps:
    ctx.set_kv_value("key", "written")
    return (yield ctx.schedule_activity("echo", None))


def custom_status(ctx: OrchestrationContext, _: Any) -> Steps:
    ctx.set_custom_status("first")
    yield ctx.wait_for_event("go")
    seen = [ctx.get_custom_status()]
    ctx.set_custom_status("second")
    yield ctx.schedule_activity("echo", None)
    ctx.reset_custom_status()
    yield ctx.wait_for_event("on")
    seen.append(ctx.get_custom_status())
    ctx.set_custom_status("last")
    return seen


def continue_as_new(ctx: OrchestrationContext, rounds: Any) -> Steps:
    ctx.set_kv_value(f"round-{rounds}", str(ctx.get_kv_length()))
    message = yield ctx.dequeue_event("inbox")
    ctx.set_custom_status(message)
    yield ctx.schedule_activity("echo", [rounds, message])
    if rounds == 0:
        return [message, sorted(ctx.get_kv_all_keys())]
    return (yield ctx.continue_as_new(rounds - 1))


def continue_as_new_versioned(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.schedule_activity("echo", input)
    if input == "again":
        yield ctx.continue_as_new_versioned("last", "1.0.0")
    return ctx.execution_id


def deterministic_values(ctx: OrchestrationContext, _: Any) -> Steps:
    # Values that replay computes again are compared with those that the first run recorded.
    same = []
    for _number in range(2):
        values = [ctx.now().isoformat(), str(ctx.uuid()), ctx.random().random()]
        recorded = yield ctx.schedule_activity("echo", values)
        same.append(recorded == values)
        yield ctx.wait_for_event("go")
    return same


def recorded_values(ctx: OrchestrationContext, _: Any) -> Steps:
    time = yield ctx.utc_now()
    guid = yield ctx.new_guid()
    yield ctx.wait_for_event("go")
    again = yield ctx.utc_now()
    return [type(time).__name__, len(guid), again >= time]


def plain_function(ctx: OrchestrationContext, input: Any) -> Any:
    ctx.set_custom_status("at once")
    return {"got": input}


def caught_close(ctx: OrchestrationContext, _: Any) -> Steps:
    # A yield in a finally block, when the turn ends, has no effect, and must not reach the history.
    try:
        first = yield ctx.wait_for_event("go")
        second = yield ctx.schedule_activity("echo", first)
    finally:
        last = yield ctx.schedule_activity("echo", "cleanup")
    return [second, last]


async def awaited_combinators(ctx: OrchestrationContext, _: Any) -> Any:
    async def branch(name: str) -> Any:
        return await ctx.wait_for_event(name)

    values = await ctx.gather(branch("a"), ctx.wait_for_event("b"))
    winner = await ctx.race(branch("c"), ctx.schedule_timer(HOUR))
    return [values, winner]


PROGRAMS = (
    Program(activity, input={"nested": [1, 2.5, None, "ü"]}),
    Program(chain),
    Program(coroutine, (Event("go", {"n": 1}),)),
    Program(failure),
    Program(timer),
    Program(event, (Event("approval", {"n": 1}), Event("approval", "yes"))),
    Program(queue, (Message("inbox", "1"), Message("inbox", "2"), Message("other", "3"))),
    Program(sub_orchestration, children={"child": child, "failing_child": failing_child}),
    Program(detached, (Event("go"),), children={"child": child}),
    Program(all_tasks, (Worker("second"), Event("go", "event"), Worker("first"))),
    Program(gather, (Message("inbox", "message"), Worker("first"))),
    Program(race, (Event("go", "event"), Message("inbox", "message"))),
    Program(nested, (Event("a"), Event("c"), Event("b", "winner"))),
    Program(spawn, (Event("go"), Worker("first"))),
    Program(
        branches,
        (
            Event("c"),
            Event("a-1"),
            Event("beside-1"),
            Event("a-2"),
            Event("loser-1", "late"),
            Event("beside-2", "beside"),
            Event("inline-1"),
            Event("inline-2"),
        ),
    ),
    Program(retry),
    Program(session),
    Program(tag, (Worker("first"), Worker("second"))),
    Program(key_values, (Event("go"), Event("on"))),
    Program(pruned_key_values, (Event("go"),)),
    Program(value_of_another_instance, children={"writer": writer}),
    Program(custom_status, (Event("go"), Event("on"))),
    Program(continue_as_new, tuple(Message("inbox", text) for text in "abc"), input=2),
    Program(continue_as_new_versioned, input="again"),
    Program(deterministic_values, (Event("go"), Event("go"))),
    Program(recorded_values, (Event("go"),)),
    Program(plain_function, input=[1]),
    Program(caught_close, (Event("go", "event"),)),
    Program(awaited_combinators, (Event("b", 1), Event("a", 2), Event("c", 3))),
)
