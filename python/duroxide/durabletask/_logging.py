"""The loggers of workers and clients."""

from __future__ import annotations

import logging


def choose_logger(
    logger: logging.Logger | None, handler: logging.Handler | None, formatter: logging.Formatter | None
) -> logging.Logger:
    """Return the logger that the arguments of a worker or a client mean.

    Args:
        logger: The logger; ``None`` for the one of the package.
        handler: A handler to add to it, or ``None``.
        formatter: The handler's formatter, or ``None``.

    Raises:
        ValueError: A handler or a formatter is given together with a logger.
    """
    if logger is not None and (handler is not None or formatter is not None):
        raise ValueError("logger excludes log_handler and log_formatter: configure the handlers of the logger itself")
    chosen = logging.getLogger("duroxide.durabletask") if logger is None else logger
    if handler is not None:
        if formatter is not None:
            handler.setFormatter(formatter)
        chosen.addHandler(handler)
    return chosen
