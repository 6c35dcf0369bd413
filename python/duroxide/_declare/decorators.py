"""``activity`` and ``orchestration``, the decorators that declare a function.

The overload for a function whose first parameter takes anything comes first, because a type checker would also accept
such a function as one that takes a context. Coroutines, generators and plain functions have an overload each, because
mypy cannot tell them apart in a union.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Generator, Mapping
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

from duroxide._declare.declarations import Activity, OnCancellation, Orchestration, Retry
from duroxide._declare.definitions import check_registered_version
from duroxide._native import ActivityContext, OrchestrationContext

P = ParamSpec("P")
T = TypeVar("T")


class Unannotated:
    """A type without values: a parameter that accepts it accepts anything, so it does not ask for a context."""


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
    *,
    name: str | None = None,
    retry: Retry | None = None,
    tag: str | None = None,
    session: str | None = None,
    cancellation: OnCancellation | None = None,
) -> ActivityDecorator: ...
def activity(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    retry: Retry | None = None,
    tag: str | None = None,
    session: str | None = None,
    cancellation: OnCancellation | None = None,
) -> Any:
    """Declare a function as an activity: ``@activity``, or ``@activity(retry=...)`` with options.

    Args:
        function: A plain function or an ``async def``, whose parameters take values that can be written as JSON. A
            parameter that is annotated with ``ActivityContext`` gets the context; put it first for the type checker. If
            another annotation is ``Any``, mypy leaves such an activity untyped; ``duroxide.context()`` avoids that.
        name: Name under which it is registered; default ``None``, the name of the function.
        retry: Retry policy of a call, a ``RetryPolicy`` or a dictionary; default ``None``, no retries.
        tag: Tag that the worker of a call must serve; default ``None``, a worker for activities without a tag.
        session: Session whose worker must run a call; default ``None``, any worker.
        cancellation: What a cancelled wait for a call does about the activity. ``"abandon"``: the wait ends at once.
            ``"wait"``: the activity is asked to end, and the wait ends when it has ended. Only in an ``async def``
            orchestration; default ``None``, which is ``"abandon"``.

    Returns:
        The activity, or a decorator. The options apply to calls of the activity as a function; ``.options`` replaces
        them for one call. They do not apply where an orchestration schedules the activity by its name.

    Raises:
        RegistrationError: The function cannot be an activity.
        ConfigurationError: An option has an invalid value.
    """
    local_names = _local_names()

    def declare(function: Any) -> Any:
        declared: Activity[..., Any] = Activity(function, name, local_names)
        return declared.options(retry=retry, tag=tag, session=session, cancellation=cancellation)

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
        function: An ``async def``, a generator function or a plain function, whose parameters take values that can be
            written as JSON. A parameter that is annotated with ``OrchestrationContext`` gets the context; put it first
            for the type checker. If another annotation is ``Any``, as in ``Generator[Task[Any], Any, int]``, mypy
            leaves such an orchestration untyped; ``duroxide.context()`` avoids that. Type checkers refuse a plain
            function, because it most likely lacks a ``yield``.
        name: Name under which it is registered; default ``None``, the name of the function.
        version: Version under which it is registered; default ``None``, which is 1.0.0. A call or a start that names no
            version takes the newest one that the executing runtime has.

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
    """Return the local names of the declaring code: annotations of a nested function may name local classes."""
    frame = sys._getframe(2)
    return {} if frame.f_locals is frame.f_globals else frame.f_locals
