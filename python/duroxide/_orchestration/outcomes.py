"""The results of an orchestration's combinators."""

from __future__ import annotations

from typing import Any, TypedDict

from duroxide.exceptions import DuroxideError


class Outcome(dict[str, Any]):
    """How one task of ``ctx.all`` ended: ``{"ok": value}``, or ``{"err": failure}`` with the exception object.

    It is a dict, and its JSON is an object in which a failure is its text.
    """

    def unwrap(self) -> Any:
        """Return the value of the task.

        Raises:
            TaskFailed: The task failed.
        """
        if "err" not in self:
            return self["ok"]
        failure = self["err"]
        if isinstance(failure, BaseException):
            raise failure
        # An outcome that was read from JSON has only the text.
        raise DuroxideError(str(failure))


class Winner(TypedDict):
    """The first task of ``ctx.race`` to finish.

    Attributes:
        index: Its position among the arguments, counted from 0.
        value: The value that it returned.
    """

    index: int
    value: Any


def ok(value: Any) -> Outcome:
    """Build the outcome of a task that returned ``value``."""
    return Outcome(ok=value)


def err(failure: BaseException) -> Outcome:
    """Build the outcome of a task that failed."""
    return Outcome(err=failure)
