"""The key-value store of an instance, in its code and by the client."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from typing import Any

import pytest

from conftest import Run, StartRuntime
from duroxide import (
    MAX_KV_KEYS,
    MAX_KV_VALUE_BYTES,
    ActivityContext,
    Client,
    LimitExceeded,
    OrchestrationContext,
    OrchestrationFailed,
    WaitTimedOut,
)

Steps = Generator[Any, Any, Any]


def test_value_is_read_back_in_the_same_turn(run: Run) -> None:
    def store(ctx: OrchestrationContext, input: Any) -> str | None:
        ctx.set_kv_value("key", "value")
        return ctx.get_kv_value("key")

    assert run(store) == "value"


def test_value_is_read_back_in_a_later_turn(run: Run) -> None:
    def store(ctx: OrchestrationContext, input: Any) -> Steps:
        ctx.set_kv_value("key", "value")
        yield ctx.schedule_timer(1)
        return ctx.get_kv_value("key")

    assert run(store) == "value"


def test_key_that_was_never_set_is_none(run: Run) -> None:
    def look(ctx: OrchestrationContext, input: Any) -> str | None:
        return ctx.get_kv_value("nothing")

    assert run(look) is None


def test_all_values_keys_and_length_agree(run: Run) -> None:
    def count(ctx: OrchestrationContext, input: Any) -> Steps:
        for key in "cab":
            ctx.set_kv_value(key, key.upper())
        yield ctx.schedule_timer(0)
        return [ctx.get_kv_all_values(), sorted(ctx.get_kv_all_keys()), ctx.get_kv_length()]

    assert run(count) == [{"a": "A", "b": "B", "c": "C"}, ["a", "b", "c"], 3]


def test_overwritten_key_has_the_newer_value(run: Run, client: Client) -> None:
    def overwrite(ctx: OrchestrationContext, input: Any) -> Steps:
        ctx.set_kv_value("key", "old")
        yield ctx.schedule_timer(0)
        ctx.set_kv_value("key", "new")

    run(overwrite, instance="overwrite")

    assert client.get_kv_value("overwrite", "key") == "new"


def test_cleared_key_is_gone(run: Run, client: Client) -> None:
    def clear(ctx: OrchestrationContext, input: Any) -> Steps:
        ctx.set_kv_value("kept", "1")
        ctx.set_kv_value("cleared", "2")
        yield ctx.schedule_timer(0)
        ctx.clear_kv_value("cleared")
        return ctx.get_kv_all_keys()

    assert run(clear, instance="clear") == ["kept"]
    assert client.get_kv_all_values("clear") == {"kept": "1"}


def test_clear_all_leaves_nothing(run: Run, client: Client) -> None:
    def clear(ctx: OrchestrationContext, input: Any) -> Steps:
        ctx.set_kv_value("a", "1")
        ctx.set_kv_value("b", "2")
        yield ctx.schedule_timer(0)
        ctx.clear_all_kv_values()
        return ctx.get_kv_length()

    assert run(clear, instance="clear-all") == 0
    assert client.get_kv_all_values("clear-all") == {}


def test_values_stay_across_continue_as_new(run: Run, client: Client) -> None:
    def again(ctx: OrchestrationContext, input: int) -> Steps:
        ctx.set_kv_value(f"execution {input}", str(input))
        if input < 3:
            yield ctx.continue_as_new(input + 1)
        yield ctx.schedule_timer(0)
        return ctx.get_kv_all_values()

    expected = {"execution 1": "1", "execution 2": "2", "execution 3": "3"}
    assert run(again, 1, instance="again") == expected
    assert client.get_kv_all_values("again") == expected


def test_key_cleared_after_continue_as_new_is_gone(run: Run, client: Client) -> None:
    def again(ctx: OrchestrationContext, input: int) -> Steps:
        if input == 0:
            ctx.set_kv_value("key", "value")
            yield ctx.continue_as_new(1)
        ctx.clear_kv_value("key")
        yield ctx.schedule_timer(0)
        return ctx.get_kv_value("key")

    assert run(again, 0, instance="cleared-later") is None
    assert client.get_kv_value("cleared-later", "key") is None


def test_prune_within_one_execution_clears_only_older_keys(run: Run, client: Client) -> None:
    def prune(ctx: OrchestrationContext, input: Any) -> Steps:
        ctx.set_kv_value("old", "1")
        yield ctx.schedule_timer(20)
        cutoff = int(ctx.now().timestamp() * 1000)
        ctx.set_kv_value("new", "2")
        pruned = ctx.prune_kv_values_updated_before(cutoff)
        yield ctx.schedule_activity("step")
        return [pruned, ctx.get_kv_all_values()]

    assert run(prune, instance="prune", activities={"step": nothing}) == [1, {"new": "2"}]
    assert client.get_kv_all_values("prune") == {"new": "2"}


def test_prune_keeps_a_key_that_was_written_again(run: Run) -> None:
    def prune(ctx: OrchestrationContext, input: Any) -> Steps:
        ctx.set_kv_value("written once", "1")
        ctx.set_kv_value("written twice", "1")
        yield ctx.schedule_timer(20)
        ctx.set_kv_value("written twice", "2")
        yield ctx.schedule_activity("step")
        cutoff = yield ctx.utc_now()
        yield ctx.schedule_timer(0)
        kept_cutoff = cutoff - 15
        ctx.prune_kv_values_updated_before(kept_cutoff)
        yield ctx.schedule_activity("step")
        return ctx.get_kv_all_keys()

    assert "written once" not in run(prune, activities={"step": nothing})


def test_prune_across_continue_as_new_clears_keys_of_earlier_executions(run: Run, client: Client) -> None:
    def prune(ctx: OrchestrationContext, input: int) -> Steps:
        if input == 0:
            ctx.set_kv_value("of the first", "1")
            yield ctx.schedule_timer(20)
            yield ctx.continue_as_new(1)
        ctx.set_kv_value("of the second", "2")
        cutoff = int(ctx.now().timestamp() * 1000)
        pruned = ctx.prune_kv_values_updated_before(cutoff)
        yield ctx.schedule_activity("step")
        return [pruned, ctx.get_kv_all_values()]

    assert run(prune, 0, instance="prune-later", activities={"step": nothing}) == [1, {"of the second": "2"}]
    assert client.get_kv_all_values("prune-later") == {"of the second": "2"}


def test_prune_with_an_early_cutoff_clears_nothing(run: Run) -> None:
    def prune(ctx: OrchestrationContext, input: Any) -> Steps:
        ctx.set_kv_value("key", "value")
        yield ctx.schedule_timer(0)
        return [ctx.prune_kv_values_updated_before(1), ctx.get_kv_length()]

    assert run(prune) == [0, 1]


def test_value_of_another_instance_is_read(run: Run) -> None:
    def owner(ctx: OrchestrationContext, input: Any) -> None:
        ctx.set_kv_value("colour", "blue")

    def reader(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.schedule_sub_orchestration("owner", instance_id="the-owner")
        value = yield ctx.get_kv_value_from_instance("the-owner", "colour")
        missing = yield ctx.get_kv_value_from_instance("the-owner", "shape")
        return [value, missing]

    assert run(reader, orchestrations={"owner": owner}) == ["blue", None]


def test_value_of_another_instance_that_looks_like_json_stays_text(run: Run) -> None:
    def owner(ctx: OrchestrationContext, input: Any) -> None:
        ctx.set_kv_value("number", "42")

    def reader(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.schedule_sub_orchestration("owner", instance_id="json-owner")
        plain = yield ctx.get_kv_value_from_instance("json-owner", "number")
        typed = yield ctx.get_kv_value_from_instance_typed("json-owner", "number")
        return [plain, typed]

    assert run(reader, orchestrations={"owner": owner}) == ["42", 42]


def test_typed_values_travel_as_json(run: Run, client: Client) -> None:
    def typed(ctx: OrchestrationContext, input: Any) -> Steps:
        ctx.set_kv_value_typed("key", {"a": [1, 2]})
        yield ctx.schedule_timer(0)
        return ctx.get_kv_value_typed("key")

    assert run(typed, instance="typed") == {"a": [1, 2]}
    assert client.get_kv_value_typed("typed", "key") == {"a": [1, 2]}
    assert client.get_kv_value("typed", "key") == '{"a": [1, 2]}'


def test_client_waits_for_a_key(runtime_factory: StartRuntime, client: Client) -> None:
    def publish(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.schedule_timer(30)
        ctx.set_kv_value("answer", "42")
        yield ctx.wait_for_event("never")

    runtime_factory(orchestrations={"publish": publish})
    client.start_orchestration("publisher", "publish")

    assert client.wait_for_kv_value("publisher", "answer", 20_000) == "42"


def test_client_waits_for_a_typed_key(run: Run, client: Client) -> None:
    def publish(ctx: OrchestrationContext, input: Any) -> None:
        ctx.set_kv_value_typed("answer", [4, 2])

    run(publish, instance="typed-publisher")

    assert client.wait_for_kv_value_typed("typed-publisher", "answer", 20_000) == [4, 2]


def test_wait_for_a_key_that_is_never_set_times_out(client: Client) -> None:
    with pytest.raises(WaitTimedOut):
        client.wait_for_kv_value("unknown", "nothing", 50)


def test_wait_for_a_key_begins_before_the_instance_exists(runtime_factory: StartRuntime, client: Client) -> None:
    def publish(ctx: OrchestrationContext, input: Any) -> None:
        ctx.set_kv_value("answer", "42")

    runtime_factory(orchestrations={"publish": publish})
    values: list[str] = []
    waiter = threading.Thread(target=lambda: values.append(client.wait_for_kv_value("early", "answer", 20_000)))
    waiter.start()

    client.start_orchestration("early", "publish")
    waiter.join(30)

    assert values == ["42"]


def test_value_of_an_unknown_instance_is_none(client: Client) -> None:
    assert client.get_kv_value("unknown", "key") is None
    assert client.get_kv_all_values("unknown") == {}


def test_values_of_a_failed_orchestration_stay_readable(run: Run, client: Client) -> None:
    def fail(ctx: OrchestrationContext, input: Any) -> Steps:
        ctx.set_kv_value("before", "the end")
        yield ctx.schedule_timer(0)
        raise RuntimeError("the end")

    with pytest.raises(OrchestrationFailed):
        run(fail, instance="failed")

    assert client.get_kv_value("failed", "before") == "the end"


def test_values_are_recorded_once_however_often_they_are_replayed(run: Run, client: Client) -> None:
    def steps(ctx: OrchestrationContext, input: Any) -> Steps:
        ctx.set_kv_value("key", "value")
        for _ in range(3):
            yield ctx.schedule_activity("step")

    run(steps, instance="replayed", activities={"step": nothing})

    kinds = [event.kind for event in client.read_execution_history("replayed")]
    assert kinds.count("KeyValueSet") == 1


def test_value_that_is_too_long_is_refused_at_the_call(run: Run) -> None:
    def overflow(ctx: OrchestrationContext, input: Any) -> list[str]:
        ctx.set_kv_value("fits", "x" * MAX_KV_VALUE_BYTES)
        try:
            ctx.set_kv_value("does not", "x" * (MAX_KV_VALUE_BYTES + 1))
        except LimitExceeded:
            return ctx.get_kv_all_keys()
        return []

    assert run(overflow) == ["fits"]


def test_one_key_too_many_is_refused_at_the_call(run: Run) -> None:
    def overflow(ctx: OrchestrationContext, input: Any) -> int:
        for number in range(MAX_KV_KEYS):
            ctx.set_kv_value(str(number), "")
        try:
            ctx.set_kv_value("one more", "")
        except LimitExceeded:
            return ctx.get_kv_length()
        return -1

    assert run(overflow) == MAX_KV_KEYS


def test_full_store_takes_a_new_value_for_an_old_key(run: Run) -> None:
    def overwrite(ctx: OrchestrationContext, input: Any) -> str | None:
        for number in range(MAX_KV_KEYS):
            ctx.set_kv_value(str(number), "old")
        ctx.set_kv_value("0", "new")
        return ctx.get_kv_value("0")

    assert run(overwrite) == "new"


@pytest.mark.parametrize("store", ["memory"])
@pytest.mark.parametrize(("key", "value"), [("", "value"), ("key", "\ud800")])
def test_text_that_the_store_cannot_keep_is_refused(key: str, value: str, run: Run) -> None:
    def write(ctx: OrchestrationContext, input: Any) -> str:
        try:
            ctx.set_kv_value(key, value)
        except ValueError:  # LimitExceeded, and Python's error for a lone surrogate
            return "refused"
        return "taken"

    assert run(write) == "refused"


def nothing(ctx: ActivityContext, input: Any) -> None:
    return None


def test_pruning_replays_the_same_in_a_new_runtime(runtime_factory: StartRuntime, client: Client) -> None:
    def prune(ctx: OrchestrationContext, input: Any) -> Steps:
        ctx.set_kv_value("old", "1")
        yield ctx.schedule_timer(20)
        ctx.set_kv_value("new", "2")
        pruned = ctx.prune_kv_values_updated_before(int(ctx.now().timestamp() * 1000))
        yield ctx.wait_for_event("go")
        return [pruned, ctx.get_kv_all_values()]

    first = runtime_factory({}, {"prune": prune})
    client.start_orchestration("replays", "prune")
    client.wait_for_kv_value("replays", "new", 20_000)
    first.shutdown()
    runtime_factory({}, {"prune": prune})
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and client.get_status("replays").status == "Running":
        client.raise_event("replays", "go")
        if client.wait_for_status_change("replays", 0, 20, 100) is None:
            continue

    assert client.wait_for_orchestration("replays").result() == [1, {"new": "2"}]
