"""Starts with a time or a delay: the instance exists at once, and begins when it is due."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Generator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from conftest import OpenProvider, StartRuntime
from duroxide import (
    AsyncClient,
    Client,
    InstanceAlreadyExists,
    LimitExceeded,
    OrchestrationContext,
    Provider,
    Runtime,
    StartRequest,
    orchestration,
)
from support.waiting import wait_until

Steps = Generator[Any, Any, Any]
WAIT_MS = 20_000
HOUR = timedelta(hours=1)

# Starts an instance in a process that has no runtime.
START = """
import sys
from duroxide import Client, PostgresProvider, SqliteProvider
place, schema, delay = sys.argv[1:]
store = PostgresProvider.connect_with_schema(place, schema) if schema else SqliteProvider.open(place)
with store:
    Client(store).start_orchestration("later", "order", 1, delay=int(delay))
"""


def order(ctx: OrchestrationContext, input: Any) -> Steps:
    ctx.set_custom_status("begun")
    yield ctx.schedule_timer(0)
    return [input, (yield ctx.dequeue_event("inbox")), (yield ctx.dequeue_event("inbox"))]


def begun_at(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.schedule_timer(0)
    return ctx.now().timestamp()


@orchestration
def declared(ctx: OrchestrationContext) -> Steps:
    yield ctx.schedule_timer(0)


@orchestration
def calls_with_delay(ctx: OrchestrationContext) -> Steps:
    yield declared.options(delay=HOUR)()


ORCHESTRATIONS = {"order": order, "begun_at": begun_at}


def test_an_instance_begins_after_its_delay(client: Client, runtime_factory: StartRuntime) -> None:
    runtime_factory(orchestrations=ORCHESTRATIONS)
    asked = time.time()
    client.start_orchestration("later", "begun_at", delay=timedelta(milliseconds=700))

    began = client.wait_for_orchestration("later", WAIT_MS).result()

    assert began >= asked + 0.699


def test_an_instance_begins_at_its_time(client: Client, runtime_factory: StartRuntime) -> None:
    runtime_factory(orchestrations=ORCHESTRATIONS)
    due = datetime.now(timezone.utc) + timedelta(milliseconds=700)

    began = client.start("begun_at", id="later", at=due).result(20)

    assert began >= due.timestamp() - 0.01


def test_a_time_that_has_passed_starts_at_once(client: Client, runtime_factory: StartRuntime) -> None:
    runtime_factory(orchestrations=ORCHESTRATIONS)
    client.start("begun_at", at=datetime(2000, 1, 1, tzinfo=timezone.utc)).result(20)
    client.start("begun_at", delay=0).result(20)


def test_an_instance_that_begins_later_exists(client: Client, runtime_factory: StartRuntime) -> None:
    runtime_factory(orchestrations=ORCHESTRATIONS)
    due = datetime.now(timezone.utc) + HOUR
    client.start_orchestration("later", "order", at=due)

    description = client.describe("later")

    assert description.starts_at == pytest.approx(due.timestamp() * 1000, abs=60_000)
    assert f"begins {due:%Y-%m-%d}" in str(description)
    assert (description.status, description.has_begun, description.obstacle) == ("Running", False, None)
    assert [each.status for each in client.list(id_prefix="later")] == ["Running"]
    assert client.start_orchestration("later", "order") is False
    with pytest.raises(InstanceAlreadyExists):
        client.start_orchestration("later", "order", if_exists="raise")


def test_messages_wait_for_the_beginning_in_their_order(client: Client, runtime_factory: StartRuntime) -> None:
    runtime_factory(orchestrations=ORCHESTRATIONS)
    client.start_orchestration("later", "order", 1, delay=700)
    client.enqueue_event("later", "inbox", "first")
    client.enqueue_event("later", "inbox", "second")

    assert client.wait_for_orchestration("later", WAIT_MS).result() == [1, "first", "second"]


def test_a_delayed_start_survives_the_end_of_the_process(
    reopen: OpenProvider, provider: Provider, runtime_factory: StartRuntime
) -> None:
    with runtime_factory(orchestrations=ORCHESTRATIONS, start=False):
        client = Client(provider)
        client.start_orchestration("later", "order", 1, delay=1_500)
        client.enqueue_event("later", "inbox", "first")
    again = reopen()
    client = Client(again)
    assert client.get_instance_info("later").has_begun is False
    client.enqueue_event("later", "inbox", "second")
    runtime = Runtime(again)
    runtime.register_orchestration("order", order)
    with runtime:
        assert client.wait_for_orchestration("later", WAIT_MS).result() == [1, "first", "second"]


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_a_process_without_a_runtime_delays_a_start(
    store: str, provider: Provider, runtime_factory: StartRuntime, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    runtime_factory(orchestrations=ORCHESTRATIONS)
    place = str(tmp_path / "store.db") if store == "sqlite" else request.getfixturevalue("postgres_url")
    schema = "" if store == "sqlite" else request.getfixturevalue("postgres_schema")
    subprocess.run([sys.executable, "-c", START, place, schema, "3600000"], check=True, timeout=60)
    client = Client(provider)

    wait_until(lambda: client.describe("later").starts_at is not None)
    assert client.describe("later").has_begun is False


def test_many_starts_have_times_of_their_own(client: Client, runtime_factory: StartRuntime) -> None:
    runtime_factory(orchestrations=ORCHESTRATIONS)
    requests = [
        StartRequest("now", "begun_at"),
        StartRequest("soon", "begun_at", delay=timedelta(milliseconds=300)),
        StartRequest("later", "begun_at", delay=HOUR),
    ]

    assert client.start_orchestrations(requests) == [True, True, True]

    now, soon = (client.wait_for_orchestration(each, WAIT_MS).result() for each in ("now", "soon"))
    assert soon > now
    assert client.describe("later").has_begun is False


def test_a_declared_orchestration_carries_the_options_of_its_start(client: Client) -> None:
    client.start(declared.options(id="order-7", delay=HOUR))

    assert client.describe("order-7").starts_at is not None
    with pytest.raises(InstanceAlreadyExists):
        client.start(declared.options(id="order-7", if_exists="raise"))
    # The options of the call come first.
    client.start(declared.options(id="order-8", delay=HOUR), at=datetime(2000, 1, 1, tzinfo=timezone.utc))
    assert client.describe("order-8").starts_at is None


def test_a_call_in_an_orchestration_refuses_the_options_of_a_start(provider: Provider, client: Client) -> None:
    with Runtime(provider, functions=[calls_with_delay, declared]):
        result = client.start(calls_with_delay).wait(20)

    assert "declared.options(delay=...) is for client.start alone" in str(result.error)


def test_an_asyncio_client_delays_a_start(provider: Provider) -> None:
    async def start() -> int | None:
        client = AsyncClient(provider)
        await client.start(declared, id="later", delay=HOUR)
        return (await client.describe("later")).starts_at

    assert asyncio.run(start()) is not None


def test_a_start_refuses_times_that_mean_nothing(client: Client) -> None:
    with pytest.raises(TypeError, match="'at' or 'delay', not both"):
        client.start("order", at=datetime.now(timezone.utc), delay=1)
    with pytest.raises(ValueError, match="without a time zone"):
        client.start("order", at=datetime(2030, 1, 1))  # noqa: DTZ001  (that is refused)
    with pytest.raises(LimitExceeded, match="delay"):
        client.start("order", delay=timedelta(days=4000))
    with pytest.raises(ValueError, match="delay"):
        client.start("order", delay=-1)
    with pytest.raises(TypeError, match="delay"):
        client.start("order", delay=1.5)  # type: ignore[call-overload]


def test_a_start_that_is_not_due_can_be_deleted(client: Client, runtime_factory: StartRuntime) -> None:
    runtime_factory(orchestrations=ORCHESTRATIONS)
    client.start_orchestration("later", "begun_at", delay=HOUR)

    client.delete_instance("later", force=True)

    assert list(client.list(id_prefix="later")) == []
    assert client.start_orchestration("later", "begun_at") is True
    client.wait_for_orchestration("later", WAIT_MS).result()
