"""Orchestrations, options and waits that the tests of the engine's workarounds share."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from duroxide import Client, OrchestrationContext, Provider, RuntimeOptions
from support.waiting import wait_until

Steps = Generator[Any, Any, Any]
AnyProvider = Provider

WAIT_MS = 30_000
SHORT_MS = 1_500
QUICK = RuntimeOptions(dispatcher_poll_interval_ms=20)


def echo(ctx: Any, input: Any) -> Any:
    return input


def healthy(ctx: OrchestrationContext, input: Any) -> Steps:
    return (yield ctx.schedule_activity("echo", input))


def kinds(client: Client, instance: str) -> list[str]:
    """The kinds of an instance's recorded events; an empty list while it does not exist."""
    if client.get_status(instance).status == "NotFound":
        return []
    return [event.kind for event in client.read_execution_history(instance)]


def wait_for_kind(client: Client, instance: str, kind: str) -> None:
    wait_until(lambda: kind in kinds(client, instance))
