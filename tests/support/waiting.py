"""Waiting, with a deadline, for a condition or for what an instance has recorded."""

from __future__ import annotations

import time
from collections.abc import Callable

from duroxide import Client

DEADLINE_SECONDS = 30.0


def wait_until(condition: Callable[[], object], what: str | None = None, *, seconds: float = DEADLINE_SECONDS) -> None:
    """Return as soon as ``condition()`` is true.

    Args:
        condition: Called again and again.
        what: The condition in words, for the error message.
        seconds: How long to wait.

    Raises:
        AssertionError: The condition is not true in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or condition}"
        time.sleep(0.005)


def wait_for_event_kind(client: Client, instance_id: str, kind: str, name: str | None = None, count: int = 1) -> None:
    """Return when the newest execution of an instance has recorded ``count`` events of a kind, with that name."""

    def recorded() -> bool:
        if client.get_status(instance_id).status == "NotFound":
            return False
        events = client.read_execution_history(instance_id)
        found = [event for event in events if event.kind == kind and (name is None or f'"{name}"' in event.data)]
        return len(found) >= count

    wait_until(recorded, f"{kind} in the history of '{instance_id}'")


def wait_for_execution(client: Client, instance_id: str, number: int) -> None:
    """Return when an instance has reached the execution of this number by continuing as new."""

    def reached() -> bool:
        return client.get_status(instance_id).status != "NotFound" and client.list_executions(instance_id)[-1] >= number

    wait_until(reached, f"execution {number} of '{instance_id}'")
