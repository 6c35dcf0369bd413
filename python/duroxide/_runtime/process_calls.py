"""An activity as a call in another process: what goes there, how it runs there, and what comes back.

What goes is text and names: where the function is found, the ids of the activity, and the input as it was recorded; back come
the result or the failure as they are recorded. The pool itself carries them, as it does for every call.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
import traceback
from dataclasses import dataclass
from typing import Any

from duroxide._declare.definitions import ActivityDefinition
from duroxide._runtime.current_context import running_activity
from duroxide._runtime.process_context import ProcessActivityContext
from duroxide._values.codec import convert, decode, encode
from duroxide._values.failures import FailureRecord, RecordedFailure, encode_failure
from duroxide.exceptions import RegistrationError


@dataclass(frozen=True)
class FunctionAddress:
    """Where another process finds an activity."""

    module: str
    qualname: str
    name: str

    @classmethod
    def of(cls, definition: ActivityDefinition) -> FunctionAddress:
        """Say where an activity is found.

        Raises:
            RegistrationError: It is not found there from another process.
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
                f"activity '{definition.name}' cannot be found from another process: {function!r} is no function at the top "
                "level of a module; move it there, or name the activities of the pool, as in executor={'resize': pool}"
            )
        return address

    def find(self) -> Any:
        """Import what stands there."""
        return functools.reduce(getattr, self.qualname.split("."), importlib.import_module(self.module))


@functools.lru_cache(maxsize=1024)
def _definition_at(address: FunctionAddress) -> ActivityDefinition:
    found = address.find()
    definition = getattr(found, "definition", None)  # of what ``@activity`` made
    return definition if isinstance(definition, ActivityDefinition) else ActivityDefinition.of(found, address.name)


@dataclass(frozen=True)
class ProcessEnd:
    """How an activity ended in another process: a result or a failure, as it is recorded, and what is to be logged."""

    result: str | None
    failure: str | None
    traceback: str
    traces: list[tuple[str, str]]


def run_in_process(address: FunctionAddress, context: ProcessActivityContext, text: str) -> ProcessEnd:
    """Run an activity; called in the process of a pool. Nothing that it raises travels as an object."""
    running = running_activity.set(context)
    try:
        definition = _definition_at(address)
        result = definition.function(context, convert(decode(text), definition.input_type))
        return ProcessEnd(encode(result), None, "", context._traces)
    except BaseException as error:  # noqa: BLE001  (whatever ends an activity is its recorded failure)
        return ProcessEnd(None, encode_failure(error), traceback.format_exc(), context._traces)
    finally:
        running_activity.reset(running)


class FailedInProcess(RecordedFailure, Exception):  # noqa: N818  (named as those of duroxide.exceptions are)
    """Carries a failure from another process to its record, with the traceback that it had there."""

    def __init__(self, record: FailureRecord, where: str) -> None:
        super().__init__(record.message)
        self.error_type = record.error_type
        self.message = record.message
        self.details = record.details
        self.retryable = record.retryable
        if where:
            self.__cause__ = Exception(f"in the process of the pool:\n{where}")
