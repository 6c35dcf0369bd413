"""How an operation of a client is written once and has two forms.

Its method checks the arguments and describes a call: of the native client, or on a connection of the application. ``blocking`` turns it into the method that makes
the call and waits for its end; ``awaited`` makes a coroutine function of that one, for a client of ``asyncio``.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

Owner = TypeVar("Owner")
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Answer_co = TypeVar("Answer_co", covariant=True)
Function = TypeVar("Function", bound="Callable[..., Any]")


class Call(Protocol[Answer_co]):
    """A call that is described and not made yet."""

    def run(self) -> Answer_co:
        """Make it, and wait for its answer."""
        ...


class Begun(Protocol[Answer_co]):
    """A call that was begun on an event loop."""

    def __await__(self) -> Generator[Any, Any, Answer_co]:
        """Wait for its answer."""
        ...

    def abort(self) -> None:
        """Let go of it: nobody waits any more."""
        ...


class Awaiting(Protocol):
    """What an object with ``awaited`` methods has."""

    def _begin(self, call: Any) -> Begun[Any]:
        """Begin a call whose end is told to the running loop."""
        ...


def blocking(
    describe: Callable[Concatenate[Owner, Parameters], Call[Result]],
) -> Callable[Concatenate[Owner, Parameters], Result]:
    """Decorate a method that describes a call: it makes the call, and returns what that answers."""

    @functools.wraps(describe)
    def method(self: Owner, /, *arguments: Parameters.args, **options: Parameters.kwargs) -> Result:
        return describe(self, *arguments, **options).run()

    return _with_result_of(method, describe)


def awaited(
    method: Callable[Concatenate[Any, Parameters], Result],
) -> Callable[Concatenate[Any, Parameters], Coroutine[Any, Any, Result]]:
    """Give a ``blocking`` method the form that is awaited."""
    describe: Callable[..., Call[Result]] = getattr(method, "__wrapped__")  # noqa: B009  (no Callable has it for a type checker)

    @functools.wraps(describe)
    async def operation(self: Awaiting, /, *arguments: Parameters.args, **options: Parameters.kwargs) -> Result:
        call: Begun[Result] = self._begin(describe(self, *arguments, **options))
        try:
            return await call
        finally:
            # The task was cancelled, or its coroutine closed: nobody wants the answer any more.
            call.abort()

    return _with_result_of(operation, describe)


def _with_result_of(method: Function, describe: Callable[..., Any]) -> Function:
    """Let ``method`` say that it returns what the described call answers."""
    signature = inspect.signature(describe)
    result = str(signature.return_annotation).removeprefix("Call[").removesuffix("]")
    method.__annotations__ = {**describe.__annotations__, "return": result}
    setattr(method, "__signature__", signature.replace(return_annotation=result))  # noqa: B010  (no Callable has it either)
    return method
