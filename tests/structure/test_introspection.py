"""Tools that look at the public names find what they ask for: type hints and descriptions."""

from __future__ import annotations

import ast
import inspect
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import duroxide

NAMES = [name for name in duroxide.__all__ if not name.startswith(("Py", "__"))]
# The descriptions of these stand in the stub for editors, and in the native half for `help`.
NATIVE = (duroxide.OrchestrationContext, duroxide.ActivityContext, duroxide.Task)
STUB = Path(duroxide.__file__).with_name("_native.pyi")


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
    if inspect.isclass(found):
        assert inspect.getdoc(found)
    bare = [path for path, function in functions_of(name) if not inspect.getdoc(function)]
    assert bare == []


def described_in_the_stub() -> Iterator[tuple[str, str, str]]:
    """Yield class, member and description of what the stub describes of the native classes."""
    names = [each.__name__ for each in NATIVE]
    for cls in ast.parse(STUB.read_text(encoding="utf-8")).body:
        if isinstance(cls, ast.ClassDef) and cls.name in names:
            for member in cls.body:
                description = ast.get_docstring(member) if isinstance(member, ast.FunctionDef) else None
                if isinstance(member, ast.FunctionDef) and description and not member.name.startswith("__"):
                    yield cls.name, member.name, description


def test_help_shows_the_descriptions_of_the_stub_for_native_methods() -> None:
    differ: list[str] = []
    for name, member, description in described_in_the_stub():
        found = getattr(getattr(duroxide, name), member)
        # A second name of a method shows the description of the first.
        if found.__name__ == member and inspect.getdoc(found) != description:
            differ.append(f"{name}.{member}")
    assert differ == []


@pytest.mark.parametrize("found", NATIVE, ids=lambda found: str(found.__name__))
def test_every_method_of_a_native_class_has_a_description(found: type) -> None:
    public = [member for member in dir(found) if not member.startswith("_")]
    assert [member for member in public if not inspect.getdoc(getattr(found, member))] == []
