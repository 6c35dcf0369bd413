"""Networks that hang, break connections, lose answers and let nobody through: work goes on, and nothing is done twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from deadline import wait_until
from duroxide import Client
from faults.load import Load, check_at_rest
from faults.nodes import Nodes
from faults.outages import SOON_SECONDS, check_log, wait_until_missed
from faults.servers import ServerAtHand
from proxy import Proxy

pytestmark = [pytest.mark.alone, pytest.mark.slow]

MakeLoad = Callable[..., Load]


def test_a_network_that_hangs_for_longer_than_all_leases_is_waited_for(
    proxy: Proxy, server: ServerAtHand, nodes: Nodes, make_load: MakeLoad, schema: str
) -> None:
    node = nodes.start("one", url=proxy.url)
    load = make_load()
    load.start()
    proxy.hang()
    wait_until_missed(node)
    proxy.flow()

    assert load.wait_for_progress() < SOON_SECONDS
    load.finish()
    check_at_rest(server.url, schema, load)
    check_log(node)


def test_the_others_do_the_work_of_a_node_whose_network_hangs(
    proxy: Proxy, server: ServerAtHand, nodes: Nodes, make_load: MakeLoad, schema: str, client: Client
) -> None:
    nodes.hold_up("hold", "cut-off")
    nodes.start("cut-off", url=proxy.url)
    client.start_orchestration("held", "held")
    wait_until(lambda: nodes.begun("held") == ["cut-off"])
    nodes.start("other")
    load = make_load()
    load.start()
    proxy.hang()
    assert load.wait_for_progress() < SOON_SECONDS
    assert client.wait_for_orchestration("held", 20_000).result() == "other"
    # Its activity ends now, and the way is open again for the news, which nobody waits for any more.
    nodes.let_go("hold", "cut-off")
    proxy.flow()

    load.finish()
    check_at_rest(server.url, schema, load)
    assert nodes.begun("held") == ["cut-off", "other"]
    client.start_orchestration("after", "place")
    assert client.wait_for_orchestration("after", 20_000).result() in ("cut-off", "other")


def test_connections_that_break_are_replaced(
    proxy: Proxy, server: ServerAtHand, nodes: Nodes, make_load: MakeLoad, schema: str
) -> None:
    node = nodes.start("one", url=proxy.url)
    load = make_load(proxy.url)
    load.start()
    for most in (1, 2, 3, None, 1, None):
        assert proxy.cut(most) > 0
        load.wait_for_progress(2)
    load.finish()
    check_at_rest(server.url, schema, load)
    assert node.complaints() == []


def test_a_network_that_refuses_everybody_is_waited_for(
    proxy: Proxy, server: ServerAtHand, nodes: Nodes, make_load: MakeLoad, schema: str
) -> None:
    node = nodes.start("one", url=proxy.url)
    load = make_load(proxy.url)
    load.start()
    proxy.refuse()
    wait_until_missed(node)
    proxy.accept()

    assert load.wait_for_progress() < SOON_SECONDS
    load.finish()
    check_at_rest(server.url, schema, load)
    check_log(node)


# The statements by which work is taken and ended: `duroxide-pg`'s own, and those of this package.
@pytest.mark.parametrize("statement", ["ack_orchestration_item", "ack_worker", "fetch_", "python_", "COMMIT"])
def test_a_commit_whose_answer_is_lost_is_neither_lost_nor_repeated(
    statement: str, proxy: Proxy, server: ServerAtHand, nodes: Nodes, make_load: MakeLoad, schema: str
) -> None:
    nodes.start("one", url=proxy.url)
    load = make_load()
    load.start()
    proxy.swallow_answer(statement)
    load.wait_for_progress()
    if not proxy.has_swallowed.is_set():
        pytest.skip(f"nothing asks for {statement}")
    for _ in range(10):
        proxy.swallow_answer(statement)
        wait_until(proxy.has_swallowed.is_set)
        load.wait_for_progress(1)
    load.finish()
    check_at_rest(server.url, schema, load)
    begun = [(line.instance, line.execution, line.place) for line in nodes.ledger() if line.word == "begin"]
    # The node lives, so it knows what it has begun.
    assert len(begun) == len(set(begun)), "an activity ran twice"
