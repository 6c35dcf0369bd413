"""The reference says all that it must: the pages name everything public, and the docstrings describe it.

The site is rendered from the docstrings by mkdocstrings, which reads them with griffe. These tests read them the same way.
``make site`` renders the pages, and takes every warning of griffe and every dead link for an error.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import griffe
import pytest

import duroxide
from duroxide import Backoff, PostgresEntraOptions, PostgresOptions, RetryPolicy, RuntimeOptions

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs/reference").glob("*.md"))
DIRECTIVE = re.compile(r"^::: duroxide\.(\w+)$", flags=re.MULTILINE)
# Where a docstring refers to another method, the descriptions of its parameters hold for both.
REFERENCE = re.compile(r"\b(?:[Aa]s|name of) ``(\w+)``")
# The earlier SDK's names and the limits are in the tables of names.md.
ELSEWHERE = {
    name
    for name in duroxide.__all__
    if name.startswith(("Py", "MAX_")) or name in ("ScheduledTask", "OrchestrationStatus")
}
# `args` is Python's own, and the two halves of the package use the `kind` of a declared function.
UNDESCRIBED = {"args", "kind"}


def load() -> Any:
    """Read the package as the site does."""
    sys.path.insert(0, str(ROOT / "tools"))
    from griffe_signatures import Signatures

    return griffe.load(
        "duroxide",
        search_paths=[ROOT / "python"],
        allow_inspection=False,
        resolve_aliases=True,
        docstring_parser="google",
        docstring_options={"returns_named_value": False, "returns_multiple_items": False},
        extensions=griffe.load_extensions(Signatures),
    )


PACKAGE = load()
NAMES = sorted(set(duroxide.__all__) - ELSEWHERE)
CLASSES = [name for name in NAMES if isinstance(getattr(duroxide, name), type)]
EXCEPTIONS = [name for name in CLASSES if issubclass(getattr(duroxide, name), BaseException)]


def members_of(name: str) -> dict[str, Any]:
    """The public members of a public class, those that it inherits included."""
    members = PACKAGE[name].all_members
    return {key: member for key, member in members.items() if not key.startswith("_")}


def functions() -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Every public function and method, with the methods that its docstring may refer to."""
    for name in NAMES:
        if PACKAGE[name].is_function:
            yield name, {}, PACKAGE[name]
        elif PACKAGE[name].is_class:
            members = members_of(name)
            for key, member in members.items():
                if member.is_function:
                    yield f"{name}.{key}", members, member


FUNCTIONS = list(functions())


def sections(docstring: Any, kind: str) -> list[Any]:
    """The items of the sections of one kind."""
    parsed = [] if docstring is None else docstring.parsed
    return [item for section in parsed if section.kind.value == kind for item in section.value]


def described_by(docstring: Any, kind: str = "parameters") -> list[str]:
    """The names that a section describes."""
    return [item.name.strip("*") for item in sections(docstring, kind)]


def is_field(member: Any) -> bool:
    """Whether a member is a property or an attribute of the instances."""
    return member.is_attribute and (member.labels & {"property", "instance-attribute"} or bool(member.docstring))


def is_described(parameter: str, function: Any, siblings: dict[str, Any]) -> bool:
    """Whether a docstring describes a parameter, or refers to a method that does."""
    text = function.docstring.value
    if parameter in described_by(function.docstring) or f"``{parameter}``" in text:
        return True
    others = [siblings[name] for name in REFERENCE.findall(text) if name in siblings]
    return any(is_described(parameter, other, siblings) for other in others if other.is_function)


def test_every_public_name_is_rendered_on_one_page() -> None:
    rendered = [name for page in PAGES for name in DIRECTIVE.findall(page.read_text(encoding="utf-8"))]

    assert sorted([*(name for name in rendered if name != "exceptions"), *EXCEPTIONS]) == NAMES
    assert rendered.count("exceptions") == 1


def test_every_other_name_is_on_the_page_of_names() -> None:
    page = (ROOT / "docs/reference/names.md").read_text(encoding="utf-8")

    assert [name for name in ELSEWHERE if f"`{name}`" not in page] == []


def test_the_picture_of_the_exceptions_shows_each_below_its_base() -> None:
    page = (ROOT / "docs/reference/exceptions.md").read_text(encoding="utf-8")
    drawn = re.findall(r"^(.*?)(\w+)$", page.partition("```text\n")[2].partition("\n```")[0], flags=re.MULTILINE)

    above: list[str] = []
    for indent, name in drawn:
        del above[len(indent) // 3 :]
        assert not above or above[-1] in [base.__name__ for base in getattr(duroxide, name).__mro__[1:]]
        above.append(name)
    assert sorted(name for _, name in drawn) == sorted(["BaseException", *EXCEPTIONS])


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_has_a_docstring(name: str) -> None:
    assert PACKAGE[name].docstring


@pytest.mark.parametrize("name", CLASSES)
def test_every_property_and_field_has_a_description(name: str) -> None:
    kinds = [PACKAGE[name], *PACKAGE[name].mro()]
    described = {attribute for kind in kinds for attribute in described_by(kind.docstring, "attributes")}
    attributes = {key: each for key, each in members_of(name).items() if is_field(each) and key not in UNDESCRIBED}

    assert [key for key, member in attributes.items() if not member.docstring and key not in described] == []


@pytest.mark.parametrize(
    ("siblings", "function"), [each[1:] for each in FUNCTIONS], ids=[each[0] for each in FUNCTIONS]
)
def test_every_function_describes_itself_and_its_parameters(siblings: dict[str, Any], function: Any) -> None:
    assert function.docstring
    taken = [each.name for each in function.parameters if each.name not in ("self", "cls")]
    assert [each for each in taken if not is_described(each, function, siblings)] == []
    assert [each for each in described_by(function.docstring) if each not in taken] == []


@pytest.mark.parametrize("function", [each[2] for each in FUNCTIONS], ids=[each[0] for each in FUNCTIONS])
def test_no_docstring_has_text_after_its_sections(function: Any) -> None:
    """A line of a section that is not indented as the others would end the section, and be lost to the reader."""
    kinds = [section.kind.value for section in function.docstring.parsed]
    assert "text" not in kinds[1:]


# What a docstring says of a default: a literal, a number with its unit, or a word.
DEFAULT = re.compile(
    r"\b[Dd]efault(?: is)?:? (?:``(?P<literal>[^`]+)``|(?P<number>\d[\d,.]*\d|\d)(?: (?P<unit>MiB|ms|s|seconds)\b)?"
    r"|(?P<word>True|False|empty|none)\b)"
)
UNITS = {"MiB": 2**20, "ms": timedelta(milliseconds=1), "s": timedelta(seconds=1)}


def documented_default(description: str) -> object:
    """The default that the description of a parameter states; ``...`` if it states none, or only in words."""
    found = DEFAULT.search(" ".join(description.split()))
    if found is None:
        return ...
    if found["literal"] is not None:
        return ast.literal_eval(found["literal"]) if found["literal"] != "RetryPolicy" else ...
    if found["number"] is not None:
        return float(found["number"].replace(",", "")) * UNITS.get(found["unit"], 1)
    return {"True": True, "False": False, "empty": "", "none": ()}[found["word"]]


def defaults_of(path: str) -> dict[str, object]:
    """The real defaults of a public function, a method, or the options of a class."""
    member: Any = duroxide
    for name in path.split("."):
        member = getattr(member, name)
    parameters = inspect.signature(member).parameters.values()
    # A wrapper tells an option that was not given by an object of its own.
    return {each.name: each.default for each in parameters if isinstance(each.default, LITERALS)}


LITERALS = (type(None), bool, int, float, str, tuple, timedelta)
# The classes without a Python signature take no options.
WITH_OPTIONS = [name for name in CLASSES if name not in (*EXCEPTIONS, "Outcome", "Winner")]


@pytest.mark.parametrize(
    ("path", "docstring"),
    [
        *((name, PACKAGE[name].docstring) for name in WITH_OPTIONS),
        *((name, function.docstring) for name, _, function in FUNCTIONS if not name.startswith("Runtime.from")),
    ],
    ids=[*WITH_OPTIONS, *(each[0] for each in FUNCTIONS if not each[0].startswith("Runtime.from"))],
)
def test_the_documented_defaults_are_the_real_ones(path: str, docstring: Any) -> None:
    described = {
        item.name: documented_default(item.description)
        for kind in ("parameters", "attributes")
        for item in sections(docstring, kind)
    }
    documented = {name: default for name, default in described.items() if default is not ...}
    real = {name: default for name, default in defaults_of(path).items() if name in documented}
    assert {name: documented[name] for name in real} == real


@pytest.mark.parametrize("options", [RuntimeOptions, RetryPolicy, Backoff, PostgresOptions, PostgresEntraOptions])
def test_every_option_has_a_documented_default(options: type) -> None:
    described = {
        item.name: item.description
        for kind in ("parameters", "attributes")
        for item in sections(PACKAGE[options.__name__].docstring, kind)
    }
    optional = [each.name for each in dataclasses.fields(options) if each.default is not dataclasses.MISSING]
    assert [name for name in optional if "default" not in described.get(name, "").lower()] == []


def test_the_defaults_that_depend_on_the_environment_are_the_documented_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DUROXIDE_PG_POOL_MAX", raising=False)
    expected = {"max_connections": 10, "acquire_timeout_ms": 30_000, "connect_timeout_ms": 10_000, "migrate": "apply"}
    for options in (PostgresOptions(), PostgresEntraOptions()):
        assert options.to_native().items() >= expected.items()
        described = {
            item.name: item.description for item in sections(PACKAGE[type(options).__name__].docstring, "attributes")
        }
        for name, text in (("max_connections", "or 10"), ("acquire_timeout", "30"), ("connect_timeout", "10")):
            description = described.get(name) or described[f"{name}_ms"]
            assert re.search(rf"{text}\b", description.replace(",000", "").replace("\n", " "))


def test_the_table_of_retries_states_the_real_defaults() -> None:
    page = (ROOT / "docs/guides/errors.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| `[^|]*\| ([^|]+?) \|", page, flags=re.MULTILINE))
    policy = RetryPolicy()

    assert rows.pop("max_attempts") == str(policy.max_attempts)
    assert rows.pop("backoff") == "exponential: 100 ms, doubling, at most 30 s"
    assert policy.backoff == Backoff.exponential(timedelta(milliseconds=100), 2, maximum=timedelta(seconds=30))
    assert set(rows.values()) == {"none"}
    assert not any(getattr(policy, name) for name in rows)
