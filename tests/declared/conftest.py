"""Fixtures of the tests of declared functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from duroxide import Client, Provider, Runtime, RuntimeOptions

Serve = Callable[..., Client]


@pytest.fixture
def serve(provider: Provider) -> Iterator[Serve]:
    """Starts a runtime with declared functions on the test's store, and returns a client of it."""
    runtimes: list[Runtime] = []

    def serve(*functions: Any, **options: Any) -> Client:
        runtime = Runtime(provider, RuntimeOptions(**options), functions=functions)
        runtimes.append(runtime)
        runtime.start()
        return runtime.client

    yield serve
    for runtime in reversed(runtimes):
        runtime.shutdown()
