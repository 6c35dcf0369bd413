"""The recorded form of a failure: one JSON object, which only this module reads and writes.

The object is ``{"type", "message", "details"?, "retryable"?}``. Any other text, such as a failure that another language
recorded, is a message without a type.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

_KEYS = frozenset({"type", "message", "details", "retryable"})

# A failure is copied into the history of every caller up to the root, so one huge message must not fill a store.
_MAX_MESSAGE_CHARACTERS = 65_536
_MAX_DETAILS_CHARACTERS = 1_048_576

_log = logging.getLogger("duroxide.values")
_encode: Callable[[object], str] = json.dumps


class RecordedFailure:
    """The common part of all failures that were read from a history.

    Attributes:
        error_type: Name of the class of the original exception, without its module; ``None`` if only a text was
            recorded.
        message: Text of the exception.
        details: JSON value of the exception's ``details`` attribute; default ``None``.
        retryable: The exception's ``retryable`` attribute; ``None`` if it had none.
    """

    error_type: str | None
    message: str
    details: Any
    retryable: bool | None

    def __str__(self) -> str:
        return FailureRecord(self.error_type, self.message).describe()

    def is_caused_by(self, error_class: type[BaseException] | tuple[type[BaseException], ...]) -> bool:
        """Tell whether the original exception was an ``error_class``.

        The exception may come from another process, so this method compares names: the recorded name with the name of
        the class, and with the names of all its subclasses that this process knows.

        Args:
            error_class: An exception class, or a tuple of classes.

        Returns:
            True if the recorded name is the name of one of them. A failure without a recorded type matches none.
        """
        if self.error_type is None:
            return False
        classes = error_class if isinstance(error_class, tuple) else (error_class,)
        # A class that only the failing process knows is an Exception, too.
        return any(each in (Exception, BaseException) or self.error_type in class_names(each) for each in classes)


@dataclass(frozen=True, slots=True)
class FailureRecord:
    """The recorded form of one failure.

    Attributes:
        error_type: Name of the exception class, or ``None`` for a plain text.
        message: Text of the exception; may be empty.
        details: JSON value that the exception carried, or ``None``.
        retryable: Whether the exception allowed another attempt, or ``None``.
    """

    error_type: str | None
    message: str
    details: Any = None
    retryable: bool | None = None

    @classmethod
    def from_text(cls, text: str) -> FailureRecord:
        """Read a recorded failure; text of any other form becomes the message."""
        try:
            value: object = json.loads(text)
        except (ValueError, RecursionError):
            return cls(None, text)
        if not isinstance(value, dict):
            return cls(None, text)
        fields = cast("dict[str, Any]", value)
        error_type, message, retryable = fields.get("type"), fields.get("message"), fields.get("retryable")
        if not (isinstance(error_type, str) and isinstance(message, str) and fields.keys() <= _KEYS):
            return cls(None, text)
        return cls(error_type, message, fields.get("details"), retryable if isinstance(retryable, bool) else None)

    @classmethod
    def from_exception(cls, error: BaseException) -> FailureRecord:
        """Describe ``error``; never raises, because an unusual exception must not be lost."""
        if isinstance(error, RecordedFailure):
            return cls(error.error_type, error.message, error.details, error.retryable)
        name = type(error).__name__
        try:
            message = str(error)
        except Exception as broken:  # noqa: BLE001  (a user's exception may raise anything)
            message = f"(no message: its __str__ raised {type(broken).__name__})"
        retryable = _attribute(error, "retryable")
        return cls(name, message, _attribute(error, "details"), retryable if isinstance(retryable, bool) else None)

    def to_text(self) -> str:
        """Write the JSON text of the record, or the plain text that it was read from."""
        message = _shorten(self.message)
        if self.error_type is None:
            return message
        fields: dict[str, Any] = {"type": self.error_type, "message": message}
        if self.details is not None:
            details = _recordable(self.details)
            if details is not None:
                fields["details"] = details
        if self.retryable is not None:
            fields["retryable"] = self.retryable
        return json.dumps(fields)

    def describe(self) -> str:
        """Write the failure as readable text: ``ValueError: email is required``."""
        if self.error_type is None:
            return self.message
        return f"{self.error_type}: {self.message}" if self.message else self.error_type


def encode_failure(error: BaseException) -> str:
    """Write the text under which ``error`` is recorded.

    Args:
        error: Any exception. A failure that was read from a history keeps its original type, message and details.

    Returns:
        JSON text, or the plain text of a failure without a type. Never a traceback or a path of this machine.
    """
    return FailureRecord.from_exception(error).to_text()


def describe_failure(text: str) -> str:
    """Write a recorded failure as readable text.

    Args:
        text: The recorded text.

    Returns:
        ``Type: message``, ``Type`` without a message, or the text itself without a recorded type. The text is valid
        UTF-8; lone surrogates are written as escapes.
    """
    return FailureRecord.from_text(text).describe().encode("utf-8", "backslashreplace").decode("utf-8")


def class_names(error_class: type[BaseException]) -> set[str]:
    """Collect the names of ``error_class`` and of all its direct and indirect subclasses."""
    names: set[str] = set()
    pending: list[type[BaseException]] = [error_class]
    while pending:
        current = pending.pop()
        names.add(current.__name__)
        pending.extend(current.__subclasses__())
    return names


def _attribute(error: BaseException, name: str) -> Any:
    try:
        value = getattr(error, name, None)
    except Exception:  # noqa: BLE001  (a user's exception may raise anything)
        return None
    # The exceptions of some libraries have a method of that name.
    return None if callable(value) else value


def write_details_with(encode: Callable[[object], str]) -> None:
    """Set what writes ``details`` as JSON text: what writes results, which needs the exceptions and so this module."""
    global _encode  # noqa: PLW0603
    _encode = encode


def _recordable(details: Any) -> Any:
    """Turn details into what results turn into; ``None``, and a warning, where that cannot be recorded."""
    try:
        text = _encode(details)
        if len(text) <= _MAX_DETAILS_CHARACTERS:
            return json.loads(text)
        reason = f"they have {len(text)} characters of JSON, and at most {_MAX_DETAILS_CHARACTERS} are recorded"
    except Exception as error:  # noqa: BLE001  (the value of a user may raise anything)
        reason = str(error)
    _log.warning("the details of a failure are not recorded: %s", reason)
    return None


def _shorten(message: str) -> str:
    surplus = len(message) - _MAX_MESSAGE_CHARACTERS
    return message if surplus <= 0 else f"{message[:_MAX_MESSAGE_CHARACTERS]}… ({surplus} more characters)"
