"""Refuses the calls of asyncio that cannot be replayed, where they are made, and says what to do in their place."""

from __future__ import annotations

import asyncio
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from duroxide._native import Task
from duroxide._orchestration.loop_futures import OrchestrationFuture, OrchestrationTask
from duroxide.exceptions import NotAllowedInOrchestration

if TYPE_CHECKING:
    from collections.abc import Coroutine

# The futures of the loop, which have the same place in a set at each replay.
_OWN = (OrchestrationTask, OrchestrationFuture)

# What each refused method of a loop does.
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
    "is for the owner of the loop, which is the runtime": (
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
    """Put the refusing methods on the class of a loop."""
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


def check_future(is_wrapping: bool, given_to_wait: set[Any] | None) -> None:
    """Refuse a future that ``asyncio.wait`` or ``asyncio.wrap_future`` makes for what cannot be replayed.

    Args:
        is_wrapping: Whether ``asyncio.wrap_future`` makes it.
        given_to_wait: What ``asyncio.wait`` was given, if that makes it.

    Raises:
        NotAllowedInOrchestration: It cannot be replayed.
    """
    if is_wrapping:
        raise NotAllowedInOrchestration(
            "asyncio.wrap_future waits for a thread or a process, which cannot be replayed inside an orchestration; do it "
            "in an activity"
        )
    # asyncio.wait makes sets of them. A future that is not the loop's own has its address as its place in a set.
    if (
        given_to_wait is not None
        and len(given_to_wait) > 1
        and not all(isinstance(each, _OWN) for each in given_to_wait)
    ):
        raise NotAllowedInOrchestration(
            "asyncio.wait puts what it is given into sets, whose order differs at each replay for futures that are not "
            "this loop's own, such as those of asyncio.gather; give it tasks: asyncio.create_task(...) around a "
            "coroutine that awaits them"
        )


def coroutines_in_order(coroutine: Any, given: tuple[Any, ...]) -> list[Coroutine[Any, Any, Any]]:
    """Return the coroutines that ``as_completed`` was given, in their order.

    Args:
        coroutine: The coroutine for which asyncio makes a task now.
        given: All arguments of ``as_completed``; empty if their order is lost.

    Raises:
        NotAllowedInOrchestration: The order is lost, or an argument has a place in a set that a replay does not repeat.
    """
    known = (CoroutineType, Task, *_OWN)
    if not any(each is coroutine for each in given) or not all(isinstance(each, known) for each in given):
        coroutine.close()
        raise NotAllowedInOrchestration(
            "asyncio.as_completed begins what it is given in the order of a set, which differs at each replay; give it a "
            "list of coroutines, or of tasks, as in [asyncio.create_task(...) for ...]"
        )
    return [each for each in given if type(each) is CoroutineType]
