"""Plays coroutine orchestrations twice: suspended in the sticky cache, and replayed from their history at each step."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import pytest

from conftest import Function, Run
from duroxide import ActivityContext, RuntimeOptions

# Task groups and timeouts need Python 3.11.
collect_ignore_glob = ["test_*.py"] if sys.version_info < (3, 11) else []

AWAKE = RuntimeOptions()
REPLAYED = RuntimeOptions(sticky=False)


def echo(ctx: ActivityContext, input: Any) -> Any:
    return input


def fail(ctx: ActivityContext, input: Any) -> None:
    raise ValueError(input)


ACTIVITIES: Mapping[str, Callable[..., Any]] = {"echo": echo, "fail": fail}


class Play(Protocol):
    """The type of the fixture ``play``."""

    def __call__(
        self, orchestration: Function, input: Any = None, *, orchestrations: Mapping[str, Function] | None = None
    ) -> Any:
        """Play ``orchestration`` to its end and return its output; the activities are ``echo`` and ``fail``."""


@pytest.fixture(params=["memory"])
def store(request: pytest.FixtureRequest) -> str:
    """The loop does not depend on the store; the random programs run on other stores, too."""
    kind: str = request.param
    return kind


@pytest.fixture(params=[AWAKE, REPLAYED], ids=["awake", "replayed"])
def options(request: pytest.FixtureRequest) -> RuntimeOptions:
    """Whether the runtime keeps suspended orchestrations or replays them."""
    options: RuntimeOptions = request.param
    return options


@pytest.fixture
def play(run: Run, options: RuntimeOptions) -> Play:
    """Plays one orchestration awake, and replayed: see ``Play``."""

    def play(
        orchestration: Function, input: Any = None, *, orchestrations: Mapping[str, Function] | None = None
    ) -> Any:
        return run(orchestration, input, activities=ACTIVITIES, orchestrations=orchestrations, options=options)

    return play
