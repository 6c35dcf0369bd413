"""Every public name of the earlier SDK is here, and every call of it binds; ``surface.txt`` lists names and parameters."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import duroxide

SURFACE = Path(__file__).with_name("surface.txt")
# Options are given by name, as both SDKs document them.
BY_NAME_ONLY = (duroxide.RuntimeOptions, duroxide.PruneOptions, duroxide.InstanceFilter, duroxide.PostgresEntraOptions)


@dataclass
class Entry:
    """One line of the list."""

    path: str
    parameters: list[str] | None
    value: str | None

    @property
    def required(self) -> list[str]:
        return [each for each in self.parameters or () if "=" not in each]

    @property
    def names(self) -> list[str]:
        return [each.partition("=")[0] for each in self.parameters or ()]


def read_surface() -> Iterator[Entry]:
    for line in SURFACE.read_text(encoding="utf-8").splitlines():
        match = re.fullmatch(r"(?P<path>[\w.]+)(?:\((?P<parameters>.*)\))?(?: = (?P<value>.*))?", line)
        if match is not None:
            listed = match["parameters"]
            parameters = None if listed is None else re.findall(r"[^, ]+", listed)
            yield Entry(match["path"], parameters, match["value"])


ENTRIES = list(read_surface())
CALLS = [each for each in ENTRIES if each.parameters is not None]


def find(path: str) -> Any:
    """Find what the path of an entry names; the fields of a dataclass have their name alone."""
    owner, _, member = path.partition(".")
    found = getattr(duroxide, owner)
    if not member:
        return found
    if dataclasses.is_dataclass(found) and member in {each.name for each in dataclasses.fields(found)}:
        return member
    return getattr(found, member)


def bind(entry: Entry, *arguments: object, **options: object) -> None:
    """Bind arguments to the signature of an entry, with a ``self`` where it is a method."""
    found = find(entry.path)
    owner, _, member = entry.path.partition(".")
    is_static = isinstance(inspect.getattr_static(getattr(duroxide, owner), member or "__doc__"), staticmethod)
    is_method = member and not is_static and not inspect.ismethod(found)
    inspect.signature(found).bind(*([None] if is_method else []), *arguments, **options)


def test_the_list_is_read_whole() -> None:
    lines = [line for line in SURFACE.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    assert len(ENTRIES) == len(lines)
    assert len(CALLS) > 150


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.path)
def test_a_name_of_the_earlier_sdk_is_here(entry: Entry) -> None:
    assert find(entry.path) is not None


@pytest.mark.parametrize("entry", [each for each in ENTRIES if each.value], ids=lambda entry: entry.path)
def test_a_constant_of_the_earlier_sdk_has_its_value(entry: Entry) -> None:
    found = find(entry.path)
    assert entry.value == (repr(str(found)) if isinstance(found, str) else repr(found))


@pytest.mark.parametrize("entry", CALLS, ids=lambda entry: entry.path)
def test_a_call_of_the_earlier_sdk_binds_by_position(entry: Entry) -> None:
    if find(entry.path) in BY_NAME_ONLY:
        pytest.skip("options are given by name")
    bind(entry, *entry.names)
    bind(entry, *entry.required)


@pytest.mark.parametrize("entry", CALLS, ids=lambda entry: entry.path)
def test_a_call_of_the_earlier_sdk_binds_by_keyword(entry: Entry) -> None:
    if any(each.startswith("*") for each in entry.names):
        pytest.skip("it takes any number of arguments, which have no names")
    bind(entry, **dict.fromkeys(entry.names))
    bind(entry, **dict.fromkeys(entry.required))
