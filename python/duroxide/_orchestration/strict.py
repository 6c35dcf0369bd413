"""Strict mode: watches orchestrations for calls whose results a replay cannot repeat.

While the code of an orchestration runs, a profile function of its thread sees every call before it is made, also
methods of C types, which cannot be replaced, and functions that were imported by name. Strict mode patches nothing, and
does not affect other threads, such as those of activities.

The frames around a call decide whether it is allowed. This package may make any call. So may code that imports a
module, writes to the log, formats a traceback, warns or debugs, because the result does not reach the orchestration.

A profile function does not see a C function that C code calls. Pydantic makes such calls for the default factories of
fields, so strict mode looks at the fields when a model is made.
"""

from __future__ import annotations

import builtins
import datetime as dt
import dis
import gc
import os
import random
import re
import socket
import subprocess
import sys
import sysconfig
import threading
import time
import uuid
from pathlib import Path
from types import BuiltinFunctionType
from typing import TYPE_CHECKING, Any, cast

from duroxide.exceptions import NotAllowedInOrchestration

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType, FrameType, ModuleType

    from _typeshed import ProfileFunction

__all__ = ["begin", "end", "is_strict"]

_TIME = "use ctx.now(), the time of the last recorded step"
_DURATION = "use ctx.now() for the time between recorded steps, or measure in an activity"
_SLEEP = "wait for a durable timer, ctx.schedule_timer(...), or asyncio.sleep(...) in an async orchestration"
_RANDOM = "use ctx.random(), a random.Random whose numbers are the same in every replay"
_UUID = "use ctx.uuid(), which is the same in every replay"
_ACTIVITY = "do it in an activity, whose result is recorded"


def _functions(module: object, names: Iterable[str], instead: str) -> dict[Any, str]:
    """Return the functions that this platform has."""
    found = (getattr(module, name, None) for name in names)
    return {function: instead for function in found if function is not None}


def _shared_generator() -> random.Random:
    # The functions of the module are methods of one hidden generator, which the whole process shares.
    generator: random.Random = random.random.__self__  # type: ignore[attr-defined]
    return generator


_SHARED = _shared_generator()

# C functions, and what to use in their place.
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
        os,
        [
            "open",
            "listdir",
            "scandir",
            "mkdir",
            "rmdir",
            "remove",
            "unlink",
            "rename",
            "replace",
            "system",
            "fork",
            "forkpty",
            "posix_spawn",
            "posix_spawnp",
            "execv",
            "execve",
        ],
        _ACTIVITY,
    ),
    **_functions(sys.modules["_socket"], ["getaddrinfo", "gethostbyname", "gethostbyaddr", "socketpair"], _ACTIVITY),
    **_functions(sys.modules["_thread"], ["start_new_thread", "start_joinable_thread"], _ACTIVITY),
}

# C functions that read the clock only if they get no more arguments than so many.
_CLOCK_WITHOUT: dict[Any, int] = {time.localtime: 0, time.gmtime: 0, time.ctime: 0, time.asctime: 0, time.strftime: 1}
_CALLS.update(dict.fromkeys(_CLOCK_WITHOUT, _TIME))

# Python functions, by the address of their code, because the hash of a code object reads all of it.
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

_CALL_INSTRUCTIONS = frozenset(
    dis.opmap[name] for name in ("CALL", "CALL_FUNCTION", "CALL_METHOD", "PRECALL") if name in dis.opmap
)
_UNKNOWN_COUNT = 255

# Reads of the environment count only where the orchestration makes them: libraries read settings that change nothing.
_ENVIRONMENT = "take it from the input, or read it in an activity"
_READS_ENVIRONMENT = {id(function.__code__) for function in (os.getenv, type(os.environ).__getitem__)}
_ENVIRONMENT_MODULES = frozenset({"os", "_collections_abc", "collections.abc"})

# For a function of one of these modules, the call inside it says what to use in its place.
_OF_THEIR_KIND = frozenset({"datetime", "random", "secrets", "time"})

# The results of calls that these modules make do not reach the orchestration.
_LET_THROUGH = frozenset(
    {"linecache", "logging", "traceback", "tracemalloc", "warnings", "weakref"}
    # Libraries that write logs.
    | {"eliot", "logbook", "loguru", "structlog"}
    # Debuggers, and what they show.
    | {"bdb", "cmd", "code", "pdb", "IPython", "_pydev_bundle", "_pydevd_bundle", "debugpy", "ipdb", "pudb", "pydevd"}
    | {"coverage", "rich"}
)

# The functions that write to the log, in a module whose name says that it does.
_LOG_MODULE = re.compile(r"(?:^|[._])(?:log|logs|logging|loggers?)(?:$|[._])")
_LOG_METHODS = frozenset(
    {"critical", "debug", "error", "exception", "fatal", "info", "log", "msg", "success", "trace", "warn", "warning"}
)

_OWN_FILES = str(Path(__file__).parent.parent) + os.sep
_LIBRARY_FILES = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib")})
_INSTALLED_FILES = tuple({sysconfig.get_path(name) + os.sep for name in ("purelib", "platlib")})


def is_strict(strict: bool | None) -> bool:
    """Decide whether a runtime is strict: by its argument, else under pytest and in Python's development mode.

    Args:
        strict: The argument of the runtime; ``None`` if it was not given.

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
    """Watch the calls of this thread from now on; return the argument of ``end``."""
    before: ProfileFunction | None = sys.getprofile()
    if not _PYDANTIC and "pydantic.main" in sys.modules:
        _find_pydantic(sys.modules["pydantic.main"])
    sys.setprofile(_watch)
    return before


def end(before: ProfileFunction | None) -> None:
    """Stop watching."""
    sys.setprofile(before)


def _watch(frame: FrameType, event: str, called: Any) -> None:
    if event == "c_call":
        # Bound methods are equal only for the same object, so methods of other generators than the shared one differ.
        instead = _CALLS.get(called)
        if instead is not None and _argument_count(frame) <= _CLOCK_WITHOUT.get(called, _UNKNOWN_COUNT):
            _judge(frame, _name_of(called), instead)
    elif event == "call":
        code = id(frame.f_code)
        found = _CODES.get(code)
        if found is not None and not _is_seeded(frame):
            _judge(frame.f_back, _name_of_frame(frame), found[1])
        elif code in _READS_ENVIRONMENT:
            _judge_environment(frame)
        elif code in _PYDANTIC:
            _judge_factories(frame)


def _argument_count(frame: FrameType) -> int:
    """Return the number of arguments of the call that a frame is making, or a large number if its code does not tell."""
    instruction = frame.f_code.co_code[frame.f_lasti : frame.f_lasti + 2]
    if len(instruction) == 2 and instruction[0] in _CALL_INSTRUCTIONS:
        return instruction[1]
    return _UNKNOWN_COUNT


def _judge_environment(frame: FrameType) -> None:
    """Raise for a read of the environment that code of the application makes."""
    caller = frame.f_back
    while caller is not None and str(caller.f_globals.get("__name__", "")) in _ENVIRONMENT_MODULES:
        caller = caller.f_back
    if caller is None:
        return
    file = caller.f_code.co_filename
    if not _is_of_library(file) and not file.startswith(_INSTALLED_FILES):
        name = "os.getenv" if frame.f_code is os.getenv.__code__ else "os.environ"
        _judge(caller, name, _ENVIRONMENT)


# The functions of pydantic that make models, by the address of their code. An address stands for the code itself, which
# pydantic keeps.
_PYDANTIC: set[int] = set()


def _find_pydantic(module: ModuleType) -> None:
    model = module.BaseModel
    _PYDANTIC.update(id(getattr(each, "__func__", each).__code__) for each in (model.__init__, model.model_validate))


def _judge_factories(frame: FrameType) -> None:
    """Raise if a pydantic model that is made here fills a field by a C function that is not allowed."""
    local = frame.f_locals
    made, given = local.get("cls", local.get("self")), local.get("data", local.get("obj"))
    model = made if isinstance(made, type) else type(made)
    given = cast("dict[str, Any]", given) if isinstance(given, dict) else {}
    for name, field in getattr(model, "model_fields", {}).items():
        factory = field.default_factory
        instead = _CALLS.get(factory) if isinstance(factory, BuiltinFunctionType) else None
        if instead is not None and not any(each in given for each in (name, field.alias)):
            _judge(frame.f_back, _name_of(factory), instead)


def _is_seeded(frame: FrameType) -> bool:
    """Tell whether the call seeds a generator that belongs to the orchestration."""
    if frame.f_code is not _SEED:
        return False
    return frame.f_locals["self"] is not _SHARED and frame.f_locals.get("a") is not None


def _judge(frame: FrameType | None, name: str, instead: str) -> None:
    """Raise for a call that ``frame`` makes, unless a frame around it may make it."""
    user: FrameType | None = None
    each = frame
    while each is not None:
        file = each.f_code.co_filename
        module = str(each.f_globals.get("__name__", ""))
        if _may_call(each, module, file, is_inside=user is None):
            return
        if user is None:
            if _is_of_library(file):
                # Name the library function that the user's code called, not the calls inside it.
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
    """Watch again as soon as the exception reaches ``frame``: Python removes a profile function that raises.

    A trace function of that frame sees the exception before the code that catches it runs.
    """
    before, of_frame = sys.gettrace(), frame.f_trace

    def resume(*_event: object) -> None:
        frame.f_trace = of_frame
        sys.settrace(before)
        sys.setprofile(_watch)

    frame.f_trace = resume
    # Python calls the trace function of a frame only while the thread has one, too, which may trace nothing.
    sys.settrace(_trace_nothing)


def _trace_nothing(*_event: object) -> None: ...


def _may_call(frame: FrameType, module: str, file: str, *, is_inside: bool) -> bool:
    # The package's code may make the call if the user's code calls it, but not if it calls the user's code, as the
    # event loop does.
    if is_inside and file.startswith(_OWN_FILES):
        return True
    package = module.partition(".")[0]
    if frame.f_code.co_name in _LOG_METHODS and _LOG_MODULE.search(module):
        return True
    # Finalizers run when memory is freed, at any time and on any thread.
    return (
        package in _LET_THROUGH
        or package == "importlib"
        or file.startswith("<frozen importlib")
        or frame.f_code.co_name == "__del__"
        or _is_collector_callback(frame)
    )


def _is_collector_callback(frame: FrameType) -> bool:
    """Tell whether the frame is of a function that the garbage collector calls, at any time and on any thread."""
    return any(_code_of(callback) is frame.f_code for callback in gc.callbacks)


def _code_of(called: Any) -> Any:
    """Return the code of a function, a method or an object with ``__call__``; ``None`` for one without code."""
    return getattr(called, "__code__", None) or getattr(type(called).__call__, "__code__", None)


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
    # A constructor is named by its class.
    method = "" if code.co_name == "__init__" else f".{code.co_name}"
    # Python 3.13 has the classes of `pathlib` in a private submodule.
    public = type(owner).__module__.partition("._")[0]
    return f"{public}.{type(owner).__qualname__}{method}"
