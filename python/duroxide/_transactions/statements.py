"""SQL that runs on an application's own connection, of any known library."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# A name after a colon, which is also SQLAlchemy's syntax.
_PARAMETER = re.compile(r":([a-z_]+)")


@dataclass(frozen=True)
class Statement:
    """A statement, and the values of its parameters.

    Attributes:
        text: SQL with ``:name`` in place of a value.
        values: The values by name.
    """

    text: str
    values: Mapping[str, str | None]

    def positional(self, placeholder: Callable[[int], str]) -> tuple[str, list[str | None]]:
        """Write it with parameters by position: the text, and the values in order.

        Args:
            placeholder: Writes the parameter of a position, counted from 1.
        """
        values: list[str | None] = []

        def place(match: re.Match[str]) -> str:
            values.append(self.values[match[1]])
            return placeholder(len(values))

        return _PARAMETER.sub(place, self.text), values
