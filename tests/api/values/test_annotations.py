"""Every annotation is applied, or refused: no value arrives as something else than was sent."""

from __future__ import annotations

import collections
import datetime as dt
import enum
import logging
import uuid
from collections.abc import Callable, Iterable, Iterator, Reversible
from dataclasses import InitVar, dataclass, field
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypedDict, TypeVar

import attrs
import msgspec
import pydantic
import pytest

from duroxide import RegistrationError, Runtime, SqliteProvider, activity, orchestration
from duroxide._values.codec import convert, decode, encode
from duroxide.exceptions import CodecError

T = TypeVar("T")


@dataclass
class Created:
    order: str


@dataclass
class Dropped:
    reason: str


@dataclass
class Paid:
    order: str
    cents: int = 0


@dataclass
class Envelope:
    event: Created | Dropped
    next: Envelope | None = None


@dataclass
class Removed:
    order: str


@dataclass
class Box(Generic[T]):
    content: T
    other: Created | Dropped | None = None


class Rate(enum.Enum):
    LOW = 0.5
    HIGH = 1.5


class Place(enum.Enum):
    OSLO = (59.9, 10.7)
    NOWHERE = None


class Color(enum.Enum):
    RED = "red"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass
class Tariff:
    name: str
    rate: Rate


@dataclass
class Scaled:
    value: int
    factor: InitVar[int] = 1
    total: int = field(init=False, default=0)

    def __post_init__(self, factor: int) -> None:
        self.total = self.value * factor


@dataclass
class Payment:
    cents: int


@dataclass
class CardPayment(Payment):
    card: str = ""


@dataclass
class GoldPayment(CardPayment):
    bonus: int = 0


@attrs.define
class Shape:
    name: str


@attrs.define
class Circle(Shape):
    radius: float


class Part(msgspec.Struct):
    name: str


class Screw(Part):
    length: int


class Tool(pydantic.BaseModel):
    name: str


class SearchTool(Tool):
    site: str


class Cat(pydantic.BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(pydantic.BaseModel):
    kind: Literal["dog"] = "dog"
    lives: int = 1


class Pair(NamedTuple):
    left: Rate
    right: Created | Dropped


class Base(TypedDict):
    name: str


class Wider(Base):
    size: int


Number = NewType("Number", int)
MOMENT = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (Created("a"), Created | Dropped),
        (Dropped("a"), Created | Dropped | None),
        (None, Created | Dropped | None),
        (Created("a"), Created | Paid),
        (Paid("a"), Created | Paid),
        ([Dropped("a"), Created("b")], list[Created | Dropped]),
        ({"k": Dropped("a")}, dict[str, Created | Dropped]),
        ((Dropped("a"), 1), tuple[Created | Dropped, int]),
        (Envelope(Created("a"), Envelope(Dropped("b"))), Envelope),
        (Created("a"), Created | dict[str, Any]),
        ({"x": 1}, Created | dict[str, Any]),
        (Box(Created("a"), Dropped("b")), Box[Created]),
        (Cat(), Cat | Dog),
        (Dog(lives=9), Cat | Dog),
        (Dog(), Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]),
        (Tool(name="a"), Tool | Created),
        (Created("a"), Tool | Created),
        (Screw("m3", 5), Part | Screw),
        (Rate.LOW, Rate),
        (Place.OSLO, Place),
        (Place.NOWHERE, Place),
        (Right.READ | Right.WRITE, Right),
        ([Rate.LOW, None], list[Rate | None]),
        (Tariff("t", Rate.HIGH), Tariff),
        (Rate.LOW, Rate | int),
        (3, Rate | int),
        (Color.RED, Color | str),
        ("blue", Color | str),
        (Color.RED, Literal[Color.RED]),
        (MOMENT, dt.date | dt.datetime),
        (MOMENT.date(), dt.date | dt.datetime),
        (MOMENT, dt.datetime | str),
        ("tomorrow", dt.datetime | str),
        ("2026", dt.date | str),
        (uuid.UUID(int=1), uuid.UUID | str),
        ("abc", uuid.UUID | str),
        (dt.timedelta(1), dt.timedelta | dt.date | str),
        (Decimal("1.10"), Decimal | float),
        (1.5, Decimal | float),
        (True, bool | Rate),
        ([Created("a")], list[Created] | list[Dropped]),
        ([1, 2], Iterable[int]),
        ([Created("a")], Iterable[Created]),
        ([Created("a")], Reversible[Created]),
        (Number(3), Number | Rate),
        (Pair(Rate.LOW, Dropped("a")), Pair),
        ({"name": "a", "size": 1}, Base),
        (GoldPayment(5, "4711", 3), Payment),
        ([CardPayment(5, "4711"), Payment(1)], list[Payment]),
        (Circle("c", 1.0), Shape),
        (Screw("m3", 5), Part),
        (SearchTool(name="s", site="docs"), Tool),
        ([SearchTool(name="s", site="docs")], list[Tool]),
    ],
)
def test_a_value_arrives_as_the_type_that_was_sent(value: Any, annotation: Any) -> None:
    came = convert(decode(encode(value)), annotation)
    assert came == value
    assert type(came) is type(value)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        ({uuid.UUID(int=1): 1}, dict[uuid.UUID, int]),
        ({Color.RED: 1}, dict[Color, int]),
        ({Rate.LOW: 1}, dict[Rate, int]),
        ({dt.date(2026, 1, 1): 1}, dict[dt.date, int]),
        ({MOMENT: {uuid.UUID(int=1): [Rate.LOW]}}, dict[dt.datetime, dict[uuid.UUID, list[Rate]]]),
        ({Decimal("1.5"): 1}, dict[Decimal, int]),
        ({True: 1, False: 2}, dict[bool, int]),
        ({uuid.UUID(int=1): 1, "a": 2}, dict[uuid.UUID | str, int]),
        ({1: 1, None: 2}, dict[int | None, int]),
        ({"1": 1, "a": 2}, dict[int | str, int]),
        (collections.OrderedDict(b=1, a=2), collections.OrderedDict[str, int]),
        (collections.Counter("aab"), collections.Counter[str]),
    ],
)
def test_the_keys_of_a_dict_arrive_as_they_are_annotated(value: Any, annotation: Any) -> None:
    came = convert(decode(encode(value)), annotation)
    assert came == value
    assert type(came) is type(value)


def test_a_dict_in_a_dataclass_may_have_keys_of_any_text() -> None:
    @dataclass
    class Stock:
        left: dict[uuid.UUID, int]

    assert encode(Stock({uuid.UUID(int=1): 2})) == '{"left": {"00000000-0000-0000-0000-000000000001": 2}}'


def test_two_keys_of_one_text_are_refused() -> None:
    with pytest.raises(CodecError, match="two keys of a dict have the same text"):
        encode({uuid.UUID(int=1): 1, str(uuid.UUID(int=1)): 2})


def test_a_dataclass_with_init_var_comes_back_as_its_fields_were() -> None:
    came = convert(decode(encode(Scaled(2, 3))), Scaled)
    assert isinstance(came, Scaled)
    assert (came.value, came.total) == (2, 6)


def test_an_iterator_is_read_once() -> None:
    came = convert([1, 2], Iterator[int])
    assert (next(came), next(came)) == (1, 2)


def test_constraints_of_pydantic_are_applied() -> None:
    assert convert(3, Annotated[int, pydantic.Field(gt=2)]) == 3
    with pytest.raises(CodecError, match="greater than 2"):
        convert(1, Annotated[int, pydantic.Field(gt=2)])


def test_a_field_that_has_been_removed_since_is_ignored() -> None:
    assert convert({"cents": 1, "currency": "EUR"}, Payment) == Payment(1)
    assert convert({"order": "a", "by": "b"}, Created | Dropped) == Created("a")


@pytest.mark.parametrize("form", ["bare", "in a list", "in a field"])
@pytest.mark.parametrize("library", ["dataclass", "attrs", "msgspec", "pydantic"])
def test_a_warning_names_the_fields_that_the_annotated_class_does_not_have(
    form: str, library: str, caplog: pytest.LogCaptureFixture
) -> None:
    kind = make_receiver(library)
    value: Any = {"name": "a", "from a subclass": 1}
    annotation: Any = kind
    if form == "in a list":
        value, annotation = [value], list[kind]
    elif form == "in a field":

        @dataclass
        class Holder:
            held: dict[str, kind]  # type: ignore[valid-type]

        Holder.__annotations__["held"] = dict[str, kind]
        value, annotation = {"held": {"first": value}}, Holder

    with caplog.at_level(logging.WARNING, "duroxide.values"):
        convert(value, annotation)

    assert f"a value for {kind.__qualname__} has the fields from a subclass" in caplog.text
    assert "import its module" in caplog.text


def make_receiver(library: str) -> Any:
    """Define a class that only the test has seen, since each class is warned of once."""
    if library == "dataclass":
        return dataclass(type("Received", (), {"__annotations__": {"name": str}}))
    if library == "attrs":
        return attrs.make_class("Received", {"name": attrs.field(type=str)})
    if library == "msgspec":
        return msgspec.defstruct("Received", [("name", str)])
    return pydantic.create_model("Received", name=(str, ...))


def test_a_field_that_has_been_added_since_has_its_default() -> None:
    assert convert({"order": "a"}, Paid | Dropped) == Paid("a")


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        ({"other": 1}, Created | Dropped),
        ("soon", dt.date | dt.datetime),
        (2.5, Rate),
        ([1, 2], Place),
        ({"event": {"x": 1}}, Envelope),
        ({"a": 1}, Iterable[int]),
        (["x"], Iterable[int]),
        ({"no": 1}, dict[Rate, int]),
        ({"name": "t", "rate": 9.5}, Tariff),
        ("a", Literal[Color.RED]),
    ],
)
def test_a_value_that_fits_no_type_of_the_annotation_is_refused(value: Any, annotation: Any) -> None:
    with pytest.raises(CodecError, match="does not fit the annotation"):
        convert(value, annotation)


def test_two_subclasses_with_the_same_fields_are_refused() -> None:
    # A class lives on as a subclass of its base, so the base must not be one of other tests.
    @attrs.define
    class Discount:
        name: str

    @attrs.define
    class Coupon(Discount):
        percent: float

    @attrs.define
    class Voucher(Discount):
        percent: float

    with pytest.raises(CodecError, match=r"fits several types of .*Discount, .*Coupon and .*Voucher"):
        convert({"name": "c", "percent": 1.0}, Discount)


@pytest.mark.parametrize("annotation", [Decimal | str, str | bytes | None, list[Decimal | bytes], Created | Removed])
def test_a_union_whose_types_look_alike_in_json_is_refused_where_it_is_declared(annotation: Any) -> None:
    def keep(value: Any) -> Any:
        return value

    for name in ("value", "return"):
        keep.__annotations__ = {name: annotation}
        with (
            SqliteProvider.in_memory() as provider,
            pytest.raises(RegistrationError, match="(cannot be told apart in JSON|so that they cannot be told apart)"),
        ):
            Runtime(provider, functions=[activity(keep)])
    with pytest.raises(CodecError, match="cannot be told apart in JSON"):
        convert("12", annotation)


def test_a_warning_says_that_an_annotation_cannot_be_applied(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "duroxide.values"):
        # Each annotation is warned of once in a process, so no other test may convert to this one.
        assert convert({"a": 1}, Callable[[str, float], int]) == {"a": 1}
    assert "is not applied: no collections.abc.Callable[[str, float], int] can be built from JSON" in caplog.text


def test_the_result_of_a_plain_function_that_is_annotated_as_iterable_is_converted() -> None:
    @activity
    def dates() -> Iterable[dt.date]:
        return [dt.date(2026, 1, 1)]

    @orchestration
    def year() -> Any:
        (day,) = yield dates()
        return day.year

    with SqliteProvider.in_memory() as provider, Runtime(provider, functions=[dates, year]) as runtime:
        assert runtime.client.start(year).result(10) == 2026
