"""What ``activity(...)`` and ``orchestration(...)`` return when they get options, for the type checkers.

A function whose first parameter takes anything would pass for one that asks for a context, so it comes first. Coroutines,
generators and plain functions have an overload each: mypy does not tell them apart in a union.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

if TYPE_CHECKING:
    from duroxide._native import ActivityContext, OrchestrationContext
    from duroxide.declarations import Activity, Orchestration

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
