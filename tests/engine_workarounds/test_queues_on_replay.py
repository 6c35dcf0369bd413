"""Waits for queues whose messages have already arrived: a live turn delivers them one at a time, as replay does.

In replay the engine delivers messages one by one, in the order of the recorded waits. A live turn that takes all of
them at once reaches other decisions, and the orchestration then waits forever.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from duroxide import OrchestrationContext
from engine_workarounds.programs import Steps
from replay.playback import Playback, Player
from replay.programs import HOUR, Event, Message, Program, Worker

ONE, TWO = "one", "two"


def branch_and_main_line(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.wait_for_event("go")
    message = ctx.spawn(ctx.dequeue_event("a"))

    def branch() -> Steps:
        first = yield message
        return (yield ctx.schedule_activity("echo", f"branch {first}", tag=ONE))

    running = ctx.spawn(branch())
    second = yield ctx.dequeue_event("b")
    main_line = yield ctx.schedule_activity("echo", f"main {second}", tag=TWO)
    beside = yield running
    yield ctx.schedule_activity("echo", "end")
    return [beside, main_line]


def loser_and_next_wait(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.wait_for_event("go")
    winner = yield ctx.race(ctx.dequeue_event("a"), ctx.dequeue_event("b"))
    first = yield ctx.dequeue_event("b")
    yield ctx.schedule_activity("echo", first)
    second = yield ctx.dequeue_event("b")
    yield ctx.schedule_activity("echo", "end")
    return [winner, first, second]


def loser_and_next_race(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.wait_for_event("go")
    first = yield ctx.race(ctx.dequeue_event("a"), ctx.dequeue_event("b"))
    # The timer of zero would win if the message went to the loser.
    yield ctx.schedule_activity("echo", "between")
    second = yield ctx.race(ctx.dequeue_event("b"), ctx.schedule_timer(HOUR))
    yield ctx.schedule_activity("echo", second["index"])
    return [first, second]


def consumers(ctx: OrchestrationContext, _: Any) -> Steps:
    def consume(queue: str, tag: str) -> Steps:
        done = []
        for _number in range(2):
            message = yield ctx.dequeue_event(queue)
            step = yield ctx.schedule_activity("echo", queue + message, tag=tag)
            done.append(step)
        return done

    yield ctx.wait_for_event("go")
    result = yield ctx.gather(consume("a", ONE), consume("b", TWO))
    yield ctx.schedule_activity("echo", "end")
    return result


def all_beside_a_branch(ctx: OrchestrationContext, _: Any) -> Steps:
    def both() -> Steps:
        outcomes = yield ctx.all(ctx.dequeue_event("a"), ctx.dequeue_event("b"))
        return (yield ctx.schedule_activity("echo", [each["ok"] for each in outcomes], tag=ONE))

    def last() -> Steps:
        message = yield ctx.dequeue_event("c")
        return (yield ctx.schedule_activity("echo", message, tag=TWO))

    yield ctx.wait_for_event("go")
    # The branch that waits for the last message begins first.
    result = yield ctx.gather(last(), both())
    yield ctx.schedule_activity("echo", "end")
    return result


def gather_of_one_queue(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.wait_for_event("go")
    messages = yield ctx.gather([ctx.dequeue_event("a") for _ in range(3)])
    yield ctx.schedule_activity("echo", messages)
    yield ctx.schedule_activity("echo", "end")
    return messages


def race_of_branches(ctx: OrchestrationContext, _: Any) -> Steps:
    def branch(queue: str) -> Steps:
        return queue + (yield ctx.dequeue_event(queue))

    yield ctx.wait_for_event("go")
    winner = yield ctx.race(branch("a"), branch("b"))
    yield ctx.schedule_activity("echo", winner["value"])
    left = yield ctx.dequeue_event("b")
    yield ctx.schedule_activity("echo", "end")
    return [winner, left]


def two_races_over_one_queue(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.wait_for_event("go")
    first = ctx.spawn(ctx.race(ctx.dequeue_event("a"), ctx.dequeue_event("b")))
    second = ctx.spawn(ctx.race(ctx.dequeue_event("b"), ctx.dequeue_event("c")))
    winners = yield ctx.gather(first, second)
    yield ctx.schedule_activity("echo", winners)
    left = yield ctx.dequeue_event("c")
    yield ctx.schedule_activity("echo", "end")
    return [winners, left]


def waits_that_are_begun_by_messages(ctx: OrchestrationContext, _: Any) -> Steps:
    taken: list[str] = []

    def chain(queue: str) -> Steps:
        for _number in range(2):
            message = yield ctx.dequeue_event(queue)
            taken.append(queue + message)

    yield ctx.wait_for_event("go")
    yield ctx.gather(chain("b"), chain("a"))
    yield ctx.schedule_activity("echo", taken)
    yield ctx.schedule_activity("echo", "end")
    return sorted(taken)


GO, TAGS = Event("go"), (Worker(ONE), Worker(TWO))

CASES: tuple[tuple[Program, Any], ...] = (
    (
        Program(branch_and_main_line, (Message("a", "1"), Message("b", "2"), GO, *TAGS)),
        ["branch 1", "main 2"],
    ),
    (
        Program(loser_and_next_wait, (Message("a", "1"), Message("b", "x"), Message("b", "y"), GO)),
        [{"index": 0, "value": 1}, "x", "y"],
    ),
    (
        Program(loser_and_next_race, (Message("a", "1"), Message("b", "x"), GO)),
        [{"index": 0, "value": 1}, {"index": 0, "value": "x"}],
    ),
    (
        Program(consumers, (*(Message(queue, text) for text in "12" for queue in "ab"), GO, *TAGS)),
        [["a1", "a2"], ["b1", "b2"]],
    ),
    (
        Program(all_beside_a_branch, (*(Message(queue, queue) for queue in "abc"), GO, *TAGS)),
        ["c", ["a", "b"]],
    ),
    (Program(gather_of_one_queue, (*(Message("a", text) for text in "123"), GO)), ["1", "2", "3"]),
    (
        Program(race_of_branches, (Message("b", "x"), Message("a", "1"), GO)),
        [{"index": 0, "value": "a1"}, "x"],
    ),
    (
        Program(two_races_over_one_queue, (*(Message(queue, queue) for queue in "abc"), GO)),
        [[{"index": 0, "value": "a"}, {"index": 0, "value": "b"}], "c"],
    ),
    (
        Program(waits_that_are_begun_by_messages, (*(Message(queue, text) for text in "12" for queue in "ab"), GO)),
        ["a1", "a2", "b1", "b2"],
    ),
)
cases = pytest.mark.parametrize(("program", "expected"), CASES, ids=lambda case: getattr(case, "name", ""))
# The result does not depend on the store.
stores = pytest.mark.parametrize("store", ["memory", "sqlite"])


@pytest.fixture
def player(program: Program, store: str, open_store: Callable[[], Any]) -> Iterator[Player]:
    player = Player(open_store, program, reopens=store == "sqlite")
    yield player
    player.close()


def play(player: Player, stop_after: Callable[[int], bool]) -> Playback:
    # Ids of equal length, since the bytes of the histories are compared.
    return player.play(f"queues-{secrets.token_hex(4)}", stop_after)


@stores
@cases
def test_messages_sent_before_the_waits_reach_them_in_order(program: Program, expected: Any, player: Player) -> None:
    playback = play(player, lambda _: False)
    assert (playback.status, playback.output) == ("Completed", expected)


@stores
@cases
def test_messages_reach_the_same_waits_when_the_runtime_stops_at_every_event(
    program: Program, expected: Any, player: Player
) -> None:
    whole = play(player, lambda _: False)
    resumed = play(player, lambda _: True)
    assert (resumed.status, resumed.output) == ("Completed", expected)
    assert resumed == whole


@stores
@cases
def test_messages_reach_the_same_waits_wherever_the_runtime_stops_later(
    program: Program, expected: Any, player: Player
) -> None:
    whole = play(player, lambda _: False)
    kinds = [kind for _, kind, _ in whole.history]
    for stop in range(kinds.index("ExternalEvent") + 1, len(kinds)):
        stops = iter([stop])

        def once(events: int, stop: int = stop, stops: Iterator[int] = stops) -> bool:
            return events >= stop and next(stops, None) is not None

        assert play(player, once) == whole, f"stopped after event {stop}"
