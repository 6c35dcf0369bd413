"""How values of a program become JSON values, and JSON values become values of a type."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Union, cast

_COLLECTIONS: dict[Any, Callable[[Any], Any]] = {list: list, tuple: tuple, set: set, frozenset: frozenset}
_PLAIN = frozenset({str, int, float, bool, type(None)})


def to_plain(value: Any) -> Any:
    """Return ``value`` as objects that JSON has.

    A ``to_json`` method, an enum, a dataclass, a pydantic model and a ``SimpleNamespace`` have the form that durabletask
    gives them. Other objects stay as they are: the codec of the runtime writes dates, decimals, sets and bytes.
    """
    kind = value.__class__
    if kind in _PLAIN:
        return value
    if kind is dict:
        return {key: to_plain(each) for key, each in value.items()}
    if kind is list or _is(value, tuple):
        return [to_plain(each) for each in value]
    hook = getattr(value, "to_json", None)
    if callable(hook) and not _is(value, type):
        return to_plain(hook())
    if _is(value, enum.Enum):
        return to_plain(value.value)
    if _is_dataclass(kind):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if _is(value, types.SimpleNamespace):
        return to_plain(vars(value))
    dump = getattr(value, "model_dump", None)
    return dump(mode="json") if callable(dump) and not _is(value, type) else value


def to_type(value: Any, target: Any) -> Any:
    """Return a JSON value as a value of the type ``target``; the JSON value itself where it does not fit.

    Args:
        value: What JSON text was decoded to.
        target: A class or another type of an annotation; ``None`` for any.
    """
    if target is None or target is Any or value is None:
        return value
    try:
        return _convert(value, target)
    except (TypeError, ValueError, KeyError, AttributeError):
        return value


def can_build(target: Any) -> bool:
    """Tell whether JSON values can become values of ``target`` that are not JSON values themselves."""
    if _is(target, type):
        return (
            _is_dataclass(target)
            or _is_named_tuple(target)
            or issubclass(target, enum.Enum)
            or callable(getattr(target, "from_json", None))
            or callable(getattr(target, "model_validate", None))
        )
    return any(can_build(each) for each in typing.get_args(target))


def annotations_of(function: Callable[..., Any], names: Mapping[str, Any] | None = None) -> tuple[Any, Any]:
    """Return the types of the input and of the result of ``f(ctx, input)``; ``None`` without an annotation.

    Args:
        function: The function.
        names: Names that its annotations may use beside those of its module.
    """
    hints = _hints(function, names)
    if not hints:
        return None, None
    code = getattr(function, "__code__", None)
    parameters = [] if code is None else list(code.co_varnames[: code.co_argcount])
    if isinstance(function, types.MethodType):
        parameters = parameters[1:]
    return hints.get(parameters[1]) if len(parameters) > 1 else None, hints.get("return")


def _hints(function: Callable[..., Any], names: Mapping[str, Any] | None) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, localns=None if names is None else dict(names))
    except (NameError, TypeError, AttributeError):
        # An annotation that only type checkers can resolve converts nothing.
        return {
            name: hint for name, hint in getattr(function, "__annotations__", {}).items() if not isinstance(hint, str)
        }


def _convert(value: Any, target: Any) -> Any:
    origin = typing.get_origin(target)
    if origin is not None:
        return _convert_generic(value, origin, typing.get_args(target))
    if not _is(target, type):
        return value
    if isinstance(value, target) and not _is_dataclass(target):
        return value
    build = getattr(target, "from_json", None) or getattr(target, "model_validate", None)
    if callable(build):
        return build(value)
    if issubclass(target, enum.Enum):
        return target(value)
    if _is_dataclass(target) and _is(value, dict):
        return _to_dataclass(value, target)
    if _is_named_tuple(target) and _is(value, list):
        return _to_named_tuple(value, target)
    if target in _COLLECTIONS and _is(value, list):
        return _COLLECTIONS[target](value)
    if target is types.SimpleNamespace and _is(value, dict):
        return types.SimpleNamespace(**value)
    if target is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value if target in _PLAIN or target in (dict, list) else _by_codec(value, target)


def _convert_generic(value: Any, origin: Any, arguments: tuple[Any, ...]) -> Any:
    if origin is Union or origin is types.UnionType:
        return _to_member(value, arguments)
    if origin is typing.Annotated:
        return to_type(value, arguments[0])
    if _is(value, list):
        items: list[Any] = value
        if origin is tuple and not (len(arguments) == 2 and arguments[1] is Ellipsis):
            return tuple(to_type(each, kind) for each, kind in zip(items, arguments, strict=True))
        if arguments:
            converted = [to_type(each, arguments[0]) for each in items]
            return _COLLECTIONS.get(origin, list)(converted)
    if _is(value, dict) and len(arguments) == 2:
        fields = cast("dict[str, Any]", value)
        return {to_type(key, arguments[0]): to_type(each, arguments[1]) for key, each in fields.items()}
    return value


def _to_member(value: Any, members: tuple[Any, ...]) -> Any:
    """Return the value as the first member of a union that it fits."""
    for member in members:
        if isinstance(member, type) and type(value) is member:
            return value
    for member in members:
        if member is type(None):
            continue
        try:
            converted = _convert(value, member)
        except (TypeError, ValueError, KeyError, AttributeError):
            continue
        if not isinstance(member, type) or isinstance(converted, member):
            return converted
    return value


def _to_dataclass(fields: dict[str, Any], target: Any) -> Any:
    hints = _class_hints(target)
    given = {field.name: field for field in dataclasses.fields(target) if field.name in fields}
    value = target(**{name: to_type(fields[name], hints.get(name)) for name, field in given.items() if field.init})
    for name, field in given.items():
        if not field.init:
            object.__setattr__(value, name, to_type(fields[name], hints.get(name)))
    return value


def _to_named_tuple(items: list[Any], target: Any) -> Any:
    hints = _class_hints(target)
    return target(*(to_type(each, hints.get(name)) for each, name in zip(items, target._fields, strict=False)))


def _by_codec(value: Any, target: Any) -> Any:
    """Convert to a type that the codec of the runtime knows, such as ``datetime``."""
    from duroxide._values.codec import convert  # noqa: PLC0415  (for rare types alone)

    return convert(value, target)


def _is(value: Any, kind: type) -> bool:
    """As ``isinstance``, which would make the type checkers ask for the types of the parts."""
    return isinstance(value, kind)


def _is_dataclass(kind: Any) -> bool:
    return dataclasses.is_dataclass(kind)


def _is_named_tuple(kind: Any) -> bool:
    return issubclass(kind, tuple) and hasattr(kind, "_fields")  # pyright: ignore[reportUnknownArgumentType]


@lru_cache(maxsize=1024)
def _class_hints(kind: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind)
    except (NameError, TypeError):
        return {}
