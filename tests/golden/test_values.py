"""The JSON text of every kind of value is frozen: at replay the engine compares recorded input byte by byte."""

from __future__ import annotations

import dataclasses
import enum
import json
import uuid
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import attrs
import msgspec
import pydantic
import pytest

from duroxide._values.codec import convert, decode, encode
from golden.conftest import Compare


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Mode(str, enum.Enum):
    FAST = "fast"


@dataclasses.dataclass
class Item:
    name: str
    price: Decimal
    tags: set[str] = dataclasses.field(default_factory=set)


@dataclasses.dataclass
class Order:
    id: uuid.UUID
    items: list[Item]
    placed: datetime
    color: Color = Color.RED


@attrs.define
class Point:
    x: int
    y: float


class Struct(msgspec.Struct):
    name: str
    when: date


class Model(pydantic.BaseModel):
    name: str
    when: datetime
    price: Decimal


MOMENT = datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=timezone.utc)
ID = uuid.UUID(int=0x1234567890ABCDEF1234567890ABCDEF)

VALUES: dict[str, Any] = {
    "none": None,
    "bools": [True, False],
    "integers": [0, -1, 2**53 + 1, 10**40],
    "floats": [0.1, 1e300, -0.0, 1.0, 5e-324],
    "not a number": [float("nan"), float("inf"), float("-inf")],
    "text": ["", "plain", 'quote " backslash \\', "line\nbreak", "\x00\x1f\x7f"],
    "unicode": ["ünïcödé", "日本語", "🎉", "\u2028"],
    "lone surrogate": "\ud800",
    "nested": {"a": [{"b": {"c": [1, [2, [3]]]}}], "empty": [{}, [], ""]},
    "keys": {"text": 1, 2: "integer", 2.5: "float", True: "bool", None: "none"},
    "key order": {"z": 1, "a": 2, "m": 3},
    "tuple": (1, ("two", 3)),
    "named tuple": type("T", (tuple,), {})((1, 2)),
    "datetime": MOMENT,
    "datetime without a zone": datetime(2024, 2, 29, 12, 30),  # noqa: DTZ001
    "datetime of another zone": MOMENT.astimezone(timezone(timedelta(hours=5, minutes=30))),
    "date": date(2024, 2, 29),
    "time": time(12, 30, 15),
    "timedelta": [timedelta(days=1, milliseconds=1), timedelta(0), timedelta(seconds=-1)],
    "uuid": ID,
    "decimal": [Decimal("1.10"), Decimal("-0"), Decimal("1E+3"), Decimal(10) ** 40],
    "bytes": [b"", b"\x00\xffbytes", bytearray(b"array"), memoryview(b"view")],
    "sets": [set(), {3, 1, 2}, frozenset({"b", "a"})],
    "enums": [Color.RED, Level.HIGH, Mode.FAST],
    "dataclass": Order(ID, [Item("tea", Decimal("3.50"), {"hot", "green"})], MOMENT),
    "attrs": Point(1, 2.0),
    "msgspec": Struct("tea", date(2024, 2, 29)),
    "pydantic": Model(name="tea", when=MOMENT, price=Decimal("3.50")),
    "models in plain values": {"order": [Point(1, 2.0), {"model": Struct("tea", date(2024, 2, 29))}]},
}


def test_the_recorded_text_of_every_kind_of_value_has_not_changed(compare: Compare) -> None:
    lines = [f"{name}: {encode(value)}" for name, value in VALUES.items()]
    compare("values.txt", "\n".join([*lines, ""]))


class Flavour(enum.Enum):
    SWEET = "sweet"
    SOUR = "sour"


@dataclasses.dataclass(frozen=True)
class Label:
    words: frozenset[str]


class Parcel(pydantic.BaseModel):
    tags: set[str]
    flavours: frozenset[Flavour] = frozenset()
    days: set[date] = set()
    labels: list[Label] = []
    anything: Any = None

    @pydantic.computed_field
    def loud(self) -> set[str]:
        return {tag.upper() for tag in self.tags}


class Words(pydantic.RootModel[set[str]]):
    pass


class Groups(msgspec.Struct):
    groups: Any


WORDS = {"red", "green", "blue", "black", "white"}
SETS: dict[str, Any] = {
    "pydantic": Parcel(
        tags=WORDS,
        flavours=frozenset(Flavour),
        days={date(2024, 3, 1), date(2024, 1, 2), date(2024, 2, 3)},
        labels=[Label(frozenset(WORDS))],
        anything={"deep": [Words(WORDS)]},
    ),
    "pydantic root": Words(WORDS),
    "pydantic in a dataclass": [Words({"b", "a"}), {"in": Parcel(tags={"b", "a"})}],
    "msgspec, sets in a set": Groups({frozenset("ab"), frozenset("cd"), frozenset("ef")}),
    "msgspec, mixed": Groups({1, "a", None, Flavour.SOUR}),
    "keys": {ID: 1, date(2024, 2, 29): 2, Color.RED: 3, Decimal("1.50"): 4, timedelta(days=1): 5, b"key": 6},
}
"""Sets that were recorded in the order of their hashes before 0.3.0, or not at all, and keys that were refused."""


def test_the_recorded_order_of_every_set_has_not_changed(compare: Compare) -> None:
    lines = [f"{name}: {encode(value)}" for name, value in SETS.items()]
    compare("sets.txt", "\n".join([*lines, ""]))


def test_a_set_of_numbers_in_a_model_is_recorded_as_before() -> None:
    class Numbers(pydantic.BaseModel):
        numbers: set[int]
        pairs: set[tuple[int, float]]

    value = Numbers(numbers={8, 1, 10, 3}, pairs={(2, 1.5), (1, 0.5)})
    assert encode(value) == json.dumps({"numbers": list(value.numbers), "pairs": [list(pair) for pair in value.pairs]})


JSON_VALUES = (
    "none",
    "bools",
    "integers",
    "floats",
    "not a number",
    "text",
    "unicode",
    "lone surrogate",
    "nested",
    "keys",
)


@pytest.mark.parametrize("name", JSON_VALUES)
def test_json_types_are_written_exactly_as_json_writes_them(name: str) -> None:
    assert encode(VALUES[name]) == json.dumps(VALUES[name])


TYPES: dict[str, Any] = {
    "datetime": datetime,
    "date": date,
    "time": time,
    "uuid": uuid.UUID,
    "decimal": list[Decimal],
    "timedelta": list[timedelta],
    "sets": list[set[Any]],
    "dataclass": Order,
    "attrs": Point,
    "msgspec": Struct,
    "pydantic": Model,
}


@pytest.mark.parametrize("name", TYPES)
def test_a_recorded_value_is_converted_by_its_annotation(name: str) -> None:
    assert convert(decode(encode(VALUES[name])), TYPES[name]) == VALUES[name]
