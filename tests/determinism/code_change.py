"""Old code that records a history, new code that replays it, and the resulting report."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

from duroxide import Client, OrchestrationResult, Provider, Runtime, RuntimeOptions
from support.waiting import wait_until

Steps = Generator[Any, Any, Any]
Code = Callable[..., Any]

WAIT_MS = 30_000
QUICK = RuntimeOptions(dispatcher_poll_interval_ms=20)
INSTANCE = "order-7"


def charge(ctx: Any, input: Any) -> Any:
    return input


def refund(ctx: Any, input: Any) -> Any:
    return input


def child(ctx: Any, input: Any) -> Any:
    return input


@contextmanager
def running(provider: Provider, code: Code, options: RuntimeOptions = QUICK) -> Iterator[Runtime]:
    """Run ``code`` as the orchestration ``order``."""
    runtime = Runtime(provider, options)
    runtime.register_activity("charge", charge)
    runtime.register_activity("refund", refund)
    runtime.register_orchestration("child", child)
    runtime.register_orchestration("order", code)
    with runtime:
        yield runtime


def record(provider: Provider, old: Code, options: RuntimeOptions = QUICK, instance: str = INSTANCE) -> None:
    """Record the old code up to its wait for the event ``go``."""
    client = Client(provider)
    with running(provider, old, options):
        client.start_orchestration(instance, "order")
        wait_until(lambda: waits_for_go(client, instance))


def waits_for_go(client: Client, instance: str) -> bool:
    if client.get_status(instance).status == "NotFound":
        return False
    return any(event.kind == "ExternalSubscribed" for event in client.read_execution_history(instance))


def waiting(client: Client, instance: str = INSTANCE) -> OrchestrationResult:
    """The status of the instance, as soon as it waits for other code."""
    wait_until(lambda: client.get_status(instance).mismatch)
    return client.get_status(instance)


def mismatch_of(provider: Provider, old: Code, new: Code) -> str:
    """The report about an instance that the old code began and the new code replays."""
    record(provider, old)
    client = Client(provider)
    with running(provider, new):
        client.raise_event(INSTANCE, "go", "went")
        return waiting(client).mismatch or ""


def place(code: Code, text: str) -> str:
    """The file and the line number in ``code`` that holds ``text``."""
    lines, first = inspect.getsourcelines(code)
    number = next(number for number, line in enumerate(lines, first) if text in line)
    file = inspect.getsourcefile(code) or ""
    return f"{file.rpartition('/')[2]}:{number}"


def report(*rows: tuple[str, str]) -> str:
    """The whole report around these labels and facts."""
    width = max(len(label) for label, _ in rows)
    facts = "".join(f"  {label:{width}}  {fact}".rstrip() + "\n" for label, fact in rows)
    return (
        f"the code of instance '{INSTANCE}' no longer matches its history:\n{facts}"
        "bring back the code that recorded it, or cancel the instance"
    )
