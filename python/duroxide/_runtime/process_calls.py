"""Runs an activity as a call in another process.

The call carries text and names: where to find the function, the ids of the activity, and the recorded input. It returns
the result or the failure in the form in which it is recorded. The executor carries both, as for every call.
"""

from __future__ import annotations

import contextvars
import functools
import importlib
import inspect
import os
import sys
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from duroxide._declare.definitions import ActivityDefinition
from duroxide._runtime.current_context import running_activity
from duroxide._runtime.forked_child import end_if_forked
from duroxide._runtime.process_context import ProcessActivityContext
from duroxide._values.codec import convert, decode, encode
from duroxide._values.failures import FailureRecord, RecordedFailure, encode_failure
from duroxide.exceptions import RegistrationError

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


@dataclass(frozen=True)
class FunctionAddress:
    """The module and the name under which another process finds an activity."""

    module: str
    qualname: str
    name: str

    @classmethod
    def of(cls, definition: ActivityDefinition) -> FunctionAddress:
        """Return the address of an activity.

        Raises:
            RegistrationError: Another process cannot find the activity.
        """
        function = inspect.unwrap(definition.function)
        address = cls(getattr(function, "__module__", ""), getattr(function, "__qualname__", ""), definition.name)
        found = None
        if address.module in sys.modules:
            try:
                found = address.find()
            except AttributeError:
                found = None
        if found is None or inspect.unwrap(getattr(found, "fn", found)) is not function:
            raise RegistrationError(
                f"activity '{definition.name}' cannot be found from another process: {function!r} is not a function at "
                "the top level of a module; move it there, or name the activities of the pool, as in "
                "executor={'resize': pool}"
            )
        return address

    def find(self) -> Any:
        """Import the object at this address."""
        return functools.reduce(getattr, self.qualname.split("."), importlib.import_module(self.module))


@functools.lru_cache(maxsize=1024)
def _definition_at(address: FunctionAddress) -> ActivityDefinition:
    found = address.find()
    definition = getattr(found, "definition", None)  # of a function declared with ``@activity``
    return definition if isinstance(definition, ActivityDefinition) else ActivityDefinition.of(found, address.name)


@dataclass(frozen=True)
class ProcessEnd:
    """The end of an activity in another process: the recorded form of its result or failure, and its traces."""

    result: str | None
    failure: str | None
    traceback: str
    traces: list[tuple[str, str]]


def run_in_copy(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call ``function`` in a copy of the context of a pool's thread or process, which runs other activities later.

    The function sees the context variables that the pool's initializer has set. Its own changes stay in the copy.
    """
    return contextvars.copy_context().run(function, *arguments)


def run_in_process(address: FunctionAddress, context: ProcessActivityContext, text: str) -> ProcessEnd:
    """Run an activity; called in a process of the executor. An exception travels as text, not as an object."""
    running_activity.set(context)
    process = os.getpid()
    try:
        definition = _definition_at(address)
        result = definition.function(context, convert(decode(text), definition.input_type))
        end_if_forked(process)
        return ProcessEnd(encode(result), None, "", context._traces)
    except BaseException as error:  # noqa: BLE001  (every exception of an activity is its recorded failure)
        end_if_forked(process, error)
        return ProcessEnd(None, encode_failure(error), traceback.format_exc(), context._traces)


class FailedInProcess(RecordedFailure, Exception):  # noqa: N818  (named as the classes of duroxide.exceptions)
    """Carries a failure from another process to its record, with its traceback in that process."""

    def __init__(self, record: FailureRecord, where: str) -> None:
        super().__init__(record.message)
        self.error_type = record.error_type
        self.message = record.message
        self.details = record.details
        self.retryable = record.retryable
        self._record = record
        if where:
            self.__cause__ = Exception(f"in the process of the pool:\n{where}")
