"""Finds the coroutines that an execution never awaited when it is closed; Python would warn of each."""

from __future__ import annotations

import gc
import inspect
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Collection

_MOST_LOOKED_AT = 10_000
"""The largest number of values to search for coroutines: a local variable may be a large table."""

_STEPPED: dict[type, tuple[str, str]] = {
    CoroutineType: ("cr_frame", "cr_await"),
    GeneratorType: ("gi_frame", "gi_yieldfrom"),
    AsyncGeneratorType: ("ag_frame", "ag_await"),
}
_LOOKED_INTO = frozenset((*_STEPPED, list, tuple, set, frozenset, dict))


def unbegun_coroutines(runner: object) -> list[Any]:
    """Find the coroutines that a generator or coroutine has made and not begun, itself included.

    Args:
        runner: A suspended or unbegun generator or coroutine. The search covers its variables, the lists and mappings
            in them, and the object that it awaits.
    """
    found: list[Any] = []
    to_look_at: list[Any] = [runner] if type(runner) in _LOOKED_INTO else []
    seen: set[int] = set()
    looked_at = 0
    while to_look_at and looked_at < _MOST_LOOKED_AT:
        value = to_look_at.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if _is_coroutine(value) and inspect.getcoroutinestate(value) == inspect.CORO_CREATED:
            found.append(value)
        values = _within(value)
        looked_at += len(values)
        to_look_at += [each for each in values if type(each) in _LOOKED_INTO]
    return found


def _is_coroutine(value: object) -> bool:
    return type(value) is CoroutineType


def _within(value: object) -> Collection[object]:
    names = _STEPPED.get(type(value))
    if names is None:
        contents = cast("Any", value)
        return cast("Collection[object]", contents.values() if type(value) is dict else contents)
    frame, awaited = (getattr(value, name) for name in names)
    values: list[object] = [] if frame is None else list(frame.f_locals.values())
    if awaited is not None:
        values.append(awaited)
        if type(awaited) not in _STEPPED:
            # A step of an asynchronous generator, for example, refers to its generator only in this way.
            values += gc.get_referents(awaited)
    return values
