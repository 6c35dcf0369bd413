"""The names of activities and orchestrations in calls: given as text, or as the declared function itself."""

from __future__ import annotations

from typing import Any, TypeAlias

from duroxide._declare.declarations import Orchestration
from duroxide._declare.definitions import OrchestrationDefinition
from duroxide._values.validation import check_name

OrchestrationName: TypeAlias = str | Orchestration[..., Any] | OrchestrationDefinition


def function_name(function: object, kind: str) -> str:
    """Return the name of ``function``.

    Args:
        function: A name, or a declared function.
        kind: ``"activity"`` or ``"orchestration"``, which the function must be.

    Raises:
        TypeError: It is neither a name nor declared, or it is of the other kind.
        LimitExceeded: The name is empty or too long.
    """
    if not isinstance(function, str):
        name, found = getattr(function, "name", None), getattr(function, "kind", None)
        if isinstance(name, str) and found == kind:
            return name
        if isinstance(name, str) and found in ("activity", "orchestration"):
            raise TypeError(f"'{name}' is an {found}, and an {kind} is needed here")
        if callable(function):
            title = getattr(function, "__name__", type(function).__name__)
            raise TypeError(f"'{title}' is a plain function; decorate it with @{kind}, or give its name as a str")
    return check_name(function, f"the name of an {kind}")
