"""The log records on the standard error stream, for a program that asks for them and configures no logging."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from duroxide import _native
from duroxide.exceptions import ConfigurationError

_RESERVED = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}
_LEVELS = {"trace": 1, "debug": 10, "info": 20, "warn": 30, "error": 40, "off": 100}


class _Printer(logging.Handler):
    """Prints where the application has no handler."""

    log_format = "pretty"
    # The native half writes the records itself, since init_tracing.
    is_replaced = False

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        if sys.stderr is None or _is_configured(record.name):
            return
        try:
            sys.stderr.write(f"{_formatted(record, self.log_format)}\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            self.handleError(record)


_printer = _Printer(logging.CRITICAL + 1)


def print_records(log_level: str | None, log_format: str | None) -> None:
    """Print the records from now on, unless the native half prints them itself or the application has handlers.

    Args:
        log_level: The least level; ``None`` for ``"info"``.
        log_format: ``"pretty"``, ``"compact"`` or ``"json"``; ``None`` for ``"pretty"``.
    """
    if _printer.is_replaced or (log_level is None and log_format is None) or os.environ.get("RUST_LOG", "").strip():
        return
    _printer.setLevel(_LEVELS[(log_level or "info").lower()])
    _printer.log_format = log_format or "pretty"
    logging.getLogger("duroxide").addHandler(_printer)


def print_below_level(record: logging.LogRecord) -> None:
    """Print a record that the level of its logger holds back, if that is no more than the default of ``logging``."""
    if record.levelno < _printer.level or logging.root.manager.disable >= record.levelno:
        return
    if all(logger.level == logging.NOTSET for logger in _chain(record.name) if logger is not logging.root):
        _printer.handle(record)


def print_notice(record: logging.LogRecord) -> None:
    """Print one line for a record that a person must see, unless the application or the native half shows it."""
    is_shown = _printer.is_replaced or is_printing(record.levelno) or bool(os.environ.get("RUST_LOG", "").strip())
    if is_shown or sys.stderr is None or _is_configured(record.name):
        return
    with contextlib.suppress(OSError, ValueError):  # the stream is closed
        sys.stderr.write(f"{record.levelname} {record.name}: {record.getMessage()}\n")
        sys.stderr.flush()


def is_printing(level: int) -> bool:
    """Tell whether records of a level may have to be printed."""
    return level >= _printer.level


def init_tracing(
    log_file: str | os.PathLike[str] | None = None, log_level: str | None = None, log_format: str | None = None
) -> None:
    """Send the engine's logs and the traces of orchestrations and activities to a file or the terminal.

    Args:
        log_file: Path of the file to append to; default ``None``, the standard error stream.
        log_level: ``"off"``, ``"error"``, ``"warn"``, ``"info"``, ``"debug"`` or ``"trace"``; default ``None``, as it
            is. ``RUST_LOG``, where it is set, has the last word.
        log_format: ``"pretty"``, ``"compact"`` or ``"json"``; default ``None``, pretty.

    Raises:
        ConfigurationError: The level or the format is unknown, or the file cannot be opened.
    """
    if log_file is not None:
        try:
            with Path(log_file).open("ab"):
                pass
        except OSError as error:
            raise ConfigurationError(f"Failed to open log file '{os.fspath(log_file)}': {error.strerror}") from None
    _native.init_tracing(None if log_file is None else os.fspath(log_file), log_level, log_format)
    _printer.is_replaced = True
    _printer.setLevel(logging.CRITICAL + 1)


def _is_configured(name: str) -> bool:
    """Tell whether the application has a handler for the records of a logger."""
    return any(
        handler is not _printer and not isinstance(handler, logging.NullHandler)
        for logger in _chain(name)
        for handler in logger.handlers
    )


def _chain(name: str) -> Iterator[logging.Logger]:
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None:
        yield logger
        logger = logger.parent if logger.propagate else None


def _formatted(record: logging.LogRecord, log_format: str) -> str:
    fields = {name: value for name, value in vars(record).items() if name not in _RESERVED}
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
    level = "TRACE" if record.levelno < logging.DEBUG else record.levelname.replace("WARNING", "WARN")
    message = record.getMessage()
    traceback = logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
    if log_format == "json":
        message = f"{message}\n{traceback}" if traceback else message
        whole: dict[str, Any] = {
            "timestamp": moment,
            "level": level,
            "logger": record.name,
            "message": message,
            **fields,
        }
        return json.dumps(whole, default=str)
    # A record begins with its time, and each further line with a space, so an exception's text cannot pass for a record.
    message += "".join(f"\n  {_native.escaped(line)}" for line in traceback.split("\n") if traceback)
    return " ".join(
        [moment, f"{level:>5}", f"{record.name}:", message, *(f"{name}={_shown(fields[name])}" for name in fields)]
    )


def _shown(field: object) -> str:
    """Show a field without the characters that could begin a line or command a terminal."""
    text = str(field)
    return text if text.isprintable() else ascii(text)
