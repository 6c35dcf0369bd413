"""The key of a call of an activity: the same whenever that call runs, and another one for every other call."""

from __future__ import annotations

import contextlib
import multiprocessing
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from conftest import WAIT_MS, OpenProvider, Run
from duroxide import (
    ActivityContext,
    Backoff,
    Client,
    OrchestrationContext,
    Provider,
    RetryPolicy,
    Runtime,
    SqliteProvider,
)
from duroxide._runtime.call_key import call_key
from support import pool_activities

Steps = Generator[Any, Any, Any]

WAIT_SECONDS = WAIT_MS / 1000
LIMITED = RetryPolicy(max_attempts=3, backoff=Backoff.fixed(1), attempt_timeout=WAIT_MS, start_timeout=WAIT_MS)


def note_and_fail_until(attempt: int) -> tuple[list[str], Callable[..., str]]:
    """Return an activity that fails until its call of this number, and the keys that it notes."""
    keys: list[str] = []

    def note(ctx: ActivityContext, input: Any) -> str:
        keys.append(ctx.idempotency_key)
        if len(keys) < attempt:
            raise ConnectionError("try again")
        return keys[-1]

    return keys, note


def retried(policy: RetryPolicy) -> Callable[..., Steps]:
    def orchestration(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.schedule_timer(1)
        return (yield ctx.schedule_activity("note", input, retry=policy))

    return orchestration


@pytest.mark.parametrize(
    "policy", [RetryPolicy(max_attempts=3, backoff=Backoff.none()), LIMITED], ids=["unlimited", "limited"]
)
def test_all_attempts_of_a_call_have_the_same_key(run: Run, policy: RetryPolicy) -> None:
    keys, note = note_and_fail_until(3)

    run(retried(policy), activities={"note": note})

    assert len(keys) == 3
    assert len(set(keys)) == 1


def test_an_activity_on_the_event_loop_has_a_key_that_its_retries_share(run: Run) -> None:
    keys: list[str] = []

    async def note(ctx: ActivityContext, input: Any) -> None:
        keys.extend([ctx.idempotency_key, ctx.idempotency_key])
        if len(keys) < 4:
            raise ConnectionError("try again")

    run(retried(LIMITED), activities={"note": note})

    assert len(keys) == 4
    assert len(set(keys)) == 1


def test_an_activity_in_a_process_of_a_pool_has_the_same_key_in_its_retries(
    provider: Provider, client: Client, tmp_path: Path
) -> None:
    noted = tmp_path / "keys"
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        runtime = Runtime(provider, executor=pool)
        runtime.register_activity("note", pool_activities.note_key_and_fail_twice)
        runtime.register_orchestration("retried", retried(LIMITED))
        with runtime:
            client.start_orchestration("pooled", "retried", str(noted))
            client.wait_for_orchestration("pooled", WAIT_MS).result()

    keys = noted.read_text().split()
    assert len(keys) == 3
    assert len(set(keys)) == 1


def test_a_delivery_by_the_next_process_has_the_key_of_the_first_delivery(
    provider: Provider, reopen: OpenProvider
) -> None:
    keys: list[str] = []
    may_end = threading.Event()

    def note(ctx: ActivityContext, input: Any) -> None:
        keys.append(ctx.idempotency_key)
        while not may_end.is_set() and not ctx.is_cancelled():
            time.sleep(0.001)

    def serve(store: Provider, deliveries: int) -> None:
        runtime = Runtime(store)
        runtime.register_activity("note", note)
        runtime.register_orchestration("retried", retried(LIMITED))
        with runtime:
            Client(store).start_orchestration("delivered", "retried")
            deadline = time.monotonic() + WAIT_SECONDS
            while len(keys) < deliveries:
                assert time.monotonic() < deadline
                time.sleep(0.001)
            if deliveries == 2:
                may_end.set()
                Client(store).wait_for_orchestration("delivered", WAIT_MS).result()
            else:
                runtime.shutdown(0)

    serve(provider, 1)
    serve(reopen(), 2)

    assert len(set(keys)) == 1


def test_two_calls_have_different_keys(run: Run) -> None:
    def twice(ctx: OrchestrationContext, input: Any) -> Steps:
        return [(yield ctx.schedule_activity("key")), (yield ctx.schedule_activity("key"))]

    first, second = run(twice, activities={"key": lambda ctx, _: ctx.idempotency_key})

    assert first != second


def test_the_next_execution_has_other_keys(run: Run) -> None:
    keys: list[str] = []

    def again(ctx: OrchestrationContext, input: int) -> Steps:
        yield ctx.schedule_activity("key")
        if input < 3:
            yield ctx.continue_as_new(input + 1)
        return None

    run(again, 1, activities={"key": lambda ctx, _: keys.append(ctx.idempotency_key)})

    assert len(set(keys)) == 3


def test_an_instance_that_was_deleted_and_started_again_has_other_keys(run: Run, client: Client) -> None:
    def one(ctx: OrchestrationContext, input: Any) -> Steps:
        return (yield ctx.schedule_activity("key"))

    def play() -> Any:
        return run(one, activities={"key": lambda ctx, _: ctx.idempotency_key}, instance="again")

    first = play()
    client.delete_instance("again")

    assert play() != first


def test_the_key_of_given_facts_never_changes() -> None:
    assert call_key("order-7", 1_796_000_000_000, 2, 9) == "1aecb0db-8c0c-5463-b3d9-987d2483b61c"


def test_the_context_of_a_unit_test_has_a_key_of_its_facts_or_the_given_one() -> None:
    first, second = (ActivityContext({"instance_id": "a", "activity_id": number}) for number in (1, 2))

    assert first.idempotency_key != second.idempotency_key
    assert ActivityContext({"idempotency_key": "given"}).idempotency_key == "given"


@pytest.mark.parametrize("store", ["sqlite"])
def test_a_retry_that_was_recorded_without_its_first_attempt_continues(store: str, tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    calls: list[ActivityContext] = []
    begun, may_end = threading.Event(), threading.Event()

    def note(ctx: ActivityContext, input: Any) -> str:
        calls.append(ctx)
        if len(calls) == 1:
            raise ConnectionError("try again")
        begun.set()
        while not may_end.is_set() and not ctx.is_cancelled():
            time.sleep(0.001)
        return "done"

    @contextlib.contextmanager
    def serve() -> Generator[Runtime, None, None]:
        with SqliteProvider.open(file) as provider:
            runtime = Runtime(provider)
            runtime.register_activity("note", note)
            runtime.register_orchestration("retried", retried(RetryPolicy(max_attempts=3, backoff=Backoff.none())))
            with runtime:
                yield runtime

    with serve() as runtime:
        runtime.client.start_orchestration("old", "retried")
        assert begun.wait(WAIT_SECONDS)
        runtime.shutdown(0)
    may_end.set()
    assert forget_first_attempts(file) == 2
    with serve() as runtime:
        assert runtime.client.wait_for_orchestration("old", WAIT_MS).result() == "done"


def forget_first_attempts(file: Path) -> int:
    """Rewrite the event and the row of every retry as an earlier version wrote them. Returns how many there were."""
    first_attempt = re.compile(r"\\u0002#\d+\\u0002")
    changed = 0
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        for table in ("events", "activities"):
            for [data] in connection.execute(f"SELECT data FROM {table}").fetchall():
                if first_attempt.search(data):
                    earlier = (first_attempt.sub("", data), data)
                    changed += connection.execute(f"UPDATE {table} SET data = ? WHERE data = ?", earlier).rowcount
    return changed
