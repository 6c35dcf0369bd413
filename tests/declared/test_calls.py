"""Running declared functions: calls, their options, the context and references, on every store."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

import duroxide
from declared.conftest import Serve
from duroxide import (
    ActivityContext,
    ActivityFailed,
    Backoff,
    Client,
    NotInOrchestration,
    OrchestrationContext,
    RetryPolicy,
    Runtime,
    StartRequest,
    SubOrchestrationFailed,
    TagFilter,
    Task,
    activity,
    orchestration,
)

BY_NAME_OR_REFERENCE = (
    "an activity or orchestration is meant by its name, a str, or by the function that @activity or @orchestration made, "
    "not function"
)
AT_ONCE = Backoff.none()


@dataclass
class Order:
    id: str
    total: Decimal


@dataclass
class Receipt:
    order: Order
    amount: Decimal


ORDER = Order("order-7", Decimal("9.90"))


@activity
def add(left: int, right: int = 1) -> int:
    return left + right


@activity
async def charge(order: Order, amount: Decimal) -> Receipt:
    return Receipt(order, amount)


def events(client: Client, instance: str, kind: str) -> list[str]:
    return [event.data for event in client.read_execution_history(instance) if event.kind == kind]


@pytest.mark.task_groups
def test_awaited_call_gives_the_annotated_type(serve: Serve) -> None:
    @orchestration
    async def pay(order: Order) -> Receipt:
        receipt = await charge(order, amount=order.total)
        assert isinstance(receipt.order, Order)
        return receipt

    assert serve(pay, charge).start(pay, ORDER).result() == Receipt(ORDER, Decimal("9.90"))


def test_generator_takes_calls_with_yield_and_yield_from(serve: Serve) -> None:
    @orchestration
    def count(ctx: OrchestrationContext, start: int) -> Generator[Task[Any], Any, int]:
        first = yield from add(start)
        second: int = yield add(first, right=10)
        outcomes = yield ctx.all([add(second), add(0)])
        return outcomes[0].unwrap() + outcomes[1].unwrap()

    assert serve(count, add).start(count, 1).result() == 14


@pytest.mark.task_groups
def test_calls_run_in_parallel_with_the_documented_combinators(serve: Serve) -> None:
    @orchestration
    async def fan_out(ctx: OrchestrationContext, width: int) -> list[int]:
        return await ctx.gather(*(add(number) for number in range(width)))

    assert serve(fan_out, add).start(fan_out, 20).result() == list(range(1, 21))


@pytest.mark.task_groups
def test_call_of_an_orchestration_runs_a_child(serve: Serve) -> None:
    @orchestration
    async def child(order: Order, factor: int = 2) -> Order:
        return Order(order.id, order.total * factor)

    @orchestration
    async def parent(order: Order) -> list[Order]:
        return [await child(order), await child.options(instance_id="the-child")(order, factor=3)]

    client = serve(parent, child)

    assert [each.total for each in client.start(parent, ORDER).result()] == [Decimal("19.80"), Decimal("29.70")]
    assert client.handle("the-child", child).result() == Order("order-7", Decimal("29.70"))


@pytest.mark.task_groups
def test_call_takes_the_newest_version_unless_it_names_one(serve: Serve) -> None:
    @orchestration(name="child")
    async def old() -> str:
        return "old"

    @orchestration(name="child", version="1.1.0")
    async def new() -> str:
        return "new"

    @orchestration
    async def parent() -> list[str]:
        return [await old(), await old.options(version="1.0.0")()]

    client = serve(parent, old, new)

    assert client.start(parent).result() == ["new", "old"]
    assert client.start(old).result() == "new"
    assert client.start(old, version="1.0.0").result() == "old"
    assert client.start(old.options(version="1.0.0", instance_id="pinned")).id == "pinned"
    assert client.handle("pinned").result() == "old"


@pytest.mark.task_groups
def test_declared_retry_holds_for_each_call(serve: Serve) -> None:
    attempts: list[str] = []

    @activity(retry=RetryPolicy(max_attempts=3, backoff=AT_ONCE))
    def fail(why: str) -> None:
        attempts.append(why)
        raise ValueError(why)

    @orchestration
    async def tries() -> list[int]:
        counts: list[int] = []
        for call in (
            fail,
            fail.options(retry=None),
            fail.options(retry={"max_attempts": 2, "backoff": "none"}),
            fail,
        ):
            try:
                await call("on purpose")
            except ActivityFailed as failure:
                counts.append(failure.attempts)
        return counts

    assert serve(tries, fail).start(tries).result() == [3, 1, 2, 3]
    assert len(attempts) == 9


@pytest.mark.task_groups
def test_exception_class_on_the_no_retry_list_ends_the_attempts(serve: Serve) -> None:
    class CardDeclined(Exception):
        pass

    @activity(retry=RetryPolicy(max_attempts=5, backoff=AT_ONCE, non_retryable=[CardDeclined]))
    async def decline() -> None:
        raise CardDeclined("no money")

    @orchestration
    async def pay() -> int:
        try:
            await decline()
        except ActivityFailed as failure:
            return failure.attempts if failure.is_caused_by(CardDeclined) else -1
        return 0

    assert serve(pay, decline).start(pay).result() == 1


@pytest.mark.task_groups
def test_tag_and_session_of_a_call_reach_its_worker(serve: Serve) -> None:
    @activity(tag="gpu", session="declared")
    def where(ctx: ActivityContext) -> tuple[str | None, str | None]:
        return ctx.tag(), ctx.session_id

    @orchestration
    async def ask() -> list[tuple[str | None, str | None]]:
        return [await where(), await where.options(session=None)(), await where.options(tag=None, session="other")()]

    client = serve(ask, where, worker_tag_filter=TagFilter.default_and("gpu"))

    assert client.start(ask).result() == [("gpu", "declared"), ("gpu", None), (None, "other")]


@pytest.mark.task_groups
def test_function_without_a_context_parameter_can_call_context(serve: Serve) -> None:
    @activity
    def on_a_thread() -> str:
        return duroxide.context(ActivityContext).activity_name

    @activity
    async def on_the_loop() -> list[str]:
        async def inner() -> str:
            await asyncio.sleep(0)
            name: str = duroxide.context().activity_name
            return name

        return [await inner(), await asyncio.to_thread(inner_name)]

    def inner_name() -> str:
        return duroxide.context(ActivityContext).activity_name

    @orchestration
    async def ask() -> list[Any]:
        context = duroxide.context(OrchestrationContext)
        return [context.instance_id, await on_a_thread(), *(await on_the_loop())]

    client = serve(ask, on_a_thread, on_the_loop)

    assert client.start(ask, id="asked").result() == ["asked", "on_a_thread", "on_the_loop", "on_the_loop"]


@pytest.mark.task_groups
def test_context_of_another_kind_is_refused(serve: Serve) -> None:
    @activity
    def ask() -> str:
        with pytest.raises(
            NotInOrchestration, match="has an ActivityContext, and an OrchestrationContext was asked for"
        ):
            duroxide.context(OrchestrationContext)
        return "refused"

    @orchestration
    async def ask_it() -> str:
        return await ask()

    assert serve(ask_it, ask).start(ask_it).result() == "refused"


@pytest.mark.task_groups
def test_thread_started_by_an_activity_has_no_context_and_the_next_activity_has_its_context(serve: Serve) -> None:
    @activity
    def names() -> list[str]:
        found: list[str] = []

        def ask() -> None:
            try:
                found.append(duroxide.context().activity_name)
            except NotInOrchestration:
                found.append("none")

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        ask()
        return found

    @activity(name="other")
    def other() -> list[str]:
        return [duroxide.context().activity_name]

    @orchestration
    async def ask() -> list[list[str]]:
        return [await names(), await other()]

    assert serve(ask, names, other).start(ask).result() == [["none", "names"], ["other"]]


@pytest.mark.task_groups
def test_error_about_an_activity_that_calls_another_says_what_to_do(serve: Serve) -> None:
    @activity
    def nested(number: int) -> int:
        with pytest.raises(NotInOrchestration, match=r"activity 'add' was called outside an orchestration"):
            add(number)
        return add.fn(number)

    @orchestration
    async def count() -> int:
        return await nested(1)

    assert serve(count, nested, add).start(count).result() == 2


@pytest.mark.task_groups
def test_events_and_messages_have_the_requested_type(serve: Serve) -> None:
    @orchestration
    async def listen() -> list[Any]:
        duroxide.context().set_custom_status("listens")
        paid = await duroxide.wait_for_event("paid", Order)
        assert isinstance(paid, Order)
        messages = [await duroxide.dequeue_event("inbox", each) for each in (Order, str, str, None)]
        assert isinstance(messages[0], Order)
        return [paid.total, *messages[1:]]

    client = serve(listen)
    handle = client.start(listen)
    # On PostgreSQL, an event needs a wait that exists already.
    client.wait_for_status_change(handle.id, 0)
    handle.raise_event("paid", ORDER)
    for message in (ORDER, "5", "text", {"a": 1}):
        handle.enqueue("inbox", message)

    assert handle.result() == ["9.90", "5", "text", {"a": 1}]


@pytest.mark.task_groups
def test_orchestration_continues_as_new_with_new_arguments(serve: Serve) -> None:
    @orchestration
    async def count(start: int, to: int = 3, *, seen: list[int] | None = None) -> list[int]:
        so_far = [*(seen or []), start]
        if start < to:
            await count.continue_as_new(start + 1, to, seen=so_far)
        return so_far

    client = serve(count)

    assert client.start(count, 1, id="counted").result() == [1, 2, 3]
    assert client.list_executions("counted") == [1, 2, 3]


@pytest.mark.task_groups
def test_orchestration_continues_as_new_with_a_plain_input(serve: Serve) -> None:
    @orchestration
    async def count(number: int) -> int:
        if number < 3:
            await duroxide.continue_as_new(number + 1)
        return number

    assert serve(count).start(count, 1).result() == 3


@pytest.mark.task_groups
def test_documented_calls_take_declared_functions_instead_of_names(serve: Serve) -> None:
    @activity(retry=RetryPolicy(max_attempts=3))
    def echo(order: Order) -> Order:
        return order

    @orchestration(name="The Child")
    async def child(number: int = 0) -> Order:
        return Order("child", Decimal(number))

    @orchestration
    def parent(ctx: OrchestrationContext) -> Generator[Task[Any], Any, list[str]]:
        found = [
            (yield ctx.schedule_activity(echo, ORDER)),
            (yield ctx.schedule_activity_typed(echo, ORDER)),
            (yield ctx.schedule_activity_on_session(echo, ORDER, "session")),
            (yield ctx.schedule_activity_with_retry(echo, ORDER)),
            (yield ctx.schedule_activity_with_retry_on_session(echo, ORDER, {}, "session")),
            (yield ctx.schedule_sub_orchestration(child, 1)),
            (yield ctx.schedule_sub_orchestration_with_id(child, "a", 1)),
            (yield ctx.schedule_sub_orchestration_versioned(child, "1.0.0", 1)),
            (yield ctx.schedule_sub_orchestration_versioned_with_id(child, None, "b", 1)),
        ]
        yield ctx.start_orchestration(child, "c", 2)
        yield ctx.start_orchestration_versioned(child, "1.0.0", "d", 2)
        return [type(each).__name__ for each in found]

    client = serve(parent, child, echo)

    client.start_orchestration("parent", parent)
    client.start_orchestration_versioned("versioned", child, 3, "1.0.0")
    client.start_orchestration_typed("typed", child, 3)
    client.start_orchestrations([StartRequest("bulk", child, 3)])
    assert client.wait_for_orchestration("parent").result() == ["Order"] * 9
    for instance in ("a", "b", "c", "d", "versioned", "typed", "bulk"):
        assert client.handle(instance, child).result().id == "child"


@pytest.mark.task_groups
def test_reference_of_the_other_kind_is_refused(serve: Serve) -> None:
    @orchestration
    async def child() -> None: ...

    @orchestration
    async def parent(ctx: OrchestrationContext) -> list[str]:
        messages = []
        for call in (
            lambda: ctx.schedule_activity(child),
            lambda: ctx.schedule_sub_orchestration(add),
            lambda: ctx.start_orchestration(add, "a"),
            lambda: ctx.schedule_activity(add.fn),
        ):
            with pytest.raises(TypeError) as refused:
                call()
            messages.append(str(refused.value))
        return messages

    client = serve(parent, child, add)

    assert client.start(parent).result() == [
        "'child' is an orchestration, and an activity is needed here",
        "'add' is an activity, and an orchestration is needed here",
        "'add' is an activity, and an orchestration is needed here",
        BY_NAME_OR_REFERENCE,
    ]
    with pytest.raises(TypeError, match="'add' is an activity, and an orchestration is needed here"):
        client.start(add, 1)
    with pytest.raises(TypeError, match="'add' is a plain function; decorate it with @orchestration"):
        client.start_orchestration("a", add.fn)


@pytest.mark.task_groups
def test_failure_of_a_child_has_its_name(serve: Serve) -> None:
    @orchestration
    async def child() -> None:
        raise ValueError("on purpose")

    @orchestration
    async def parent() -> str:
        try:
            await child()
        except SubOrchestrationFailed as failure:
            return f"{failure.orchestration_name} {failure}"
        return ""

    assert serve(parent, child).start(parent).result() == "child ValueError: on purpose"


@pytest.mark.task_groups
def test_result_of_an_activity_registered_elsewhere_is_converted(serve: Serve, provider: Any) -> None:
    @orchestration
    async def pay(order: Order) -> str:
        receipt = await charge(order, order.total)
        return type(receipt).__name__

    client = serve(pay)
    with Runtime(provider, functions=[charge]):
        assert client.start(pay, ORDER).result(60) == "Receipt"


@pytest.mark.task_groups
def test_warning_about_a_task_that_was_never_awaited_names_the_line_of_its_call(serve: Serve) -> None:
    @orchestration
    async def forget() -> str:
        add(1)
        return "done"

    with pytest.warns(
        RuntimeWarning, match="made a task and never yielded it, so it did not run: activity 'add'"
    ) as seen:
        assert serve(forget, add).start(forget).result() == "done"
    assert seen[0].filename == __file__


@pytest.mark.task_groups
def test_both_styles_record_the_same_history(serve: Serve) -> None:
    @orchestration
    async def called(order: Order) -> Receipt:
        return await charge(order, order.total)

    @orchestration
    def scheduled(ctx: OrchestrationContext, order: Order) -> Generator[Task[Any], Any, Any]:
        return (yield ctx.schedule_activity("charge", {"order": order, "amount": order.total}))

    client = serve(called, scheduled, charge)
    for each in (called, scheduled):
        client.start(each, ORDER, id=each.name).result()

    assert events(client, "called", "ActivityScheduled") == events(client, "scheduled", "ActivityScheduled")
    assert events(client, "called", "OrchestrationCompleted") == events(client, "scheduled", "OrchestrationCompleted")
