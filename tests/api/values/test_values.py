"""Values: they pass between client, orchestration and activity, and arrive as their annotations say."""

from __future__ import annotations

import enum
import math
from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest

from conftest import Run
from duroxide import ActivityContext, Client, OrchestrationContext, OrchestrationFailed

Steps = Generator[Any, Any, Any]


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclass
class Item:
    name: str
    price: Decimal


@dataclass
class Order:
    number: UUID
    items: list[Item]
    colour: Colour
    placed: datetime
    notes: dict[str, str] = field(default_factory=dict)


class Point(msgspec.Struct):
    x: int
    y: int


@attrs.define
class Size:
    width: int
    height: int


class Customer(pydantic.BaseModel):
    name: str
    born: date


ORDER = Order(
    number=UUID("12345678-1234-5678-1234-567812345678"),
    items=[Item("tea", Decimal("3.50")), Item("pot", Decimal(12))],
    colour=Colour.BLUE,
    placed=datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
    notes={"to": "Ada"},
)


def order_activity(ctx: ActivityContext, input: Order) -> Order:
    assert isinstance(input, Order)
    return input


def order_flow(ctx: OrchestrationContext, input: Order) -> Generator[Any, Any, Order]:
    assert isinstance(input, Order)
    result = yield ctx.schedule_activity("activity", input)
    assert isinstance(result, Order)
    return result


def point_activity(ctx: ActivityContext, input: Point) -> Point:
    return Point(input.y, input.x)


def point_flow(ctx: OrchestrationContext, input: Point) -> Steps:
    result = yield ctx.schedule_activity("activity", input)
    return [type(result).__name__, result.x, result.y]


def size_activity(ctx: ActivityContext, input: Size) -> Size:
    return Size(input.height, input.width)


def size_flow(ctx: OrchestrationContext, input: Size) -> Steps:
    result = yield ctx.schedule_activity("activity", input)
    return [type(result).__name__, result.width, result.height]


def customer_activity(ctx: ActivityContext, input: Customer) -> Customer:
    return Customer(name=input.name.upper(), born=input.born)


def customer_flow(ctx: OrchestrationContext, input: Customer) -> Steps:
    result = yield ctx.schedule_activity("activity", input)
    return [type(result).__name__, result.name, result.born]


def child_flow(ctx: OrchestrationContext, input: Order) -> Order:
    assert isinstance(input, Order)
    return input


def parent_flow(ctx: OrchestrationContext, input: Order) -> Steps:
    result = yield ctx.schedule_sub_orchestration("child", input)
    return type(result).__name__


async def async_activity(ctx: ActivityContext, input: Colour) -> Colour:
    assert input is Colour.RED
    return Colour.BLUE


async def async_flow(ctx: OrchestrationContext, input: Colour) -> str:
    result = await ctx.schedule_activity("activity", input)
    return repr(result)


def text_activity(ctx: ActivityContext, input: Any) -> Any:
    return input


def plain_flow(ctx: OrchestrationContext, input: Any) -> Steps:
    return (yield ctx.schedule_activity("activity", input))


def convert_flow(ctx: OrchestrationContext, input: Any) -> Steps:
    order = yield ctx.schedule_activity("activity", input, result_type=Order)
    return [type(order).__name__, type(order.items[0]).__name__]


def list_flow(ctx: OrchestrationContext, input: list[Item]) -> list[str]:
    return [type(item).__name__ for item in input]


def optional_flow(ctx: OrchestrationContext, input: Order | None) -> str:
    return type(input).__name__


def number_flow(ctx: OrchestrationContext, input: int) -> int:
    return input


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -(2**63),
        2**70,
        1.5,
        1e300,
        "",
        "text",
        "ü🎉\n\t\\\"'",
        [],
        [1, [2, [3]]],
        {},
        {"key": {"nested": [None, False]}},
        "null",
        "42",
        '{"looks": "like json"}',
        "x" * 200_000,
    ],
    ids=lambda value: repr(value)[:20],
)
def test_json_value_arrives_unchanged(value: Any, run: Run) -> None:
    assert run(plain_flow, value, activities={"activity": text_activity}) == value


def test_text_with_a_null_character_arrives_unchanged(run: Run) -> None:
    # JSON writes it as an escape, so PostgreSQL, whose texts lack this character, can keep it.
    assert run(plain_flow, "a\0b", activities={"activity": text_activity}) == "a\0b"


@pytest.mark.parametrize(
    ("value", "received"),
    [
        (Colour.RED, "red"),
        (Level.HIGH, 2),
        (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (Decimal("1.10"), "1.10"),
        (date(2026, 1, 2), "2026-01-02"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc), "2026-01-02T03:04:05Z"),
        (time(3, 4, 5), "03:04:05"),
        (timedelta(seconds=90), "PT90S"),
        (b"bytes", "Ynl0ZXM="),
        ({3, 1, 2}, [1, 2, 3]),
        ((1, 2), [1, 2]),
        (Item("tea", Decimal("3.50")), {"name": "tea", "price": "3.50"}),
        (Point(1, 2), {"x": 1, "y": 2}),
        (Size(1, 2), {"width": 1, "height": 2}),
        (Customer(name="Ada", born=date(1815, 12, 10)), {"name": "Ada", "born": "1815-12-10"}),
        ({1: "a"}, {"1": "a"}),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("store", ["memory"])
def test_value_without_annotation_arrives_as_plain_json_types(value: Any, received: Any, run: Run) -> None:
    assert run(plain_flow, value, activities={"activity": text_activity}) == received


def test_dataclass_comes_back_with_all_its_fields(run: Run) -> None:
    output = run(order_flow, ORDER, activities={"activity": order_activity})

    assert output == {
        "number": "12345678-1234-5678-1234-567812345678",
        "items": [{"name": "tea", "price": "3.50"}, {"name": "pot", "price": "12"}],
        "colour": "blue",
        "placed": "2026-01-02T03:04:05Z",
        "notes": {"to": "Ada"},
    }


def test_client_converts_the_output_to_the_requested_type(run: Run, client: Client) -> None:
    run(order_flow, ORDER, activities={"activity": order_activity}, instance="typed")

    assert client.wait_for_orchestration_typed("typed", result_type=Order) == ORDER


def test_msgspec_struct_comes_back(run: Run) -> None:
    assert run(point_flow, Point(1, 2), activities={"activity": point_activity}) == ["Point", 2, 1]


def test_attrs_class_comes_back(run: Run) -> None:
    assert run(size_flow, Size(1, 2), activities={"activity": size_activity}) == ["Size", 2, 1]


def test_pydantic_model_comes_back(run: Run) -> None:
    output = run(
        customer_flow, Customer(name="Ada", born=date(1815, 12, 10)), activities={"activity": customer_activity}
    )

    assert output == ["Customer", "ADA", "1815-12-10"]


def test_result_of_a_child_is_converted_by_its_annotation(run: Run) -> None:
    assert run(parent_flow, ORDER, orchestrations={"child": child_flow}) == "Order"


@pytest.mark.task_groups
def test_async_functions_are_converted_by_their_annotations(run: Run) -> None:
    assert run(async_flow, Colour.RED, activities={"activity": async_activity}) == repr(Colour.BLUE)


def test_result_type_converts_where_there_is_no_annotation(run: Run) -> None:
    assert run(convert_flow, ORDER, activities={"activity": text_activity}) == ["Order", "Item"]


def test_items_of_a_list_are_converted(run: Run) -> None:
    assert run(list_flow, ORDER.items) == ["Item", "Item"]


@pytest.mark.parametrize(("value", "kind"), [(ORDER, "Order"), (None, "NoneType")])
def test_optional_annotation_takes_the_value_or_none(value: Any, kind: str, run: Run) -> None:
    assert run(optional_flow, value) == kind


def test_input_that_does_not_fit_fails_the_orchestration(run: Run) -> None:
    with pytest.raises(OrchestrationFailed, match="does not fit") as caught:
        run(number_flow, "not a number")

    assert caught.value.error_type == "CodecError"


def test_input_that_does_not_fit_fails_the_activity_where_it_can_be_caught(run: Run) -> None:
    def careful(ctx: OrchestrationContext, input: Any) -> Steps:
        try:
            yield ctx.schedule_activity("activity", {"not": "a point"})
        except Exception as failure:
            return str(failure)

    assert run(careful, activities={"activity": point_activity}).startswith("CodecError")


def test_result_that_json_cannot_represent_fails_the_activity(run: Run) -> None:
    def careful(ctx: OrchestrationContext, input: Any) -> Steps:
        try:
            yield ctx.schedule_activity("activity")
        except Exception as failure:
            return str(failure)

    assert run(careful, activities={"activity": lambda ctx, input: object()}).startswith("CodecError")


def test_result_that_json_cannot_represent_fails_the_orchestration(run: Run) -> None:
    def opaque(ctx: OrchestrationContext, input: Any) -> Any:
        return object()

    with pytest.raises(OrchestrationFailed) as caught:
        run(opaque)

    assert caught.value.error_type == "CodecError"


def test_not_a_number_and_infinity_arrive(run: Run) -> None:
    low, high, odd = run(
        plain_flow, [float("-inf"), float("inf"), float("nan")], activities={"activity": text_activity}
    )

    assert (low, high) == (float("-inf"), float("inf"))
    assert math.isnan(odd)


def test_outcomes_of_all_are_converted_by_annotation(run: Run) -> None:
    def fan(ctx: OrchestrationContext, input: Any) -> Steps:
        outcomes = yield ctx.all([ctx.schedule_activity("activity", Point(1, 2)), ctx.schedule_timer(0)])
        return type(outcomes[0]["ok"]).__name__

    assert run(fan, activities={"activity": point_activity}) == "Point"


def test_deterministic_values_are_the_same_at_every_replay(run: Run) -> None:
    seen: list[list[str]] = []

    def steps(ctx: OrchestrationContext, input: Any) -> Steps:
        first = [str(ctx.uuid()), str(ctx.random().random()), ctx.now().isoformat()]
        for _ in range(3):
            yield ctx.schedule_activity("activity")
        seen.append(first)
        return [*first, str(ctx.uuid())]

    output = run(steps, activities={"activity": text_activity})

    assert output[:3] == seen[-1]
    assert output[3] != output[0]


def test_time_advances_from_step_to_step(run: Run) -> None:
    def steps(ctx: OrchestrationContext, input: Any) -> Steps:
        begin = ctx.now()
        yield ctx.schedule_timer(30)
        middle = ctx.now()
        recorded = yield ctx.utc_now()
        return [(middle - begin).total_seconds() >= 0.03, abs(recorded / 1000 - middle.timestamp()) < 60]

    assert run(steps) == [True, True]


def test_random_stream_differs_between_instances(run: Run) -> None:
    def draw(ctx: OrchestrationContext, input: Any) -> list[Any]:
        return [ctx.random().random(), str(ctx.uuid())]

    first, second = run(draw), run(draw)

    assert first[0] != second[0]
    assert first[1] != second[1]


def test_new_guid_and_utc_now_are_recorded(run: Run) -> None:
    def steps(ctx: OrchestrationContext, input: Any) -> Steps:
        guid = yield ctx.new_guid()
        now = yield ctx.utc_now()
        yield ctx.schedule_activity("activity")
        return [guid, now]

    guid, now = run(steps, activities={"activity": text_activity})

    assert str(UUID(guid)) == guid
    assert abs(now / 1000 - datetime.now(timezone.utc).timestamp()) < 60
