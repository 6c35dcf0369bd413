"""Watching orchestrations for calls whose results a replay cannot repeat.

While the code of an orchestration runs, a profile function of its thread sees every call before it is made: also
methods of C types, which cannot be replaced, and functions that were imported by name. Nothing is patched, and other
threads, those of activities among them, are not affected.

What is found is judged by the frames around it. Code of this package may do as it likes, and so may whoever imports a
module, writes to the log, formats a traceback or warns, since none of that flows into the orchestration.
"""

from __future__ import annotations

import builtins
import datetime as dt
import os
import random
import socket
import subprocess
import sys
import sysconfig
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from duroxide.exceptions import NotAllowedInOrchestration

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType, FrameType

    from _typeshed import ProfileFunction

__all__ = ["begin", "end", "is_strict"]

_TIME = "use ctx.now(), the time of the last recorded step"
_DURATION = "use ctx.now() for the time between recorded steps, or measure in an activity"
_SLEEP = "wait for a durable timer, ctx.schedule_timer(...), or asyncio.sleep(...) in an async orchestration"
_RANDOM = "use ctx.random(), a random.Random whose numbers are the same in every replay"
_UUID = "use ctx.uuid(), which is the same in every replay"
_ACTIVITY = "do it in an activity, whose result is recorded"


def _functions(module: object, names: Iterable[str], instead: str) -> dict[Any, str]:
    """Those of the functions that this platform has."""
    found = (getattr(module, name, None) for name in names)
    return {function: instead for function in found if function is not None}


def _shared_generator() -> random.Random:
    # The functions of the module are the methods of one hidden generator, which everybody shares.
    generator: random.Random = random.random.__self__  # type: ignore[attr-defined]
    return generator


_SHARED = _shared_generator()

# Functions of C, and what to use in their place.
_CALLS: dict[Any, str] = {
    **_functions(time, ["time", "time_ns"], _TIME),
    **_functions(
        time,
        [
            f"{clock}{unit}"
            for clock in ("monotonic", "perf_counter", "process_time", "thread_time")
            for unit in ("", "_ns")
        ],
        _DURATION,
    ),
    time.sleep: _SLEEP,
    **_functions(dt.datetime, ["now", "utcnow", "today"], _TIME),
    dt.date.today: _TIME,
    **_functions(_SHARED, ["random", "getrandbits"], _RANDOM),
    os.urandom: _RANDOM,
    builtins.open: _ACTIVITY,
    builtins.input: _ACTIVITY,
    **_functions(
        os, ["open", "system", "fork", "forkpty", "posix_spawn", "posix_spawnp", "execv", "execve"], _ACTIVITY
    ),
    **_functions(sys.modules["_socket"], ["getaddrinfo", "gethostbyname", "gethostbyaddr", "socketpair"], _ACTIVITY),
    **_functions(sys.modules["_thread"], ["start_new_thread", "start_joinable_thread"], _ACTIVITY),
}

# Python functions, by the address of their code: its hash would read all of it.
_CODES: dict[int, tuple[CodeType, str]] = {
    id(function.__code__): (function.__code__, instead)
    for function, instead in (
        (random.Random.seed, _RANDOM),
        (uuid.uuid1, _UUID),
        (uuid.uuid4, _UUID),
        (socket.socket.__init__, _ACTIVITY),
        (subprocess.Popen.__init__, _ACTIVITY),
        (threading.Thread.start, _ACTIVITY),
    )
}
_SEED = random.Random.seed.__code__

# Where a function of one of these modules is called, what it uses says what to use in its place.
_OF_THEIR_KIND = frozenset({"datetime", "random", "secrets", "time"})

# What these modules do on behalf of an orchestration does not flow into it.
_LET_THROUGH = frozenset({"linecache", "logging", "traceback", "tracemalloc", "warnings", "weakref"})

_OWN_FILES = str(Path(__file__).parent.parent) + os.sep
_LIBRARY_FILES = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib")})
_INSTALLED_FILES = tuple({sysconfig.get_path(name) + os.sep for name in ("purelib", "platlib")})


def is_strict(strict: bool | None) -> bool:
    """Decide for a runtime: as it was told, or where code is tried out.

    Args:
        strict: What the runtime was told; ``None`` if nothing.

    Returns:
        Whether to watch its orchestrations.

    Raises:
        TypeError: ``strict`` is neither a ``bool`` nor ``None``.
    """
    if strict is None:
        return "PYTEST_CURRENT_TEST" in os.environ or sys.flags.dev_mode
    if not isinstance(strict, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"strict must be True, False or None, not {type(strict).__name__}")
    return strict


def begin() -> ProfileFunction | None:
    """Watch what this thread calls from now on; gives what to pass to ``end``."""
    before: ProfileFunction | None = sys.getprofile()
    sys.setprofile(_watch)
    return before


def end(before: ProfileFunction | None) -> None:
    """Stop to watch."""
    sys.setprofile(before)


def _watch(frame: FrameType, event: str, called: Any) -> None:
    if event == "c_call":
        # Equal methods are those of the same object, so other generators than the shared one are found to differ.
        instead = _CALLS.get(called)
        if instead is not None:
            _judge(frame, _name_of(called), instead)
    elif event == "call":
        found = _CODES.get(id(frame.f_code))
        if found is not None and not _is_seeded(frame):
            _judge(frame.f_back, _name_of_frame(frame), found[1])


def _is_seeded(frame: FrameType) -> bool:
    """Whether a generator of the orchestration's own gets a seed."""
    if frame.f_code is not _SEED:
        return False
    return frame.f_locals["self"] is not _SHARED and frame.f_locals.get("a") is not None


def _judge(frame: FrameType | None, name: str, instead: str) -> None:
    """Raise for a call that ``frame`` makes, unless somebody around it may make it."""
    user: FrameType | None = None
    each = frame
    while each is not None:
        file = each.f_code.co_filename
        module = str(each.f_globals.get("__name__", ""))
        if _may_call(each, module, file, is_inside=user is None):
            return
        if user is None:
            if _is_of_library(file):
                # The user knows the function of the library that was called, not what that one calls.
                name = _name_of_frame(each)
                if module.partition(".")[0] not in _OF_THEIR_KIND:
                    instead = _ACTIVITY
            else:
                user = each
        each = each.f_back
    if frame is not None:
        _watch_again_in(frame)
    where = f" at {Path(user.f_code.co_filename).name}:{user.f_lineno}" if user else ""
    raise NotAllowedInOrchestration(
        f"{name}(){where} is not allowed in an orchestration, whose code is replayed: {instead}; "
        "Runtime(strict=False) lets it through"
    )


def _watch_again_in(frame: FrameType) -> None:
    """Watch again as soon as what is raised reaches ``frame``: Python takes a profile function away that raises.

    A trace function of that frame sees the exception before any code that catches it runs.
    """
    before, of_frame = sys.gettrace(), frame.f_trace

    def resume(*_event: object) -> None:
        frame.f_trace = of_frame
        sys.settrace(before)
        sys.setprofile(_watch)

    frame.f_trace = resume
    # Python looks at those of the frames while there is one of the thread; it need not trace anything by itself.
    sys.settrace(_trace_nothing)


def _trace_nothing(*_event: object) -> None: ...


def _may_call(frame: FrameType, module: str, file: str, *, is_inside: bool) -> bool:
    # Own code counts if the user's code calls it, and not if it calls the user's, as the loop of async code does.
    if is_inside and file.startswith(_OWN_FILES):
        return True
    package = module.partition(".")[0]
    # Finalizers run whenever memory is freed, on whatever thread that happens.
    return (
        package in _LET_THROUGH
        or package == "importlib"
        or file.startswith("<frozen importlib")
        or frame.f_code.co_name == "__del__"
    )


def _is_of_library(file: str) -> bool:
    if file.startswith(_INSTALLED_FILES):
        return False
    return file.startswith((*_LIBRARY_FILES, "<frozen"))


def _name_of(called: Any) -> str:
    owner = called.__self__
    if called in (open, input):
        return str(called.__name__)
    if owner is _SHARED:
        return f"random.{called.__name__}"
    if isinstance(owner, type):
        return f"{owner.__module__}.{owner.__qualname__}.{called.__name__}"
    module = str(called.__module__ or "").lstrip("_")
    return f"{'os' if module == 'posix' else module}.{called.__name__}"


def _name_of_frame(frame: FrameType) -> str:
    code = frame.f_code
    module = frame.f_globals.get("__name__", "")
    owner = frame.f_locals.get("self")
    if owner is _SHARED:
        return f"random.{code.co_name}"
    if owner is None:
        return f"{module}.{code.co_name}"
    # A constructor is called by the name of its class.
    method = "" if code.co_name == "__init__" else f".{code.co_name}"
    # Python 3.13 has the classes of `pathlib` in a private module of it.
    public = type(owner).__module__.partition("._")[0]
    return f"{public}.{type(owner).__qualname__}{method}"
