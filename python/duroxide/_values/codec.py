"""Values as JSON text: what is recorded, and how it comes back.

What ``json`` can write is written by ``json.dumps`` as it is, since the engine compares recorded text at replay. The
rest goes through one hook, whose output must not vary between processes either.
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
        value: What ``json`` can write, and dataclasses, attrs classes, msgspec structs, pydantic models, enums, dates
            and times, ``timedelta``, ``UUID``, ``Decimal``, ``bytes``, sets; nested as you like.

    Returns:
        The text, in ASCII. Sets are written in the order of their items' texts, so that it is the same in every
        process.

    Raises:
        CodecError: Something in the value has no form in JSON.
    """
    try:
        return json.dumps(value, default=_to_json)
    except CodecError:
        raise
    except RecursionError:
        raise CodecError(f"a value of type {_title(value)} is nested too deeply for JSON; flatten it") from None
    except Exception as error:
        raise CodecError(
            f"a value of type {_title(value)} cannot be written as JSON: {error}; turn it into plain values before you pass it on"
        ) from error


def decode(text: str) -> Any:
    """Read JSON text; text that is not JSON, as another language may record it, is returned as it is.

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
    """Turn a decoded value into what ``annotation`` asks for.

    Args:
        value: What ``decode`` returned.
        annotation: A type. ``Any``, ``None``, ``object``, type variables and types that neither msgspec nor pydantic
            can build leave the value as it is.

    Returns:
        The converted value, or ``value`` itself where it fits already.

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
            f"a value of type {_title(value)} does not fit the annotation {_annotation_title(annotation)}: {error}; correct what is sent, "
            "or annotate with Any to receive it as it is"
        ) from error


def _to_json(value: Any) -> Any:
    """Give ``json.dumps`` something to write for a value that it does not know; it looks into the answer itself."""
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
        f"a value of type {_title(value)} has no form in JSON; pass a dict, a dataclass or a model, or what is needed to build it again"
    )


def _fits(value: Any, annotation: Any) -> bool:
    """Tell whether a value is an instance of a plain class already."""
    try:
        return isinstance(annotation, type) and get_origin(annotation) is None and isinstance(value, annotation)
    except TypeError:  # a class that refuses the question, such as a TypedDict or a protocol
        return False


def _converter(annotation: Any) -> _Converter | None:
    """Build what converts to ``annotation``; ``None`` if nothing can."""
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
    except Exception:  # noqa: BLE001  (whatever msgspec has against the annotation, it cannot build a value for it)
        return None
    return lambda value: msgspec.convert(value, annotation, str_keys=True, dec_hook=_build)


_cached_converter = lru_cache(maxsize=1024)(_converter)


def _leaves(annotation: Any) -> list[Any]:
    """Collect the classes that an annotation is made of."""
    arguments = get_args(annotation)
    if not arguments or get_origin(annotation) is Literal:
        return [annotation]
    return [leaf for each in arguments if each is not Ellipsis and _is_annotation(each) for leaf in _leaves(each)]


def _is_annotation(value: Any) -> bool:
    # Annotated carries objects beside the type, and Callable carries lists.
    return isinstance(value, (type, TypeVar)) or get_origin(value) is not None or value is Any or value is None


def _build(annotation: Any, value: Any) -> Any:
    """Build what msgspec leaves to its caller, such as a pydantic model in a dataclass."""
    if _is_pydantic(annotation):
        return _pydantic_converter(annotation)(value)
    if isinstance(value, annotation):
        return value
    raise CodecError(f"no {_annotation_title(annotation)} can be built from JSON; annotate that field with Any")


def _pydantic_model() -> Any:
    """Return pydantic's base model if the program uses pydantic; what was never imported has no instances."""
    return getattr(sys.modules.get("pydantic"), "BaseModel", None)


def _is_pydantic(annotation: Any) -> bool:
    # Models and pydantic's own dataclasses have it.
    return isinstance(annotation, type) and hasattr(annotation, "__pydantic_validator__")


@lru_cache(maxsize=1024)
def _pydantic_converter(annotation: Any) -> _Converter:
    pydantic: Any = sys.modules["pydantic"]
    adapter = pydantic.TypeAdapter(annotation)

    # A model dumps its fields under their names, but wants them under their aliases unless it is told otherwise; fields
    # that it does not find would get their defaults.
    options = (
        {"by_alias": True, "by_name": True}
        if "by_name" in inspect.signature(adapter.validate_python).parameters
        else {}
    )

    def build(value: Any) -> Any:
        try:
            return adapter.validate_python(value, **options)
        except pydantic.ValidationError:
            # A strict model takes a date from JSON text alone.
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
