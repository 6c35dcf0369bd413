"""Messages that arrive while no runtime works come in one turn, and have the same effect in every later turn."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest

from duroxide import Client, OrchestrationContext, PostgresProvider, Runtime, RuntimeOptions, SqliteProvider, Task
from support.waiting import wait_until

Steps = Generator[Task[Any], Any, Any]
Provider = SqliteProvider | PostgresProvider
Function = Callable[..., Any]

WAIT_MS = 30_000
AWAKE = RuntimeOptions(dispatcher_poll_interval_ms=20)
REPLAYED = RuntimeOptions(dispatcher_poll_interval_ms=20, sticky=False)


def race(ctx: OrchestrationContext, _: Any) -> Steps:
    return (yield ctx.race(ctx.wait_for_event("b"), ctx.wait_for_event("a")))


def race_of_started_tasks(ctx: OrchestrationContext, _: Any) -> Steps:
    first = ctx.spawn(ctx.wait_for_event("a"))
    second = ctx.spawn(ctx.wait_for_event("b"))
    yield ctx.gather(first, second)
    # Both have ended: the one that was started first wins, whatever the order of the arguments.
    return (yield ctx.race(second, first))


def nested_races(ctx: OrchestrationContext, _: Any) -> Steps:
    return (
        yield ctx.race(
            ctx.race(ctx.wait_for_event("never"), ctx.wait_for_event("c")),
            ctx.gather(ctx.wait_for_event("a"), ctx.wait_for_event("b")),
        )
    )


def branches(ctx: OrchestrationContext, _: Any) -> Steps:
    seen: list[str] = []

    def branch(name: str) -> Steps:
        seen.append((yield ctx.wait_for_event(name)))

    yield ctx.all([branch("c"), branch("b"), branch("a")])
    return seen


def branches_that_go_on(ctx: OrchestrationContext, _: Any) -> Steps:
    seen: list[Any] = []

    def branch(name: str) -> Steps:
        first = yield ctx.wait_for_event(name)
        seen.append(first)
        seen.append((yield ctx.schedule_activity("echo", [first, len(seen)])))

    yield ctx.gather(branch("b"), branch("a"), branch("c"))
    return sorted(seen, key=str)


def queues(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.wait_for_event("a")
    first, second = yield ctx.gather(ctx.dequeue_event("inbox"), ctx.dequeue_event("inbox"))
    winner = yield ctx.race(ctx.dequeue_event("other"), ctx.dequeue_event("inbox"))
    return [first, second, winner, (yield ctx.dequeue_event("inbox"))]


def a_loser_that_ended_too(ctx: OrchestrationContext, _: Any) -> Steps:
    loser = ctx.wait_for_event("b")
    winner = yield ctx.race(ctx.wait_for_event("a"), loser)
    try:
        return [winner, (yield loser)]
    except Exception as error:
        return [winner, type(error).__name__]


EXPECTED: dict[Function, Any] = {
    race: {"index": 1, "value": "a"},
    race_of_started_tasks: {"index": 1, "value": "a"},
    nested_races: {"index": 1, "value": ["a", "b"]},
    branches: ["a", "b", "c"],
    queues: ["1", "2", {"index": 1, "value": 3}, "4"],
}

PROGRAMS = [race, race_of_started_tasks, nested_races, branches, branches_that_go_on, queues, a_loser_that_ended_too]
programs = pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)


def with_later_turns(program: Function) -> Function:
    """The program, and two turns more that replay it: its result is the input of an activity, which replay compares."""

    def tested(ctx: OrchestrationContext, input: Any) -> Steps:
        result = yield from program(ctx, input)
        yield ctx.schedule_activity("echo", result)
        yield ctx.wait_for_event("end")
        yield ctx.schedule_activity("echo", result)
        return result

    return tested


def start(provider: Provider, program: Function, options: RuntimeOptions) -> Runtime:
    runtime = Runtime(provider, options)
    runtime.register_activity("echo", lambda ctx, input: input)
    runtime.register_orchestration("tested", with_later_turns(program))
    runtime.start()
    return runtime


def subscribes(client: Client) -> bool:
    if client.get_status("tested").status == "NotFound":
        return False
    return any(event.kind == "ExternalSubscribed" for event in client.read_execution_history("tested"))


def waits_for_end(client: Client) -> bool:
    events = client.read_execution_history("tested")
    return any(event.kind == "ExternalSubscribed" and '"end"' in event.data for event in events)


@programs
@pytest.mark.parametrize("options", [AWAKE, REPLAYED], ids=["awake", "replayed"])
def test_messages_that_arrive_together_have_the_same_effect_in_every_turn(
    program: Function, options: RuntimeOptions, provider: Provider
) -> None:
    client = Client(provider)
    runtime = start(provider, program, options)
    client.start_orchestration("tested", "tested")
    wait_until(lambda: subscribes(client))
    runtime.shutdown()
    for name in ("a", "b", "c"):
        client.raise_event("tested", name, name)
    for number in (1, 2, 3, 4):
        client.enqueue_event("tested", "inbox", str(number))
    runtime = start(provider, program, options)
    wait_until(lambda: waits_for_end(client))
    runtime.shutdown()
    client.raise_event("tested", "end")
    runtime = start(provider, program, options)
    try:
        status = client.wait_for_orchestration("tested", WAIT_MS)
    finally:
        runtime.shutdown()
    result = status.result()
    if program in EXPECTED:
        assert result == EXPECTED[program]
