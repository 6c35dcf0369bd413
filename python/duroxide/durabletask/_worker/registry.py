"""The functions that a worker has registered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from duroxide.durabletask._functions import Function


class Registry:
    """Orchestrators and activities by their names."""

    def __init__(self) -> None:
        self.orchestrators: dict[str, Function] = {}
        self.activities: dict[str, Function] = {}

    def add_orchestrator(self, call: Callable[..., Any], names: Mapping[str, Any]) -> str:
        """Add an orchestrator, and return its name.

        Raises:
            ValueError: It has no name, or the name is taken.
        """
        return _add(self.orchestrators, "orchestrator", call, names)

    def add_activity(self, call: Callable[..., Any], names: Mapping[str, Any]) -> str:
        """Add an activity, and return its name.

        Raises:
            ValueError: It has no name, or the name is taken.
        """
        return _add(self.activities, "activity", call, names)


def _add(functions: dict[str, Function], what: str, call: Callable[..., Any], names: Mapping[str, Any]) -> str:
    if not callable(call):
        raise ValueError(f"an {what} is a function, and not {call!r}")  # noqa: TRY004  (as in durabletask)
    function = Function.of(call, names)
    if function.name in functions:
        raise ValueError(f"the worker has an {what} '{function.name}' already: give one of the functions another name")
    functions[function.name] = function
    return function.name
