"""Plays an orchestration that is given a bad value, and checks that its runtime keeps working."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, Protocol

import pytest

from duroxide import (
    Client,
    OrchestrationContext,
    OrchestrationResult,
    PostgresProvider,
    Runtime,
    RuntimeOptions,
    SqliteProvider,
    Task,
)

WAIT_MS = 30_000


class Play(Protocol):
    """The type of the fixture ``play``."""

    def __call__(
        self,
        orchestration: Callable[..., Any],
        input: Any = None,
        *,
        activities: Mapping[str, Callable[..., Any]] | None = None,
        orchestrations: Mapping[str, Callable[..., Any]] | None = None,
        options: RuntimeOptions | None = None,
        strict: bool | None = None,
    ) -> OrchestrationResult:
        """Play ``orchestration`` to its end; after it, a healthy one must run on the same runtime.

        Besides the given activities there is ``echo``, which returns its input.
        """


def echo(ctx: Any, input: Any) -> Any:
    return input


def healthy(ctx: OrchestrationContext, input: Any) -> Generator[Task[Any], Any, Any]:
    return (yield ctx.schedule_activity("echo", input))


@pytest.fixture
def play(provider: SqliteProvider | PostgresProvider) -> Iterator[Play]:
    numbers = itertools.count()
    runtimes: list[Runtime] = []

    def play(
        orchestration: Callable[..., Any],
        input: Any = None,
        *,
        activities: Mapping[str, Callable[..., Any]] | None = None,
        orchestrations: Mapping[str, Callable[..., Any]] | None = None,
        options: RuntimeOptions | None = None,
        strict: bool | None = None,
    ) -> OrchestrationResult:
        runtime = Runtime(provider, options, strict=strict)
        runtimes.append(runtime)
        for name, function in {"echo": echo, **(activities or {})}.items():
            runtime.register_activity(name, function)
        given = {"healthy": healthy, "tested": orchestration, **(orchestrations or {})}
        for name, function in given.items():
            runtime.register_orchestration(name, function)
        number = next(numbers)
        client = Client(provider)
        with runtime:
            client.start_orchestration(f"tested-{number}", "tested", input)
            result = client.wait_for_orchestration(f"tested-{number}", WAIT_MS)
            client.start_orchestration(f"healthy-{number}", "healthy", "well")
            assert client.wait_for_orchestration(f"healthy-{number}", WAIT_MS).result() == "well"
        return result

    yield play
    for runtime in runtimes:
        runtime.shutdown()
