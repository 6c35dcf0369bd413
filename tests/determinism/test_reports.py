"""The report about code that no longer matches its history: both sides, the line of the code, and the difference."""

from __future__ import annotations

from typing import Any

import pytest

from determinism.code_change import INSTANCE, Code, Steps, mismatch_of, place, report
from duroxide import OrchestrationContext, Provider

in_memory = pytest.mark.parametrize("store", ["memory"])


def old(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.schedule_activity("charge", {"amount": 5})
    yield ctx.wait_for_event("go")


def with_another_input(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.schedule_activity("charge", {"amount": 7})
    yield ctx.wait_for_event("go")


def test_report_shows_the_difference_of_another_input(provider: Provider) -> None:
    assert mismatch_of(provider, old, with_another_input) == report(
        ("event 2 recorded:", "activity 'charge'  {\"amount\": 5}"),
        ("the code did:", "activity 'charge'  {\"amount\": 7}"),
        (
            f"at {place(with_another_input, 'charge')}:",
            'yield ctx.schedule_activity("charge", {"amount": 7})',
        ),
        ("difference:", "/amount: 5 was recorded, now 7"),
    )


def with_another_name(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.schedule_activity("refund", {"amount": 5})


def on_a_session(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.schedule_activity("charge", {"amount": 5}, session_id="till")


def with_a_tag(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.schedule_activity("charge", {"amount": 5}, tag="gpu")


def with_a_timer(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.schedule_timer(1)


def with_another_event(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.wait_for_event("stop")


def with_a_queue(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.dequeue_event("orders")


def with_a_child(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.schedule_sub_orchestration("child", {"amount": 5})


def with_a_start(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.start_orchestration("child", "order-8", {"amount": 5})


def with_a_guid(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.new_guid()


def with_a_status(ctx: OrchestrationContext, _: Any) -> Steps:
    ctx.set_custom_status("charging")
    yield ctx.schedule_activity("charge", {"amount": 5})


def with_a_key(ctx: OrchestrationContext, _: Any) -> Steps:
    ctx.set_kv_value("step", "charging")
    yield ctx.schedule_activity("charge", {"amount": 5})


def without_keys(ctx: OrchestrationContext, _: Any) -> Steps:
    ctx.clear_all_kv_values()
    yield ctx.schedule_activity("charge", {"amount": 5})


OTHER_ACTIONS = [
    (with_another_name, "activity 'refund'  {\"amount\": 5}"),
    (on_a_session, "activity 'charge' on session 'till'  {\"amount\": 5}"),
    (with_a_tag, "activity 'charge' with tag 'gpu'  {\"amount\": 5}"),
    (with_a_timer, "timer"),
    (with_another_event, "wait for event 'stop'"),
    (with_a_queue, "wait for queue 'orders'"),
    (with_a_child, "sub-orchestration 'child'  {\"amount\": 5}"),
    (with_a_start, "start of orchestration 'child' as 'order-8'  {\"amount\": 5}"),
    (with_a_guid, "system call 'new_guid'"),
    (with_a_status, "change of the custom status"),
    (with_a_key, "write of key 'step'  charging"),
    (without_keys, "removal of all keys"),
]


@in_memory
@pytest.mark.parametrize(("new", "did"), OTHER_ACTIONS, ids=lambda value: getattr(value, "__name__", ""))
def test_report_shows_another_action_with_its_line(provider: Provider, new: Code, did: str) -> None:
    line = "ctx." if new not in (with_a_status, with_a_key, without_keys) else "    ctx."
    where = place(new, line)
    text = mismatch_of(provider, old, new)
    rows = text.splitlines()
    assert rows[1].split(maxsplit=3)[3] == "activity 'charge'  {\"amount\": 5}"
    assert rows[2].removeprefix("  the code did:").strip() == did
    assert rows[3].startswith(f"  at {where}:")
    assert rows[4:] == ["bring back the code that recorded it, or cancel the instance"]


def two_activities(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.all([ctx.schedule_activity("charge", 1), ctx.schedule_activity("refund", 2)])
    yield ctx.wait_for_event("go")


def in_another_order(ctx: OrchestrationContext, _: Any) -> Steps:
    refund = ctx.schedule_activity("refund", 2)
    charge = ctx.schedule_activity("charge", 1)
    yield ctx.all([refund, charge])
    yield ctx.wait_for_event("go")


@in_memory
def test_report_shows_another_order_at_its_first_action(provider: Provider) -> None:
    assert mismatch_of(provider, two_activities, in_another_order) == report(
        ("event 2 recorded:", "activity 'charge'  1"),
        ("the code did:", "activity 'refund'  2"),
        (f"at {place(in_another_order, 'refund =')}:", 'refund = ctx.schedule_activity("refund", 2)'),
    )


def with_one_activity(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.all([ctx.schedule_activity("charge", 1)])
    yield ctx.wait_for_event("go")


@in_memory
def test_report_shows_a_missing_action_with_the_one_in_its_place(provider: Provider) -> None:
    assert mismatch_of(provider, two_activities, with_one_activity) == report(
        ("event 3 recorded:", "activity 'refund'  2"),
        ("the code did:", "nothing more: it stands at all of 1 tasks after 1 of 3 recorded operations"),
        (f"at {place(with_one_activity, 'ctx.all')}:", 'yield ctx.all([ctx.schedule_activity("charge", 1)])'),
    )


def keeping_books(ctx: OrchestrationContext, _: Any) -> Steps:
    ctx.set_custom_status("charging")
    ctx.set_kv_value("step", "1")
    ctx.clear_kv_value("step")
    yield ctx.wait_for_event("go")


def writing_another_value(ctx: OrchestrationContext, _: Any) -> Steps:
    ctx.set_custom_status("any")
    ctx.set_kv_value("step", "2")
    yield ctx.wait_for_event("go")


def removing_another_key(ctx: OrchestrationContext, _: Any) -> Steps:
    ctx.set_custom_status("any")
    ctx.set_kv_value("step", "1")
    ctx.clear_kv_value("other")
    yield ctx.wait_for_event("go")


def without_a_status(ctx: OrchestrationContext, _: Any) -> Steps:
    ctx.set_kv_value("step", "1")
    yield ctx.wait_for_event("go")


@in_memory
def test_report_shows_another_value_of_a_key(provider: Provider) -> None:
    assert mismatch_of(provider, keeping_books, writing_another_value) == report(
        ("event 3 recorded:", "write of key 'step'  1"),
        ("the code did:", "write of key 'step'  2"),
        (f"at {place(writing_another_value, 'set_kv')}:", 'ctx.set_kv_value("step", "2")'),
    )


@in_memory
def test_report_shows_another_removed_key(provider: Provider) -> None:
    assert mismatch_of(provider, keeping_books, removing_another_key) == report(
        ("event 4 recorded:", "removal of key 'step'"),
        ("the code did:", "removal of key 'other'"),
        (f"at {place(removing_another_key, 'clear_kv')}:", 'ctx.clear_kv_value("other")'),
    )


@in_memory
def test_report_shows_a_missing_status(provider: Provider) -> None:
    assert mismatch_of(provider, keeping_books, without_a_status) == report(
        ("event 2 recorded:", "change of the custom status"),
        ("the code did:", "write of key 'step'  1"),
        (f"at {place(without_a_status, 'set_kv')}:", 'ctx.set_kv_value("step", "1")'),
    )


def that_returns_early(ctx: OrchestrationContext, _: Any) -> Steps:
    return (yield ctx.schedule_activity("charge", {"amount": 5}))


def that_raises_early(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.schedule_activity("charge", {"amount": 5})
    raise ValueError("no stock")


def that_continues_early(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.schedule_activity("charge", {"amount": 5})
    yield ctx.continue_as_new(None)


EARLY_ENDS = [
    (that_returns_early, "it returned after 1 of 2 recorded operations"),
    (that_raises_early, "it raised ValueError: no stock after 1 of 2 recorded operations"),
    (that_continues_early, "it continued as new after 1 of 2 recorded operations"),
]


@in_memory
@pytest.mark.parametrize(("new", "why"), EARLY_ENDS, ids=lambda value: getattr(value, "__name__", ""))
def test_report_shows_an_early_end(provider: Provider, new: Code, why: str) -> None:
    assert mismatch_of(provider, old, new) == report(
        ("event 4 recorded:", "wait for event 'go'"), ("the code did:", f"nothing more: {why}")
    )


def started_without_waiting(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.start_orchestration("child", "order-8", "old")
    yield ctx.wait_for_event("go")


def starting_another_and_returning(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.start_orchestration("child", "order-8", "new")
    yield ctx.spawn(ctx.schedule_timer(1))


@in_memory
def test_report_shows_the_first_difference_rather_than_the_early_end(provider: Provider) -> None:
    assert mismatch_of(provider, started_without_waiting, starting_another_and_returning) == report(
        ("event 2 recorded:", "start of orchestration 'child' as 'order-8'  \"old\""),
        ("the code did:", "start of orchestration 'child' as 'order-8'  \"new\""),
        (
            f"at {place(starting_another_and_returning, 'start_orchestration')}:",
            'yield ctx.start_orchestration("child", "order-8", "new")',
        ),
    )


def with_a_long_input(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.schedule_activity("charge", {"notes": ["secret"] * 2_000, "sum": 1})
    yield ctx.wait_for_event("go")


def with_another_long_input(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.schedule_activity("charge", {"notes": ["public"] * 2_000, "sum": 2})
    yield ctx.wait_for_event("go")


@in_memory
def test_report_shortens_long_inputs_and_bounds_their_differences(provider: Provider) -> None:
    text = mismatch_of(provider, with_a_long_input, with_another_long_input)
    assert '/notes/0: "secret" was recorded, now "public"' in text
    assert text.count("\n") > 20
    assert "and more" in text
    assert len(text) < 5_000


def with_one_order_of_keys(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.schedule_activity("charge", {"a": 1, "b": 2})
    yield ctx.wait_for_event("go")


def with_another_order_of_keys(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.schedule_activity("charge", {"b": 2, "a": 1})
    yield ctx.wait_for_event("go")


@in_memory
def test_report_distinguishes_equivalent_json_texts(provider: Provider) -> None:
    rows = mismatch_of(provider, with_one_order_of_keys, with_another_order_of_keys).splitlines()
    assert rows[4].endswith("the JSON means the same, and is written differently")
    assert rows[5].endswith('from byte 2 on: {"a": 1, "b": 2} was recorded, now {"b": 2, "a": 1}')


def test_the_report_names_the_instance(provider: Provider) -> None:
    assert f"'{INSTANCE}'" in mismatch_of(provider, old, with_a_timer)


async def as_a_coroutine(ctx: OrchestrationContext, _: Any) -> None:
    await ctx.schedule_activity("charge", {"amount": 5})
    await ctx.wait_for_event("go")


async def as_another_coroutine(ctx: OrchestrationContext, _: Any) -> None:
    await ctx.wait_for_event("go")


async def as_a_shorter_coroutine(ctx: OrchestrationContext, _: Any) -> None:
    await ctx.schedule_activity("charge", {"amount": 5})


@pytest.mark.task_groups
@in_memory
def test_report_shows_the_line_of_a_coroutine(provider: Provider) -> None:
    assert mismatch_of(provider, as_a_coroutine, as_another_coroutine) == report(
        ("event 3 recorded:", "activity 'charge'  {\"amount\": 5}"),
        ("the code did:", "wait for event 'go'"),
        (f"at {place(as_another_coroutine, 'await')}:", 'await ctx.wait_for_event("go")'),
    )


@pytest.mark.task_groups
@in_memory
def test_report_shows_the_early_end_of_a_coroutine(provider: Provider) -> None:
    assert mismatch_of(provider, as_a_coroutine, as_a_shorter_coroutine) == report(
        ("event 5 recorded:", "wait for event 'go'"),
        ("the code did:", "nothing more: it returned after 2 of 3 recorded operations"),
    )


@pytest.mark.task_groups
@in_memory
def test_report_distinguishes_a_coroutine_from_a_generator(provider: Provider) -> None:
    assert mismatch_of(provider, as_a_coroutine, old) == report(
        ("event 2 recorded:", "wait for a cancellation, as `async def` does"),
        ("the code did:", "activity 'charge'  {\"amount\": 5}"),
        (f"at {place(old, 'charge')}:", 'yield ctx.schedule_activity("charge", {"amount": 5})'),
    )
