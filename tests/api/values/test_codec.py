"""Values as JSON and back."""

from __future__ import annotations

import enum
import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypedDict, TypeVar
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest

from duroxide._orchestration.outcomes import Outcome, err, ok
from duroxide._values.codec import convert, decode, encode
from duroxide.exceptions import CodecError, activity_failed


class Color(enum.Enum):
    RED = "red"


class Size(str, enum.Enum):
    LARGE = "large"


@dataclass
class Line:
    article: str
    price: Decimal
    colors: set[Color] = field(default_factory=set)


@dataclass(frozen=True)
class Order:
    number: UUID
    at: datetime
    lines: list[Line]


@attrs.define
class Parcel:
    weight: float
    order: Order | None = None


class Point(msgspec.Struct):
    x: int
    tags: frozenset[str] = frozenset()


class User(pydantic.BaseModel):
    name: str
    born: date
    home: str = pydantic.Field(default="", alias="homeTown")


class StrictUser(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    born: date


class Pair(NamedTuple):
    left: int
    right: Line


class Settings(TypedDict):
    depth: int


@dataclass
class Account:
    owner: User


ORDER = Order(
    UUID(int=7), datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc), [Line("pen", Decimal("1.10"), {Color.RED})]
)
T = TypeVar("T")
LIST_OF_T: Any = list[T]  # type: ignore[valid-type]


@pytest.mark.parametrize(
    "value",
    [None, True, 1, 1.5, "é\ud800", [1, "a"], (1, 2), {"b": 1, "a": {"c": None}}, {1: 2, None: 3}, math.nan, math.inf],
)
def test_json_types_are_written_as_json_writes_them(value: Any) -> None:
    assert encode(value) == json.dumps(value)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (ORDER, Order),
        (Parcel(1.5, ORDER), Parcel),
        (Point(1, frozenset({"b", "a"})), Point),
        (User(name="Ada", born=date(1815, 12, 10), homeTown="London"), User),
        (StrictUser(born=date(1815, 12, 10)), StrictUser),
        ([User(name="Ada", born=date(1815, 12, 10))], list[User]),
        (Account(User(name="Ada", born=date(1815, 12, 10))), Account),
        ({"a": ORDER}, dict[str, Order]),
        ({1: "a"}, dict[int, str]),
        ([ORDER, None], list[Order | None]),
        ((1, Color.RED), tuple[int, Color]),
        ({1, 2}, set[int]),
        (frozenset({"a"}), frozenset[str]),
        (Color.RED, Color),
        (Size.LARGE, Size),
        ("a", Literal["a", "b"]),
        (date(2026, 1, 2), date),
        (time(1, 2), time),
        (timedelta(hours=25), timedelta),
        (Decimal("1.10"), Decimal),
        (UUID(int=7), UUID),
        (b"\x00\xff", bytes),
        (None, Order | None),
        (Pair(1, Line("pen", Decimal(1))), Pair),
        ({"depth": 3}, Settings),
        (3, int | None),
    ],
)
def test_values_are_converted_by_their_annotation(value: Any, annotation: Any) -> None:
    assert convert(decode(encode(value)), annotation) == value


def test_a_set_is_written_the_same_in_every_process() -> None:
    program = (
        "from duroxide._values.codec import encode; print(encode({'set': set('abcdefgh'), 'mixed': {1, 'a', None}}))"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(texts) == 1


@pytest.mark.parametrize(
    "annotation",
    [Any, None, object, type(None), T, LIST_OF_T, Callable[[], int], type(sys)],
)
def test_a_value_is_left_unchanged_if_its_annotation_cannot_be_built(annotation: Any) -> None:
    value = {"a": [1]}
    assert convert(value, annotation) is value


def test_a_value_that_already_fits_is_left_unchanged() -> None:
    value = {"a": object()}
    assert convert(value, dict) is value
    assert convert(ORDER, Order) is ORDER


@pytest.mark.parametrize(
    ("value", "annotation"),
    [("x", int), ({"article": 1}, Line), ({"name": "Ada"}, User), ([1, "a"], list[int]), ("blue", Color), (None, Line)],
)
def test_a_value_that_does_not_fit_is_refused(value: Any, annotation: Any) -> None:
    with pytest.raises(CodecError, match="does not fit the annotation"):
        convert(value, annotation)


@pytest.mark.parametrize("value", [object(), {"a": [object()]}, lambda: 0, Order, 1j])
def test_an_error_about_a_value_that_json_cannot_represent_names_its_type(value: Any) -> None:
    with pytest.raises(CodecError, match=r"(object|function|type|complex) has no form in JSON; pass a dict"):
        encode(value)


def test_a_key_that_json_cannot_represent_is_refused() -> None:
    with pytest.raises(CodecError, match="keys must be str"):
        encode({(1, 2): 3})


def test_a_circular_or_too_deep_value_is_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(CodecError):
        encode(circle)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(CodecError, match="nested too deeply"):
        encode(deep)
    while deep:  # taken apart step by step, since freeing it at once recurses too
        deep = deep[0]


def test_text_that_is_not_json_is_kept_as_text() -> None:
    assert decode("hello") == "hello"
    assert decode("") == ""
    assert decode('"hello"') == "hello"


def test_outcomes_are_dicts_and_failures_are_written_as_text() -> None:
    failure = activity_failed('{"type": "ValueError", "message": "no"}', "a", 1, 1)
    outcomes = [ok(1), err(failure)]
    assert outcomes[0] == {"ok": 1}
    assert outcomes[1]["err"] is failure
    assert encode(outcomes) == '[{"ok": 1}, {"err": "ValueError: no"}]'
    assert outcomes[0].unwrap() == 1
    with pytest.raises(type(failure)):
        outcomes[1].unwrap()
    with pytest.raises(Exception, match="ValueError: no"):
        Outcome(err="ValueError: no").unwrap()
