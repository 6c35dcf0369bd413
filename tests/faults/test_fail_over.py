"""A URL that names two servers: the store moves to the one that takes writes, and loses nothing on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

from duroxide import Client, PostgresProvider
from faults.load import Load
from faults.nodes import Node, Nodes
from faults.outages import SOON_SECONDS, wait_until_missed
from faults.servers import ServerAtHand
from support.proxy import Proxy
from support.waiting import wait_until

pytestmark = [pytest.mark.alone, pytest.mark.slow]

MakeLoad = Callable[..., Load]

MOVES = "the store moves from"


def place_of(url: str) -> str:
    """Host and port of a URL."""
    return urlsplit(url).netloc.rpartition("@")[2]


def both(first: str, second: str) -> str:
    """The URL of a store on two servers with the same user and password."""
    split = urlsplit(first)
    return f"postgresql://{split.netloc},{place_of(second)}{split.path}?target_session_attrs=primary"


def moves_of(node: Node) -> list[str]:
    """The moves that a node has logged."""
    return [complaint for complaint in node.complaints() if MOVES in complaint]


def make_read_only(server: ServerAtHand) -> None:
    """Let a server refuse writes on connections that stay open."""
    with server.connect() as connection:
        connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        connection.execute("SELECT pg_reload_conf()")


@pytest.fixture
def writable_again(server: ServerAtHand) -> Iterator[None]:
    """Undo ``make_read_only`` after the test."""
    yield
    with server.connect() as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute("ALTER SYSTEM RESET default_transaction_read_only")


def test_work_continues_on_the_replica_that_is_promoted(
    replica: ServerAtHand, server: ServerAtHand, nodes: Nodes, make_load: MakeLoad
) -> None:
    url = both(server.url, replica.url)
    one, other = nodes.start("one", url=url), nodes.start("other", url=url)
    load = make_load(url)
    load.start()
    server.crash()
    replica.promote()

    assert load.wait_for_progress() < SOON_SECONDS
    load.finish(replica.url)
    for node in (one, other):
        assert node.is_alive()


def test_a_move_is_logged_once_without_the_password(replica: ServerAtHand, server: ServerAtHand, nodes: Nodes) -> None:
    node = nodes.start("one", url=both(server.url, replica.url))
    server.crash()
    replica.promote()
    wait_until(lambda: moves_of(node))

    [move] = moves_of(node)
    assert f"{MOVES} {place_of(server.url)} to {place_of(replica.url)}" in move
    password = urlsplit(server.url).password
    assert password
    assert not any(password in complaint for complaint in node.complaints())


def test_a_store_stays_on_a_server_that_only_restarts(
    replica: ServerAtHand, server: ServerAtHand, nodes: Nodes, make_load: MakeLoad
) -> None:
    url = both(server.url, replica.url)
    node = nodes.start("one", url=url)
    load = make_load(url)
    load.start()
    server.stop_fast()
    server.start()

    load.wait_for_progress()
    load.finish()
    assert moves_of(node) == []


def test_a_store_opens_on_the_second_server_while_the_first_is_down(
    replica: ServerAtHand, server: ServerAtHand, open_provider: Callable[..., PostgresProvider]
) -> None:
    open_provider(server.url).close()
    server.crash()
    replica.promote()
    client = Client(open_provider(both(server.url, replica.url)))

    assert client.list_all_instances() == []


def test_a_store_opens_on_the_primary_behind_a_replica(
    replica: ServerAtHand, server: ServerAtHand, open_provider: Callable[..., PostgresProvider]
) -> None:
    client = Client(open_provider(both(replica.url, server.url)))

    client.start_orchestration("started", "place")
    with server.connect() as connection:
        assert server.sessions_of(connection)
    with replica.connect() as connection:
        assert replica.sessions_of(connection) == []


@pytest.mark.usefixtures("writable_again")
def test_a_server_that_takes_no_writes_any_more_is_left_although_it_answers(
    replica: ServerAtHand, server: ServerAtHand, nodes: Nodes, make_load: MakeLoad
) -> None:
    url = both(server.url, replica.url).replace("=primary", "=read-write")
    node = nodes.start("one", url=url)
    load = make_load(url)
    load.start()
    make_read_only(server)
    # The commits that had begun are acknowledged by the replica before it is promoted.
    wait_until_missed(node)
    replica.promote()

    load.wait_for_progress()
    load.finish(replica.url)
    assert len(moves_of(node)) == 1
    with server.connect() as connection:
        wait_until(lambda: server.sessions_of(connection) == [])


def test_a_server_that_falls_silent_is_left(
    replica: ServerAtHand, server: ServerAtHand, proxy: Proxy, nodes: Nodes, make_load: MakeLoad
) -> None:
    url = both(proxy.url, replica.url)
    nodes.start("one", url=url)
    load = make_load(url)
    load.start()
    proxy.hang()
    server.crash()
    replica.promote()

    load.wait_for_progress()
    load.finish(replica.url)
