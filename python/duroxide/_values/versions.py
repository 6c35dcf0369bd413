"""The versions of orchestrations: semantic versions, in the engine's order."""

from __future__ import annotations

import re

DEFAULT_VERSION = "1.0.0"
"""Version of an orchestration that is registered without one."""

_NUMBER = r"(?:0|[1-9]\d*)"
_VERSION = re.compile(
    rf"({_NUMBER})\.({_NUMBER})\.({_NUMBER})"
    rf"(?:-((?:{_NUMBER}|\d*[A-Za-z-][0-9A-Za-z-]*)(?:\.(?:{_NUMBER}|\d*[A-Za-z-][0-9A-Za-z-]*))*))?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?",
    re.ASCII,
)
_LARGEST_NUMBER = 2**64 - 1


def check_version(value: object) -> str:
    """Return ``value`` if it is a semantic version above 0.0.0, such as ``"1.4.0"`` or ``"2.0.0-rc.1"``.

    Raises:
        TypeError: It is not a ``str``.
        ValueError: It is not a semantic version, or it is 0.0.0.
    """
    if not isinstance(value, str):
        raise TypeError(f"a version must be a str, not {type(value).__name__}")
    match = _VERSION.fullmatch(value)
    if match is None or any(int(number) > _LARGEST_NUMBER for number in match.groups()[:3]):
        raise ValueError(f"version '{value[:50]}' is not a semantic version; write three numbers, such as '1.0.1'")
    if value == "0.0.0":
        # The engine records 0.0.0 for "no version".
        raise ValueError("version '0.0.0' is reserved; start with '0.0.1'")
    return value


def version_order(version: str) -> tuple[object, ...]:
    """Return the key that sorts checked versions from the oldest to the newest."""
    match = _VERSION.fullmatch(version)
    if match is None:
        raise ValueError(f"version '{version}' is not a semantic version")
    numbers = tuple(int(number) for number in match.groups()[:3])
    before = match.group(4)
    if before is None:
        return (*numbers, 1, ())
    # Numbers sort before words; numbers sort by value, words as text.
    parts = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in before.split("."))
    return (*numbers, 0, parts)
