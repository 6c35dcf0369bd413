"""How a test waits for what only the store can tell."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from duroxide import Client


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    """Return as soon as the condition holds; fail with ``what`` when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        threading.Event().wait(0.01)


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
    """Return when an instance has continued as new so often that it has an execution of that number."""

    def reached() -> bool:
        return client.get_status(instance_id).status != "NotFound" and client.list_executions(instance_id)[-1] >= number

    wait_until(reached, f"execution {number} of '{instance_id}'")
