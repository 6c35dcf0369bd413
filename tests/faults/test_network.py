"""Networks that hang, break, lose replies and refuse connections: work continues, and none is done twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from duroxide import Client, PostgresProvider, ProviderError, Runtime
from faults.load import Load
from faults.nodes import LEASE_SECONDS, Nodes
from faults.outages import SOON_SECONDS, check_log, wait_until_missed
from faults.servers import ServerAtHand
from support.proxy import COMMIT, Proxy
from support.waiting import wait_until

pytestmark = [pytest.mark.alone, pytest.mark.slow]

MakeLoad = Callable[..., Load]


def test_work_continues_after_a_network_hangs_for_longer_than_all_leases(
    proxy: Proxy, server: ServerAtHand, nodes: Nodes, make_load: MakeLoad
) -> None:
    node = nodes.start("one", url=proxy.url)
    load = make_load()
    load.start()
    proxy.hang()
    began = time.monotonic()
    wait_until(lambda: time.monotonic() > began + LEASE_SECONDS + 1)
    proxy.flow()

    assert load.wait_for_progress() < SOON_SECONDS
    load.finish()
    # How soon the missing reply is noticed depends on the timeout of a reply.
    assert len(node.complaints()) <= 1, node.complaints()


def test_other_nodes_do_the_work_of_a_node_whose_network_hangs(
    proxy: Proxy, server: ServerAtHand, nodes: Nodes, make_load: MakeLoad, client: Client
) -> None:
    nodes.block("hold", "cut-off")
    nodes.start("cut-off", url=proxy.url)
    client.start_orchestration("held", "held")
    wait_until(lambda: nodes.begun("held") == ["cut-off"])
    nodes.start("other")
    load = make_load()
    load.start()
    proxy.hang()
    assert load.wait_for_progress() < SOON_SECONDS
    assert client.wait_for_orchestration("held", 20_000).result() == "other"
    # Its activity ends now, and the network works again for its result, which is no longer needed.
    nodes.unblock("hold", "cut-off")
    proxy.flow()

    load.finish()
    assert nodes.begun("held") == ["cut-off", "other"]
    client.start_orchestration("after", "place")
    assert client.wait_for_orchestration("after", 20_000).result() in ("cut-off", "other")


def test_connections_that_break_are_replaced(
    proxy: Proxy, server: ServerAtHand, nodes: Nodes, make_load: MakeLoad
) -> None:
    node = nodes.start("one", url=proxy.url)
    load = make_load(proxy.url)
    load.start()
    for most in (1, 2, 3, None, 1, None):
        assert proxy.cut(most) > 0
        load.wait_for_progress(2)
    load.finish()
    assert node.complaints() == []


def test_work_continues_after_a_network_refused_all_connections(
    proxy: Proxy, server: ServerAtHand, nodes: Nodes, make_load: MakeLoad
) -> None:
    node = nodes.start("one", url=proxy.url)
    load = make_load(proxy.url)
    load.start()
    proxy.refuse()
    wait_until_missed(node)
    proxy.accept()

    assert load.wait_for_progress() < SOON_SECONDS
    load.finish()
    check_log(node)


def check_that_nothing_ran_twice(nodes: Nodes) -> None:
    begun = [(line.instance, line.execution, line.place) for line in nodes.ledger() if line.word == "begin"]
    # The node is alive, so it knows which activities it has begun.
    assert len(begun) == len(set(begun))


@pytest.mark.parametrize("statement", ["python_commit", "python_claim"])
def test_no_activity_runs_twice_when_replies_to_a_node_are_lost(
    statement: str, proxy: Proxy, nodes: Nodes, make_load: MakeLoad
) -> None:
    nodes.start("one", url=proxy.url)
    load = make_load()
    load.start()
    for _ in range(10):
        proxy.swallow_answer(statement)
        wait_until(proxy.has_swallowed.is_set)
        load.wait_for_progress(1)
    load.finish()
    check_that_nothing_ran_twice(nodes)


def test_no_message_arrives_twice_when_replies_to_a_client_are_lost(
    proxy: Proxy, nodes: Nodes, make_load: MakeLoad
) -> None:
    nodes.start("one")
    load = make_load(proxy.url)
    load.start()
    for _ in range(10):
        proxy.swallow_answer(COMMIT)
        wait_until(proxy.has_swallowed.is_set)
        load.wait_for_progress(1)
    load.finish()
    # The client checks whether its message was committed, so no call has failed.
    assert [piece for piece in load.pieces if piece.unsure] == []
    check_that_nothing_ran_twice(nodes)


def test_a_program_ends_soon_while_its_server_does_not_answer(
    proxy: Proxy, open_provider: Callable[..., PostgresProvider]
) -> None:
    provider = open_provider(proxy.url)
    runtime = Runtime(provider)
    runtime.register_orchestration("nothing", lambda ctx, input: input)
    runtime.start()
    client = Client(provider)
    client.start_orchestration("one", "nothing", 1)
    assert client.wait_for_orchestration("one", 20_000).result() == 1
    proxy.hang()

    def ask() -> None:
        with suppress(ProviderError):
            client.read_execution_history("one")

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        began = time.monotonic()
        runtime.shutdown(200)
        provider.close()
        # Less than a connection is waited for.
        assert time.monotonic() - began < 15
    finally:
        proxy.flow()
        asking.join()
