"""The text of a trace."""

from __future__ import annotations


def loggable(message: str) -> str:
    """Return the text of a trace, in which escapes stand for what UTF-8 cannot hold: a trace never fails the code.

    Raises:
        TypeError: The message is not a ``str``.
    """
    if not isinstance(message, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"'{type(message).__name__}' object is not an instance of 'str'")
    # The round trip through bytes also turns a subclass of str into a str.
    return str.encode(message, errors="backslashreplace").decode()
