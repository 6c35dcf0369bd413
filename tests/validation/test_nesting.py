"""Code that recurses too deep gets an error, and values that nest too deep are refused where they are given."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from typing import Any

import pytest

from conftest import WAIT_MS, Run
from duroxide import ActivityContext, Client, LimitExceeded, OrchestrationContext, OrchestrationFailed

Steps = Generator[Any, Any, Any]

# Values are written before they reach a store.
pytestmark = pytest.mark.parametrize("store", ["memory"])

MOST = 500

RECURSION = """
from duroxide import OrchestrationContext, Runtime, SqliteProvider, orchestration

class Item:
    def __lt__(self, other):
        return sorted([self, other])[0] is self  # compares itself for ever, by way of a C function

@orchestration
def flow(ctx: OrchestrationContext):
    try:
        return Item() < Item()
    except RecursionError:
        return "RecursionError"
    yield

with SqliteProvider.in_memory() as provider, Runtime(provider, functions=[flow]) as runtime:
    print(runtime.client.start("flow").result(20))
"""


def nested(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


def test_endless_recursion_in_an_orchestration_raises_recursion_error(store: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RECURSION], capture_output=True, text=True, timeout=WAIT_MS / 1000, check=False
    )
    assert (done.returncode, done.stdout) == (0, "RecursionError\n")


@pytest.mark.parametrize("levels", [MOST + 1, 800])
def test_an_input_that_nests_too_deep_is_refused_at_the_call(client: Client, levels: int) -> None:
    with pytest.raises(LimitExceeded, match=f"the input nests lists and objects more than {MOST} levels deep"):
        client.start("flow", nested(levels))


def test_an_input_of_ten_thousand_levels_is_refused_at_the_call(client: Client) -> None:
    with pytest.raises(ValueError, match="deep"):
        client.start("flow", nested(10_000))


def test_an_input_of_an_activity_that_nests_too_deep_is_refused_in_the_orchestration(run: Run) -> None:
    def flow(ctx: OrchestrationContext, _: Any) -> Steps:
        try:
            yield ctx.schedule_activity("echo", nested(MOST + 1))
        except LimitExceeded as error:
            return str(error)

    assert run(flow) == f"a payload nests lists and objects more than {MOST} levels deep; flatten it"


def test_a_result_that_nests_too_deep_fails_the_activity(run: Run) -> None:
    def deep(ctx: ActivityContext, _: Any) -> Any:
        return nested(MOST + 1)

    def flow(ctx: OrchestrationContext, _: Any) -> Steps:
        yield ctx.schedule_activity("deep", None)

    with pytest.raises(OrchestrationFailed, match="LimitExceeded: a payload nests"):
        run(flow, activities={"deep": deep})


def test_the_deepest_value_arrives(run: Run) -> None:
    def flow(ctx: OrchestrationContext, input: Any) -> Steps:
        return (yield ctx.schedule_activity("echo", input))

    def echo(ctx: ActivityContext, input: Any) -> Any:
        return input

    assert run(flow, nested(MOST), activities={"echo": echo}) == nested(MOST)
