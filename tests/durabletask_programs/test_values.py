"""Values of durabletask's programs: what they are recorded as, and what they are read as."""

from __future__ import annotations

import base64
import enum
from collections import namedtuple
from dataclasses import dataclass, field
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any, NamedTuple, Optional, Union

import pydantic
import pytest

from durabletask_programs.conftest import Program
from duroxide.durabletask.serialization import DEFAULT_DATA_CONVERTER, DataConverter, JsonDataConverter


class Size(enum.Enum):
    SMALL = "s"


@dataclass
class Line:
    article: str
    size: Size


@dataclass
class Order:
    lines: list[Line]
    note: str | None = None
    prices: dict[str, float] = field(default_factory=dict)


class Point(NamedTuple):
    x: int
    y: int


Untyped = namedtuple("Untyped", ["a"])


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and other.cents == self.cents

    __hash__ = None

    def to_json(self) -> dict[str, int]:
        return {"cents": self.cents}

    @classmethod
    def from_json(cls, value: dict[str, int]) -> Money:
        return cls(value["cents"])


class Customer(pydantic.BaseModel):
    name: str
    since: datetime


CUSTOMER = Customer(name="Ada", since=datetime(2020, 1, 1, tzinfo=timezone.utc))


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (Order([Line("tea", Size.SMALL)], prices={"tea": 1.0}), Order),
        (Point(1, 2), Point),
        (Untyped(1), Untyped),
        (Money(5), Money),
        (CUSTOMER, Customer),
        ([Money(1), Money(2)], list[Money]),
        ({"a": Money(1)}, dict[str, Money]),
        ((1, Money(2)), tuple[int, Money]),
        (Money(3), Optional[Money]),
        (None, Optional[Money]),
        (Money(3), Union[int, Money]),
        (SimpleNamespace(a=1), SimpleNamespace),
        (0, int),
        ("", str),
        (False, bool),
        (datetime(2020, 1, 1, tzinfo=timezone.utc), datetime),
    ],
)
def test_a_value_comes_back_as_its_type(value: Any, kind: Any) -> None:
    converter = JsonDataConverter()
    assert converter.deserialize(converter.serialize(value), kind) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Order([Line("tea", Size.SMALL)]), '{"lines": [{"article": "tea", "size": "s"}], "note": null, "prices": {}}'),
        (Point(1, 2), "[1, 2]"),
        (SimpleNamespace(a=[Money(1)]), '{"a": [{"cents": 1}]}'),
        (None, None),
    ],
)
def test_a_value_is_written_as_durabletask_writes_it(value: Any, text: str | None) -> None:
    assert DEFAULT_DATA_CONVERTER.serialize(value) == text


def test_a_value_that_does_not_fit_stays_as_json_has_it() -> None:
    assert DEFAULT_DATA_CONVERTER.deserialize('{"other": 1}', Money) == {"other": 1}
    assert DEFAULT_DATA_CONVERTER.deserialize("[1]", Order) == [1]


def test_only_types_that_are_built_can_be_reconstructed() -> None:
    built = [Order, Point, Money, Customer, Size, list[Money], Optional[Money]]
    assert [DEFAULT_DATA_CONVERTER.can_reconstruct(each) for each in built] == [True] * len(built)
    plain = [int, str, dict, list[int], None, Any]
    assert [DEFAULT_DATA_CONVERTER.can_reconstruct(each) for each in plain] == [False] * len(plain)


def test_functions_get_the_types_of_their_annotations(program: Program) -> None:
    def price(ctx, line: Line) -> Money:
        return Money(len(line.article) if line.size is Size.SMALL else 0)

    def main(ctx, order: Order):
        money = yield ctx.call_activity(price, input=order.lines[0])
        other = yield ctx.call_activity("price", input=order.lines[0], return_type=Money)
        plain = yield ctx.call_activity("price", input=order.lines[0])
        return [money.cents, other.cents, plain]

    order = Order([Line("tea", Size.SMALL)])
    state = program.run(main, order, activities=(price,))
    assert state.get_output() == [3, 3, {"cents": 3}]
    assert state.get_input(Order) == order


class Reversed(DataConverter):
    """Writes no JSON."""

    def serialize(self, value: Any) -> str | None:
        text = DEFAULT_DATA_CONVERTER.serialize(value)
        return None if text is None else base64.b64encode(text.encode()).decode()

    def deserialize(self, data: str | None, target_type: Any = None) -> Any:
        text = None if data is None else base64.b64decode(data).decode()
        return DEFAULT_DATA_CONVERTER.deserialize(text, target_type)

    def coerce(self, value: Any, target_type: Any = None) -> Any:
        return DEFAULT_DATA_CONVERTER.coerce(value, target_type)


def test_a_converter_of_the_program_writes_all_values(program: Program) -> None:
    def double(ctx, money: Money) -> int:
        return money.cents * 2

    def main(ctx, money: Money):
        ctx.set_custom_status("begun")
        return (yield ctx.call_activity(double, input=money))

    from duroxide.durabletask.azuremanaged.client import DurableTaskSchedulerClient

    converter = Reversed()
    program.worker = program.new_worker(data_converter=converter)
    program.client.close()
    program.client = DurableTaskSchedulerClient(
        host_address=program.address, taskhub=program.hub, token_credential=None, data_converter=converter
    )
    state = program.run(main, Money(4), activities=(double,))
    assert state.serialized_output == converter.serialize(8)
    assert state.serialized_input == converter.serialize(Money(4))
    assert (state.get_output(), state.get_input(Money), state.get_custom_status()) == (8, Money(4), "begun")
