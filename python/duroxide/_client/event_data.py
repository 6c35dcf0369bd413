"""The data of a history's events as clients read it: recorded values stand in it as values, not as texts of JSON."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from duroxide._native import without_attempt_header

# The fields that hold a recorded value. The others, such as the value of a key, are texts for the program too.
_VALUES = ("data", "input", "output", "result")


def with_values(data: str) -> str:
    """Return the JSON object ``data`` with its recorded values in place of their texts.

    A text that is not JSON, as an input that was recorded as it is, stays a string.
    """
    if not any(f'"{name}":"' in data for name in _VALUES):
        return data
    fields: dict[str, Any] = json.loads(data)
    return "{" + ",".join(f"{json.dumps(name)}:{_text(name, fields[name])}" for name in fields) + "}"


def _text(name: str, value: Any) -> str:
    if name not in _VALUES or not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    recorded = without_attempt_header(value) if name == "input" else value
    try:
        json.loads(recorded, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return json.dumps(recorded, ensure_ascii=False)
    # The recorded text itself: every digit of a number stays as it is.
    return recorded


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
