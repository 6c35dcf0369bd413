"""Tells the failures of activities that are not theirs: of the end of the process, or of what the process lacks.

Such an activity is cut off. No failure is recorded, no attempt is counted, and it runs again.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import threading
from typing import TYPE_CHECKING, Any

from duroxide._values.failures import members_of

if TYPE_CHECKING:
    from collections.abc import Iterator

# What threads, executors and loops answer when the interpreter ends. The first one is also the answer of an executor that
# the application has shut down.
_AFTER_SHUTDOWN = "after shutdown"
_AT_THE_END = ("after interpreter shutdown", "at interpreter shutdown")

_LACKS = {
    errno.EMFILE: "file descriptors of this process",
    errno.ENFILE: "file descriptors of this machine",
    errno.ENOMEM: "memory",
    errno.ENOBUFS: "memory",
    errno.EAGAIN: "threads or processes",
}
_LACKS_IN_TEXTS = {
    "can't start new thread": "threads",
    "can't allocate lock": "memory",
    "Too many open files": "file descriptors of this process",
    "Cannot allocate memory": "memory",
}

_MOST_LOOKED_AT = 100
"""The largest number of exceptions to look at: a chain may have no end."""


class _Process:
    """How far the end of this process has come."""

    ends = False
    """The main thread has ended, so executors and threads refuse work."""

    is_over = False
    """All threads have ended that the process waits for."""


def watch_for_end() -> None:
    """Note the end of the process as soon as it begins, before executors refuse work; called once, at import."""
    # Python calls the callback that was registered last first, so the executors' own callback must be there already.
    importlib.import_module("concurrent.futures.thread")
    register: Any = getattr(threading, "_register_atexit", None)
    if register is not None:
        with contextlib.suppress(RuntimeError):  # the end has begun
            register(_note_end)


def note_exit() -> None:
    """Note that no code of the application runs any more, except activities."""
    _Process.ends = _Process.is_over = True


def _note_end() -> None:
    _Process.ends = True


def end_of_process(error: BaseException) -> str | None:
    """Return why an activity failed, if the end of the process made it fail; otherwise ``None``."""
    if _Process.is_over:
        return "the process ends"
    for each in _chain(error):
        text = str(each) if isinstance(each, RuntimeError) else ""
        if any(end in text for end in _AT_THE_END) or (_Process.ends and _AFTER_SHUTDOWN in text):
            return "the process ends"
    return None


def shortage(error: BaseException) -> str | None:
    """Return what the process lacks, if an activity could not begin for lack of it; otherwise ``None``."""
    for each in _chain(error):
        if isinstance(each, MemoryError):
            return "this process is short of memory"
        lacks = _LACKS.get(each.errno or 0) if isinstance(each, OSError) else None
        if lacks is None and isinstance(each, (RuntimeError, ImportError, OSError)):
            lacks = next((what for text, what in _LACKS_IN_TEXTS.items() if text in str(each)), None)
        if lacks is not None:
            return f"there are too few {lacks}" if lacks != "memory" else "this process is short of memory"
    return end_of_process(error)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, those in a group, and those that they were raised from or while they were handled."""
    pending: list[BaseException | None] = [error]
    seen: set[int] = set()
    while pending and len(seen) < _MOST_LOOKED_AT:
        each = pending.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        pending += [*members_of(each), each.__cause__, each.__context__]
