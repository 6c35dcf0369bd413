"""The versions of orchestrations: semantic versions, in the engine's order."""

from __future__ import annotations

from duroxide._native import DEFAULT_VERSION, Version, parse_version

__all__ = ["DEFAULT_VERSION", "check_version", "version_order"]


def check_version(value: object) -> str:
    """Return ``value`` if it is a semantic version above 0.0.0, such as ``"1.4.0"`` or ``"2.0.0-rc.1"``.

    Raises:
        TypeError: It is not a ``str``.
        ValueError: It is not a semantic version, or it is 0.0.0.
    """
    if not isinstance(value, str):
        raise TypeError(f"a version must be a str, not {type(value).__name__}")
    if parse_version(value) is None:
        raise ValueError(f"version '{value[:50]}' is not a semantic version; write three numbers, such as '1.0.1'")
    if value == "0.0.0":
        # The engine records 0.0.0 for "no version".
        raise ValueError("version '0.0.0' is reserved; start with '0.0.1'")
    return value


def version_order(version: str) -> Version:
    """Return the key that sorts checked versions from the oldest to the newest."""
    parsed = parse_version(version)
    if parsed is None:
        raise ValueError(f"version '{version}' is not a semantic version")
    return parsed
