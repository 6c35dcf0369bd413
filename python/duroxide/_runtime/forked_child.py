"""Ends a child process that an activity has forked.

The child has one thread, that of the activity. No code of the package may run in it, which would record the end of the
activity a second time, or wait for work that other threads hand out.
"""

from __future__ import annotations

import os
import sys
import traceback


def end_if_forked(process: int, error: BaseException | None = None) -> None:
    """End this process at once if it is a fork of the process that began the activity.

    Args:
        process: The id of that process.
        error: What the activity has raised. ``SystemExit`` has the exit code; for any other exception the code is 1, and
            its traceback is printed. Default ``None``, for the exit code 0.
    """
    if os.getpid() == process:
        return
    code = 1
    try:
        code = _exit_code(error)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _exit_code(error: BaseException | None) -> int:
    if error is None:
        return 0
    if not isinstance(error, SystemExit):
        traceback.print_exception(type(error), error, error.__traceback__)
        return 1
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    print(error.code, file=sys.stderr)  # noqa: T201  (as the interpreter does)
    return 1
