"""Checks of arguments, with the messages of their errors."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from duroxide._native import CANCELLATION_QUEUE, check_name, check_text
from duroxide._values.limits import MAX_DURATION_MS, MAX_PAYLOAD_BYTES
from duroxide.exceptions import ConfigurationError, LimitExceeded, UnknownOption

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "check_id",
    "check_integer",
    "check_milliseconds",
    "check_moment",
    "check_name",
    "check_queue",
    "check_seconds",
    "check_size",
    "check_text",
    "keyword_options",
    "suggest",
]

OptionsClass = TypeVar("OptionsClass")


def check_id(instance_id: object) -> str:
    """Return ``instance_id`` if it can be the id of an instance."""
    return check_name(instance_id, "an instance id")


def check_queue(queue: object) -> str:
    """Return ``queue`` if it can be the name of a queue.

    Raises:
        TypeError: It is not a ``str``.
        LimitExceeded: It is empty, too long or not valid UTF-8.
        ValueError: It is the queue that carries cancellation requests.
    """
    name = check_name(queue, "the name of a queue")
    if name.startswith(CANCELLATION_QUEUE):
        raise ValueError(
            f"queue '{name}' carries the cancellation requests of an orchestration; call cancel_instance() instead"
        )
    return name


def check_size(text: str, what: str) -> str:
    """Return ``text`` if it is not too long to be recorded.

    Raises:
        LimitExceeded: It is longer than ``MAX_PAYLOAD_BYTES``.
    """
    size = len(text) if text.isascii() else len(text.encode("utf-8"))
    if size > MAX_PAYLOAD_BYTES:
        raise LimitExceeded(
            f"{what} has {size} bytes; at most {MAX_PAYLOAD_BYTES} are recorded, keep the data elsewhere and pass a "
            "reference"
        )
    return text


def check_integer(value: object, what: str, *, least: int = 0, most: int = 2**53) -> int:
    """Return ``value`` if it is a whole number from ``least`` to ``most``.

    Raises:
        TypeError: It is not an ``int``, or it is a ``bool``.
        ValueError: It is too small.
        LimitExceeded: It is too large.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{what} must be an int, not {type(value).__name__}")
    if value < least:
        raise ValueError(f"{what} must be at least {least}, not {value}")
    if value > most:
        raise LimitExceeded(f"{what} must be at most {most}, not {value}")
    return value


def check_milliseconds(value: object, what: str, *, least: int = 0) -> int:
    """Return ``value``, an ``int`` of milliseconds or a ``timedelta``, as milliseconds up to ten years.

    Raises:
        TypeError: It is neither.
        ValueError: It is less than ``least``.
        LimitExceeded: It is longer than ten years.
    """
    if isinstance(value, timedelta):
        # Round up, so that a wait may be longer than requested by less than a millisecond, but never shorter.
        value = -(-value // timedelta(milliseconds=1))
    elif not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{what} must be an int of milliseconds or a timedelta, not {type(value).__name__}")
    return check_integer(value, what, least=least, most=MAX_DURATION_MS)


def check_seconds(value: object, what: str) -> int:
    """Return ``value``, seconds, a ``timedelta`` or ``None`` for the longest duration, as milliseconds.

    Raises:
        TypeError: It is none of these.
        ValueError: It is negative or not a number.
        LimitExceeded: It is longer than ten years.
    """
    if value is None:
        return MAX_DURATION_MS
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ValueError(f"{what} must be a number of seconds, not {value}; None is without a limit")
        return check_integer(math.ceil(round(value * 1000, 6)), f"{what}, in milliseconds,", most=MAX_DURATION_MS)
    if not isinstance(value, timedelta):
        raise TypeError(f"{what} must be a number of seconds, a timedelta or None, not {type(value).__name__}")
    return check_milliseconds(value, what)


def check_moment(value: object, what: str) -> int:
    """Return ``value``, an ``int`` of milliseconds since 1970 or an aware ``datetime``, as such milliseconds.

    Raises:
        TypeError: It is neither.
        ValueError: It is before 1970, or a ``datetime`` without a time zone.
    """
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"{what} is a datetime without a time zone; write datetime(..., tzinfo=timezone.utc)")
        value = int(value.timestamp() * 1000)
    elif not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{what} must be an int of milliseconds since 1970 or a datetime, not {type(value).__name__}")
    return check_integer(value, what)


def suggest(name: str, known: Iterable[str]) -> str:
    """Write the end of a message about an unknown name: the most similar known name, or all known names."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean '{near[0]}'?" if near else f"known are {', '.join(names)}"


def keyword_options(options_class: type[OptionsClass]) -> type[OptionsClass]:
    """Make a frozen dataclass of options raise errors that help.

    The decorated class raises ``UnknownOption`` for positional arguments and unknown names, and ``ConfigurationError``
    if its ``__post_init__`` finds a value of a wrong type or size.
    """
    known = [field.name for field in dataclasses.fields(options_class) if field.init]  # type: ignore[arg-type]
    generated: Any = options_class.__init__
    title = options_class.__name__

    @functools.wraps(generated)
    def initialize(self: object, *arguments: Any, **options: Any) -> None:
        if arguments:
            raise UnknownOption(f"{title} takes options by name only: {title}({known[0]}=...)")
        for name in options:
            if name not in known:
                raise UnknownOption(f"{title} has no option '{name}'; {suggest(name, known)}")
        try:
            generated(self, **options)
        except ConfigurationError:
            raise
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"{title}: {error}") from None

    setattr(options_class, "__init__", initialize)  # noqa: B010  (an assignment would not pass the type checkers)
    return options_class
