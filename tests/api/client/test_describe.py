"""``client.describe``: what an instance waits for, since when, and what stands in its way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator, Iterator
from threading import Event
from typing import Any, TypeVar

import psycopg
import pytest

from conftest import OpenProvider, StartRuntime
from duroxide import (
    ActivityContext,
    ActivityWait,
    AsyncClient,
    Backoff,
    ChildWait,
    Client,
    EventWait,
    InstanceDescription,
    InstanceNotFound,
    Obstacle,
    OrchestrationContext,
    Provider,
    QueueWait,
    RetryPolicy,
    Runtime,
    RuntimeOptions,
    TimerWait,
    Wait,
)
from support.waiting import wait_for_event_kind, wait_until

Steps = Generator[Any, Any, Any]
Kind = TypeVar("Kind", bound=Wait)
HOUR_MS = 3_600_000


class Hold:
    """Activities that run until the test lets them end."""

    def __init__(self) -> None:
        self._end = Event()

    def hold(self, ctx: ActivityContext, input: Any) -> None:
        self._end.wait(30)

    def end(self) -> None:
        self._end.set()


@pytest.fixture
def held() -> Iterator[Hold]:
    """Activities that end with the test at the latest."""
    held = Hold()
    yield held
    held.end()


def fail(ctx: ActivityContext, input: Any) -> None:
    raise ValueError("the card was declined")


def waiting(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.wait_for_event("go")


def sleeping(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.schedule_timer(HOUR_MS)


def reading(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.dequeue_event("orders")


def parent(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.schedule_sub_orchestration_with_id("waiting", "child-1", input)


def working(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.schedule_activity("hold", input)


def retrying(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.schedule_activity_with_retry("fail", input, RetryPolicy(max_attempts=3, backoff=Backoff.fixed(HOUR_MS)))


def tagged(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.schedule_activity("hold", input).with_tag("gpu")


def in_session(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.schedule_activity_on_session("hold", input, f"session-{input}")


def several(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.gather([ctx.wait_for_event("go"), ctx.schedule_timer(HOUR_MS), ctx.dequeue_event("orders")])


ORCHESTRATIONS: dict[str, Callable[..., Any]] = {
    each.__name__: each for each in (waiting, sleeping, reading, parent, working, retrying, tagged, in_session, several)
}


@pytest.fixture
def runtime(runtime_factory: StartRuntime, held: Hold) -> Runtime:
    """A runtime with all functions above."""
    return runtime_factory({"hold": held.hold, "fail": fail}, ORCHESTRATIONS)


def wait_of(description: InstanceDescription, kind: type[Kind]) -> Kind:
    """The only wait of an instance, which is of a kind."""
    (wait,) = description.waits
    assert isinstance(wait, kind)
    return wait


def described(client: Client, instance: str, is_so: Callable[[InstanceDescription], object]) -> InstanceDescription:
    """The description of an instance, as soon as it is so."""
    wait_until(lambda: is_so(client.describe(instance)), f"a description of '{instance}'")
    return client.describe(instance)


def test_an_unknown_instance_is_not_described(client: Client) -> None:
    with pytest.raises(InstanceNotFound, match="'unknown'"):
        client.describe("unknown")


@pytest.mark.usefixtures("runtime")
def test_an_instance_says_since_when_it_waits_for_an_event(client: Client) -> None:
    before = time.time() * 1000
    client.start_orchestration("order-1", "waiting")
    wait_for_event_kind(client, "order-1", "ExternalSubscribed")

    description = client.describe("order-1")

    wait = wait_of(description, EventWait)
    assert (description.status, wait.kind, wait.name, wait.obstacle) == ("Running", "event", "go", None)
    assert before - 1 <= wait.since <= time.time() * 1000 + 1
    assert description.obstacles == ()


@pytest.mark.usefixtures("runtime")
def test_an_instance_says_when_its_timer_is_due(client: Client) -> None:
    client.start_orchestration("order-1", "sleeping")
    wait_for_event_kind(client, "order-1", "TimerCreated")

    wait = wait_of(client.describe("order-1"), TimerWait)

    assert wait.due == pytest.approx(wait.since + HOUR_MS, abs=1000)


@pytest.mark.usefixtures("runtime")
def test_an_instance_says_which_queue_it_reads(client: Client) -> None:
    client.start_orchestration("order-1", "reading")
    wait_for_event_kind(client, "order-1", "QueueSubscribed")

    assert wait_of(client.describe("order-1"), QueueWait).name == "orders"


@pytest.mark.usefixtures("runtime")
def test_an_instance_names_the_child_that_it_waits_for(client: Client) -> None:
    client.start_orchestration("order-1", "parent")
    wait_for_event_kind(client, "order-1", "SubOrchestrationScheduled")

    wait = wait_of(client.describe("order-1"), ChildWait)

    assert (wait.name, wait.instance_id) == ("waiting", "child-1")
    assert client.describe("child-1").parent_instance_id == "order-1"


@pytest.mark.usefixtures("runtime")
def test_an_instance_lists_its_waits_in_the_order_of_their_events(client: Client) -> None:
    client.start_orchestration("order-1", "several")
    wait_for_event_kind(client, "order-1", "QueueSubscribed")

    assert [wait.kind for wait in client.describe("order-1").waits] == ["event", "timer", "queue"]


@pytest.mark.usefixtures("runtime")
def test_a_running_activity_says_on_which_node_and_since_when(client: Client) -> None:
    client.start_orchestration("order-1", "working")

    def runs(description: InstanceDescription) -> bool:
        return any(isinstance(wait, ActivityWait) and wait.state == "running" for wait in description.waits)

    wait = wait_of(described(client, "order-1", runs), ActivityWait)

    assert (wait.name, wait.attempt, wait.deliveries, wait.obstacle) == ("hold", 1, 1, None)
    assert wait.node is not None
    assert wait.running_since is not None
    assert wait.running_since >= wait.since - 1000


@pytest.mark.usefixtures("runtime")
def test_a_retried_activity_says_why_it_failed_and_when_it_is_tried_again(client: Client) -> None:
    client.start_orchestration("order-1", "retrying")
    wait_for_event_kind(client, "order-1", "TimerCreated")

    wait = wait_of(client.describe("order-1"), ActivityWait)

    assert (wait.name, wait.state, wait.attempt) == ("fail", "retrying", 2)
    assert wait.last_failure == "ValueError: the card was declined"
    assert wait.next_attempt is not None
    assert wait.next_attempt > time.time() * 1000 + HOUR_MS / 2


@pytest.mark.usefixtures("runtime")
def test_an_activity_whose_tag_no_runtime_takes_says_so(client: Client) -> None:
    client.start_orchestration("order-1", "tagged")
    wait_for_event_kind(client, "order-1", "ActivityScheduled")

    wait = wait_of(client.describe("order-1"), ActivityWait)

    assert (wait.state, wait.tag) == ("queued", "gpu")
    assert wait.obstacle is not None
    assert wait.obstacle.kind == "no_worker"
    assert "'gpu'" in wait.obstacle.message


def test_an_activity_behind_a_full_session_limit_says_so(
    runtime_factory: StartRuntime, held: Hold, client: Client
) -> None:
    runtime_factory({"hold": held.hold}, ORCHESTRATIONS, RuntimeOptions(max_sessions_per_runtime=1))
    for number in (1, 2):
        client.start_orchestration(f"order-{number}", "in_session", number)
        wait_for_event_kind(client, f"order-{number}", "ActivityScheduled")
    wait_until(lambda: _states(client) == ["queued", "running"], "one activity runs, and the other one waits")

    def obstacles() -> list[Obstacle]:
        return [each for number in (1, 2) for each in client.describe(f"order-{number}").obstacles]

    wait_until(lambda: [each.kind for each in obstacles()] == ["session_limit"])
    assert "max_sessions_per_runtime" in obstacles()[0].message


def _states(client: Client) -> list[str]:
    waits = [wait for number in (1, 2) for wait in client.describe(f"order-{number}").waits]
    return sorted(wait.state for wait in waits if isinstance(wait, ActivityWait))


def test_an_activity_behind_busy_slots_says_so(runtime_factory: StartRuntime, held: Hold, client: Client) -> None:
    runtime_factory({"hold": held.hold}, ORCHESTRATIONS, RuntimeOptions(worker_concurrency=1))
    for number in (1, 2):
        client.start_orchestration(f"order-{number}", "working", number)
        wait_for_event_kind(client, f"order-{number}", "ActivityScheduled")

    wait_until(lambda: [each.kind for n in (1, 2) for each in client.describe(f"order-{n}").obstacles] == ["busy"])


def test_a_start_without_a_runtime_says_so(client: Client) -> None:
    client.start_orchestration("order-1", "waiting")

    description = client.describe("order-1")

    assert (description.status, description.has_begun, description.waits) == ("Running", False, ())
    assert description.obstacle is not None
    assert description.obstacle.kind == "no_runtime"


@pytest.mark.usefixtures("runtime")
def test_an_instance_whose_runtime_has_ended_says_so(client: Client, runtime: Runtime) -> None:
    client.start_orchestration("order-1", "waiting")
    wait_for_event_kind(client, "order-1", "ExternalSubscribed")
    runtime.shutdown()
    client.raise_event("order-1", "go")

    description = client.describe("order-1")

    assert description.obstacle is not None
    assert description.obstacle.kind == "no_runtime"
    assert [(each.kind, each.name, each.count) for each in description.unread] == [("event", "go", 1)]


@pytest.mark.parametrize("store", ["postgres"])
def test_a_start_whose_orchestration_no_node_has_says_so(runtime_factory: StartRuntime, client: Client) -> None:
    runtime_factory({}, {"reading": reading})
    client.start_orchestration("order-1", "waiting")

    obstacle = described(client, "order-1", lambda description: description.obstacles).obstacle

    assert obstacle is not None
    assert obstacle.kind == "no_code"
    assert "'waiting'" in obstacle.message


@pytest.mark.parametrize("store", ["postgres"])
def test_a_start_whose_version_no_node_has_says_so(runtime_factory: StartRuntime, client: Client) -> None:
    runtime_factory({}, {"waiting": waiting})
    client.start_orchestration("order-1", "waiting", version="2.0.0")

    obstacle = described(client, "order-1", lambda description: description.obstacles).obstacle

    assert obstacle is not None
    assert obstacle.kind == "no_code"
    assert "2.0.0" in obstacle.message


def test_an_instance_whose_code_does_not_fit_says_where(
    runtime_factory: StartRuntime, runtime: Runtime, client: Client
) -> None:
    client.start_orchestration("order-1", "waiting")
    wait_for_event_kind(client, "order-1", "ExternalSubscribed")
    runtime.shutdown()
    runtime_factory({}, {"waiting": sleeping})
    client.raise_event("order-1", "go")

    obstacle = described(client, "order-1", lambda description: description.obstacle).obstacle

    assert obstacle is not None
    assert obstacle.kind == "mismatch"
    assert obstacle.message == client.get_status("order-1").mismatch


@pytest.mark.parametrize("store", ["postgres"])
@pytest.mark.usefixtures("runtime")
def test_an_instance_whose_turn_the_store_refuses_says_why(
    client: Client, postgres_connection: psycopg.Connection, postgres_schema: str
) -> None:
    client.start_orchestration("order-1", "waiting")
    wait_for_event_kind(client, "order-1", "ExternalSubscribed")
    postgres_connection.execute(  # type: ignore[call-overload]  # the text is the test's
        f"CREATE FUNCTION {postgres_schema}.refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE insufficient_privilege USING MESSAGE = 'the quota is full'; END $$; "
        f"CREATE TRIGGER refuse BEFORE INSERT ON {postgres_schema}.history "
        f"FOR EACH ROW EXECUTE FUNCTION {postgres_schema}.refuse()"
    )
    client.raise_event("order-1", "go")

    obstacle = described(client, "order-1", lambda description: description.obstacle).obstacle

    assert obstacle is not None
    assert obstacle.kind == "refused"
    assert "the quota is full" in obstacle.message


@pytest.mark.usefixtures("runtime")
def test_an_instance_that_has_ended_waits_for_nothing(client: Client) -> None:
    client.start_orchestration("order-1", "waiting")
    client.raise_event("order-1", "go")
    client.wait_for_orchestration("order-1")

    description = client.describe("order-1")

    assert (description.status, description.waits, description.obstacles) == ("Completed", (), ())


@pytest.mark.usefixtures("runtime")
def test_a_description_reads_as_lines_for_people(client: Client) -> None:
    client.start_orchestration("order-1", "tagged")
    wait_for_event_kind(client, "order-1", "ActivityScheduled")

    first, second = str(client.describe("order-1")).splitlines()

    assert first.startswith("instance 'order-1': Running, orchestration 'tagged' ")
    assert second.startswith("  waits for activity 'hold' since ")
    assert "queued, attempt 1; no runtime with the activity 'hold' takes the tag 'gpu'" in second


@pytest.mark.usefixtures("runtime")
def test_a_handle_describes_its_instance(client: Client) -> None:
    handle = client.start("waiting", id="order-1")

    assert handle.describe().instance_id == "order-1"


@pytest.mark.usefixtures("runtime")
def test_the_client_of_asyncio_describes_an_instance(provider: Provider) -> None:
    async def main() -> list[str]:
        client = AsyncClient(provider)
        handle = await client.start("waiting", id="order-1")
        return [(await client.describe("order-1")).instance_id, (await handle.describe()).instance_id]

    assert asyncio.run(main()) == ["order-1", "order-1"]


@pytest.mark.parametrize("store", ["postgres"])
@pytest.mark.usefixtures("runtime")
def test_another_process_sees_which_node_runs_an_activity(open_store: OpenProvider, client: Client) -> None:
    client.start_orchestration("order-1", "working")
    described(client, "order-1", lambda it: [wait["state"] for wait in it.waits] == ["running"])
    own = wait_of(client.describe("order-1"), ActivityWait)

    # A second opening shares nothing with the first one, as in another process.
    with open_store() as other:
        wait = wait_of(described(Client(other), "order-1", lambda it: it.waits[0]["node"]), ActivityWait)

    assert (wait.state, wait.node, wait.attempt) == ("running", own.node, 1)


@pytest.mark.parametrize("store", ["postgres"])
@pytest.mark.usefixtures("runtime")
def test_another_process_sees_that_no_node_takes_a_tag(open_store: OpenProvider, client: Client) -> None:
    client.start_orchestration("order-1", "tagged")
    wait_for_event_kind(client, "order-1", "ActivityScheduled")

    with open_store() as other:
        description = described(
            Client(other), "order-1", lambda it: [each.kind for each in it.obstacles] == ["no_worker"]
        )

    assert "'gpu'" in str(description)
