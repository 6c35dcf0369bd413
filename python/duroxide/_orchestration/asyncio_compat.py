"""What of asyncio cannot be replayed, and is refused where it is called, with the way out."""

from __future__ import annotations

import asyncio
import asyncio.tasks
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from duroxide._native import Task
from duroxide._orchestration.loop_futures import OrchestrationFuture, OrchestrationTask
from duroxide.exceptions import NotAllowedInOrchestration

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import FrameType

# What makes futures for what asyncio.wait() and asyncio.wrap_future() are given.
_WAIT = getattr(getattr(asyncio.tasks, "_wait", None), "__code__", None)
_WRAP_FUTURE = asyncio.wrap_future.__code__

# By the method of a loop that begins it.
_REFUSED = {
    "runs a thread or an executor": ("run_in_executor", "set_default_executor", "shutdown_default_executor"),
    "is called from another thread": ("call_soon_threadsafe",),
    "opens a connection": (
        "create_connection",
        "create_server",
        "create_unix_connection",
        "create_unix_server",
        "create_datagram_endpoint",
        "connect_accepted_socket",
        "start_tls",
        "sendfile",
    ),
    "resolves a name": ("getaddrinfo", "getnameinfo"),
    "uses a socket": (
        "sock_accept",
        "sock_connect",
        "sock_recv",
        "sock_recv_into",
        "sock_recvfrom",
        "sock_recvfrom_into",
        "sock_sendall",
        "sock_sendfile",
        "sock_sendto",
    ),
    "waits for a file descriptor": (
        "add_reader",
        "remove_reader",
        "add_writer",
        "remove_writer",
        "connect_read_pipe",
        "connect_write_pipe",
    ),
    "starts a process": ("subprocess_exec", "subprocess_shell"),
    "handles a signal": ("add_signal_handler", "remove_signal_handler"),
    "belongs to whoever runs the loop, which is the runtime": (
        "run_forever",
        "run_until_complete",
        "stop",
        "close",
        "shutdown_asyncgens",
        "set_task_factory",
        "set_exception_handler",
        "set_debug",
    ),
}


def refuse_methods(loop_class: Any) -> None:
    """Give a loop methods that refuse."""
    for what, names in _REFUSED.items():
        for name in names:
            setattr(loop_class, name, _refusal(loop_class, name, what))


def _refusal(loop_class: Any, name: str, what: str) -> Any:
    def refuse(self: asyncio.AbstractEventLoop, *_arguments: Any, **_options: Any) -> Any:
        raise NotAllowedInOrchestration(
            f"the loop's {name}() {what}, which cannot be replayed inside an orchestration; do it in an activity"
        )

    refuse.__name__ = name
    refuse.__qualname__ = f"{loop_class.__name__}.{name}"
    refuse.__doc__ = f"Refused: it {what}."
    return refuse


def check_future_for(caller: FrameType) -> None:
    """Refuse a future that ``asyncio.wait`` or ``asyncio.wrap_future`` makes for what cannot be replayed."""
    if caller.f_code is _WAIT:
        # A set: the place in it of what is not this loop's own is its address.
        given: set[Any] = caller.f_locals["fs"]
        if len(given) > 1 and not all(isinstance(each, OrchestrationTask | OrchestrationFuture) for each in given):
            raise NotAllowedInOrchestration(
                "asyncio.wait puts what it is given into sets, whose order differs at each replay for futures that are not "
                "this loop's own, such as those of asyncio.gather; give it tasks: asyncio.create_task(...) around a "
                "coroutine that awaits them"
            )
    elif caller.f_code is _WRAP_FUTURE:
        raise NotAllowedInOrchestration(
            "asyncio.wrap_future waits for a thread or a process, which cannot be replayed inside an orchestration; do it "
            "in an activity"
        )


def calling_as_completed(frame: FrameType | None) -> FrameType | None:
    """Find the frame of ``asyncio.as_completed``, if that is what creates a task."""
    if frame is None or frame.f_globals.get("__name__") != "asyncio.tasks":
        return None
    if "ensure_future" not in frame.f_code.co_name:
        return None
    for _ in range(3):
        frame = frame.f_back
        if frame is None or frame.f_globals.get("__name__") != "asyncio.tasks":
            return None
        if frame.f_code.co_name == "as_completed" or "todo" in frame.f_code.co_varnames:
            return frame
    return None


def coroutines_in_order(coroutine: Any, frame: FrameType) -> list[Coroutine[Any, Any, Any]]:
    """Give the coroutines of ``as_completed`` in the order of the list that holds ``coroutine`` and the others."""
    given: Any = frame.f_locals.get("fs", frame.f_locals.get("aws"))
    ordered: list[Any] = list(given) if type(given) in (list, tuple) else []
    known = (CoroutineType, Task, OrchestrationTask, OrchestrationFuture)
    if not any(each is coroutine for each in ordered) or not all(isinstance(each, known) for each in ordered):
        coroutine.close()
        raise NotAllowedInOrchestration(
            "asyncio.as_completed begins what it is given in the order of a set, which differs at each replay; give it a "
            "list of coroutines, or of tasks, as in [asyncio.create_task(...) for ...]"
        )
    return [each for each in ordered if type(each) is CoroutineType]
