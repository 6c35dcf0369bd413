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


MODELS_WITH_SETS = """
import collections, dataclasses, enum, msgspec, pydantic
from typing import Any, Iterable
from duroxide._values.codec import encode

class Word(enum.Enum):
    A, B, C, D = "abcd"

class Group(enum.Enum):
    ALL = frozenset("abcdefgh")

class Words(set):
    pass

@dataclasses.dataclass(frozen=True)
class Plain:
    words: frozenset

class Inner(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow", frozen=True)
    words: set[str]

class Root(pydantic.RootModel[frozenset[Word]]):
    pass

class Outer(pydantic.BaseModel):
    many: list[Inner]
    by_name: dict[str, set[Word]]
    plain: Plain
    root: Root
    anything: Any
    group: Group
    queue: collections.deque[set[str]]
    lazy: Iterable[set[str]]

    @pydantic.computed_field
    def loud(self) -> set[str]:
        return {word.upper() for word in self.plain.words}

    @pydantic.computed_field
    def loud_in_parts(self) -> dict[str, tuple[int, list[set[str]] | None]]:
        return {"all": (1, [self.loud])}

class Struct(msgspec.Struct):
    sets: Any
    model: Any

words = set("abcdefgh")
outer = Outer(
    many=[Inner(words=words, more=words)],
    by_name={"all": set(Word)},
    plain=Plain(frozenset(words)),
    root=Root(frozenset(Word)),
    anything=({"a": words}, {frozenset("ab"), frozenset("cd"), (1, "b")}, Words(words)),
    group=Group.ALL,
    queue=[words],
    lazy=[words],
)
print(encode(outer))
outer.lazy = [words]
print(encode(Struct({frozenset("ab"), frozenset("cd"), frozenset("ef")}, outer)))
print(encode([{Plain(frozenset("ab")), Plain(frozenset("cd"))}, Struct([set(Word)], None)]))
"""


def test_a_set_in_a_model_is_written_the_same_in_every_process() -> None:
    texts = {
        subprocess.run(
            [sys.executable, "-c", MODELS_WITH_SETS], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3", "4")
    }
    assert len(texts) == 1


def test_a_serializer_of_the_user_gives_a_set_its_own_order() -> None:
    class Backwards(pydantic.BaseModel):
        words: set[str]

        @pydantic.field_serializer("words")
        def write(self, words: set[str]) -> list[str]:
            return sorted(words, reverse=True)

    assert encode(Backwards(words={"a", "b", "c"})) == '{"words": ["c", "b", "a"]}'


def test_writing_a_model_leaves_it_unchanged() -> None:
    class Parcel(pydantic.BaseModel):
        tags: set[str]
        inner: list[set[str]]

    parcel = Parcel(tags={"b", "a"}, inner=[{"d", "c"}])
    encode(parcel)
    assert (type(parcel.tags), type(parcel.inner[0])) == (set, set)


def test_a_field_of_a_model_that_is_explicitly_none_comes_back_as_none() -> None:
    class Flat(pydantic.BaseModel):
        door: str | None = "left"
        rooms: list[int | None] = [1]

    came = convert(decode(encode(Flat(door=None, rooms=[None]))), Flat)
    assert came == Flat(door=None, rooms=[None])
    assert encode(Flat(door=None)) == '{"door": null, "rooms": [1]}'


class Tool(pydantic.BaseModel):
    name: str


class SearchTool(Tool):
    site: str


class Request(pydantic.BaseModel):
    tools: list[Tool] = []
    named: dict[str, Tool] = {}


class Duck(pydantic.BaseModel):
    tools: list[pydantic.SerializeAsAny[Tool]] = []


class Hidden(pydantic.BaseModel):
    cache: int = pydantic.Field(default=0, exclude=True)
    items: list[int] = pydantic.Field(default_factory=list, exclude=True)


class Login(pydantic.BaseModel):
    user: str
    password: pydantic.SecretStr | None = None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Request(tools=[SearchTool(name="s", site="docs")]), "the field 'site' of SearchTool .* would be lost"),
        (Request(named={"a": SearchTool(name="s", site="docs")}), "the field 'site' of SearchTool .* would be lost"),
        (Duck(tools=[SearchTool(name="s", site="docs")]), "the field 'tools' of Duck holds a SearchTool"),
        ([Hidden(cache=3)], "the field 'cache' of Hidden .* would be lost"),
        (Hidden(items=[1]), "the field 'items' of Hidden .* would be lost"),
        (Login(user="ada", password=pydantic.SecretStr("x")), "SecretStr is written as asterisks"),
        ({"logins": [Login(user="ada", password=pydantic.SecretStr("x"))]}, "SecretStr is written as asterisks"),
    ],
)
def test_a_field_that_pydantic_would_not_write_is_refused(value: Any, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        encode(value)


def test_a_field_that_comes_back_without_being_written_is_accepted() -> None:
    assert encode(Hidden()) == "{}"
    assert encode(Login(user="ada")) == '{"user": "ada", "password": null}'
    assert encode(Request(tools=[Tool(name="a")])) == '{"tools": [{"name": "a"}], "named": {}}'


def test_a_secret_with_a_serializer_is_written_by_it() -> None:
    class Open(pydantic.BaseModel):
        password: pydantic.SecretStr

        @pydantic.field_serializer("password")
        def write(self, password: pydantic.SecretStr) -> str:
            return password.get_secret_value()

    value = Open(password=pydantic.SecretStr("x"))
    assert encode(value) == '{"password": "x"}'
    assert convert(decode(encode(value)), Open) == value


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
