"""Many starts, events and messages in one call: all of them or none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import Any

import pytest

from conftest import WAIT_MS, OpenProvider, StartRuntime
from duroxide import (
    MAX_BULK_ITEMS,
    Client,
    CodecError,
    EventToRaise,
    InstanceAlreadyExists,
    LimitExceeded,
    OrchestrationContext,
    PostgresProvider,
    QueueMessage,
    StartRequest,
)
from store.programs import Steps
from support.proxy import COMMIT, Proxy
from support.waiting import wait_for_event_kind


def echo(ctx: OrchestrationContext, value: Any) -> Any:
    return value


def wait_for_go(ctx: OrchestrationContext, _: Any) -> Steps:
    return (yield ctx.wait_for_event("go"))


def read_messages(ctx: OrchestrationContext, count: int) -> Steps:
    return (yield ctx.gather([ctx.dequeue_event("inbox") for _ in range(count)]))


PROGRAMS = {"echo": echo, "wait_for_go": wait_for_go, "read_messages": read_messages}


def test_many_starts_run_like_single_ones(runtime_factory: StartRuntime, client: Client) -> None:
    runtime_factory(orchestrations=PROGRAMS)
    requests = [StartRequest(f"echo-{number}", "echo", {"number": number}) for number in range(200)]
    assert client.start_orchestrations(requests) == [True] * 200
    outputs = [client.wait_for_orchestration(request.instance_id, WAIT_MS).result() for request in requests]
    assert outputs == [request.input for request in requests]


def test_starts_are_recorded_before_any_runtime_works(
    client: Client, reopen: OpenProvider, runtime_factory: StartRuntime
) -> None:
    client.start_orchestrations(StartRequest(f"echo-{number}", "echo", number) for number in range(10))
    with reopen() as provider:
        again = Client(provider)
        requests = [StartRequest(f"echo-{number}", "echo", number) for number in range(11)]
        assert again.start_orchestrations(requests) == [False] * 10 + [True]


def test_a_start_attaches_to_an_instance_of_the_same_orchestration(client: Client) -> None:
    client.start_orchestration("there", "echo", 1)
    requests = [StartRequest("there", "echo", 2), StartRequest("new", "echo"), StartRequest("new", "echo")]
    assert client.start_orchestrations(requests) == [False, True, False]


def test_all_are_refused_when_another_orchestration_has_one_id(client: Client) -> None:
    client.start_orchestration("taken", "wait_for_go")
    requests = [StartRequest("new", "echo"), StartRequest("taken", "echo")]
    with pytest.raises(InstanceAlreadyExists, match=r"requests\[1\].*'taken'.*'wait_for_go'"):
        client.start_orchestrations(requests)
    assert client.start_orchestration("new", "wait_for_go") is True


def test_all_are_refused_when_one_id_exists_and_if_exists_is_raise(client: Client) -> None:
    client.start_orchestration("taken", "echo")
    requests = [StartRequest("new", "echo"), StartRequest("taken", "echo")]
    with pytest.raises(InstanceAlreadyExists, match=r"requests\[1\].*'taken'"):
        client.start_orchestrations(requests, if_exists="raise")
    assert client.start_orchestration("new", "echo", if_exists="raise") is True


@pytest.mark.parametrize("names", [("echo", "wait_for_go"), ("echo", "echo")])
def test_a_duplicate_id_is_refused_if_its_starts_conflict(names: tuple[str, str], client: Client) -> None:
    requests = [StartRequest("other", "echo"), *(StartRequest("twice", name) for name in names)]
    with pytest.raises(InstanceAlreadyExists, match=r"requests\[2\].*'twice'"):
        client.start_orchestrations(requests, if_exists="attach" if names[0] != names[1] else "raise")
    assert client.start_orchestration("other", "wait_for_go") is True


def test_versions_are_chosen_for_each_start(runtime_factory: StartRuntime, client: Client) -> None:
    runtime = runtime_factory(start=False)
    for version in ("1.0.0", "2.0.0"):
        runtime.register_orchestration_versioned("named", version, lambda ctx, _, version=version: version)
    runtime.start()
    client.start_orchestrations([StartRequest("old", "named", version="1.0.0"), StartRequest("newest", "named")])
    assert client.wait_for_orchestration("old", WAIT_MS).result() == "1.0.0"
    assert client.wait_for_orchestration("newest", WAIT_MS).result() == "2.0.0"


def test_inputs_are_recorded_as_by_a_single_start(runtime_factory: StartRuntime, client: Client) -> None:
    runtime_factory(orchestrations=PROGRAMS)
    value = {"when": datetime(2026, 1, 2, tzinfo=timezone.utc), "what": {3, 1, 2}}
    client.start_orchestration("single", "echo", value)
    client.start_orchestrations([StartRequest("many", "echo", value)])
    for instance in ("single", "many"):
        client.wait_for_orchestration(instance, WAIT_MS)
    inputs = [client.read_execution_history(instance)[0].data for instance in ("single", "many")]
    assert inputs[0] == inputs[1]


def test_many_events_reach_their_waits(runtime_factory: StartRuntime, client: Client) -> None:
    runtime_factory(orchestrations=PROGRAMS)
    instances = [f"waiting-{number}" for number in range(20)]
    client.start_orchestrations([StartRequest(instance, "wait_for_go") for instance in instances])
    for instance in instances:
        wait_for_event_kind(client, instance, "ExternalSubscribed")
    client.raise_events([EventToRaise(instance, "go", {"to": instance}) for instance in instances])
    for instance in instances:
        assert client.wait_for_orchestration(instance, WAIT_MS).result() == {"to": instance}


def test_messages_of_one_queue_arrive_in_order(runtime_factory: StartRuntime, client: Client) -> None:
    runtime_factory(orchestrations=PROGRAMS)
    client.start_orchestration("mailbox", "read_messages", 50)
    client.enqueue_events([QueueMessage("mailbox", "inbox", f"{number}") for number in range(50)])
    assert client.wait_for_orchestration("mailbox", WAIT_MS).result() == [f"{number}" for number in range(50)]


def test_a_text_message_is_sent_unchanged_and_any_other_as_json(runtime_factory: StartRuntime, client: Client) -> None:
    runtime_factory(orchestrations=PROGRAMS)
    client.start_orchestration("mailbox", "read_messages", 2)
    client.enqueue_events([QueueMessage("mailbox", "inbox", "a text"), QueueMessage("mailbox", "inbox", {"a": 1})])
    assert client.wait_for_orchestration("mailbox", WAIT_MS).result() == ["a text", '{"a": 1}']


def test_messages_that_come_before_their_instances_are_kept(runtime_factory: StartRuntime, client: Client) -> None:
    runtime_factory(orchestrations=PROGRAMS)
    client.raise_events([EventToRaise("later", "go", "early")])
    client.enqueue_events([QueueMessage("mailbox", "inbox", str(number)) for number in range(3)])
    client.start_orchestrations([StartRequest("later", "wait_for_go"), StartRequest("mailbox", "read_messages", 3)])
    assert client.wait_for_orchestration("later", WAIT_MS).result() == "early"
    assert client.wait_for_orchestration("mailbox", WAIT_MS).result() == ["0", "1", "2"]


@pytest.fixture
def proxy(postgres_url: str) -> Iterator[Proxy]:
    proxy = Proxy(postgres_url)
    yield proxy
    proxy.close()


@pytest.mark.parametrize("store", ["postgres"])
def test_starts_are_not_repeated_when_the_reply_to_their_commit_is_lost(
    proxy: Proxy, postgres_schema: str, client: Client
) -> None:
    requests = [StartRequest(f"echo-{number}", "echo") for number in range(3)]
    with PostgresProvider.connect_with_schema(proxy.url, postgres_schema) as provider:
        proxy.swallow_answer(COMMIT)
        # A second attempt would find the first one's instances, and be refused.
        assert Client(provider).start_orchestrations(requests, if_exists="raise") == [True] * 3
        assert proxy.has_swallowed.is_set()
    assert client.get_queue_depths().orchestrator_queue == 3


@pytest.mark.parametrize("store", ["postgres"])
def test_messages_are_not_repeated_when_the_reply_to_their_commit_is_lost(
    proxy: Proxy, postgres_schema: str, client: Client
) -> None:
    client.start_orchestration("mailbox", "read_messages", 2)
    with PostgresProvider.connect_with_schema(proxy.url, postgres_schema) as provider:
        proxy.swallow_answer(COMMIT)
        Client(provider).enqueue_events([QueueMessage("mailbox", "inbox", text) for text in ("one", "two")])
        assert proxy.has_swallowed.is_set()
    assert client.get_queue_depths().orchestrator_queue == 3


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_each_id_is_started_once_by_two_clients_at_the_same_time(open_store: OpenProvider) -> None:
    requests = [StartRequest(f"echo-{number}", "echo") for number in range(100)]
    with open_store() as one, open_store() as other, ThreadPoolExecutor(4) as threads:
        clients = [Client(one), Client(other)] * 2
        orders = [requests, requests[::-1], requests[50:] + requests[:50], requests]
        answers = list(threads.map(Client.start_orchestrations, clients, orders))
    started = Counter(
        request.instance_id
        for order, answer in zip(orders, answers, strict=True)
        for request, was_started in zip(order, answer, strict=True)
        if was_started
    )
    assert started == Counter(request.instance_id for request in requests)


def test_an_empty_call_sends_nothing(client: Client) -> None:
    assert client.start_orchestrations([]) == []
    client.raise_events([])
    client.enqueue_events(())
    assert client.get_queue_depths().orchestrator_queue == 0


Call = Callable[[Client, list[Any]], object]
CALLS: list[tuple[Call, Callable[[str], Any], str]] = [
    (Client.start_orchestrations, lambda instance: StartRequest(instance, "echo"), "requests"),
    (Client.raise_events, lambda instance: EventToRaise(instance, "go"), "events"),
    (Client.enqueue_events, lambda instance: QueueMessage(instance, "inbox", "text"), "messages"),
]
each_call = pytest.mark.parametrize(("call", "item", "what"), CALLS, ids=[what for _, _, what in CALLS])
in_memory = pytest.mark.parametrize("store", ["memory"])


@in_memory
@each_call
def test_an_error_names_the_bad_item_by_position_and_id(
    call: Call, item: Callable[[str], Any], what: str, client: Client
) -> None:
    with pytest.raises(LimitExceeded, match=rf"^{what}\[2\], instance 'xxx.*1024 are allowed"):
        call(client, [item("a"), item("b"), item("x" * 1025)])
    assert client.get_queue_depths().orchestrator_queue == 0


@in_memory
@each_call
def test_a_value_of_another_type_than_an_item_is_refused(
    call: Call, item: Callable[[str], Any], what: str, client: Client
) -> None:
    with pytest.raises(TypeError, match=rf"{what}\[1\] must be a \w+, not tuple"):
        call(client, [item("a"), ("b", "echo")])
    with pytest.raises(TypeError, match=f"{what} must be a list"):
        call(client, item("a"))
    assert client.get_queue_depths().orchestrator_queue == 0


@in_memory
@each_call
def test_more_items_than_the_limit_are_refused(
    call: Call, item: Callable[[str], Any], what: str, client: Client
) -> None:
    with pytest.raises(LimitExceeded, match=f"{what} has more than {MAX_BULK_ITEMS} items"):
        call(client, [item("a")] * (MAX_BULK_ITEMS + 1))
    assert client.get_queue_depths().orchestrator_queue == 0


@in_memory
def test_a_call_takes_as_many_items_as_its_limit(client: Client) -> None:
    requests = [StartRequest(f"echo-{number}", "echo") for number in range(MAX_BULK_ITEMS)]
    assert client.start_orchestrations(requests) == [True] * MAX_BULK_ITEMS


@in_memory
@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        (StartRequest("a", "echo", object()), CodecError, "no form in JSON"),
        (StartRequest("a", "echo", version="one"), ValueError, "semantic version"),
        (StartRequest("a", ""), LimitExceeded, "empty"),
        (StartRequest(7, "echo"), TypeError, "must be a str"),  # type: ignore[arg-type]
    ],
)
def test_a_bad_start_raises_the_same_class_as_a_single_start(
    request_: StartRequest, error: type[Exception], message: str, client: Client
) -> None:
    with pytest.raises(error, match=rf"requests\[0\], instance .*{message}"):
        client.start_orchestrations([request_])


@in_memory
def test_an_unknown_policy_is_refused(client: Client) -> None:
    with pytest.raises(ValueError, match="'attach', 'raise', 'restart', 'restart_failed', not 'overwrite'"):
        client.start_orchestrations([], if_exists="overwrite")  # type: ignore[arg-type]


def test_items_are_frozen_and_equal_by_value() -> None:
    assert StartRequest("a", "echo") == StartRequest("a", "echo", None, None)
    for item in (StartRequest("a", "echo"), EventToRaise("a", "go"), QueueMessage("a", "inbox", "text")):
        with pytest.raises(AttributeError):
            item.instance_id = "b"  # type: ignore[misc]
