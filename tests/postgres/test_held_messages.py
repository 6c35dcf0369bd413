"""Many messages that wait for one instance: a lease brings their ids, and the node reads each text once."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from duroxide import (
    ActivityContext,
    Client,
    EventToRaise,
    OrchestrationContext,
    PostgresProvider,
    Runtime,
)
from support.proxy import Proxy
from support.waiting import wait_for_event_kind, wait_until

Steps = Generator[Any, Any, Any]

MANY = 50
"""More than the messages whose texts come with a lease."""
READ = "SELECT id, work_item"
"""The beginning of the statement that reads the texts."""
STOP = "stop"


def listener(ctx: OrchestrationContext, _: Any) -> Steps:
    """Waits until it is ready, and collects the news that came before and after."""
    yield ctx.wait_for_event("ready")
    received: list[Any] = []
    while (news := (yield ctx.wait_for_event("news"))) != STOP:
        received.append(news)
    return received


def in_executions(ctx: OrchestrationContext, received: list[Any]) -> Steps:
    """Collects a piece of news in each execution but the first."""
    if not received:
        yield ctx.wait_for_event("ready")
        yield ctx.continue_as_new(["begun"])
    news = yield ctx.wait_for_event("news")
    if news == STOP:
        return received[1:]
    yield ctx.continue_as_new([*received, news])
    return None


def echo(ctx: ActivityContext, value: Any) -> Any:
    return value


def chain(ctx: OrchestrationContext, length: int) -> Steps:
    """Waits for nothing but its activities, after it may begin."""
    yield ctx.wait_for_event("ready")
    for number in range(length):
        yield ctx.schedule_activity("echo", number)
    return "done"


FUNCTIONS: list[Callable[..., Any]] = [listener, in_executions, chain, echo]


class Store:
    """A store whose held messages can be counted, and whose nodes can be opened through a proxy."""

    def __init__(self, url: str, schema: str, connection: psycopg.Connection) -> None:
        self.url = url
        self.schema = schema
        self._connection = connection

    def open(self, url: str | None = None) -> PostgresProvider:
        return PostgresProvider.connect_with_schema(url or self.url, self.schema)

    def ask(self, statement: str, *names: sql.Composable) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql.SQL(statement).format(sql.Identifier(self.schema), *names)).fetchall()

    def lease(self) -> list[tuple[Any, ...]]:
        """Lease ``instance`` as a node does; return kind and text of each row."""
        names = (
            "SELECT proname FROM pg_proc WHERE pronamespace = %s::regnamespace AND proname LIKE 'python\\_lease\\_%%'"
        )
        ((name,),) = self._connection.execute(names, [self.schema]).fetchall()
        lease = "SELECT kind, item FROM {}.{}(ARRAY['instance'], ARRAY['token'], 1000, NULL, NULL)"
        return self.ask(lease, sql.Identifier(name))

    def count_held(self) -> int:
        return int(self.ask("SELECT count(*) FROM {}.orchestrator_queue WHERE lock_token = 'held'")[0][0])

    def hold(self, client: Client, orchestration: str, value: Any = None) -> None:
        """Start ``instance``, and send it news that it does not wait for until all of it is held back."""
        client.start_orchestration("instance", orchestration, value)
        wait_for_event_kind(client, "instance", "ExternalSubscribed")
        client.raise_events([EventToRaise("instance", "news", number) for number in range(MANY)])
        wait_until(lambda: self.count_held() == MANY, "the news to be held back")


@pytest.fixture
def store(postgres_url: str, postgres_schema: str, postgres_connection: psycopg.Connection) -> Store:
    return Store(postgres_url, postgres_schema, postgres_connection)


@pytest.fixture
def proxy(postgres_url: str) -> Iterator[Proxy]:
    proxy = Proxy(postgres_url)
    yield proxy
    proxy.close()


@pytest.mark.parametrize("orchestration", ["listener", "in_executions"])
def test_messages_come_in_order_although_the_server_refuses_to_read_them_once(
    orchestration: str, store: Store, proxy: Proxy
) -> None:
    with store.open() as first, Runtime(first, functions=FUNCTIONS):
        store.hold(Client(first), orchestration, [])
    with store.open() as outside, store.open(proxy.url) as second:
        client = Client(outside)
        proxy.run_instead(READ, lambda: None)
        with Runtime(second, functions=FUNCTIONS):
            client.raise_event("instance", "ready")
            assert proxy.has_swallowed.wait(30)
            client.raise_event("instance", "news", STOP)
            assert client.wait_for_orchestration("instance", 60_000).result() == list(range(MANY))


def test_a_lease_brings_the_ids_of_many_held_messages_and_the_texts_of_new_ones(store: Store) -> None:
    with store.open() as provider:
        client = Client(provider)
        with Runtime(provider, functions=FUNCTIONS):
            store.hold(client, "listener")
        # No runtime takes this one.
        client.raise_event("instance", "newest")
    rows = store.lease()
    ids = store.ask("SELECT id FROM {}.orchestrator_queue WHERE lock_token = 'held' ORDER BY id")
    (text,) = [item for kind, item in rows if kind == 3]
    (listed,) = [item for kind, item in rows if kind == 12]
    assert "newest" in text
    assert sorted(int(number) for number in listed.split()) == [number for (number,) in ids]


def test_a_node_reads_the_text_of_a_held_message_once(store: Store, proxy: Proxy) -> None:
    with store.open() as outside, store.open(proxy.url) as provider, Runtime(provider, functions=FUNCTIONS):
        client = Client(outside)
        store.hold(client, "chain", 5)
        proxy.swallow_answer(READ)
        client.raise_event("instance", "ready")
        assert proxy.has_swallowed.wait(30)
        # The next turns ask for the texts at most once: the answer to the first request was lost.
        wait_for_event_kind(client, "instance", "ActivityCompleted")
        proxy.run_instead(READ, lambda: None)
        assert client.wait_for_orchestration("instance", 60_000).result() == "done"
        assert not proxy.has_swallowed.is_set()


def test_an_instance_that_ends_takes_its_held_messages_with_it(store: Store) -> None:
    with store.open() as provider, Runtime(provider, functions=FUNCTIONS):
        client = Client(provider)
        store.hold(client, "chain", 1)
        client.raise_event("instance", "ready")
        client.wait_for_orchestration("instance", 60_000)
        assert client.get_queue_depths().orchestrator_queue == 0


def test_a_cancellation_reaches_an_instance_among_its_held_messages(store: Store, proxy: Proxy) -> None:
    with store.open() as first, Runtime(first, functions=FUNCTIONS):
        store.hold(Client(first), "listener")
    with store.open() as outside, store.open(proxy.url) as second:
        client = Client(outside)
        proxy.run_instead(READ, lambda: None)
        with Runtime(second, functions=FUNCTIONS):
            client.cancel_instance("instance", "enough")
            assert client.wait_for_orchestration("instance", 60_000).error == "canceled: enough"
        assert client.get_queue_depths().orchestrator_queue == 0


def test_a_message_that_is_held_again_by_another_node_is_known_by_both(store: Store) -> None:
    with store.open() as first, store.open() as second:
        client = Client(first)
        with Runtime(first, functions=FUNCTIONS):
            store.hold(client, "listener")
        with Runtime(second, functions=FUNCTIONS):
            client.raise_events([EventToRaise("instance", "news", number) for number in range(MANY, 2 * MANY)])
            wait_until(lambda: store.count_held() == 2 * MANY, "the news to be held back")
        with Runtime(first, functions=FUNCTIONS):
            client.raise_event("instance", "ready")
            client.raise_event("instance", "news", STOP)
            assert client.wait_for_orchestration("instance", 60_000).result() == list(range(2 * MANY))
