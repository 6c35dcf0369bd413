"""The committed reference pages match the docstrings, and every public name has a complete docstring."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import duroxide

ROOT = Path(__file__).parents[2]


def load_generator() -> Any:
    """The script that writes the pages."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "tools/reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look up the module by name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


reference = load_generator()
# The names of the earlier SDK have a separate table, and so have the limits.
ELSEWHERE = {name for name in duroxide.__all__ if name.startswith(("Py", "MAX_")) or name == "ScheduledTask"}
NAMES = [name for page in reference.PAGES for name in page.names]


def callables() -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Every public function and method, with the functions that its docstring may refer to."""
    for name in NAMES:
        kind = reference.public(name)
        if kind.is_function:
            yield name, {}, reference.callable_of(name, kind, getattr(kind, "overloads", None) or [])
        elif kind.is_class:
            methods = {each.name: each for each in reference.methods_of(kind)}
            for method in methods.values():
                yield f"{name}.{method.name}", methods, method


CALLABLES = list(callables())


def is_described(parameter: str, function: Any, siblings: dict[str, Any]) -> bool:
    """Whether a docstring describes a parameter, or refers to another method that does."""
    if parameter in function.described or f"``{parameter}``" in function.docstring.value:
        return True
    others = reference.REFERENCE.findall(function.docstring.value)
    return any(is_described(parameter, siblings[name], siblings) for name in others if name in siblings)


@pytest.mark.parametrize("page", reference.PAGES, ids=lambda page: page.file)
def test_committed_page_matches_the_docstrings(page: Any) -> None:
    committed = (ROOT / "docs/reference" / page.file).read_text(encoding="utf-8")

    assert committed == reference.page_text(page), "run make reference"


def test_every_public_name_has_a_place_in_the_reference() -> None:
    assert sorted(NAMES) == sorted(set(duroxide.__all__) - ELSEWHERE)


def test_every_name_outside_the_reference_is_on_the_page_of_names() -> None:
    page = (ROOT / "docs/reference/names.md").read_text(encoding="utf-8")

    assert [name for name in ELSEWHERE if f"`{name}`" not in page] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_has_a_docstring(name: str) -> None:
    assert reference.text_of(reference.public(name).docstring)


@pytest.mark.parametrize("name", [name for name in NAMES if reference.public(name).is_class])
def test_every_property_and_field_has_a_docstring(name: str) -> None:
    kind = reference.public(name)
    described = {each.name for each in reference.items_of(kind.docstring, "attributes")}

    assert [each.name for each in reference.properties_of(kind) if not reference.text_of(each.docstring)] == []
    assert [field for field in reference.fields_of(name) if field not in described] == []


@pytest.mark.parametrize(
    ("siblings", "function"), [each[1:] for each in CALLABLES], ids=[each[0] for each in CALLABLES]
)
def test_every_function_has_a_docstring_with_its_parameters(siblings: dict[str, Any], function: Any) -> None:
    assert reference.text_of(function.docstring)
    taken = [each.name for each in function.parameters]
    assert [each for each in taken if not is_described(each, function, siblings)] == []
    assert [each for each in function.described if each not in taken] == []
