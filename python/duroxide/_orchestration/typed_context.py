"""The ``*_typed`` names of the orchestration context, made from the plain ones by one table.

================================================== ============================================
name                                               differs from the plain one in
================================================== ============================================
``schedule_activity…_typed``                       a ``str`` input is recorded as it is
``schedule_sub_orchestration…_typed``              a ``str`` input is recorded as it is
``start_orchestration…_typed``                     a ``str`` input is recorded as it is
``continue_as_new_typed``                          a ``str`` input is recorded as it is
``dequeue_event_typed``                            the message is decoded from JSON
``get_kv_value_from_instance_typed``               the value is decoded from JSON
``set_kv_value_typed``, ``get_kv_value_typed``     the value is JSON
``all_typed``                                      plain values; the first failure is raised
``wait_for_event_typed``, ``race_typed``           nothing
================================================== ============================================
"""

from __future__ import annotations

import functools
from typing import Any

from duroxide._native import OrchestrationContext, RawText
from duroxide._values.codec import decode, encode

# Name of the plain method, and the position of the input among its arguments.
_RAW_INPUT = {
    "schedule_activity": 1,
    "schedule_activity_on_session": 1,
    "schedule_activity_with_retry": 1,
    "schedule_activity_with_retry_on_session": 1,
    "schedule_sub_orchestration": 1,
    "schedule_sub_orchestration_with_id": 2,
    "schedule_sub_orchestration_versioned": 2,
    "schedule_sub_orchestration_versioned_with_id": 3,
    "start_orchestration": 2,
    "start_orchestration_versioned": 3,
    "continue_as_new": 0,
}

# Names of plain methods; the typed ones decode the value from JSON.
_DECODED = ("dequeue_event", "get_kv_value_from_instance")

# Other names of the same method.
_SAME = {
    "wait_for_event_typed": "wait_for_event",
    "schedule_wait": "wait_for_event",
    "schedule_wait_typed": "wait_for_event",
    "race_typed": "race",
    "all_typed": "gather",
    "schedule_orchestration": "start_orchestration",
    "schedule_orchestration_versioned": "start_orchestration_versioned",
}


def _raw(value: object) -> object:
    return RawText(value) if type(value) is str else value


def _with_raw_input(name: str, position: int) -> Any:
    plain: Any = getattr(OrchestrationContext, name)

    @functools.wraps(plain)
    def typed(self: OrchestrationContext, *arguments: Any, **options: Any) -> Any:
        if len(arguments) > position:
            arguments = (*arguments[:position], _raw(arguments[position]), *arguments[position + 1 :])
        if "input" in options:
            options["input"] = _raw(options["input"])
        return plain(self, *arguments, **options)

    return typed


def _decoded(name: str) -> Any:
    plain: Any = getattr(OrchestrationContext, name)

    @functools.wraps(plain)
    def typed(self: OrchestrationContext, *arguments: Any, result_type: Any = object) -> Any:
        return plain(self, *arguments, result_type=result_type)

    return typed


def _set_kv_value_typed(self: OrchestrationContext, key: str, value: object) -> None:
    self.set_kv_value(key, encode(value))


def _get_kv_value_typed(self: OrchestrationContext, key: str) -> Any:
    text = self.get_kv_value(key)
    return None if text is None else decode(text)


def _start_orchestration_versioned(
    self: OrchestrationContext, name: str, version: str, instance_id: str, input: object = None
) -> Any:
    return self.start_orchestration(name, instance_id, input, version=version)


def _continue_as_new_versioned(self: OrchestrationContext, input: object, version: str) -> Any:
    return self.continue_as_new(input, version=version)


def install() -> None:
    """Put the names of the table on the context's class; called once, when the package is imported."""
    context: Any = OrchestrationContext
    context.start_orchestration_versioned = _start_orchestration_versioned
    context.continue_as_new_versioned = _continue_as_new_versioned
    for name, position in _RAW_INPUT.items():
        setattr(context, f"{name}_typed", _with_raw_input(name, position))
    for name in _DECODED:
        setattr(context, f"{name}_typed", _decoded(name))
    for name, plain in _SAME.items():
        setattr(context, name, getattr(context, plain))
    context.set_kv_value_typed = _set_kv_value_typed
    context.get_kv_value_typed = _get_kv_value_typed
