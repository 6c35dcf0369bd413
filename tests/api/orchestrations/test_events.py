"""Events and queues: how clients send data to an orchestration."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import pytest

from conftest import Run, StartRuntime
from duroxide import ActivityContext, Client, LimitExceeded, OrchestrationContext
from support.waiting import wait_for_event_kind, wait_for_execution

Steps = Generator[Any, Any, Any]


@dataclass
class Approval:
    by: str
    approved: bool


def wait_for_go(ctx: OrchestrationContext, input: Any) -> Steps:
    return (yield ctx.wait_for_event("go"))


@pytest.mark.parametrize(
    "data",
    [None, True, 0, -1.5, "", "text", "123", '{"looks": "like json"}', [], [1, [2]], {"a": {"b": None}}, "ü🎉\n"],
)
def test_event_delivers_its_data(data: Any, runtime_factory: StartRuntime, client: Client) -> None:
    runtime_factory(orchestrations={"wait_for_go": wait_for_go})
    client.start_orchestration("listener", "wait_for_go")
    wait_for_event_kind(client, "listener", "ExternalSubscribed")

    client.raise_event("listener", "go", data)

    assert client.wait_for_orchestration("listener").result() == data


def test_event_without_data_delivers_none(runtime_factory: StartRuntime, client: Client) -> None:
    runtime_factory(orchestrations={"wait_for_go": wait_for_go})
    client.start_orchestration("listener", "wait_for_go")
    wait_for_event_kind(client, "listener", "ExternalSubscribed")

    client.raise_event("listener", "go")

    assert client.wait_for_orchestration("listener").result() is None


def test_event_is_converted_to_the_requested_type(runtime_factory: StartRuntime, client: Client) -> None:
    def wait(ctx: OrchestrationContext, input: Any) -> Steps:
        approval = yield ctx.wait_for_event("approval", result_type=Approval)
        return [type(approval).__name__, approval.by]

    runtime_factory(orchestrations={"wait": wait})
    client.start_orchestration("typed", "wait")
    wait_for_event_kind(client, "typed", "ExternalSubscribed")

    client.raise_event("typed", "approval", Approval(by="Ada", approved=True))

    assert client.wait_for_orchestration("typed").result() == ["Approval", "Ada"]


def test_events_of_one_name_reach_waits_in_their_order(runtime_factory: StartRuntime, client: Client) -> None:
    def wait_twice(ctx: OrchestrationContext, input: Any) -> Steps:
        return (yield ctx.gather(ctx.wait_for_event("go"), ctx.wait_for_event("go")))

    runtime_factory(orchestrations={"wait_twice": wait_twice})
    client.start_orchestration("twice", "wait_twice")
    wait_for_event_kind(client, "twice", "ExternalSubscribed", count=2)

    client.raise_event("twice", "go", 1)
    client.raise_event("twice", "go", 2)

    assert client.wait_for_orchestration("twice").result() == [1, 2]


def test_event_of_another_name_is_not_delivered(runtime_factory: StartRuntime, client: Client) -> None:
    runtime_factory(orchestrations={"wait_for_go": wait_for_go})
    client.start_orchestration("choosy", "wait_for_go")
    wait_for_event_kind(client, "choosy", "ExternalSubscribed")

    client.raise_event("choosy", "stop", "wrong")
    client.raise_event("choosy", "go", "right")

    assert client.wait_for_orchestration("choosy").result() == "right"


def test_schedule_wait_is_a_second_name_of_wait_for_event(runtime_factory: StartRuntime, client: Client) -> None:
    def wait(ctx: OrchestrationContext, input: Any) -> Steps:
        first = yield ctx.schedule_wait("first")
        second = yield ctx.wait_for_event_typed("second")
        return [first, second]

    runtime_factory(orchestrations={"wait": wait})
    client.start_orchestration("alias", "wait")
    wait_for_event_kind(client, "alias", "ExternalSubscribed", "first")
    client.raise_event_typed("alias", "first", 1)
    wait_for_event_kind(client, "alias", "ExternalSubscribed", "second")
    client.raise_event("alias", "second", 2)

    assert client.wait_for_orchestration("alias").result() == [1, 2]


def test_event_after_the_end_is_ignored(run: Run, client: Client) -> None:
    def end(ctx: OrchestrationContext, input: Any) -> str:
        return "ended"

    run(end, instance="ended")

    client.raise_event("ended", "go", 1)

    assert client.get_status("ended").output == "ended"


def test_wait_that_lost_a_race_leaves_the_event_to_the_next_wait(runtime_factory: StartRuntime, client: Client) -> None:
    def patient(ctx: OrchestrationContext, input: Any) -> Steps:
        first = yield ctx.race(ctx.wait_for_event("go"), ctx.schedule_timer(5))
        return [first["index"], (yield ctx.wait_for_event("go"))]

    runtime_factory(orchestrations={"patient": patient})
    client.start_orchestration("patient", "patient")
    wait_for_event_kind(client, "patient", "ExternalSubscribed", count=2)

    client.raise_event("patient", "go", "now")

    assert client.wait_for_orchestration("patient").result() == [1, "now"]


def test_event_that_is_raised_early_waits_for_its_wait(runtime_factory: StartRuntime, client: Client) -> None:
    def late(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.wait_for_event("ready")
        ctx.set_custom_status("ready")
        return (yield ctx.wait_for_event("early"))

    runtime_factory(orchestrations={"late": late})
    client.start_orchestration("late", "late")
    wait_for_event_kind(client, "late", "ExternalSubscribed", "ready")
    client.raise_event("late", "early", "kept")
    client.raise_event("late", "ready")

    assert client.wait_for_orchestration("late", 2_000).result() == "kept"


def test_messages_arrive_first_in_first_out(runtime_factory: StartRuntime, client: Client) -> None:
    def drain(ctx: OrchestrationContext, input: int) -> Steps:
        received = []
        for _ in range(input):
            message = yield ctx.dequeue_event("inbox")
            received.append(message)
        return received

    runtime_factory(orchestrations={"drain": drain})
    client.start_orchestration("drain", "drain", 10)
    wait_for_event_kind(client, "drain", "QueueSubscribed")

    for number in range(10):
        client.enqueue_event("drain", "inbox", f"message {number}")

    assert client.wait_for_orchestration("drain").result() == [f"message {number}" for number in range(10)]


def test_messages_wait_until_they_are_read(runtime_factory: StartRuntime, client: Client) -> None:
    def late(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.wait_for_event("go")
        first = yield ctx.dequeue_event("inbox")
        return [first, (yield ctx.dequeue_event("inbox"))]

    runtime_factory(orchestrations={"late": late})
    client.start_orchestration("late", "late")
    wait_for_event_kind(client, "late", "ExternalSubscribed")
    client.enqueue_event("late", "inbox", "one")
    client.enqueue_event("late", "inbox", "two")

    client.raise_event("late", "go")

    assert client.wait_for_orchestration("late").result() == ["one", "two"]


def test_messages_keep_their_order_across_continue_as_new(runtime_factory: StartRuntime, client: Client) -> None:
    def one_each(ctx: OrchestrationContext, input: list[str]) -> Steps:
        if not input:
            yield ctx.wait_for_event("go")
        message = yield ctx.dequeue_event("inbox")
        received = [*input, message]
        if len(received) < 5:
            yield ctx.continue_as_new(received)
        return received

    runtime_factory(orchestrations={"one_each": one_each})
    client.start_orchestration("one-each", "one_each", [])
    wait_for_event_kind(client, "one-each", "ExternalSubscribed")

    for number in range(5):
        client.enqueue_event("one-each", "inbox", str(number))
    # The engine promises no order for a message between two executions, so all are there before the first ends.
    client.raise_event("one-each", "go")

    assert client.wait_for_orchestration("one-each").result() == ["0", "1", "2", "3", "4"]
    assert client.list_executions("one-each") == [1, 2, 3, 4, 5]


def test_text_message_is_delivered_unchanged(runtime_factory: StartRuntime, client: Client) -> None:
    def read(ctx: OrchestrationContext, input: Any) -> Steps:
        return (yield ctx.dequeue_event("inbox"))

    runtime_factory(orchestrations={"read": read})
    client.start_orchestration("raw", "read")
    wait_for_event_kind(client, "raw", "QueueSubscribed")

    client.enqueue_event("raw", "inbox", '{"seq": 1}')

    assert client.wait_for_orchestration("raw").result() == '{"seq": 1}'


def test_message_that_is_not_text_is_delivered_as_json_text(runtime_factory: StartRuntime, client: Client) -> None:
    def read(ctx: OrchestrationContext, input: Any) -> Steps:
        return json.loads((yield ctx.dequeue_event("inbox")))

    runtime_factory(orchestrations={"read": read})
    client.start_orchestration("json", "read")
    wait_for_event_kind(client, "json", "QueueSubscribed")

    client.enqueue_event("json", "inbox", {"seq": [1, None]})

    assert client.wait_for_orchestration("json").result() == {"seq": [1, None]}


def test_typed_messages_are_json_on_both_sides(runtime_factory: StartRuntime, client: Client) -> None:
    def read(ctx: OrchestrationContext, input: Any) -> Steps:
        first = yield ctx.dequeue_event_typed("inbox")
        second = yield ctx.dequeue_event("inbox", result_type=Approval)
        return [first, second.by]

    runtime_factory(orchestrations={"read": read})
    client.start_orchestration("typed", "read")
    wait_for_event_kind(client, "typed", "QueueSubscribed")

    client.enqueue_event_typed("typed", "inbox", "a text")
    client.enqueue_event("typed", "inbox", Approval(by="Ada", approved=False))

    assert client.wait_for_orchestration("typed").result() == ["a text", "Ada"]


def test_read_that_lost_a_race_leaves_the_message_in_the_queue(runtime_factory: StartRuntime, client: Client) -> None:
    def patient(ctx: OrchestrationContext, input: Any) -> Steps:
        first = yield ctx.race(ctx.dequeue_event("inbox"), ctx.schedule_timer(5))
        return [first["index"], (yield ctx.dequeue_event("inbox"))]

    runtime_factory(orchestrations={"patient": patient})
    client.start_orchestration("patient", "patient")
    wait_for_event_kind(client, "patient", "QueueSubscribed", count=2)

    client.enqueue_event("patient", "inbox", "still here")

    assert client.wait_for_orchestration("patient").result() == [1, "still here"]


def test_burst_of_fifty_messages_loses_none(runtime_factory: StartRuntime, client: Client) -> None:
    def drain(ctx: OrchestrationContext, input: int) -> Steps:
        yield ctx.wait_for_event("go")
        received = []
        for _ in range(input):
            message = yield ctx.dequeue_event("inbox")
            received.append(int(message))
        return received

    runtime_factory(orchestrations={"drain": drain})
    client.start_orchestration("burst", "drain", 50)
    wait_for_event_kind(client, "burst", "ExternalSubscribed")
    for number in range(50):
        client.enqueue_event("burst", "inbox", str(number))

    client.raise_event("burst", "go")

    assert client.wait_for_orchestration("burst").result() == list(range(50))


def test_activity_enqueues_for_its_own_orchestration(run: Run) -> None:
    def answer(ctx: ActivityContext, input: Any) -> None:
        ctx.get_client().enqueue_event(ctx.instance_id, "inbox", "from the activity")

    def ask(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.schedule_activity("answer")
        return (yield ctx.dequeue_event("inbox"))

    assert run(ask, activities={"answer": answer}) == "from the activity"


def test_unread_message_is_carried_into_the_next_execution(runtime_factory: StartRuntime, client: Client) -> None:
    def second_reads(ctx: OrchestrationContext, input: int) -> Steps:
        if input == 0:
            yield ctx.wait_for_event("go")
            yield ctx.continue_as_new(1)
        yield ctx.wait_for_event("read")
        return (yield ctx.dequeue_event("inbox"))

    runtime_factory(orchestrations={"second_reads": second_reads})
    client.start_orchestration("carried", "second_reads", 0)
    wait_for_event_kind(client, "carried", "ExternalSubscribed", "go")
    client.enqueue_event("carried", "inbox", "carried over")
    client.raise_event("carried", "go")
    wait_for_execution(client, "carried", 2)
    wait_for_event_kind(client, "carried", "ExternalSubscribed", "read")

    client.raise_event("carried", "read")

    assert client.wait_for_orchestration("carried").result() == "carried over"


@pytest.mark.parametrize("store", ["memory"])
@pytest.mark.parametrize("name", ["", "x" * 2000])
def test_invalid_event_name_is_refused(name: str, client: Client) -> None:
    with pytest.raises(LimitExceeded):
        client.raise_event("anyone", name)


def test_event_for_an_unknown_instance_does_not_block_others(runtime_factory: StartRuntime, client: Client) -> None:
    runtime_factory(orchestrations={"wait_for_go": wait_for_go})

    client.raise_event("unknown", "go", 1)
    client.enqueue_event("unknown", "inbox", "text")
    client.start_orchestration("waiting", "wait_for_go")
    wait_for_event_kind(client, "waiting", "ExternalSubscribed")
    client.raise_event("waiting", "go", 2)

    assert client.wait_for_orchestration("waiting").result() == 2


def test_burst_of_more_than_a_hundred_messages_loses_none(runtime_factory: StartRuntime, client: Client) -> None:
    def drain(ctx: OrchestrationContext, input: int) -> Steps:
        yield ctx.wait_for_event("go")
        received: list[int] = []
        for _ in range(input):
            message = yield ctx.dequeue_event("inbox")
            received.append(int(message))
        return received

    runtime_factory(orchestrations={"drain": drain})
    client.start_orchestration("burst", "drain", 120)
    wait_for_event_kind(client, "burst", "ExternalSubscribed")
    for number in range(120):
        client.enqueue_event("burst", "inbox", str(number))

    client.raise_event("burst", "go")

    assert client.wait_for_orchestration("burst").result() == list(range(120))


def test_burst_before_continue_as_new_loses_none(runtime_factory: StartRuntime, client: Client) -> None:
    def second_drains(ctx: OrchestrationContext, input: int) -> Steps:
        yield ctx.wait_for_event("go")
        if input == 0:
            yield ctx.continue_as_new(1)
        received: list[int] = []
        for number in range(120):
            message = yield ctx.dequeue_event("inbox")
            received.append(int(message))
            if number % 40 == 39:
                # A separate turn for each part, so that no turn reads too many.
                yield ctx.schedule_timer(0)
        return received

    runtime_factory(orchestrations={"second_drains": second_drains})
    client.start_orchestration("carried", "second_drains", 0)
    wait_for_event_kind(client, "carried", "ExternalSubscribed")
    for number in range(120):
        client.enqueue_event("carried", "inbox", str(number))
    client.raise_event("carried", "go")
    wait_for_execution(client, "carried", 2)
    wait_for_event_kind(client, "carried", "ExternalSubscribed")

    client.raise_event("carried", "go")

    assert client.wait_for_orchestration("carried", 5_000).result() == list(range(120))
