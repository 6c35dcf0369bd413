"""A value names no class, module or function that reading it would build, import or call."""

from __future__ import annotations

import json
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from duroxide._values.codec import convert, decode
from duroxide.exceptions import CodecError


@dataclass
class Card:
    number: str


class Cash(msgspec.Struct, tag=True):
    cents: int


class Cheque(msgspec.Struct, tag=True):
    cents: int


class Bribe(msgspec.Struct, tag=True):
    """A class that no annotation names."""

    cents: int


NAMES = ["__class__", "__reduce__", "__module__", "py/object", "$type", "@class", "!!python/object/apply:os.system"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("annotation", [None, Any, object, dict, dict[str, Any]])
def test_a_key_that_other_formats_give_a_meaning_has_none(name: str, annotation: Any) -> None:
    value = {name: "os.system", "args": ["true"]}
    assert convert(decode(json.dumps(value)), annotation) == value


@pytest.mark.parametrize("name", NAMES)
def test_a_class_comes_from_the_annotation_alone(name: str) -> None:
    assert convert({name: "subprocess.Popen", "number": "1"}, Card) == Card("1")
    with pytest.raises(CodecError):
        convert({name: "test_hostile_values.Card"}, Card)


def test_a_tag_names_a_member_of_the_union_or_nothing() -> None:
    assert convert({"type": "Cash", "cents": 1}, Cash | Cheque) == Cash(1)
    with pytest.raises(CodecError):
        convert({"type": "Bribe", "cents": 1}, Cash | Cheque)


@pytest.mark.parametrize("annotation", [type, type[Card], Callable[[str], int], types.ModuleType, types.FunctionType])
def test_a_text_under_a_class_or_a_function_stays_a_text(annotation: Any) -> None:
    assert convert("os.system", annotation) == "os.system"


@pytest.mark.parametrize("annotation", [int, list[int], float | None, Card])
def test_a_number_of_many_digits_is_refused(annotation: Any) -> None:
    with pytest.raises(CodecError):
        convert(decode("9" * 100_000), annotation)
