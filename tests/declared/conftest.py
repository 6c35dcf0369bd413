"""Fixtures of the tests of declared functions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from duroxide import Client, Provider, Runtime, RuntimeOptions

Serve = Callable[..., Client]

# These declare coroutine orchestrations, which need Python 3.11.
TASK_GROUPS = ["test_async_handles.py", "test_handles.py", "test_program.py"]
collect_ignore = TASK_GROUPS if sys.version_info < (3, 11) else []


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
