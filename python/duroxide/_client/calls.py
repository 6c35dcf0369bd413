"""Makes a blocking and an asyncio form of a client operation from one body.

The body checks the arguments and describes a call of the native client, or a statement on the application's connection.
``blocking`` makes a method that runs the call and waits for its end. ``awaited`` makes a coroutine function from that
method, for a client of ``asyncio``.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

from duroxide._values.green_threads import call_blocking, patched_by
from duroxide.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

Owner = TypeVar("Owner")
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Answer_co = TypeVar("Answer_co", covariant=True)
Function = TypeVar("Function", bound="Callable[..., Any]")

_COMPLETE = "_complete"


class Call(Protocol[Answer_co]):
    """The description of a call."""

    def run(self) -> Answer_co:
        """Make the call, and wait for its answer."""
        ...


class Begun(Protocol[Answer_co]):
    """A call that runs for an event loop."""

    def __await__(self) -> Generator[Any, Any, Answer_co]:
        """Wait for its answer."""
        ...

    def abort(self) -> None:
        """Drop the call: its answer has no receiver any more."""
        ...


class Awaiting(Protocol):
    """An object with ``awaited`` methods."""

    def _begin(self, call: Any) -> Begun[Any]:
        """Begin a call that reports its end to the running loop."""
        ...


def completed_by(complete: Callable[[Any, Any], Generator[Call[Any], Any, Any]]) -> Callable[[Function], Function]:
    """Let further calls complete the answer of the call that a method describes. ``blocking`` comes above this.

    Args:
        complete: Takes the client and the answer, yields calls, gets the answer of each, and returns the complete
            answer. It gets ``None`` for a call that fails.
    """

    def decorate(describe: Function) -> Function:
        setattr(describe, _COMPLETE, complete)
        return describe

    return decorate


def blocking(
    describe: Callable[Concatenate[Owner, Parameters], Call[Result]],
) -> Callable[Concatenate[Owner, Parameters], Result]:
    """Decorate a method that describes a call: the decorated method makes the call and returns its answer."""
    complete = getattr(describe, _COMPLETE, None)

    @functools.wraps(describe)
    def method(self: Owner, /, *arguments: Parameters.args, **options: Parameters.kwargs) -> Result:
        call = describe(self, *arguments, **options)
        answer = call.run() if patched_by() is None else call_blocking(call.run)
        return answer if complete is None else _run_all(complete(self, answer))

    return _with_result_of(method, describe)


def _run_all(steps: Generator[Call[Any], Any, Any]) -> Any:
    try:
        call = next(steps)
        while True:
            try:
                answer = call.run()
            except ClientError:
                answer = None
            call = steps.send(answer)
    except StopIteration as end:
        return end.value


def awaited(
    method: Callable[Concatenate[Any, Parameters], Result],
) -> Callable[Concatenate[Any, Parameters], Coroutine[Any, Any, Result]]:
    """Make the awaited form of a ``blocking`` method."""
    describe: Callable[..., Call[Result]] = getattr(method, "__wrapped__")  # noqa: B009  (no Callable has it for a type checker)
    complete = getattr(describe, _COMPLETE, None)

    @functools.wraps(describe)
    async def operation(self: Awaiting, /, *arguments: Parameters.args, **options: Parameters.kwargs) -> Result:
        answer: Result = await _await(self, describe(self, *arguments, **options))
        return answer if complete is None else await _await_all(self, complete(self, answer))

    return _with_result_of(operation, describe)


async def _await(client: Awaiting, described: Call[Any]) -> Any:
    call = client._begin(described)
    try:
        return await call
    finally:
        # The task was cancelled, or its coroutine closed, so the answer has no receiver any more.
        call.abort()


async def _await_all(client: Awaiting, steps: Generator[Call[Any], Any, Any]) -> Any:
    try:
        call = next(steps)
        while True:
            try:
                answer = await _await(client, call)
            except ClientError:
                answer = None
            call = steps.send(answer)
    except StopIteration as end:
        return end.value


def _with_result_of(method: Function, describe: Callable[..., Any]) -> Function:
    """Annotate ``method`` with the type of the described call's answer."""
    signature = inspect.signature(describe)
    result = str(signature.return_annotation).removeprefix("Call[").removesuffix("]")
    method.__annotations__ = {**describe.__annotations__, "return": result}
    setattr(method, "__signature__", signature.replace(return_annotation=result))  # noqa: B010  (no Callable has it either)
    return method
