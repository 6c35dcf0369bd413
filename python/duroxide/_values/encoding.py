"""Values as JSON text.

``json.dumps`` writes the values that ``json`` knows, because the engine compares recorded text at replay. One hook
converts all others, and its output must be the same in every process, too.
"""

from __future__ import annotations

import copy
import dataclasses
import enum
import json
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

import msgspec

from duroxide._values import failures, pydantic_models
from duroxide._values.constraints import is_for_pydantic
from duroxide.exceptions import CodecError, TaskFailed

_KEY_SCALARS = (date, time, timedelta, Decimal, UUID, bytes)
_SCALARS = (*_KEY_SCALARS, bytearray, memoryview)


def encode(value: object) -> str:
    """Write ``value`` as JSON text.

    Args:
        value: A value that ``json`` can write, and dataclasses, attrs classes, msgspec structs, pydantic models, enums, dates
            and times, ``timedelta``, ``UUID``, ``Decimal``, ``bytes``, sets; nested as you like. Keys of dicts may be
            enums, dates, times, ``timedelta``, ``UUID``, ``Decimal`` and ``bytes`` too.

    Returns:
        The text, in ASCII. Sets are written in an order that is the same in every process.

    Raises:
        CodecError: Something in the value has no form in JSON, or a part of it would be lost.
    """
    try:
        try:
            return json.dumps(value, default=_to_json)
        except TypeError as error:
            if not str(error).startswith("keys must be"):
                raise
            return json.dumps(_with_text_keys(value), default=lambda each: _with_text_keys(_to_json(each)))
    except CodecError:
        raise
    except RecursionError:
        raise CodecError(f"a value of type {title(value)} is nested too deeply for JSON; flatten it") from None
    except Exception as error:
        raise CodecError(
            f"a value of type {title(value)} cannot be written as JSON: {error}; turn it into plain values before you pass it on"
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


def title(value: object) -> str:
    """Name the type of a value as a user imports it."""
    kind = type(value)
    if kind.__module__ in ("builtins", "__main__"):
        return kind.__qualname__
    # A class is imported from the public package above the private module that defines it.
    public = kind.__module__.partition("._")[0]
    return f"{public}.{kind.__qualname__}"


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
    if pydantic_models.is_model(value):
        return pydantic_models.dump(value, encode)
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(_with_lists(value), order="deterministic", enc_hook=_to_json)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    attributes: Any = getattr(cast("object", value).__class__, "__attrs_attrs__", None)
    if attributes is not None:
        return {attribute.name: getattr(value, attribute.name) for attribute in attributes}
    if is_for_pydantic(type(cast("object", value))):
        return pydantic_models.dump_other(value)
    raise CodecError(
        f"a value of type {title(value)} has no form in JSON; pass a dict, a dataclass or a model, or what is needed to build it again"
    )


def _with_text_keys(value: Any) -> Any:
    """Copy dicts and lists, with keys that ``json.dumps`` can write."""
    if isinstance(value, dict):
        items = cast("dict[object, object]", value)
        written = {_key(key): _with_text_keys(each) for key, each in items.items()}
        if len(written) != len(items):
            raise CodecError("two keys of a dict have the same text in JSON; make them differ")
        return written
    if isinstance(value, (list, tuple)):
        return [_with_text_keys(each) for each in cast("list[object]", value)]
    return value


def _key(key: Any) -> Any:
    if key is None or isinstance(key, (str, int, float)):
        return key
    if isinstance(key, enum.Enum):
        return _key(key.value)
    if isinstance(key, _KEY_SCALARS):
        return msgspec.to_builtins(key)
    raise TypeError(f"keys must be str, int, float, bool, None, enums, dates or UUIDs, not {title(key)}")


def _with_lists(value: Any) -> Any:
    """Replace the sets in a struct that msgspec would write in the order of their hashes, or could not sort."""
    if isinstance(value, (set, frozenset)):
        items = cast("set[object]", value)
        return items if _has_one_order(items) else sorted(items, key=encode)
    if isinstance(value, dict):
        given = cast("dict[object, object]", value)
        changed = {key: _with_lists(each) for key, each in given.items()}
        return changed if any(changed[key] is not each for key, each in given.items()) else given
    if type(value) in (list, tuple):
        parts = [_with_lists(each) for each in value]
        return parts if any(new is not old for new, old in zip(parts, value, strict=True)) else value
    if isinstance(value, msgspec.Struct):
        names: Any = value.__struct_fields__
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
    else:
        return value
    replaced = {name: new for name in names if (new := _with_lists(old := getattr(value, name))) is not old}
    if not replaced:
        return value
    changed = copy.copy(value)
    setter: Any = msgspec.structs.force_setattr if isinstance(value, msgspec.Struct) else object.__setattr__
    for name, new in replaced.items():
        setter(changed, name, new)
    return changed


def _has_one_order(items: set[object]) -> bool:
    """Tell whether msgspec sorts a set alike in every process."""
    try:
        sorted(cast("set[Any]", items))
    except TypeError:
        return False
    return not any(_is_partly_ordered(each) for each in items)


def _is_partly_ordered(item: Any) -> bool:
    """Tell whether an item has no place among others: of two sets none may be less, and NaN is never less."""
    if isinstance(item, tuple):
        return any(_is_partly_ordered(each) for each in cast("tuple[object, ...]", item))
    if dataclasses.is_dataclass(item):
        return any(_is_partly_ordered(getattr(item, field.name)) for field in dataclasses.fields(item))
    return isinstance(item, frozenset) or item != item  # noqa: PLR0124


failures.write_details_with(encode)
