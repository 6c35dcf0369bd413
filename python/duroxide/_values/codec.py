"""Values as JSON text: the recorded form of values, and the conversion back.

``json.dumps`` writes the values that ``json`` knows, because the engine compares recorded text at replay. One hook
converts all others, and its output must be the same in every process, too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import inspect
import json
import sys
from collections.abc import Callable
from datetime import date, time, timedelta
from decimal import Decimal
from functools import lru_cache
from types import NoneType
from typing import Any, Literal, TypeVar, cast, get_args, get_origin
from uuid import UUID

import msgspec
import msgspec.inspect

from duroxide.exceptions import CodecError, TaskFailed

_SCALARS = (date, time, timedelta, Decimal, UUID, bytes, bytearray, memoryview)
_UNCHECKED = (Any, None, NoneType, object)

_Converter = Callable[[Any], Any]


def encode(value: object) -> str:
    """Write ``value`` as JSON text.

    Args:
        value: A value that ``json`` can write, or a dataclass, attrs class, msgspec struct, pydantic model, enum, date,
            time, ``timedelta``, ``UUID``, ``Decimal``, ``bytes`` or set, nested in any way.

    Returns:
        The text, in ASCII. Sets are written in the order of their items' texts, so the text is the same in every
        process.

    Raises:
        CodecError: A part of the value has no form in JSON.
    """
    try:
        return json.dumps(value, default=_to_json)
    except CodecError:
        raise
    except RecursionError:
        raise CodecError(f"a value of type {_title(value)} is nested too deeply for JSON; flatten it") from None
    except Exception as error:
        raise CodecError(
            f"a value of type {_title(value)} cannot be written as JSON: {error}; turn it into plain values before you "
            "pass it on"
        ) from error


def decode(text: str) -> Any:
    """Read JSON text; text that is not JSON, which another language may have recorded, is returned as it is.

    Raises:
        CodecError: The text is nested too deeply.
    """
    try:
        return json.loads(text)
    except ValueError:
        return text
    except RecursionError:
        raise CodecError(
            "recorded JSON is nested too deeply to be read; flatten the value before it is recorded"
        ) from None


def convert(value: Any, annotation: Any) -> Any:
    """Convert a decoded value to the type in ``annotation``.

    Args:
        value: A value from ``decode``.
        annotation: A type. ``Any``, ``None``, ``object``, type variables, and types that neither msgspec nor pydantic
            can build leave the value as it is.

    Returns:
        The converted value, or ``value`` itself if it fits already.

    Raises:
        CodecError: The value does not fit.
    """
    if any(annotation is unchecked for unchecked in _UNCHECKED) or isinstance(annotation, TypeVar):
        return value
    if _fits(value, annotation):
        return value
    try:
        converter = _cached_converter(annotation)
    except TypeError:  # an annotation that cannot be hashed
        converter = _converter(annotation)
    if converter is None:
        return value
    try:
        return converter(value)
    except CodecError:
        raise
    except (ValueError, TypeError, RecursionError, AttributeError) as error:
        raise CodecError(
            f"a value of type {_title(value)} does not fit the annotation {_annotation_title(annotation)}: {error}; "
            "correct what is sent, or annotate with Any to receive it as it is"
        ) from error


def _to_json(value: Any) -> Any:
    """Return a value that ``json.dumps`` can write, or look into, in place of one that it does not know."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, _SCALARS):
        return msgspec.to_builtins(value)
    if isinstance(value, (set, frozenset)):
        items = cast("set[object]", value)
        return sorted(items, key=encode)  # the iteration order of a set differs between processes
    if isinstance(value, TaskFailed):
        return str(value)
    model = _pydantic_model()
    if model is not None and isinstance(value, model):
        return value.model_dump(mode="json")
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value, order="deterministic", enc_hook=_to_json)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    attributes: Any = getattr(cast("object", value).__class__, "__attrs_attrs__", None)
    if attributes is not None:
        return {attribute.name: getattr(value, attribute.name) for attribute in attributes}
    raise CodecError(
        f"a value of type {_title(value)} has no form in JSON; pass a dict, a dataclass or a model, or what is needed to "
        "build it again"
    )


def _fits(value: Any, annotation: Any) -> bool:
    """Tell whether the annotation is a plain class of which the value is an instance."""
    try:
        return isinstance(annotation, type) and get_origin(annotation) is None and isinstance(value, annotation)
    except TypeError:  # a class that refuses isinstance(), such as a TypedDict or a protocol
        return False


def _converter(annotation: Any) -> _Converter | None:
    """Build the function that converts to ``annotation``; ``None`` if no library can build such values."""
    leaves = list(_leaves(annotation))
    if any(isinstance(leaf, TypeVar) for leaf in leaves):
        return None
    if any(_is_pydantic(leaf) for leaf in leaves):
        return _pydantic_converter(annotation)
    try:
        if any(
            isinstance(msgspec.inspect.type_info(leaf), msgspec.inspect.CustomType) for leaf in (annotation, *leaves)
        ):
            return None
    except Exception:  # noqa: BLE001  (msgspec may refuse an annotation in any way, and then cannot build a value)
        return None
    return lambda value: msgspec.convert(value, annotation, str_keys=True, dec_hook=_build)


_cached_converter = lru_cache(maxsize=1024)(_converter)


def _leaves(annotation: Any) -> list[Any]:
    """Collect the classes inside an annotation."""
    arguments = get_args(annotation)
    if not arguments or get_origin(annotation) is Literal:
        return [annotation]
    return [leaf for each in arguments if each is not Ellipsis and _is_annotation(each) for leaf in _leaves(each)]


def _is_annotation(value: Any) -> bool:
    # Annotated has objects beside the type, and Callable has lists.
    return isinstance(value, (type, TypeVar)) or get_origin(value) is not None or value is Any or value is None


def _build(annotation: Any, value: Any) -> Any:
    """Build a value that msgspec leaves to its caller, such as a pydantic model in a dataclass."""
    if _is_pydantic(annotation):
        return _pydantic_converter(annotation)(value)
    if isinstance(value, annotation):
        return value
    raise CodecError(f"no {_annotation_title(annotation)} can be built from JSON; annotate that field with Any")


def _pydantic_model() -> Any:
    """Return pydantic's base model if the program has imported pydantic; otherwise no value can be a model."""
    return getattr(sys.modules.get("pydantic"), "BaseModel", None)


def _is_pydantic(annotation: Any) -> bool:
    # Models and pydantic's dataclasses have this attribute.
    return isinstance(annotation, type) and hasattr(annotation, "__pydantic_validator__")


@lru_cache(maxsize=1024)
def _pydantic_converter(annotation: Any) -> _Converter:
    pydantic: Any = sys.modules["pydantic"]
    adapter = pydantic.TypeAdapter(annotation)

    # A model dumps its fields under their names, but by default reads them under their aliases, and gives fields that
    # it does not find their defaults.
    options = (
        {"by_alias": True, "by_name": True}
        if "by_name" in inspect.signature(adapter.validate_python).parameters
        else {}
    )

    def build(value: Any) -> Any:
        try:
            return adapter.validate_python(value, **options)
        except pydantic.ValidationError:
            # A strict model accepts a date only from JSON text.
            with contextlib.suppress(pydantic.ValidationError):
                return adapter.validate_json(json.dumps(value), **options)
            raise

    return build


def _title(value: object) -> str:
    kind = type(value)
    if kind.__module__ in ("builtins", "__main__"):
        return kind.__qualname__
    # A class is imported from the public package above the private module that defines it.
    public = kind.__module__.partition("._")[0]
    return f"{public}.{kind.__qualname__}"


def _annotation_title(annotation: Any) -> str:
    return annotation.__qualname__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)
