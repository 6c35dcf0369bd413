"""Turns the arguments of ``start`` into an id, one input and a version, for all clients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast
from uuid import uuid4

from duroxide._declare.declarations import Orchestration
from duroxide._declare.names import function_name


def describe_start(
    orchestration: Any, arguments: tuple[Any, ...], named: Mapping[str, Any], id: str | None, version: str | None
) -> tuple[str, object, str | None]:
    """Describe a start.

    Args:
        orchestration: A declared orchestration, or a name.
        arguments: Arguments by position.
        named: Arguments by name.
        id: Id of the instance; ``None`` for the one in the orchestration's options, or a new one.
        version: Version to start; ``None`` for the one in the orchestration's options, or the newest.

    Returns:
        The id, the value to record as the input, and the version.

    Raises:
        TypeError: The arguments do not fit, or ``orchestration`` is neither.
        CodecError: An argument cannot be written as JSON.
    """
    if isinstance(cast("object", orchestration), Orchestration):
        value = orchestration.arguments.encode(arguments, named)
        id = orchestration.instance_id if id is None else id  # noqa: A001
        version = orchestration.pinned_version if version is None else version
    else:
        name = function_name(orchestration, "orchestration")
        if len(arguments) > 1 or named:
            raise TypeError(f"orchestration '{name}' is started by its name, and then takes its input alone")
        value = arguments[0] if arguments else None
    return uuid4().hex if id is None else id, value, version
