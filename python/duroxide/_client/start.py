"""Turns the arguments of ``start`` into an id, one input and a version, for all clients."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, cast
from uuid import uuid4

from duroxide._declare.declarations import Orchestration
from duroxide._declare.names import function_name
from duroxide._values.validation import check_milliseconds, check_moment

IfExists = Literal["attach", "raise", "restart", "restart_failed"]


@dataclass(frozen=True)
class StartOptions:
    """The options of a start. Those that are ``None`` come from the orchestration's own options.

    Attributes:
        id: Id of the instance; without one, it is new and random.
        version: Version to start; without one, the newest.
        if_exists: What to do when the instance exists; without a choice, ``"attach"``.
        at: When the instance begins, a ``datetime`` or milliseconds since 1970.
        delay: How long after the call the instance begins, a ``timedelta`` or milliseconds.
    """

    id: str | None = None
    version: str | None = None
    if_exists: IfExists | None = None
    at: datetime | int | None = None
    delay: timedelta | int | None = None

    def or_else(self, other: StartOptions) -> StartOptions:
        """Return these options, with those of ``other`` in the place of the ones that are ``None``."""
        has_time = self.at is not None or self.delay is not None
        timed = self if has_time else other
        return StartOptions(
            other.id if self.id is None else self.id,
            other.version if self.version is None else self.version,
            other.if_exists if self.if_exists is None else self.if_exists,
            timed.at,
            timed.delay,
        )


def due_time(at: datetime | int | None, delay: timedelta | int | None) -> int | None:
    """Return when a start is due, in milliseconds since 1970; ``None`` for at once.

    Raises:
        TypeError: A value has another type, or both are given.
        ValueError: ``at`` has no time zone, or a value is negative.
        LimitExceeded: ``delay`` is longer than ten years.
    """
    if at is not None and delay is not None:
        raise TypeError("a start takes 'at' or 'delay', not both")
    if at is not None:
        return check_moment(at, "at")
    if delay is None:
        return None
    milliseconds = check_milliseconds(delay, "delay")
    return int(time.time() * 1000) + milliseconds if milliseconds else None


def describe_start(
    orchestration: Any, arguments: tuple[Any, ...], named: Mapping[str, Any], options: StartOptions
) -> tuple[str, object, StartOptions]:
    """Describe a start.

    Args:
        orchestration: A declared orchestration, or a name.
        arguments: Arguments by position.
        named: Arguments by name.
        options: The options of the call.

    Returns:
        The id, the value to record as the input, and the options with those of the orchestration.

    Raises:
        TypeError: The arguments do not fit, or ``orchestration`` is neither.
        CodecError: An argument cannot be written as JSON.
    """
    if isinstance(cast("object", orchestration), Orchestration):
        value = orchestration.arguments.encode(arguments, named)
        options = options.or_else(StartOptions(**orchestration.start_options))
    else:
        name = function_name(orchestration, "orchestration")
        if len(arguments) > 1 or named:
            raise TypeError(f"orchestration '{name}' is started by its name, and then takes its input alone")
        value = arguments[0] if arguments else None
    return uuid4().hex if options.id is None else options.id, value, options
