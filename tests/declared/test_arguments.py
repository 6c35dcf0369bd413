"""Recorded arguments: the text is frozen, and is converted back by the annotations."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from duroxide import ActivityContext, CodecError, RegistrationError, activity, orchestration
from duroxide._native import RawText
from duroxide._values.codec import convert, decode, encode


@dataclass
class Order:
    id: str
    total: Decimal


ORDER = Order("order-7", Decimal("9.90"))


def nothing(): ...
def one(order: Order): ...
def one_by_name(*, order: Order): ...
def one_optional(order: Order | None = None): ...
def one_number(limit: int | None = 10): ...
def two(order: Order, amount: Decimal): ...
def two_with_default(order: Order, note: str = "none"): ...
def three_optional(first: Any = 1, second: Any = 2, third: Any = 3): ...
def with_context(ctx: ActivityContext, order: Order): ...
def with_context_last(order: Order, ctx: ActivityContext, note: str = "none"): ...
def by_position(order: Order, note: str = "none", /, amount: int = 0): ...
def many(order: Order, *numbers: int, **tags: Decimal): ...


# These texts are in the histories of users: a change of them breaks replay.
GOLDEN = [
    (nothing, (), {}, "null"),
    (one, (ORDER,), {}, '{"id": "order-7", "total": "9.90"}'),
    (one, (), {"order": ORDER}, '{"id": "order-7", "total": "9.90"}'),
    (one, (None,), {}, "null"),
    (one, ({"order": 5},), {}, '{"order": 5}'),
    (one_by_name, (), {"order": ORDER}, '{"id": "order-7", "total": "9.90"}'),
    (one_optional, (), {}, "null"),
    (one_optional, (None,), {}, "null"),
    (one_optional, (ORDER,), {}, '{"id": "order-7", "total": "9.90"}'),
    (one_number, (), {}, "null"),
    (one_number, (5,), {}, "5"),
    (one_number, (None,), {}, '{"limit": null}'),
    (two, (ORDER, Decimal(1)), {}, '{"order": {"id": "order-7", "total": "9.90"}, "amount": "1"}'),
    (two, (ORDER,), {"amount": Decimal(1)}, '{"order": {"id": "order-7", "total": "9.90"}, "amount": "1"}'),
    (two, (), {"amount": 1, "order": 2}, '{"order": 2, "amount": 1}'),
    (two_with_default, (ORDER,), {}, '{"id": "order-7", "total": "9.90"}'),
    (two_with_default, (ORDER, "none"), {}, '{"order": {"id": "order-7", "total": "9.90"}, "note": "none"}'),
    (two_with_default, ({"order": 5},), {}, '{"order": {"order": 5}}'),
    (two_with_default, ({"note": 5},), {}, '{"note": 5}'),
    (three_optional, (), {}, "null"),
    (three_optional, (5,), {}, "5"),
    (three_optional, (None,), {}, '{"first": null}'),
    (three_optional, ({},), {}, '{"first": {}}'),
    (three_optional, ({"third": 5},), {}, '{"first": {"third": 5}}'),
    (three_optional, ({"fourth": 5},), {}, '{"fourth": 5}'),
    (three_optional, (), {"third": 5}, '{"third": 5}'),
    (with_context, (ORDER,), {}, '{"id": "order-7", "total": "9.90"}'),
    (with_context_last, (ORDER,), {}, '{"id": "order-7", "total": "9.90"}'),
    (by_position, (1, "a"), {"amount": 2}, '{"order": 1, "note": "a", "amount": 2}'),
    (many, (ORDER,), {}, '{"id": "order-7", "total": "9.90"}'),
    (many, (1, 2, 3), {"vat": 4}, '{"order": 1, "numbers": [2, 3], "tags": {"vat": 4}}'),
]


def text_of(function: Any, *arguments: Any, **named: Any) -> str:
    value = activity(function).arguments.encode(arguments, named)
    return value.text if isinstance(value, RawText) else encode(value)


def call_with(function: Any, text: str) -> Any:
    """Call a function as a runtime does, with the recorded input."""
    definition = activity(function).definition
    value = decode(text)
    if definition.input_type is not None:
        value = convert(value, definition.input_type)
    return definition.function("the context", value)


@pytest.mark.parametrize(("function", "arguments", "named", "text"), GOLDEN)
def test_arguments_are_recorded_in_the_frozen_form(function: Any, arguments: Any, named: Any, text: str) -> None:
    assert text_of(function, *arguments, **named) == text


@pytest.mark.parametrize("value", [None, 0, 5, "text", [], {}, {"first": 1}, {"first": None}, {"second": {}}, {"a": 1}])
@pytest.mark.parametrize("default", [None, 1])
@pytest.mark.parametrize("others", [0, 1])
def test_any_value_of_a_parameter_with_a_default_comes_back(value: Any, default: Any, others: int) -> None:
    def alone(first: Any = default):
        return first

    def with_another(first: Any = default, second: Any = 2):
        return first

    function = with_another if others else alone

    assert call_with(function, text_of(function, value)) == value


@pytest.mark.parametrize(
    "value", [None, 5, [], {}, {"first": 1}, {"first": {"first": None}}, {"first": 1, "second": 2}]
)
@pytest.mark.parametrize("others", [0, 1, 2])
def test_any_value_of_a_required_parameter_comes_back(value: Any, others: int) -> None:
    def alone(first: Any):
        return first

    def with_an_optional_one(first: Any, second: Any = 2):
        return first

    def with_a_required_one(first: Any, second: Any):
        return first

    function, more = [(alone, ()), (with_an_optional_one, ()), (with_a_required_one, (2,))][others]

    assert call_with(function, text_of(function, value, *more)) == value


def test_every_argument_is_converted_by_its_annotation() -> None:
    def pay(order: Order, amount: Decimal = Decimal(0), *parts: Decimal, tags: set[str], **more: Decimal):
        return order, amount, parts, tags, more

    text = text_of(pay, ORDER, Decimal(2), Decimal(3), tags={"a"}, vat=Decimal(4))

    assert call_with(pay, text) == (ORDER, Decimal(2), (Decimal(3),), {"a"}, {"vat": Decimal(4)})


def test_default_comes_from_the_function_that_runs() -> None:
    def before(order: int, note: str = "old"):
        return order, note

    def after(order: int, note: str = "new"):
        return order, note

    assert call_with(after, text_of(before, 7)) == (7, "new")


def test_optional_parameter_can_be_added_after_arguments_were_recorded() -> None:
    def before(order: Order):
        return order

    def after(order: Order, note: str = "none"):
        return order, note

    def later(order: Order, note: str = "none", *, express: bool = False):
        return order, note, express

    assert text_of(before, ORDER) == text_of(after, ORDER) == text_of(later, ORDER)
    assert call_with(after, text_of(before, ORDER)) == (ORDER, "none")
    assert text_of(after, ORDER, "quick") == text_of(later, ORDER, "quick")
    assert call_with(later, text_of(after, ORDER, "quick")) == (ORDER, "quick", False)


def test_context_is_passed_to_the_annotated_parameter() -> None:
    def last(order: int, note: str = "none", *, ctx: ActivityContext):
        return order, note, ctx

    def middle(order: int, ctx: ActivityContext, note: str = "none"):
        return order, note, ctx

    assert call_with(last, text_of(last, 7)) == (7, "none", "the context")
    assert call_with(middle, text_of(middle, 7, "quick")) == (7, "quick", "the context")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"order": 5}', "activity 'two' takes order, amount, and its input has no amount"),
        ('{"order": 5, "amount": 1, "x": 2}', "its input has the unknown x"),
        ("5", "takes order, amount as an object by name, and its input is a number"),
        ("null", "its input is null"),
    ],
)
def test_error_about_a_wrong_input_names_function_and_parameter(text: str, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        call_with(two, text)


def test_function_without_parameters_takes_no_input() -> None:
    with pytest.raises(CodecError, match="activity 'nothing' has no parameters"):
        call_with(nothing, "5")


def test_error_about_a_value_that_does_not_fit_names_its_parameter() -> None:
    with pytest.raises(CodecError, match="activity 'two', parameter 'order': .* does not fit the annotation Order"):
        call_with(two, '{"order": 5, "amount": 1}')


def test_several_arguments_must_be_recorded_as_arguments() -> None:
    with pytest.raises(CodecError, match="takes many as 'numbers', and its input has a number for it; send a list"):
        call_with(many, '{"order": {"id": "a", "total": 1}, "numbers": 5}')


def test_error_about_a_wrong_call_lists_the_parameters() -> None:
    with pytest.raises(TypeError, match=r"activity 'two': missing .* 'amount'; its parameters are \(order, amount\)"):
        text_of(two, 5)


def test_only_one_parameter_may_be_a_context() -> None:
    @activity
    def twice(first: ActivityContext, second: ActivityContext): ...

    with pytest.raises(RegistrationError, match="asks for its context twice, as first and second"):
        _ = twice.definition


@pytest.mark.task_groups
def test_context_of_the_other_kind_is_refused() -> None:
    @orchestration
    async def confused(ctx: ActivityContext): ...

    with pytest.raises(
        RegistrationError, match="asks for an ActivityContext as ctx, and it gets an OrchestrationContext"
    ):
        _ = confused.definition


def test_error_about_an_unannotated_context_asks_for_the_annotation() -> None:
    @activity
    def documented(ctx, order): ...

    with pytest.raises(RegistrationError, match="annotate it with ActivityContext to get the context"):
        _ = documented.definition


def test_builtin_without_a_signature_is_refused() -> None:
    with pytest.raises(RegistrationError, match="activity 'max' has no signature that can be read"):
        _ = activity(max).definition


def test_annotation_may_name_a_class_that_is_defined_later() -> None:
    @activity
    def later(parcel: Parcel) -> Parcel:
        return parcel

    assert call_with(later.fn, '{"weight": 5}') == Parcel(5)
    assert later.result_type is Parcel


@pytest.mark.task_groups
def test_annotation_may_name_a_local_class() -> None:
    @dataclass
    class Local:
        weight: int

    @orchestration
    async def local(parcel: Local, more: int = 0) -> Local:
        return parcel

    assert local.result_type is Local
    assert local.arguments.decode({"weight": 5}) == {"parcel": Local(5)}


@dataclass
class Parcel:
    weight: int
