"""A constraint in an annotation holds wherever the annotation converts a value, or the function is refused."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypedDict, TypeVar

import annotated_types
import attrs
import msgspec
import pydantic
import pytest
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic.fields import FieldInfo

from duroxide import (
    ActivityFailed,
    OrchestrationFailed,
    RegistrationError,
    Runtime,
    SqliteProvider,
    activity,
    orchestration,
)
from duroxide._values.codec import convert, decode, encode
from duroxide.exceptions import CodecError

T = TypeVar("T")
MOMENT = "2026-01-01T00:00:00"


class Refused(Exception):
    """What a validator of a user may raise, too."""


def positive(value: Any) -> Any:
    if not value > 0:
        raise ValueError("must be positive")
    return value


def known(value: Any) -> Any:
    if value != "ada":
        raise Refused(value)
    return value


class Even:
    """Metadata of a user that says how pydantic validates it."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return pydantic.PlainValidator(cls.check).__get_pydantic_core_schema__(source, handler)

    @staticmethod
    def check(value: Any) -> Any:
        if value % 2:
            raise ValueError("must be even")
        return value


class Shout(str):
    """A class of a user that says how pydantic validates it."""

    __slots__ = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return pydantic.AfterValidator(cls.check).__get_pydantic_core_schema__(str, handler)

    @classmethod
    def check(cls, value: str) -> Shout:
        if not value.isupper():
            raise ValueError("must be in capitals")
        return cls(value)


class Parameter(FieldInfo):
    """Metadata of a framework, such as its description of a parameter of a request."""

    __slots__ = ()


@dataclasses.dataclass
class Line:
    article: str


@pydantic.with_config(pydantic.ConfigDict(extra="forbid"))
@dataclasses.dataclass
class Closed:
    title: str


@dataclasses.dataclass
class Checked:
    name: str

    @pydantic.field_validator("name")
    @classmethod
    def check(cls, value: str) -> str:
        return str(known(value))


@dataclasses.dataclass(slots=True)
class Weight:
    grams: int = pydantic.Field(gt=0)


@pydantic_dataclass
class Box:
    size: pydantic.PositiveInt
    seal: Annotated[bytes, annotated_types.Len(2)] = b"ok"


CONSTRAINTS: dict[str, tuple[Any, Any, Any]] = {
    "PositiveInt": (pydantic.PositiveInt, 1, -100),
    "conint": (pydantic.conint(le=3), 3, 4),
    "constr": (pydantic.constr(pattern="^a+$"), "aa", "b"),
    "Field": (Annotated[int, pydantic.Field(le=3)], 3, 4),
    "Field of a framework": (Annotated[int, Parameter(le=3)], 3, 4),
    "Gt": (Annotated[Decimal, annotated_types.Gt(Decimal(2))], "2.5", "2"),
    "Interval": (Annotated[float, annotated_types.Interval(ge=0, lt=1)], 0.5, 1.0),
    "Len of a list": (Annotated[list[int], annotated_types.Len(1, 2)], [1], []),
    "Len of models": (Annotated[list[Line], annotated_types.Len(1, 1)], [{"article": "tea"}], []),
    "Len of bytes": (Annotated[bytes, annotated_types.Len(3)], "AP9i", "AA=="),
    "strict bytes": (Annotated[bytes, pydantic.Field(strict=True, min_length=3)], "AP9i", "AA=="),
    "Base64Bytes": (pydantic.Base64Bytes, "AP9i", "AP9"),
    "Predicate": (Annotated[str, annotated_types.Predicate(str.islower)], "a", "A"),
    "AfterValidator": (Annotated[int, pydantic.AfterValidator(positive)], 1, -1),
    "AfterValidator of any error": (Annotated[str, pydantic.AfterValidator(known)], "ada", "eve"),
    "BeforeValidator": (Annotated[int, pydantic.BeforeValidator(positive)], 1, -1),
    "class with a schema": (Shout, "HEY", "hey"),
    "metadata with a schema": (Annotated[int, Even()], 2, 3),
    "class as metadata": (Annotated[int, Even], 2, 3),
    "HttpUrl": (pydantic.HttpUrl, "https://example.org/", "javascript:alert()"),
    "UUID4": (pydantic.UUID4, str(uuid.UUID(int=1, version=4)), str(uuid.UUID(int=1, version=1))),
    "AwareDatetime": (pydantic.AwareDatetime, MOMENT + "Z", MOMENT),
    "PastDate": (pydantic.PastDate, "2020-01-01", "2999-01-01"),
    "Strict": (pydantic.StrictInt, 1, "1"),
    "NewType": (NewType("Amount", pydantic.PositiveInt), 1, -1),
    "closed dataclass": (Closed, {"title": "a"}, {"title": "a", "other": 1}),
    "dataclass with a validator": (Checked, {"name": "ada"}, {"name": "eve"}),
    "dataclass with Field": (Weight, {"grams": 1}, {"grams": 0}),
    "dataclass of pydantic": (Box, {"size": 1}, {"size": -1}),
    "bytes in a dataclass of pydantic": (Box, {"size": 1, "seal": "AP9i"}, {"size": 1, "seal": "AA=="}),
    "Meta": (Annotated[int, msgspec.Meta(ge=0)], 0, -1),
    "Meta of a list of models": (Annotated[list[Line], msgspec.Meta(max_length=1)], [], [{"article": "a"}] * 2),
    "Meta and Gt": (Annotated[int, msgspec.Meta(le=9), annotated_types.Gt(0)], 9, 10),
    "Gt and Meta": (Annotated[int, msgspec.Meta(le=9), annotated_types.Gt(0)], 1, 0),
}


def in_dataclass(annotation: Any) -> Any:
    return dataclasses.make_dataclass("Holder", [("held", annotation)])


def in_typed_dict(annotation: Any) -> Any:
    return TypedDict("Dictionary", {"held": annotation})  # type: ignore[misc]


def in_generic(annotation: Any) -> Any:
    @dataclasses.dataclass
    class Wrapper(Generic[T]):
        held: T

    Wrapper.__annotations__["held"] = T
    return Wrapper[annotation]


def in_attrs(annotation: Any) -> Any:
    return attrs.make_class("Attributes", {"held": attrs.field(type=annotation)})


PLACES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "alone": (lambda annotation: annotation, lambda value: value),
    "list": (lambda annotation: list[annotation], lambda value: [value]),
    "tuple with a variable": (lambda annotation: tuple[T, annotation], lambda value: ["any", value]),
    "dict": (lambda annotation: dict[str, annotation], lambda value: {"key": value}),
    "optional": (lambda annotation: annotation | None, lambda value: value),
    "union": (lambda annotation: annotation | Closed | bool, lambda value: value),
    "list of optional": (lambda annotation: list[annotation | None], lambda value: [None, value]),
    "dataclass": (in_dataclass, lambda value: {"held": value}),
    "generic dataclass": (in_generic, lambda value: {"held": value}),
    "dataclasses": (lambda annotation: list[in_dataclass(in_dataclass(annotation))], lambda v: [{"held": {"held": v}}]),
    "attrs": (in_attrs, lambda value: {"held": value}),
    "struct": (lambda annotation: msgspec.defstruct("Struct", [("held", annotation)]), lambda value: {"held": value}),
    "typed dict": (in_typed_dict, lambda value: {"held": value}),
    "named tuple": (lambda annotation: NamedTuple("Pair", [("held", annotation)]), lambda value: [value]),
    "new type": (lambda annotation: list[NewType("Own", annotation)], lambda value: [value]),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_a_value_that_breaks_a_constraint_is_refused_at_any_depth(constraint: str, place: str) -> None:
    annotation, fitting, wrong = CONSTRAINTS[constraint]
    put, wrap = PLACES[place]
    annotation = put(annotation)

    with pytest.raises(CodecError, match="does not fit the annotation"):
        convert(wrap(wrong), annotation)
    came = convert(wrap(fitting), annotation)

    assert convert(decode(encode(came)), annotation) == came


CHECKS = """
from typing import Annotated
import annotated_types
from duroxide import activity, orchestration, Runtime, SqliteProvider

@orchestration
def transfer(amount: Annotated[int, annotated_types.Gt(0)]):
    return amount
    yield

with SqliteProvider.in_memory() as provider, Runtime(provider, functions=[transfer]) as runtime:
    print(runtime.client.start(transfer, -100).wait().failure)
"""


def test_constraints_hold_in_a_program_that_never_imports_pydantic() -> None:
    done = subprocess.run([sys.executable, "-c", CHECKS], capture_output=True, text=True, check=False)
    assert "CodecError" in done.stdout, done.stderr
    assert "greater than 0" in done.stdout


@activity
def charge(amount: pydantic.PositiveInt) -> int:
    return amount


@activity
def weigh(amount: int) -> pydantic.PositiveInt:
    return amount


@orchestration
def transfer(amount: pydantic.PositiveInt) -> int:
    return amount


@orchestration
def charges(amount: int) -> Iterator[Any]:
    return (yield charge(amount))


@orchestration
def charges_one_of_two(amount: int, note: str = "") -> Iterator[Any]:
    return (yield charge(amount))


@orchestration
def weighs(amount: int) -> Iterator[Any]:
    return (yield weigh(amount))


@orchestration
def transfers(amount: int) -> Iterator[Any]:
    return (yield transfer(amount))


@orchestration
def counts(amount: pydantic.PositiveInt, *, last: bool = False) -> Iterator[Any]:
    if not last:
        yield counts.continue_as_new(-amount, last=True)
    return amount


FUNCTIONS = [charge, weigh, transfer, charges, weighs, transfers, counts]


@pytest.mark.parametrize("name", ["transfer", "charges", "weighs", "transfers"])
def test_a_constraint_holds_for_inputs_and_results_of_functions(name: str) -> None:
    flow = next(each for each in FUNCTIONS if each.name == name)
    with SqliteProvider.in_memory() as provider, Runtime(provider, functions=FUNCTIONS) as runtime:
        assert runtime.client.start(flow, 100).result(10) == 100
        with pytest.raises(OrchestrationFailed, match="greater than 0") as failed:
            runtime.client.start(flow, -100).result(10)
    assert failed.value.is_caused_by(CodecError)


def test_a_constraint_holds_for_the_next_execution() -> None:
    with (
        SqliteProvider.in_memory() as provider,
        Runtime(provider, functions=FUNCTIONS) as runtime,
        pytest.raises(OrchestrationFailed, match=r"(?s)parameter 'amount'.*greater than 0"),
    ):
        runtime.client.start(counts, 1).result(10)


def test_a_constraint_holds_for_the_output_that_a_client_reads() -> None:
    @orchestration
    def broken() -> pydantic.PositiveInt:
        return -1

    broken.fn.__annotations__["return"] = pydantic.PositiveInt
    with (
        SqliteProvider.in_memory() as provider,
        Runtime(provider, functions=[broken]) as runtime,
        pytest.raises(CodecError, match="greater than 0"),
    ):
        runtime.client.start(broken).result(10)


@pytest.mark.parametrize("send", ["raise_event", "enqueue_event"])
def test_a_constraint_holds_for_events_and_messages(send: str) -> None:
    @orchestration
    def waits(ctx: Any, input: Any) -> Iterator[Any]:
        if send == "raise_event":
            return (yield ctx.wait_for_event("paid", result_type=pydantic.PositiveInt))
        return (yield ctx.dequeue_event("paid", result_type=pydantic.PositiveInt))

    with SqliteProvider.in_memory() as provider:
        runtime = Runtime(provider)
        runtime.register_orchestration("waits", waits.fn)
        with runtime:
            runtime.client.start_orchestration("one", "waits", None)
            getattr(runtime.client, send)("one", "paid", -100)
            failure = runtime.client.wait_for_orchestration("one", 10_000).failure
    assert failure is not None
    assert failure.is_caused_by(CodecError)
    assert "greater than 0" in failure.message


def test_an_activity_sees_no_value_that_breaks_its_constraint() -> None:
    seen: list[Any] = []

    @activity
    def act(ratio: float, amount: Any) -> None:
        seen.append(amount)

    act.fn.__annotations__["amount"] = pydantic.PositiveInt

    @orchestration
    def flow(amount: int) -> Iterator[Any]:
        try:
            yield act(0.5, amount)
        except ActivityFailed as failure:
            return failure.message

    with SqliteProvider.in_memory() as provider, Runtime(provider, functions=[act, flow]) as runtime:
        message = runtime.client.start(flow, -100).result(10)
    assert seen == []
    assert message.startswith("activity 'act', parameter 'amount': a value of type int does not fit the annotation")


class Tagged(msgspec.Struct, tag=True):
    amount: pydantic.PositiveInt


class Bound(annotated_types.BaseMetadata):
    """A constraint that pydantic does not know."""


class Foreign:
    """A class that neither library can build."""


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (Annotated[dt.datetime, annotated_types.Timezone(None)], "pydantic does not apply Timezone"),
        (list[Annotated[int, Bound()]], "pydantic does not apply"),
        (Annotated[int, annotated_types.Gt], "pydantic does not apply <class"),
        (Annotated[int, pydantic.Field(discriminator="kind")], "discriminat"),
        (Annotated[Foreign, pydantic.AfterValidator(positive)], "Unable to generate pydantic-core schema"),
        (tuple[pydantic.PositiveInt, Callable[[], int]], "can be built from JSON"),
        (Tagged, "msgspec alone builds a struct with a tag"),
        (dict[str, list[Tagged]], "msgspec alone builds a struct with a tag"),
        (Annotated[Line, msgspec.Meta(min_length=1)], "Can only set `min_length`"),
        (
            Annotated[list[Annotated[int, msgspec.Meta(gt=0)]], pydantic.Field(strict=True)],
            "passes over the Meta of msgspec within",
        ),
    ],
)
@pytest.mark.parametrize("name", ["amount", "return"])
def test_a_function_whose_constraints_nothing_can_check_is_refused(annotation: Any, reason: str, name: str) -> None:
    def keep(amount: Any) -> Any:
        return amount

    keep.__annotations__ = {name: annotation}
    place = "parameter 'amount'" if name == "amount" else "its result"
    for declare in (activity, orchestration):
        with (
            SqliteProvider.in_memory() as provider,
            pytest.raises(
                RegistrationError, match=f"'keep', {place}: the constraints of .* cannot be checked"
            ) as refused,
        ):
            Runtime(provider, functions=[declare(keep)])
        assert reason in str(refused.value)
        assert "or annotate without them" in str(refused.value)
    with pytest.raises(CodecError, match="cannot be checked"):
        convert([1], annotation)


@pytest.mark.parametrize(
    "annotate",
    [
        pytest.param(lambda _: Annotated[int, annotated_types.Gt(0)], id="Annotated"),
        pytest.param(lambda kind: list[kind], id="list"),
        pytest.param(in_dataclass, id="dataclass"),
    ],
)
def test_a_function_with_constraints_for_pydantic_is_refused_without_pydantic(
    annotate: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def keep(amount: Any) -> Any:
        return amount

    # The builder of a class is kept with the pydantic that made it, so the class must be new in each run.
    new_class = type("NewShout", (Shout,), {})
    keep.__annotations__ = {"amount": annotate(new_class)}
    monkeypatch.setitem(sys.modules, "pydantic", None)
    with SqliteProvider.in_memory() as provider, pytest.raises(RegistrationError, match="pydantic, which applies them"):
        Runtime(provider, functions=[activity(keep)])


def test_a_function_with_a_field_of_pydantic_as_a_default_is_refused() -> None:
    @activity
    def pay(amount: int = pydantic.Field(gt=0)) -> int:
        return amount

    with SqliteProvider.in_memory() as provider, pytest.raises(RegistrationError, match="as the default of parameter"):
        Runtime(provider, functions=[pay])


def test_a_constraint_holds_beside_metadata_that_cannot_be_hashed() -> None:
    with pytest.raises(CodecError, match="greater than 0"):
        convert([0], list[Annotated[int, {"unit": "cent"}, annotated_types.Gt(0)]])


def test_remarks_in_annotations_are_not_constraints() -> None:
    note = type("Note", (), {})()
    assert convert(1, Annotated[int, "in cents", note, msgspec.Meta(description="in cents")]) == 1


def test_a_type_that_pydantic_reads_can_be_recorded() -> None:
    class Colour(pydantic.RootModel[str]):
        pass

    url = pydantic.HttpUrl("https://example.org")
    assert encode({"url": url, "colour": Colour("red")}) == '{"url": "https://example.org/", "colour": "red"}'
    with pytest.raises(CodecError, match="written as asterisks"):
        encode([pydantic.SecretStr("x")])


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]


def test_a_discriminator_chooses_the_model() -> None:
    annotation = list[Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]]
    assert convert([{"kind": "dog"}], annotation) == [Dog(kind="dog")]
    with pytest.raises(CodecError, match="does not match any of the expected tags"):
        convert([{"kind": "cow"}], annotation)


class Level(enum.Enum):
    LOW = 1


def test_a_subclass_keeps_its_fields_under_a_constraint() -> None:
    @dataclasses.dataclass
    class Long(Line):
        text: str = ""

    came = convert(decode(encode([Long("tea", "a")])), Annotated[list[Line], annotated_types.Len(1)])
    assert came == [Long("tea", "a")]
    assert convert([1], Annotated[list[Level], annotated_types.Len(1)]) == [Level.LOW]
