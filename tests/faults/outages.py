"""What nodes log about an outage, and how soon they work again after it."""

from __future__ import annotations

from faults.nodes import AWAY, BACK, Node
from support.waiting import wait_until

# "Within seconds": no work waits longer than this once the server is back.
SOON_SECONDS = 5.0


def wait_until_missed(*nodes: Node) -> None:
    """Wait until nodes have logged that the server is away."""
    for node in nodes:
        wait_until(lambda node=node: node.count_logged(AWAY))  # type: ignore[misc]


def check_log(*nodes: Node) -> None:
    """Check that every node has logged once that the store is away and once that it is back, and no other warning."""
    for node in nodes:
        wait_until(lambda node=node: node.count_logged(BACK))  # type: ignore[misc]
        complaints = node.complaints()
        assert len(complaints) == 1, complaints
        assert AWAY in complaints[0], complaints
        assert node.count_logged(BACK) == 1
