"""Turns the text of a documented block into a function or program that a test can run."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import dedent, indent
from typing import Any

Names = dict[str, Any]
Play = Callable[..., Names]


def stand_in(block: str, replacements: dict[str, str]) -> str:
    """Replace outside calls and long waits in a block; every replaced text must be in the block."""
    for shown, replacement in replacements.items():
        assert shown in block, f"the block does not hold {shown!r}"
        block = block.replace(shown, replacement)
    return block


def fragment(block: str, returns: str) -> str:
    """Make an orchestration named ``fragment`` from lines that a document shows without a function around them."""
    body = indent(dedent(block).strip(), "    ")
    return f"def fragment(ctx, input):\n{body}\n    return {returns}\n"


def start(names: Names, orchestration: str, input: object = None, instance_id: str = "instance-1") -> None:
    """Start the shared runtime, after the blocks have registered their functions, and one orchestration on it."""
    names["runtime"].start()
    names["client"].start_orchestration(instance_id, orchestration, input)


def output_of(names: Names, instance_id: str = "instance-1") -> Any:
    """Return the orchestration's output at its end."""
    return names["client"].wait_for_orchestration(instance_id, 20_000).result()
