"""Passes the engine's log records to Python's ``logging``, under the logger ``duroxide`` and its children."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from duroxide import _native
from duroxide._runtime.printed_logs import is_printing, print_below_level, print_notice

if TYPE_CHECKING:
    from collections.abc import Mapping

# What stands for the path of the source file in a record of the native half.
_NATIVE = "(duroxide)"
_RESERVED = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


def deliver(logger_name: str, level: int, message: str, fields: Mapping[str, object]) -> None:
    """Pass one native log record to ``logging``; called on a thread of the native half.

    Args:
        logger_name: Name of the logger, ``duroxide`` or below it.
        level: Level in the numbers of ``logging``: 10 for debug, 20 for info, 30 for a warning, 40 for an error.
        message: Text of the record.
        fields: Structured fields, such as ``instance_id``; they become attributes of the record. A field with a name
            that ``logging`` uses itself gets the prefix ``field_``. The field ``notice`` marks a record that is printed
            where the application has configured no logging.
    """
    logger = _enabled(logging.getLogger(logger_name))
    is_enabled = logger.isEnabledFor(level)
    if not is_enabled and not is_printing(level):
        return
    is_notice = "notice" in fields
    fields = {name: value for name, value in fields.items() if name != "notice"}
    extra = {(f"field_{name}" if name in _RESERVED else name): value for name, value in fields.items()}
    # Build the record directly, because the message is final: logging must not format a percent sign in it.
    record = logger.makeRecord(logger_name, level, _NATIVE, 0, message, (), None, func=None, extra=extra)
    if is_enabled:
        logger.handle(record)
        if is_notice:
            print_notice(record)
    else:
        print_below_level(record)


def _escape_message(record: logging.LogRecord) -> bool:
    """Escape the control characters in a message: a value in it must not forge a line.

    A native record comes with escapes. Where its message has several lines, they are the package's own.
    """
    if record.pathname != _NATIVE:
        # A message that cannot be formatted is for the handler to report.
        with contextlib.suppress(Exception):
            message = record.getMessage()
            if not message.isprintable():
                record.msg, record.args = _native.escaped(message), ()
    return True


class _NeverDisabled(logging.Logger):
    """A logger that ``disable_existing_loggers`` does not reach."""

    @property
    def disabled(self) -> bool:
        """False, whatever is assigned: ``dictConfig`` disables each logger that it does not name."""
        return False

    @disabled.setter
    def disabled(self, value: bool) -> None: ...  # pyright: ignore[reportIncompatibleVariableOverride]


def keep_enabled() -> None:
    """Keep all loggers of the package enabled, and their messages safe; called once, at import."""
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] == "duroxide":
            _enabled(logging.getLogger(name))


def _enabled(logger: logging.Logger) -> logging.Logger:
    logger.addFilter(_escape_message)
    # The class of a logger stays as it is where the application chose it.
    if type(logger) is logging.Logger:
        logger.__class__ = _NeverDisabled
    return logger


def silence_by_default() -> None:
    """Keep ``logging`` from printing warnings of ``duroxide`` to stderr in a program that has configured no logging."""
    logger = logging.getLogger("duroxide")
    if not any(isinstance(handler, logging.NullHandler) for handler in logger.handlers):
        logger.addHandler(logging.NullHandler())
