"""Random values of random annotations come back as they were; any other JSON fits or raises ``CodecError``."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import random
import string
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import annotated_types
import attrs
import msgspec
import pydantic
import pytest
from pydantic.dataclasses import dataclass as pydantic_dataclass

from duroxide._values.codec import convert, decode, encode
from duroxide.exceptions import CodecError

SEEDS = 40
ANNOTATIONS_PER_SEED = 12
VALUES_PER_ANNOTATION = 6
TEXTS = ["", "a", "ada", "Ünïcödé", "🎉", "\x00", "2026-01-01", "1", "null", "\ud800", "https://example.org/"]
NUMBERS = [0, 1, -1, 2**70, True, 0.5, -0.0, 1e300, float("nan"), float("inf")]


class Color(enum.Enum):
    RED = "red"
    TEN = 10


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of values.

    Attributes:
        annotation: Their annotation.
        make: Makes one.
        fits: Whether a value is one.
        is_key: Whether they can be items of a set.
        is_plain: Whether a model of pydantic writes them as this package does.
    """

    annotation: Any
    make: Callable[[random.Random], Any]
    fits: Callable[[Any], bool]
    is_key: bool = True
    is_plain: bool = True


def word(choices: random.Random) -> str:
    return "".join(choices.choices(string.ascii_lowercase, k=choices.randint(1, 3)))


def moment(choices: random.Random) -> dt.datetime:
    return dt.datetime.fromtimestamp(choices.randint(0, 4_000_000_000), dt.timezone.utc)


def plain(kind: Any, make: Callable[[random.Random], Any]) -> Kind:
    return Kind(kind, make, lambda value: type(value) is kind)


LEAVES = [
    # A bool is an int.
    Kind(int, lambda choices: choices.randint(-(2**70), 2**70), lambda value: isinstance(value, int)),
    plain(str, word),
    plain(bool, lambda choices: choices.random() < 0.5),
    plain(Decimal, lambda choices: Decimal(choices.randint(-999, 999)).scaleb(-2)),
    plain(dt.datetime, moment),
    plain(dt.date, lambda choices: moment(choices).date()),
    plain(dt.time, lambda choices: moment(choices).time()),
    plain(dt.timedelta, lambda choices: dt.timedelta(milliseconds=choices.randint(-(10**9), 10**9))),
    plain(uuid.UUID, lambda choices: uuid.UUID(int=choices.getrandbits(128))),
    Kind(bytes, lambda choices: choices.randbytes(4), lambda value: type(value) is bytes, is_plain=False),
    Kind(float, lambda choices: choices.uniform(-9, 9), lambda value: type(value) is float),
    Kind(Color, lambda choices: choices.choice(list(Color)), lambda value: type(value) is Color),
    Kind(Literal["a", 1, None], lambda choices: choices.choice(["a", 1, None]), lambda value: value in ("a", 1, None)),
    Kind(pydantic.PositiveInt, lambda choices: choices.randint(1, 9), lambda value: value > 0),
    Kind(Annotated[str, annotated_types.Len(1, 3)], word, lambda value: 1 <= len(value) <= 3),
    Kind(
        Annotated[bytes, annotated_types.Len(2)],
        lambda choices: choices.randbytes(2),
        lambda value: len(value) >= 2,
        is_plain=False,
    ),
    Kind(Annotated[int, msgspec.Meta(ge=0)], lambda choices: choices.randint(0, 9), lambda value: value >= 0),
    Kind(pydantic.AwareDatetime, moment, lambda value: value.tzinfo is not None),
    Kind(
        pydantic.HttpUrl,
        lambda choices: pydantic.HttpUrl(f"https://{word(choices)}.org"),
        lambda value: value.scheme in ("http", "https"),
    ),
    Kind(
        Annotated[Decimal, pydantic.Field(gt=0, max_digits=4)],
        lambda choices: Decimal(choices.randint(1, 9999)).scaleb(-2),
        lambda value: value > 0,
    ),
]


def of_items(annotation: Any, make: Callable[[list[Any]], Any], kind: type, item: Kind) -> Kind:
    return Kind(
        annotation,
        lambda choices: make([item.make(choices) for _ in range(choices.randint(0, 3))]),
        lambda value: type(value) is kind and all(item.fits(each) for each in value),
        is_key=False,
        is_plain=item.is_plain,
    )


def of_pairs(item: Kind) -> Kind:
    return Kind(
        dict[str, item.annotation],  # type: ignore[name-defined]
        lambda choices: {word(choices): item.make(choices) for _ in range(choices.randint(0, 3))},
        lambda value: all(type(key) is str and item.fits(each) for key, each in value.items()),
        is_key=False,
        is_plain=item.is_plain,
    )


def optional(item: Kind) -> Kind:
    return Kind(
        item.annotation | None,
        lambda choices: None if choices.random() < 0.3 else item.make(choices),
        lambda value: value is None or item.fits(value),
        item.is_key,
        item.is_plain,
    )


def of_fields(first: Kind, second: Kind, choices: random.Random) -> Kind:
    fields: list[tuple[str, Any]] = [("first", first.annotation), ("second", second.annotation)]
    makers: list[Callable[[], Any]] = [
        lambda: dataclasses.make_dataclass("Holder", fields),
        lambda: attrs.make_class("Holder", {name: attrs.field(type=each) for name, each in fields}),
        lambda: msgspec.defstruct("Holder", fields),
        lambda: NamedTuple("Holder", fields),
        lambda: TypedDict("Holder", dict(fields)),  # type: ignore[misc]
    ]
    if first.is_plain and second.is_plain:
        makers += [
            lambda: pydantic.create_model("Holder", **{name: (each, ...) for name, each in fields}),  # type: ignore[call-overload]
            lambda: pydantic_dataclass(type("Holder", (), {"__annotations__": dict(fields)})),
        ]
    made = choices.choice(makers)()
    return Kind(
        made,
        lambda choices: made(first=first.make(choices), second=second.make(choices)),
        lambda value: first.fits(part(value, "first")) and second.fits(part(value, "second")),
        is_key=False,
        is_plain=False,
    )


def part(value: Any, name: str) -> Any:
    return value[name] if isinstance(value, dict) else getattr(value, name)


def random_kind(choices: random.Random, depth: int = 3) -> Kind:
    if depth == 0 or choices.random() < 0.3:
        return choices.choice(LEAVES)
    item = random_kind(choices, depth - 1)
    form = choices.randrange(7)
    if form == 0:
        return of_items(list[item.annotation], list, list, item)  # type: ignore[name-defined]
    if form == 1:
        return of_items(tuple[item.annotation, ...], tuple, tuple, item)  # type: ignore[name-defined]
    if form == 2 and item.is_key:
        return of_items(set[item.annotation], set, set, item)  # type: ignore[name-defined]
    if form == 3:
        return of_pairs(item)
    if form == 4:
        return optional(item)
    return of_fields(item, random_kind(choices, depth - 1), choices)


def random_json(choices: random.Random, depth: int = 3) -> Any:
    form = choices.randrange(6 if depth else 3)
    if form == 0:
        return choices.choice(TEXTS)
    if form == 1:
        return choices.choice(NUMBERS)
    if form == 2:
        return None
    if form == 3:
        return [random_json(choices, depth - 1) for _ in range(choices.randint(0, 3))]
    keys = ["first", "second", "other", ""]
    return {choices.choice(keys): random_json(choices, depth - 1) for _ in range(choices.randint(0, 3))}


def damaged(value: Any, choices: random.Random) -> Any:
    """Replace one part of a JSON value."""
    if isinstance(value, list) and value and choices.random() < 0.8:
        place = choices.randrange(len(value))
        return [damaged(each, choices) if index == place else each for index, each in enumerate(value)]
    if isinstance(value, dict) and value and choices.random() < 0.8:
        name = choices.choice(list(value))
        return {key: damaged(each, choices) if key == name else each for key, each in value.items()}
    return random_json(choices)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_random_value_comes_back_as_it_was(seed: int) -> None:
    choices = random.Random(seed)
    for _ in range(ANNOTATIONS_PER_SEED):
        kind = random_kind(choices)
        for _ in range(VALUES_PER_ANNOTATION):
            value = kind.make(choices)
            came = convert(decode(encode(value)), kind.annotation)
            assert came == value, kind.annotation
            assert kind.fits(came), kind.annotation


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_random_wrong_value_fits_its_annotation_or_raises_codec_error(seed: int) -> None:
    choices = random.Random(seed)
    for _ in range(ANNOTATIONS_PER_SEED):
        kind = random_kind(choices)
        for _ in range(VALUES_PER_ANNOTATION):
            wrong = damaged(decode(encode(kind.make(choices))), choices)
            try:
                came = convert(wrong, kind.annotation)
            except CodecError:
                continue
            assert kind.fits(came), (kind.annotation, wrong)
