"""How values are written as JSON text and read back."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import Any

from duroxide._values.codec import encode
from duroxide.durabletask._values import can_build, to_plain, to_type

__all__ = ["DEFAULT_DATA_CONVERTER", "DataConverter", "JsonDataConverter"]


class DataConverter(ABC):
    """Writes values of a program as text, and reads them back."""

    @abstractmethod
    def serialize(self, value: Any) -> str | None:
        """Write a value.

        Args:
            value: The value.

        Returns:
            Its text, or ``None`` for no value.
        """

    @abstractmethod
    def deserialize(self, data: str | None, target_type: Any = None) -> Any:
        """Read a value.

        Args:
            data: Its text, or ``None``.
            target_type: Type of the value; default ``None``, as the text says.
        """

    @abstractmethod
    def coerce(self, value: Any, target_type: Any = None) -> Any:
        """Convert a value that is read already.

        Args:
            value: The value.
            target_type: Type to convert it to; default ``None``, as it is.
        """

    def can_reconstruct(self, target_type: Any) -> bool:
        """Tell whether values of a type can be read back by the type alone.

        Args:
            target_type: The type.

        Returns:
            False, unless a converter says otherwise.
        """
        del target_type
        return False


class JsonDataConverter(DataConverter):
    """Writes JSON.

    Objects with a ``to_json`` method, enums, dataclasses, named tuples, pydantic models, ``SimpleNamespace`` and all values
    that the runtime can record are written. They are read back by the type that the reader asks for, never by the text. A
    value that does not fit the type is returned as JSON has it.
    """

    def serialize(self, value: Any) -> str | None:
        """Write a value.

        Args:
            value: The value.

        Returns:
            Its JSON text; ``None`` for ``None``.

        Raises:
            TypeError: The value cannot be written as JSON.
        """
        return None if value is None else encode(to_plain(value))

    def deserialize(self, data: str | None, target_type: Any = None) -> Any:
        """Read a value.

        Args:
            data: Its JSON text; ``None`` or an empty text is ``None``.
            target_type: Type to convert it to; default ``None``, the JSON value.
        """
        return to_type(json.loads(data), target_type) if data else None

    def coerce(self, value: Any, target_type: Any = None) -> Any:
        """Convert a JSON value.

        Args:
            value: The value.
            target_type: Type to convert it to; default ``None``, as it is.
        """
        return to_type(value, target_type)

    def can_reconstruct(self, target_type: Any) -> bool:
        """Tell whether values of a type are built from JSON values.

        Args:
            target_type: The type.
        """
        return can_build(target_type)


DEFAULT_DATA_CONVERTER = JsonDataConverter()
"""The converter of workers and clients that are given none."""
