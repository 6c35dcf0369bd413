"""How a converter's values pass through the runtime, which records JSON."""

from __future__ import annotations

import json
from typing import Any, cast

from duroxide.durabletask._values import to_plain
from duroxide.durabletask.serialization import DataConverter, JsonDataConverter

# The only key of an object that holds text of a converter that does not write JSON.
_TEXT = "durabletask.text"


def to_recorded(converter: DataConverter, value: Any) -> Any:
    """Return the JSON value to record for ``value``."""
    if type(converter) is JsonDataConverter:
        return to_plain(value)
    text = converter.serialize(value)
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return {_TEXT: text}


def from_recorded(converter: DataConverter, recorded: Any, target: Any = None) -> Any:
    """Return the value that was recorded, as ``target`` where that is given."""
    if type(converter) is JsonDataConverter:
        return converter.coerce(recorded, target)
    return converter.deserialize(to_text(recorded), target)


def to_text(recorded: Any) -> str | None:
    """Return the text of a recorded value as the converter wrote it; ``None`` for no value."""
    if recorded is None:
        return None
    if isinstance(recorded, dict):
        fields = cast("dict[str, Any]", recorded)
        if fields.keys() == {_TEXT}:
            return str(fields[_TEXT])
    return json.dumps(recorded)
