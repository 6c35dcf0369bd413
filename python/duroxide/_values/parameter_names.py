"""Other names of the parameters of a function: the earlier SDK had two names for some of them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])


def also_named(**other_names: str) -> Callable[[AnyFunction], AnyFunction]:
    """Let callers use other names for parameters of the decorated function.

    The signature shows the parameter's own name, and binds arguments of either name.

    Args:
        other_names: The own name of a parameter, by its other name.
    """

    def decorate(function: Any) -> Any:
        title = function.__name__

        @functools.wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            return function(*arguments, **_renamed(options, other_names, title))

        signature = inspect.signature(function)
        call.__signature__ = _Signature(  # type: ignore[attr-defined]
            list(signature.parameters.values()),
            return_annotation=signature.return_annotation,
            other_names=other_names,
        )
        return call

    return decorate


def _renamed(options: dict[str, Any], other_names: dict[str, str], title: str) -> dict[str, Any]:
    for other, own in other_names.items():
        if other in options:
            if own in options:
                raise TypeError(f"{title}() got '{own}' twice, the second time as '{other}'; keep one")
            options[own] = options.pop(other)
    return options


class _Signature(inspect.Signature):
    """A signature that binds the other names too."""

    __slots__ = ("_other_names",)

    def __init__(self, parameters: Any = None, *, other_names: dict[str, str], **rest: Any) -> None:
        super().__init__(parameters, **rest)
        self._other_names = other_names

    def replace(self, **changes: Any) -> _Signature:
        changed = inspect.Signature(list(self.parameters.values()), return_annotation=self.return_annotation).replace(
            **changes
        )
        return _Signature(
            list(changed.parameters.values()),
            return_annotation=changed.return_annotation,
            other_names=self._other_names,
        )

    def bind(self, /, *arguments: Any, **options: Any) -> inspect.BoundArguments:
        return super().bind(*arguments, **_renamed(options, self._other_names, "a call"))

    def bind_partial(self, /, *arguments: Any, **options: Any) -> inspect.BoundArguments:
        return super().bind_partial(*arguments, **_renamed(options, self._other_names, "a call"))
