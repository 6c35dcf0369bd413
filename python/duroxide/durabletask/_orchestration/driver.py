"""Runs an orchestrator of durabletask as an orchestration of the runtime."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any

from duroxide.durabletask._orchestration.context import OrchestrationContext, next_execution
from duroxide.durabletask._orchestration.failures import recorded
from duroxide.durabletask._orchestration.tasks import Task
from duroxide.durabletask._payloads import from_recorded, to_recorded

if TYPE_CHECKING:
    from duroxide import OrchestrationContext as NativeContext
    from duroxide.durabletask._functions import Function
    from duroxide.durabletask.serialization import DataConverter

Steps = Generator[Any, Any, Any]


def orchestration_of(
    function: Function, converter: DataConverter, activities: Mapping[str, Function]
) -> Callable[[NativeContext, Any], Steps]:
    """Return the orchestration to register with the runtime.

    Args:
        function: The orchestrator: a generator function, an ``async def`` or a plain function.
        converter: Converts inputs and results.
        activities: The activities of the worker, by name.
    """

    def run(native: NativeContext, input: Any) -> Steps:
        context = OrchestrationContext(native, converter, activities)
        failure: Exception | None = None
        result: Any = None
        try:
            value = function.call(context, from_recorded(converter, input, function.input_type))
            if inspect.isgenerator(value) or inspect.iscoroutine(value):
                value = yield from _drive(native, value)
            result = to_recorded(converter, value)
        except Exception as error:  # noqa: BLE001  (an orchestrator may raise anything)
            failure = error
        # The engine would drop the work that was started last, and cancel the other.
        yield from _wait_for_forgotten(native, context)
        if failure is not None:
            raise recorded(failure) from None
        following = next_execution(context)
        if following is not None:
            yield native.continue_as_new(following[0], version=following[1])
        return result

    run.__name__ = function.name
    run.__qualname__ = getattr(function.call, "__qualname__", function.name)
    return run


def _drive(native: NativeContext, orchestrator: Any) -> Steps:
    """Step a generator or a coroutine to its end, and return its result."""
    value: Any = None
    error: BaseException | None = None
    while True:
        try:
            waited = orchestrator.send(value) if error is None else orchestrator.throw(error)
        except StopIteration as end:
            return end.value
        if not _is_task(waited):
            error = TypeError(
                f"an orchestrator yields tasks of its context, such as ctx.call_activity(...), and not {waited!r} of type "
                f"{type(waited).__name__}"
            )
            value = None
            continue
        task: Task[Any] = waited
        task._mark_yielded()
        try:
            yield from _wait_for(native, task)
        except BaseException as closing:
            # The runtime closes the orchestration between two turns.
            _close(orchestrator, closing)
            raise
        value, error = task._result, task._exception


def _is_task(value: Any) -> bool:
    return isinstance(value, Task)


def _wait_for(native: NativeContext, task: Task[Any]) -> Steps:
    while not task.is_complete:
        steps = task._steps()
        if not steps:
            task._end(
                None, RuntimeError("nothing completes this task: yield a task of the context, or complete it first")
            )
        else:
            yield native.wait(steps, return_when="ALL_COMPLETED" if task._needs_all_steps() else "FIRST_COMPLETED")


def _wait_for_forgotten(native: NativeContext, context: OrchestrationContext) -> Steps:
    for task in context._forgotten():
        yield from _wait_for(native, task)


def _close(orchestrator: Any, closing: BaseException) -> None:
    if isinstance(closing, GeneratorExit):
        orchestrator.close()
        return
    try:
        orchestrator.throw(closing)
    except BaseException as error:
        if error is not closing and not isinstance(error, StopIteration):
            raise
