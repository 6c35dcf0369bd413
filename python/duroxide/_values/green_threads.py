"""Threads of the operating system, and blocking calls, where gevent or eventlet has put greenlets in place of threads.

The engine runs on threads of the operating system, and wakes only such threads. A greenlet that was made on one of them
would never run.
"""

from __future__ import annotations

import importlib
import sys
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


def patched_by() -> str | None:
    """Return ``"gevent"`` or ``"eventlet"`` if it has replaced the threads of this process, otherwise ``None``."""
    monkey: Any = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        return "gevent"
    patcher: Any = sys.modules.get("eventlet.patcher")
    if patcher is not None and patcher.is_monkey_patched("thread"):
        return "eventlet"
    return None


def start_thread(body: Callable[[], object], name: str) -> None:
    """Run ``body`` on a new daemon thread of the operating system."""
    by = patched_by()
    if by is None:
        threading.Thread(target=body, name=name, daemon=True).start()
    elif by == "gevent":
        sys.modules["gevent.monkey"].get_original("_thread", "start_new_thread")(body, ())
    else:
        sys.modules["eventlet.patcher"].original("_thread").start_new_thread(body, ())


def call_blocking(function: Callable[[], Result]) -> Result:
    """Make a call that blocks its thread; the other greenlets of the thread run in the meantime."""
    by = patched_by()
    if by == "gevent":
        hub = sys.modules["gevent._hub_local"].get_hub_if_exists()
        if hub is not None:
            return hub.threadpool.apply(function)  # type: ignore[no-any-return]
    elif by == "eventlet":
        return importlib.import_module("eventlet.tpool").execute(function)  # type: ignore[no-any-return]
    return function()
