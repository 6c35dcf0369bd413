"""The recorded form of a failure: one JSON object, which only this module reads and writes.

The object is ``{"type", "message", "details"?, "retryable"?, "bases"?, "notes"?, "cause"?, "failures"?}``. Any other text,
such as a failure that another language recorded, is a message without a type. ``cause`` is an object of the same form,
and ``failures`` a list of them, for an exception group. A group of one exception is recorded as that exception.
"""

from __future__ import annotations

import builtins
import dataclasses
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

_KEYS = frozenset({"type", "message", "details", "retryable", "bases", "notes", "cause", "failures"})

# Bases that every failure has, or that say nothing.
_COMMON_BASES = frozenset({"Exception", "BaseException", "object", "Generic", "RecordedFailure"})

# A failure is copied into the history of every caller up to the root, so one huge message must not fill a store.
_MAX_MESSAGE_CHARACTERS = 65_536
_MAX_DETAILS_CHARACTERS = 1_048_576

# The same for what is recorded beside the failure itself.
_MAX_INNER_CHARACTERS = 4_096
_MAX_CAUSES = 8
_MAX_FAILURES = 100
_MAX_NOTES = 16

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
        failures: The failures in an exception group of several; empty for every other failure.
    """

    error_type: str | None
    message: str
    details: Any
    retryable: bool | None
    failures: tuple[RecordedFailure, ...] = ()
    _bases: tuple[str, ...] = ()
    _record: FailureRecord | None = None

    def __str__(self) -> str:
        return FailureRecord(self.error_type, self.message).describe()

    def is_caused_by(self, error_class: type[BaseException] | tuple[type[BaseException], ...]) -> bool:
        """Tell whether the original exception was an ``error_class``, or one of those in an exception group was.

        The exception may come from another process, so this method compares names: the recorded names of its class and
        of the bases with the name of ``error_class``, and with the names of all its subclasses that this process knows.

        Args:
            error_class: An exception class, or a tuple of classes.

        Returns:
            True if the recorded name is the name of one of them. A failure without a recorded type matches none.
        """
        if any(each.is_caused_by(error_class) for each in self.failures):
            return True
        if self.error_type is None:
            return False
        classes = error_class if isinstance(error_class, tuple) else (error_class,)
        names = {self.error_type, *self._bases}
        # A class that only the failing process knows is an Exception, too.
        return any(each in (Exception, BaseException) or not names.isdisjoint(class_names(each)) for each in classes)


@dataclass(frozen=True, slots=True)
class FailureRecord:
    """The recorded form of one failure.

    Attributes:
        error_type: Name of the exception class, or ``None`` for a plain text.
        message: Text of the exception; may be empty.
        details: JSON value that the exception carried, or ``None``.
        retryable: Whether the exception allowed another attempt, or ``None``.
        bases: Names of the classes that its class derives from, without those that every exception has; empty for a
            built-in class.
        notes: What ``add_note`` has added to it.
        cause: The exception that ``raise ... from`` named, or ``None``.
        failures: Those of an exception group of several.
    """

    error_type: str | None
    message: str
    details: Any = None
    retryable: bool | None = None
    bases: tuple[str, ...] = field(default=(), compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)
    cause: FailureRecord | None = field(default=None, compare=False)
    failures: tuple[FailureRecord, ...] = field(default=(), compare=False)

    @classmethod
    def from_text(cls, text: str) -> FailureRecord:
        """Read a recorded failure; text of any other form becomes the message."""
        try:
            value: object = json.loads(text)
        except (ValueError, RecursionError):
            return cls(None, text)
        return cls._from_fields(value) or cls(None, text)

    @classmethod
    def _from_fields(cls, value: object) -> FailureRecord | None:
        """Read the JSON object of a failure; ``None`` if it has another form."""
        if not isinstance(value, dict):
            return None
        fields = cast("dict[str, Any]", value)
        error_type, message, retryable = fields.get("type"), fields.get("message"), fields.get("retryable")
        if not (isinstance(error_type, str | None) and isinstance(message, str) and fields.keys() <= _KEYS):
            return None
        if error_type is None and "type" not in fields:
            return None
        inner = (cls._from_fields(each) for each in _list(fields.get("failures")))
        return cls(
            error_type,
            message,
            fields.get("details"),
            retryable if isinstance(retryable, bool) else None,
            bases=_texts(fields.get("bases")),
            notes=_texts(fields.get("notes")),
            cause=cls._from_fields(fields.get("cause")),
            failures=tuple(each for each in inner if each is not None),
        )

    @classmethod
    def from_exception(cls, error: BaseException) -> FailureRecord:
        """Describe ``error``; never raises, because an unusual exception must not be lost."""
        return cls._from_exception(error, _MAX_CAUSES)

    @classmethod
    def _from_exception(cls, error: BaseException, causes: int) -> FailureRecord:
        members = members_of(error)
        if len(members) == 1:
            return cls._of_lone_member(error, members[0], causes)
        record = cls._of_instance(error)
        cause = _cause_of(error)
        return dataclasses.replace(
            record,
            message=_list_failures(record.message, members),
            retryable=_retryable_of(members) if members else record.retryable,
            notes=record.notes or _notes_of(error),
            cause=record.cause or (cls._from_exception(cause, causes - 1) if cause is not None and causes else None),
            failures=tuple(cls._from_exception(each, causes) for each in members[:_MAX_FAILURES]) or record.failures,
        )

    @classmethod
    def _of_lone_member(cls, group: BaseException, member: BaseException, causes: int) -> FailureRecord:
        """Describe a group of one exception as that exception."""
        record, cause = cls._from_exception(member, causes), _cause_of(group)
        notes = (*record.notes, *_notes_of(group))
        if record.cause is not None or cause is None or not causes:
            return dataclasses.replace(record, notes=notes)
        return dataclasses.replace(record, notes=notes, cause=cls._from_exception(cause, causes - 1))

    @classmethod
    def _of_instance(cls, error: BaseException) -> FailureRecord:
        """Describe an exception without what belongs to it."""
        if isinstance(error, RecordedFailure):
            if error._record is not None:
                return error._record
            failures = tuple(cls._of_instance(each) for each in error.failures if isinstance(each, BaseException))
            return cls(error.error_type, error.message, error.details, error.retryable, error._bases, failures=failures)
        try:
            message = str(error)
        except Exception as broken:  # noqa: BLE001  (a user's exception may raise anything)
            message = f"(no message: its __str__ raised {type(broken).__name__})"
        retryable = _attribute(error, "retryable")
        return cls(
            type(error).__name__,
            message,
            _attribute(error, "details"),
            retryable if isinstance(retryable, bool) else None,
            bases=_bases_of(type(error)),
        )

    def to_text(self) -> str:
        """Write the JSON text of the record, or the plain text that it was read from."""
        if self.error_type is None:
            return _shorten(self.message, _MAX_MESSAGE_CHARACTERS)
        return json.dumps(self._to_fields(_MAX_MESSAGE_CHARACTERS, _MAX_DETAILS_CHARACTERS))

    def _to_fields(self, most_characters: int, most_of_details: int) -> dict[str, Any]:
        fields: dict[str, Any] = {"type": self.error_type, "message": _shorten(self.message, most_characters)}
        details = None if self.details is None else _recordable(self.details, most_of_details)
        if details is not None:
            fields["details"] = details
        if self.retryable is not None:
            fields["retryable"] = self.retryable
        if self.bases:
            fields["bases"] = list(self.bases)
        if self.notes:
            fields["notes"] = [_shorten(note, _MAX_INNER_CHARACTERS) for note in self.notes[:_MAX_NOTES]]
        if self.cause is not None:
            fields["cause"] = self.cause._to_fields(_MAX_INNER_CHARACTERS, _MAX_INNER_CHARACTERS)
        if self.failures:
            fields["failures"] = [
                each._to_fields(_MAX_INNER_CHARACTERS, _MAX_INNER_CHARACTERS) for each in self.failures
            ]
        return fields

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


def subclass_names(name: str) -> set[str]:
    """Return the name of an exception class, with the names of the built-in classes that derive from it.

    The result is the same in every process. A failure of another class has the names of its bases.
    """
    known = vars(builtins).get(name)
    if not (isinstance(known, type) and issubclass(known, BaseException)):
        return {name}
    # An alias, such as IOError for OSError, stands for its class.
    classes = (each for each in vars(builtins).values() if isinstance(each, type) and issubclass(each, known))
    return {name, *(each.__name__ for each in classes)}


def _attribute(error: BaseException, name: str) -> Any:
    try:
        value = getattr(error, name, None)
    except Exception:  # noqa: BLE001  (a user's exception may raise anything)
        return None
    # The exceptions of some libraries have a method of that name.
    return None if callable(value) else value


def is_made_of(error: BaseException, part: BaseException) -> bool:
    """Tell whether ``error`` is ``part``, or a group of exceptions that are all ``part``."""
    return all(each is part for each in members_of(error) or [error])


def members_of(error: BaseException) -> list[BaseException]:
    """Collect the exceptions in a group and in the groups within it; empty for every other exception."""
    members: list[BaseException] = []
    pending = list(reversed(_exceptions_in(error)))
    while pending:
        each = pending.pop()
        inner = _exceptions_in(each)
        pending += reversed(inner)
        if not inner:
            members.append(each)
    return members


def _exceptions_in(error: BaseException) -> list[BaseException]:
    # The backport of groups for Python 3.10 has the same names.
    if not any(base.__name__ == "BaseExceptionGroup" for base in type(error).__mro__):
        return []
    exceptions: Any = _attribute(error, "exceptions")
    given = cast("tuple[object, ...]", exceptions) if isinstance(exceptions, tuple) else ()
    return [each for each in given if isinstance(each, BaseException)]


def _list_failures(message: str, members: list[BaseException]) -> str:
    if not members:
        return message
    listed = "; ".join(FailureRecord._of_instance(each).describe() for each in members[:_MAX_FAILURES])
    return f"{message}: {listed}"


def _retryable_of(members: list[BaseException]) -> bool | None:
    """Tell whether a group allows another attempt: not if one of its exceptions does not."""
    said = {FailureRecord._of_instance(each).retryable for each in members}
    return False if False in said else (True if said == {True} else None)


def _cause_of(error: BaseException) -> BaseException | None:
    # The causes of this package's own errors are its internals.
    is_ours = type(error).__module__.startswith("duroxide.") and not isinstance(error, RecordedFailure)
    is_recorded = isinstance(error, RecordedFailure) and error._record is not None
    return None if is_ours or is_recorded else error.__cause__


def _notes_of(error: BaseException) -> tuple[str, ...]:
    return _texts(_attribute(error, "__notes__"))


def _bases_of(error_class: type[BaseException]) -> tuple[str, ...]:
    if error_class.__module__ == "builtins":  # every process knows its bases
        return ()
    names = [base.__name__ for base in error_class.__mro__[1:]]
    return tuple(name for name in names if name not in _COMMON_BASES)


def _list(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []


def _texts(value: object) -> tuple[str, ...]:
    return tuple(each for each in _list(value) if isinstance(each, str))


def write_details_with(encode: Callable[[object], str]) -> None:
    """Set what writes ``details`` as JSON text: what writes results, which needs the exceptions and so this module."""
    global _encode  # noqa: PLW0603
    _encode = encode


def _recordable(details: Any, most_characters: int) -> Any:
    """Turn details into what results turn into; ``None``, and a warning, where that cannot be recorded."""
    try:
        text = _encode(details)
        if len(text) <= most_characters:
            return json.loads(text)
        reason = f"they have {len(text)} characters of JSON, and at most {most_characters} are recorded"
    except Exception as error:  # noqa: BLE001  (the value of a user may raise anything)
        reason = str(error)
    _log.warning("the details of a failure are not recorded: %s", reason)
    return None


def _shorten(message: str, most: int) -> str:
    surplus = len(message) - most
    return message if surplus <= 0 else f"{message[:most]}… ({surplus} more characters)"
