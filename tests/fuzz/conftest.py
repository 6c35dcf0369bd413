"""How many examples the fuzzers try, and the processes that they attack.

A run of all tests tries the same few examples every time. ``DUROXIDE_FUZZ=1000`` tries 1,000, other ones in each run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from support.child_process import ChildProcess

EXAMPLES = 25

many = os.environ.get("DUROXIDE_FUZZ")
settings.register_profile(
    "fuzz",
    max_examples=int(many or EXAMPLES),
    derandomize=many is None,
    database=None,
    # An example may open a store or wait for work, so its time says nothing. Examples share the fixtures of a test.
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("fuzz")

VISITOR = Path(__file__).with_name("visitor.py")


class Visitor(ChildProcess):
    """A running ``visitor.py``. A crash of it fails the test, and not the process of the tests."""

    def __init__(self) -> None:
        super().__init__(VISITOR, [])


@pytest.fixture
def visitor() -> Iterator[Visitor]:
    visitor = Visitor()
    yield visitor
    if visitor.is_alive():
        visitor.leave()
