"""The context of the calling code, for functions that do not take it as a parameter."""

from __future__ import annotations

import contextvars
from types import UnionType
from typing import Any, NoReturn, TypeVar, overload

from duroxide._native import ActivityContext, OrchestrationContext, Task, current_context
from duroxide._runtime.process_context import ProcessActivityContext
from duroxide.exceptions import NotInOrchestration

Context = TypeVar("Context", OrchestrationContext, ActivityContext)
Message = TypeVar("Message")

running_activity: contextvars.ContextVar[ActivityContext | ProcessActivityContext] = contextvars.ContextVar(
    "duroxide_activity"
)
"""The context of the activity that this thread or asyncio task runs. The code that calls an activity sets it."""


@overload
def context(kind: type[Context], /) -> Context: ...
@overload
def context() -> Any: ...
def context(kind: Any = None, /) -> Any:
    """Return the context of the orchestration or activity that calls.

    Args:
        kind: ``OrchestrationContext`` or ``ActivityContext``, the class of the result for the type checker; a context
            of the other class is refused. Default ``None``, either of them, untyped.

    Returns:
        The context. An activity can read its context in its own thread or asyncio task, and in the functions that it
        runs with ``asyncio.to_thread``.

    Raises:
        NotInOrchestration: The caller has no context, or one of the other class.
    """
    found: object = current_context()
    if found is None:
        found = running_activity.get(None)
    if found is None:
        raise NotInOrchestration(
            "there is no context here: duroxide.context() works in an orchestration and in an activity while they run"
        )
    is_activity = kind is ActivityContext and isinstance(found, ProcessActivityContext)
    if kind is not None and not is_activity and not isinstance(found, kind):
        raise NotInOrchestration(
            f"the code that is calling has an {type(found).__name__}, and an {kind.__name__} was asked for"
        )
    return found


@overload
def wait_for_event(name: str, type: type[Message]) -> Task[Message]: ...
@overload
def wait_for_event(name: str, type: None = None) -> Task[Any]: ...
@overload
def wait_for_event(name: str, type: UnionType) -> Task[Any]: ...
def wait_for_event(name: str, type: Any = None) -> Any:
    """Wait, in an orchestration, for an event that ``handle.raise_event`` raises.

    Args:
        name: Name of the event.
        type: Type to convert its data to; default ``None``, the JSON value as it is.

    Returns:
        A task with the data, to be awaited.

    Raises:
        NotInOrchestration: The caller is not an orchestration.
        CodecError: The data does not fit ``type``; raised where the task is awaited.
    """
    return _orchestration("wait_for_event").wait_for_event(name, result_type=type)


@overload
def dequeue_event(queue: str, type: type[Message]) -> Task[Message]: ...
@overload
def dequeue_event(queue: str, type: None = None) -> Task[Any]: ...
@overload
def dequeue_event(queue: str, type: UnionType) -> Task[Any]: ...
def dequeue_event(queue: str, type: Any = None) -> Any:
    """Take, in an orchestration, the oldest message of one of its queues; wait for a message if the queue is empty.

    It reads the messages of ``handle.enqueue``, which are JSON; ``ctx.dequeue_event`` returns text as it was sent.

    Args:
        queue: Name of the queue.
        type: Type to convert the message to; default ``None``, the JSON value as it is. A message that is not JSON is a
            ``str``.

    Returns:
        A task with the message, to be awaited.

    Raises:
        NotInOrchestration: The caller is not an orchestration.
        CodecError: The message does not fit ``type``; raised where the task is awaited.
    """
    return _orchestration("dequeue_event").dequeue_event(queue, result_type=object if type is None else type)


def continue_as_new(input: object = None, *, version: str | None = None) -> Task[NoReturn]:
    """End this execution of an orchestration and start it again with a new input and an empty history.

    ``fulfil.continue_as_new(...)`` does the same with the arguments of a declared orchestration.

    Args:
        input: Input of the next execution, as one value; default ``None``.
        version: Version of the next execution; default ``None``, the newest.

    Returns:
        A task that never returns, to be awaited.

    Raises:
        NotInOrchestration: The caller is not an orchestration.
        CodecError: The input cannot be written as JSON.
    """
    return _orchestration("continue_as_new").continue_as_new(input, version=version)


def _orchestration(function: str) -> OrchestrationContext:
    found = current_context()
    if found is None:
        raise NotInOrchestration(f"{function}() works in an orchestration, and no orchestration is calling")
    return found
