"""``activity`` and ``orchestration``, which declare a function where it is written.

For the type checkers, a function whose first parameter takes anything would pass for one that asks for a context, so it
comes first. Coroutines, generators and plain functions have an overload each: mypy does not tell them apart in a union.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Generator, Mapping
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

from duroxide._declare.declarations import Activity, Orchestration, Retry
from duroxide._declare.definitions import check_registered_version
from duroxide._native import ActivityContext, OrchestrationContext

P = ParamSpec("P")
T = TypeVar("T")


class Unannotated:
    """Nobody's type: a parameter that takes it takes anything, and does not ask for a context."""


class ActivityDecorator(Protocol):
    """Makes an activity of a function."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[Unannotated, P], Coroutine[Any, Any, T]], /
    ) -> Activity[Concatenate[Any, P], T]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Unannotated, P], T], /) -> Activity[Concatenate[Any, P], T]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[ActivityContext, P], Coroutine[Any, Any, T]], /
    ) -> Activity[P, T]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[ActivityContext, P], T], /) -> Activity[P, T]: ...
    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, T]], /) -> Activity[P, T]: ...
    @overload
    def __call__(self, function: Callable[P, T], /) -> Activity[P, T]: ...


class OrchestrationDecorator(Protocol):
    """Makes an orchestration of a function."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[Unannotated, P], Coroutine[Any, Any, T]], /
    ) -> Orchestration[Concatenate[Any, P], T]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Unannotated, P], Generator[Any, Any, T]], /
    ) -> Orchestration[Concatenate[Any, P], T]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[OrchestrationContext, P], Coroutine[Any, Any, T]], /
    ) -> Orchestration[P, T]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[OrchestrationContext, P], Generator[Any, Any, T]], /
    ) -> Orchestration[P, T]: ...
    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, T]], /) -> Orchestration[P, T]: ...
    @overload
    def __call__(self, function: Callable[P, Generator[Any, Any, T]], /) -> Orchestration[P, T]: ...


@overload
def activity(
    function: Callable[Concatenate[Unannotated, P], Coroutine[Any, Any, T]], /
) -> Activity[Concatenate[Any, P], T]: ...
@overload
def activity(function: Callable[Concatenate[Unannotated, P], T], /) -> Activity[Concatenate[Any, P], T]: ...
@overload
def activity(function: Callable[Concatenate[ActivityContext, P], Coroutine[Any, Any, T]], /) -> Activity[P, T]: ...
@overload
def activity(function: Callable[Concatenate[ActivityContext, P], T], /) -> Activity[P, T]: ...
@overload
def activity(function: Callable[P, Coroutine[Any, Any, T]], /) -> Activity[P, T]: ...
@overload
def activity(function: Callable[P, T], /) -> Activity[P, T]: ...
@overload
def activity(
    *, name: str | None = None, retry: Retry | None = None, tag: str | None = None, session: str | None = None
) -> ActivityDecorator: ...
def activity(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    retry: Retry | None = None,
    tag: str | None = None,
    session: str | None = None,
) -> Any:
    """Declare a function as an activity: ``@activity``, or ``@activity(retry=...)`` with options.

    Args:
        function: A plain function or an ``async def`` of any parameters, which take what can be written as JSON. One
            that is annotated with ``ActivityContext`` gets the context; put it first for the type checker. With ``Any``
            among its annotations too, mypy leaves the activity untyped; ``duroxide.context()`` does without.
        name: Name under which it is registered; default ``None``, the function's own.
        retry: How a call is tried again, a ``RetryPolicy`` or a dictionary; default ``None``, it is not.
        tag: Tag that the worker of a call must serve; default ``None``, a worker for activities without one.
        session: Session whose worker must run a call; default ``None``, any worker.

    Returns:
        The activity, or a decorator. The options hold for calls of the activity as a function, each of them for one
        call with ``.options``; where the activity is scheduled by its name, that call says everything.

    Raises:
        RegistrationError: The function cannot be an activity.
        ConfigurationError: An option has a value that makes no sense.
    """
    local_names = _local_names()

    def declare(function: Any) -> Any:
        declared: Activity[..., Any] = Activity(function, name, local_names)
        return declared.options(retry=retry, tag=tag, session=session)

    return declare if function is None else declare(function)


@overload
def orchestration(
    function: Callable[Concatenate[Unannotated, P], Coroutine[Any, Any, T]], /
) -> Orchestration[Concatenate[Any, P], T]: ...
@overload
def orchestration(
    function: Callable[Concatenate[Unannotated, P], Generator[Any, Any, T]], /
) -> Orchestration[Concatenate[Any, P], T]: ...
@overload
def orchestration(
    function: Callable[Concatenate[OrchestrationContext, P], Coroutine[Any, Any, T]], /
) -> Orchestration[P, T]: ...
@overload
def orchestration(
    function: Callable[Concatenate[OrchestrationContext, P], Generator[Any, Any, T]], /
) -> Orchestration[P, T]: ...
@overload
def orchestration(function: Callable[P, Coroutine[Any, Any, T]], /) -> Orchestration[P, T]: ...
@overload
def orchestration(function: Callable[P, Generator[Any, Any, T]], /) -> Orchestration[P, T]: ...
@overload
def orchestration(*, name: str | None = None, version: str | None = None) -> OrchestrationDecorator: ...
def orchestration(function: Any = None, /, *, name: str | None = None, version: str | None = None) -> Any:
    """Declare a function as an orchestration: ``@orchestration``, or ``@orchestration(version="1.1.0")``.

    Args:
        function: An ``async def``, a generator function or a plain function of any parameters, which take what can be
            written as JSON. One that is annotated with ``OrchestrationContext`` gets the context; put it first for the
            type checker. With ``Any`` among its annotations too, as in ``Generator[Task[Any], Any, int]``, mypy leaves
            the orchestration untyped; ``duroxide.context()`` does without. The type checkers refuse a plain function,
            in which a ``yield`` was forgotten most likely.
        name: Name under which it is registered; default ``None``, the function's own.
        version: Version as which it is registered; default ``None``, which is 1.0.0. A call or a start takes the newest
            version that the executing runtime has, unless it names one.

    Returns:
        The orchestration, or a decorator.

    Raises:
        RegistrationError: The function cannot be an orchestration, or the version is malformed.
    """
    local_names = _local_names()

    def declare(function: Any) -> Any:
        declared: Orchestration[..., Any] = Orchestration(function, name, local_names)
        check_registered_version(declared.name, version)
        declared.version = version
        return declared

    return declare if function is None else declare(function)


def _local_names() -> Mapping[str, Any]:
    """The local names of who declares: annotations of a function in a function may name its local classes."""
    frame = sys._getframe(2)
    return {} if frame.f_locals is frame.f_globals else frame.f_locals
