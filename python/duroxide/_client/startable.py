"""The types of an orchestration that can be called with 0 to 5 arguments, for the overloads of ``client.start``.

A tuple of types cannot replace them: mypy then requires the parameters that have defaults, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from duroxide._native import Task

T_co = TypeVar("T_co", covariant=True)
A_contra = TypeVar("A_contra", contravariant=True)
B_contra = TypeVar("B_contra", contravariant=True)
C_contra = TypeVar("C_contra", contravariant=True)
D_contra = TypeVar("D_contra", contravariant=True)
E_contra = TypeVar("E_contra", contravariant=True)


class Startable0(Protocol[T_co]):
    """An orchestration that can be called with no argument."""

    @property
    def version(self) -> str | None:
        """Version under which it is registered."""
        ...

    def __call__(self) -> Task[T_co]:
        """Describe a call."""
        ...


class Startable1(Protocol[A_contra, T_co]):
    """An orchestration that can be called with 1 argument."""

    @property
    def version(self) -> str | None:
        """Version under which it is registered."""
        ...

    def __call__(self, a: A_contra, /) -> Task[T_co]:
        """Describe a call."""
        ...


class Startable2(Protocol[A_contra, B_contra, T_co]):
    """An orchestration that can be called with 2 arguments."""

    @property
    def version(self) -> str | None:
        """Version under which it is registered."""
        ...

    def __call__(self, a: A_contra, b: B_contra, /) -> Task[T_co]:
        """Describe a call."""
        ...


class Startable3(Protocol[A_contra, B_contra, C_contra, T_co]):
    """An orchestration that can be called with 3 arguments."""

    @property
    def version(self) -> str | None:
        """Version under which it is registered."""
        ...

    def __call__(self, a: A_contra, b: B_contra, c: C_contra, /) -> Task[T_co]:
        """Describe a call."""
        ...


class Startable4(Protocol[A_contra, B_contra, C_contra, D_contra, T_co]):
    """An orchestration that can be called with 4 arguments."""

    @property
    def version(self) -> str | None:
        """Version under which it is registered."""
        ...

    def __call__(self, a: A_contra, b: B_contra, c: C_contra, d: D_contra, /) -> Task[T_co]:
        """Describe a call."""
        ...


class Startable5(Protocol[A_contra, B_contra, C_contra, D_contra, E_contra, T_co]):
    """An orchestration that can be called with 5 arguments."""

    @property
    def version(self) -> str | None:
        """Version under which it is registered."""
        ...

    def __call__(self, a: A_contra, b: B_contra, c: C_contra, d: D_contra, e: E_contra, /) -> Task[T_co]:
        """Describe a call."""
        ...
