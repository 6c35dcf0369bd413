"""Fixtures for the documents' blocks: the names that they assume, and a shutdown for what they start."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from textwrap import dedent

import pytest

from duroxide import Client, Runtime
from duroxide._store.providers import Provider
from earlier_sdk.blocks import Names, Play


@pytest.fixture
def names(provider: Provider) -> Iterator[Names]:
    """The names that the documents' blocks share: each block sees the names that earlier blocks defined."""
    shared: Names = {"json": json, "time": time, "provider": provider, "client": Client(provider)}
    given = shared["runtime"] = Runtime(provider)
    yield shared
    made = shared["runtime"]
    given.shutdown(5000)
    if made is not given:
        made.shutdown(5000)


@pytest.fixture
def play(names: Names) -> Play:
    """Run the text of a block unchanged, with the shared names and the given stand-ins."""

    def run(block: str, **stand_ins: object) -> Names:
        names.update(stand_ins)
        exec(compile(dedent(block), "<a block of the documents>", "exec", dont_inherit=True), names)
        return names

    return run
