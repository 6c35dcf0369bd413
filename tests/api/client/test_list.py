"""``client.list``, ``iterate``, ``count`` and ``count_by_name``: which instances there are, page by page."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Generator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from conftest import OpenProvider, StartRuntime
from duroxide import (
    AsyncClient,
    Client,
    OrchestrationCancelled,
    OrchestrationContext,
    OrchestrationFailed,
    Provider,
    RuntimeOptions,
    StartRequest,
)
from support.waiting import wait_until

Steps = Generator[Any, Any, Any]
WAIT_MS = 20_000


def complete(ctx: OrchestrationContext, input: Any) -> Steps:
    ctx.set_custom_status("nearly done")
    yield ctx.schedule_timer(0)
    return input


def fail(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.schedule_timer(0)
    raise ValueError(input)


def wait(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.wait_for_event("go")


def continue_twice(ctx: OrchestrationContext, input: int) -> Steps:
    yield ctx.schedule_timer(0)
    if input < 2:
        yield ctx.continue_as_new(input + 1)


def parent(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.schedule_sub_orchestration_with_id("complete", "child", input)
    yield ctx.wait_for_event("go")


ORCHESTRATIONS = {
    "complete": complete,
    "fail": fail,
    "wait": wait,
    "continue_twice": continue_twice,
    "parent": parent,
}


@pytest.fixture
def one_of_each(client: Client, runtime_factory: StartRuntime) -> Client:
    """A client of a store with an instance of each status: ``completed``, ``failed``, ``cancelled`` and ``running``."""
    runtime_factory(orchestrations=ORCHESTRATIONS)
    for instance, name in [("completed", "complete"), ("failed", "fail"), ("cancelled", "wait"), ("running", "wait")]:
        client.start_orchestration(instance, name, "reason")
    client.cancel_instance("cancelled", "enough")
    for instance in ("completed", "failed", "cancelled"):
        client.wait_for_orchestration(instance, WAIT_MS)
    wait_until(lambda: client.get_instance_info("running").has_begun)
    return client


def ids(client: Client, **conditions: Any) -> list[str]:
    return sorted(summary.id for summary in client.list(**conditions))


def test_a_list_tells_a_cancellation_from_a_failure(one_of_each: Client) -> None:
    assert {summary.id: summary.status for summary in one_of_each.list()} == {
        "completed": "Completed",
        "failed": "Failed",
        "cancelled": "Cancelled",
        "running": "Running",
    }


@pytest.mark.parametrize("status", ["Completed", "Failed", "Cancelled", "Running"])
def test_a_status_selects_the_instances_that_have_it(one_of_each: Client, status: str) -> None:
    assert ids(one_of_each, status=status) == [status.lower()]
    assert one_of_each.count(status=status) == 1


def test_several_statuses_select_the_instances_with_any_of_them(one_of_each: Client) -> None:
    assert ids(one_of_each, status=["Failed", "Cancelled"]) == ["cancelled", "failed"]
    assert ids(one_of_each, status=("Completed", "Running")) == ["completed", "running"]


def test_a_failure_whose_text_looks_like_a_cancellation_has_failed(
    client: Client, runtime_factory: StartRuntime
) -> None:
    runtime_factory(orchestrations=ORCHESTRATIONS)
    text = 'canceled: "details":{"Application":{"kind":{"Cancelled":{"reason":"x"'
    client.start_orchestration("it", "fail", text)
    client.wait_for_orchestration("it", WAIT_MS)

    [summary] = client.list(status="Failed")

    assert summary.failure is not None
    assert summary.failure.message == text
    assert client.count(status="Cancelled") == 0


def test_a_summary_tells_what_the_store_knows(one_of_each: Client) -> None:
    before = datetime.now(timezone.utc) - timedelta(minutes=5)
    summaries = {summary.id: summary for summary in one_of_each.list()}

    completed, running = summaries["completed"], summaries["running"]

    assert (completed.name, completed.version, completed.custom_status) == ("complete", "1.0.0", "nearly done")
    assert (completed.parent, completed.executions, completed.has_mismatch) == (None, 1, False)
    assert completed.failure is None
    assert completed.started is not None
    assert completed.ended is not None
    assert before < completed.created <= completed.ended
    assert before < completed.started <= completed.ended
    assert running.started is not None
    assert running.ended is None


def test_a_summary_has_the_failure_that_the_result_raises(one_of_each: Client) -> None:
    [failed] = one_of_each.list(status="Failed")
    [cancelled] = one_of_each.list(status="Cancelled")

    assert type(failed.failure) is OrchestrationFailed
    assert (failed.failure.error_type, failed.failure.message) == ("ValueError", "reason")
    assert type(cancelled.failure) is OrchestrationCancelled
    assert "enough" in str(cancelled.failure)


def test_a_start_is_listed_before_a_runtime_has_seen_it(client: Client) -> None:
    client.start_orchestration("it", "wait", None)

    [summary] = client.list(name="wait", status="Running")

    assert (summary.id, summary.version, summary.started) == ("it", None, None)
    assert datetime.now(timezone.utc) - summary.created < timedelta(minutes=5)
    assert client.count() == client.count(status="Running") == client.count(name="wait") == 1
    assert client.count(status="Completed") == client.count(name="other") == 0
    assert client.count(version="1.0.0") == 0


def test_early_messages_are_no_instance(client: Client) -> None:
    client.raise_event("nothing", "go", 1)

    assert list(client.list()) == []
    assert client.count() == 0


def test_a_name_and_a_version_select_instances(one_of_each: Client) -> None:
    assert ids(one_of_each, name="wait") == ["cancelled", "running"]
    assert ids(one_of_each, name="wait", version="1.0.0") == ["cancelled", "running"]
    assert ids(one_of_each, name="wait", version="2.0.0") == []
    assert ids(one_of_each, name="wait", status="Cancelled") == ["cancelled"]


@pytest.mark.parametrize("has_begun", [False, True])
def test_an_id_prefix_is_taken_as_it_is(client: Client, runtime_factory: StartRuntime, has_begun: bool) -> None:
    started = ["order-1", "order-2", "order_3", "Order-4", "order", "a%b", "a%c", "axb", "\U0010ffff1", "\U0010ffff2"]
    client.start_orchestrations([StartRequest(each, "complete", None) for each in started])
    if has_begun:
        runtime_factory(orchestrations=ORCHESTRATIONS)
        for each in started:
            client.wait_for_orchestration(each, WAIT_MS)

    assert ids(client, id_prefix="order-") == ["order-1", "order-2"]
    assert ids(client, id_prefix="order") == ["order", "order-1", "order-2", "order_3"]
    assert ids(client, id_prefix="a%") == ["a%b", "a%c"]
    assert ids(client, id_prefix="\U0010ffff") == ["\U0010ffff1", "\U0010ffff2"]
    assert len(ids(client, id_prefix="")) == len(started)


def test_a_parent_selects_its_children(client: Client, runtime_factory: StartRuntime) -> None:
    runtime_factory(orchestrations=ORCHESTRATIONS)
    client.start_orchestration("top", "parent", None)
    client.wait_for_orchestration("child", WAIT_MS)

    [child] = client.list(parent="top")

    assert (child.id, child.parent) == ("child", "top")
    assert ids(client, parent="child") == []


def test_a_child_is_listed_before_a_runtime_has_seen_it(client: Client, runtime_factory: StartRuntime) -> None:
    runtime_factory(orchestrations={"parent": parent}, options=RuntimeOptions(unregistered="wait"))
    client.start_orchestration("top", "parent", None)

    wait_until(lambda: ids(client, parent="top") == ["child"])

    assert client.count(parent="top", status="Running") == 1


def test_the_executions_of_an_instance_are_counted(client: Client, runtime_factory: StartRuntime) -> None:
    runtime_factory(orchestrations=ORCHESTRATIONS)
    client.start_orchestration("it", "continue_twice", 0)
    client.wait_for_orchestration("it", WAIT_MS)

    [summary] = client.list()

    assert summary.executions == 3
    assert summary.started is not None
    assert summary.started >= summary.created - timedelta(milliseconds=1)


def test_times_select_by_their_start_and_not_by_their_end(one_of_each: Client) -> None:
    [completed] = one_of_each.list(status="Completed")
    assert completed.ended is not None
    millisecond = timedelta(milliseconds=1)

    assert "completed" in ids(one_of_each, ended=(completed.ended, None))
    assert "completed" not in ids(one_of_each, ended=(completed.ended + millisecond, None))
    assert "completed" in ids(one_of_each, ended=(None, completed.ended + millisecond))
    assert "completed" not in ids(one_of_each, ended=(None, completed.ended))
    assert "running" not in ids(one_of_each, ended=(0, None))
    assert "completed" in ids(one_of_each, created=(completed.created, completed.created + millisecond))
    assert "completed" not in ids(one_of_each, created=(completed.created + millisecond, None))
    assert ids(one_of_each, created=(None, 1)) == []


def test_a_mismatch_selects_the_instances_that_wait_for_their_code(
    client: Client, runtime_factory: StartRuntime
) -> None:
    runtime = runtime_factory(orchestrations={"complete": wait, "wait": wait})
    for instance, name in [("stuck", "complete"), ("fine", "wait")]:
        client.start_orchestration(instance, name, None)
    wait_until(lambda: all(client.get_instance_info(each).has_begun for each in ("stuck", "fine")))
    runtime.shutdown(5_000)
    client.raise_event("stuck", "go", None)
    runtime_factory(orchestrations={"complete": complete, "wait": wait})
    wait_until(lambda: client.get_status("stuck").mismatch is not None)

    assert ids(client, has_mismatch=True) == ["stuck"]
    assert ids(client, has_mismatch=False) == ["fine"]
    assert client.list(has_mismatch=True)[0].has_mismatch


@pytest.mark.parametrize("has_begun", [False, True])
@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_pages_give_each_instance_once_and_in_order(
    client: Client, runtime_factory: StartRuntime, order: Any, has_begun: bool
) -> None:
    started = [f"i-{number}" for number in range(10)]
    if has_begun:
        runtime_factory(orchestrations=ORCHESTRATIONS)
    for each in started:
        client.start_orchestration(each, "complete", None)
        if has_begun:
            client.wait_for_orchestration(each, WAIT_MS)

    pages: list[list[str]] = []
    cursor = None
    while True:
        page = client.list(limit=3, order=order, cursor=cursor)
        pages.append([summary.id for summary in page])
        if (cursor := page.cursor) is None:
            break

    assert [len(page) for page in pages] == [3, 3, 3, 1]
    assert [each for page in pages for each in page] == (started if order == "oldest" else started[::-1])


def test_a_last_page_that_is_full_has_no_cursor(client: Client) -> None:
    client.start_orchestrations([StartRequest(f"i-{number}", "wait", None) for number in range(4)])

    assert client.list(limit=4).cursor is None
    assert client.list(limit=3).cursor is not None


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_instances_that_come_and_go_between_pages_hide_no_other(
    client: Client, runtime_factory: StartRuntime, order: Any
) -> None:
    runtime_factory(orchestrations=ORCHESTRATIONS)
    there = [f"i-{number}" for number in range(12)]
    for each in there:
        client.start_orchestration(each, "complete", None)
        client.wait_for_orchestration(each, WAIT_MS)

    seen: list[str] = []
    cursor = None
    for number in range(6):
        page = client.list(limit=2, order=order, cursor=cursor)
        seen += [summary.id for summary in page]
        cursor = page.cursor
        # The last instance that was seen goes, so no place in the list stays where it was.
        client.delete_instance(seen[-1])
        client.start_orchestration(f"new-{number}", "complete", None)
        client.wait_for_orchestration(f"new-{number}", WAIT_MS)

    assert [each for each in seen if not each.startswith("new")] == (there if order == "oldest" else there[::-1])
    assert len(seen) == len(set(seen))


def test_iterating_goes_through_all_pages(client: Client) -> None:
    client.start_orchestrations([StartRequest(f"i-{number}", "wait", None) for number in range(7)])

    assert len({summary.id for summary in client.iterate(page_size=3, name="wait")}) == 7
    assert list(client.iterate(name="other")) == []


def test_the_asynchronous_client_lists_the_same(one_of_each: Client, provider: Provider) -> None:
    async def listed() -> tuple[Any, ...]:
        client = AsyncClient(provider)
        page = await client.list(status="Failed")
        everything = [summary.id async for summary in client.iterate(page_size=2)]
        return [summary.id for summary in page], sorted(everything), await client.count(), await client.count_by_name()

    assert asyncio.run(listed()) == (
        ["failed"],
        ["cancelled", "completed", "failed", "running"],
        4,
        one_of_each.count_by_name(),
    )


def test_counts_are_grouped_by_name_and_status(one_of_each: Client) -> None:
    one_of_each.start_orchestration("unseen", "unknown", None)

    assert one_of_each.count_by_name() == {
        "complete": {"Completed": 1},
        "fail": {"Failed": 1},
        "unknown": {"Running": 1},
        "wait": {"Running": 1, "Cancelled": 1},
    }
    assert one_of_each.count_by_name(status="Cancelled") == {"wait": {"Cancelled": 1}}


@pytest.mark.parametrize("store", ["sqlite"])
def test_a_client_process_lists_a_start_that_no_owner_has_taken_over(
    provider: Provider, open_store: OpenProvider
) -> None:
    provider.close()
    other = open_store()
    client = Client(other)

    client.start_orchestration("it", "wait", None)

    assert [summary.id for summary in client.list()] == ["it"]
    assert client.count() == 1
    other.close()


@pytest.mark.parametrize(
    ("conditions", "error", "message"),
    [
        ({"status": "Complete"}, ValueError, "did you mean 'Completed'"),
        ({"status": []}, ValueError, "leave it out to select all"),
        ({"status": 3}, TypeError, "must be a str"),
        ({"order": "new"}, ValueError, "order 'new' is unknown"),
        ({"limit": 0}, ValueError, "limit"),
        ({"limit": 10_001}, ValueError, "limit"),
        ({"created": 5}, TypeError, "created=(start, None)"),
        ({"ended": (datetime(2026, 1, 1), None)}, ValueError, "time zone"),  # noqa: DTZ001
        ({"has_mismatch": "yes"}, TypeError, "has_mismatch must be a bool"),
        ({"cursor": "x"}, ValueError, "cursor is not one that list"),
        (
            {"cursor": base64.b64encode(json.dumps(["newest", 2**70, ""]).encode()).decode()},
            ValueError,
            "cursor is not",
        ),
        ({"cursor": 3}, TypeError, "cursor must be a str"),
    ],
)
@pytest.mark.parametrize("store", ["memory"])
def test_a_condition_that_cannot_hold_is_refused_at_the_call(
    client: Client, conditions: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as refused:
        client.list(**conditions)

    assert message in str(refused.value)


def test_a_cursor_of_the_other_order_is_refused(client: Client) -> None:
    client.start_orchestrations([StartRequest(f"i-{number}", "wait", None) for number in range(2)])
    cursor = client.list(limit=1).cursor

    with pytest.raises(ValueError, match="order='newest', and this one has order='oldest'"):
        client.list(order="oldest", cursor=cursor)
