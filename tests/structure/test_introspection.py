"""Tools that look at the public names find what they ask for: type hints and descriptions."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from typing import Any

import pytest

import duroxide

NAMES = [name for name in duroxide.__all__ if not name.startswith(("Py", "__"))]
# The native half describes these; the stub has their descriptions.
NATIVE = (duroxide.OrchestrationContext, duroxide.ActivityContext, duroxide.Task)


def functions_of(name: str) -> Iterator[tuple[str, Any]]:
    """Yield the public functions and methods of a public name."""
    found = getattr(duroxide, name)
    if not inspect.isclass(found):
        if inspect.isroutine(found):
            yield name, found
        return
    for member in ("__init__", *(each for each in dir(found) if not each.startswith("_"))):
        method = getattr(found, member)
        if inspect.isfunction(method) or inspect.ismethod(method):
            yield f"{name}.{member}", method


@pytest.mark.parametrize("name", NAMES)
def test_the_type_hints_of_a_public_name_resolve(name: str) -> None:
    found = getattr(duroxide, name)
    if inspect.isclass(found):
        typing.get_type_hints(found)
    for _, function in functions_of(name):
        typing.get_type_hints(function)


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_has_a_description(name: str) -> None:
    found = getattr(duroxide, name)
    if inspect.isclass(found) and found not in NATIVE:
        assert inspect.getdoc(found)
    bare = [path for path, function in functions_of(name) if not inspect.getdoc(function)]
    assert bare == []
