"""Names and types of the functions that a program registers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from duroxide.durabletask._values import annotations_of


@dataclass(frozen=True)
class Function:
    """An orchestrator or an activity.

    Attributes:
        name: Name under which it is registered.
        call: The function, called with a context and the input.
        input_type: Annotation of its input, or ``None``.
        result_type: Annotation of its result, or ``None``.
    """

    name: str
    call: Callable[..., Any]
    input_type: Any
    result_type: Any

    @classmethod
    def of(cls, call: Callable[..., Any], names: Mapping[str, Any] | None = None) -> Function:
        """Describe a function.

        Args:
            call: The function.
            names: Names that its annotations may use beside those of its module.

        Raises:
            ValueError: It has no name.
        """
        return cls(get_name(call), call, *annotations_of(call, names))


def get_name(function: Callable[..., Any]) -> str:
    """Return the name under which a function is registered.

    Args:
        function: The function.

    Raises:
        ValueError: It is a lambda, or has no name.
    """
    name = getattr(function, "__name__", None)
    if not isinstance(name, str) or name == "<lambda>":
        raise ValueError(f"{function!r} has no name: define it with def, and register it under that name")
    return name
