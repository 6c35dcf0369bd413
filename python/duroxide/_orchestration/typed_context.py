"""The ``*_typed`` names of the orchestration context, and other names of the same methods.

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

Names, positions and defaults of the parameters are those of the earlier SDK, which differ from name to name.
"""

from __future__ import annotations

from typing import Any

from duroxide._native import OrchestrationContext, RawText
from duroxide._values.codec import decode, encode
from duroxide._values.parameter_names import also_named

OTHER_NAMES = {
    "wait_for_event_typed": "wait_for_event",
    "schedule_wait": "wait_for_event",
    "schedule_wait_typed": "wait_for_event",
    "race_typed": "race",
    "schedule_orchestration": "start_orchestration",
    "schedule_orchestration_versioned": "start_orchestration_versioned",
}
"""Other names of methods, and the methods."""


def _raw(value: object) -> object:
    return RawText(value) if type(value) is str else value


def schedule_activity_typed(
    self: OrchestrationContext,
    name: Any,
    input: object = None,
    result_type: Any = None,
    *,
    session_id: str | None = None,
    tag: str | None = None,
    retry: Any = None,
) -> Any:
    """As ``schedule_activity``; a ``str`` input is sent as it is."""
    return self.schedule_activity(
        name, _raw(input), session_id=session_id, tag=tag, retry=retry, result_type=result_type
    )


def schedule_activity_on_session_typed(
    self: OrchestrationContext,
    name: Any,
    input: object = None,
    session_id: str | None = None,
    *,
    tag: str | None = None,
    result_type: Any = None,
) -> Any:
    """As ``schedule_activity_on_session``; a ``str`` input is sent as it is."""
    return self.schedule_activity(name, _raw(input), session_id=session_id, tag=tag, result_type=result_type)


def schedule_activity_with_retry_typed(
    self: OrchestrationContext,
    name: Any,
    input: object = None,
    retry: Any = None,
    *,
    session_id: str | None = None,
    tag: str | None = None,
    result_type: Any = None,
) -> Any:
    """As ``schedule_activity_with_retry``; a ``str`` input is sent as it is."""
    return self.schedule_activity_with_retry(
        name, _raw(input), retry, session_id=session_id, tag=tag, result_type=result_type
    )


def schedule_activity_with_retry_on_session_typed(
    self: OrchestrationContext,
    name: Any,
    input: object = None,
    retry: Any = None,
    session_id: str | None = None,
    *,
    tag: str | None = None,
    result_type: Any = None,
) -> Any:
    """As ``schedule_activity_with_retry_on_session``; a ``str`` input is sent as it is."""
    return self.schedule_activity_with_retry(
        name, _raw(input), retry, session_id=session_id, tag=tag, result_type=result_type
    )


def schedule_sub_orchestration_typed(
    self: OrchestrationContext,
    name: Any,
    input: object = None,
    result_type: Any = None,
    *,
    instance_id: str | None = None,
    version: str | None = None,
) -> Any:
    """As ``schedule_sub_orchestration``; a ``str`` input is sent as it is."""
    return self.schedule_sub_orchestration(
        name, _raw(input), instance_id=instance_id, version=version, result_type=result_type
    )


def schedule_sub_orchestration_with_id_typed(
    self: OrchestrationContext, name: Any, instance_id: str, input: object = None, *, result_type: Any = None
) -> Any:
    """As ``schedule_sub_orchestration_with_id``; a ``str`` input is sent as it is."""
    return self.schedule_sub_orchestration(name, _raw(input), instance_id=instance_id, result_type=result_type)


def schedule_sub_orchestration_versioned_typed(
    self: OrchestrationContext,
    name: Any,
    version: str | None = None,
    input: object = None,
    *,
    result_type: Any = None,
) -> Any:
    """As ``schedule_sub_orchestration_versioned``; a ``str`` input is sent as it is."""
    return self.schedule_sub_orchestration(name, _raw(input), version=version, result_type=result_type)


def schedule_sub_orchestration_versioned_with_id_typed(
    self: OrchestrationContext,
    name: Any,
    version: str | None,
    instance_id: str,
    input: object = None,
    *,
    result_type: Any = None,
) -> Any:
    """As ``schedule_sub_orchestration_versioned_with_id``; a ``str`` input is sent as it is."""
    return self.schedule_sub_orchestration(
        name, _raw(input), instance_id=instance_id, version=version, result_type=result_type
    )


def start_orchestration_typed(
    self: OrchestrationContext, name: Any, instance_id: str, input: object = None, *, version: str | None = None
) -> Any:
    """As ``start_orchestration``; a ``str`` input is sent as it is."""
    return self.start_orchestration(name, instance_id, _raw(input), version=version)


def start_orchestration_versioned_typed(
    self: OrchestrationContext, name: Any, version: str | None, instance_id: str, input: object = None
) -> Any:
    """As ``start_orchestration_versioned``; a ``str`` input is sent as it is."""
    return self.start_orchestration(name, instance_id, _raw(input), version=version)


def continue_as_new_typed(self: OrchestrationContext, input: object = None, *, version: str | None = None) -> Any:
    """As ``continue_as_new``; a ``str`` input is sent as it is."""
    return self.continue_as_new(_raw(input), version=version)


@also_named(queue="queue_name")
def dequeue_event_typed(self: OrchestrationContext, queue_name: str, *, result_type: Any = None) -> Any:
    """As ``dequeue_event``; the message is read as JSON."""
    return self.dequeue_event(queue_name, result_type=object if result_type is None else result_type)


def get_kv_value_from_instance_typed(
    self: OrchestrationContext, instance_id: str, key: str, *, result_type: Any = None
) -> Any:
    """As ``get_kv_value_from_instance``; the value is read as JSON."""
    return self.get_kv_value_from_instance(instance_id, key, result_type=object if result_type is None else result_type)


def set_kv_value_typed(self: OrchestrationContext, key: str, value: object) -> None:
    """As ``set_kv_value``; the value is written as JSON."""
    self.set_kv_value(key, encode(value))


def get_kv_value_typed(self: OrchestrationContext, key: str) -> Any:
    """As ``get_kv_value``; the value is read as JSON."""
    text = self.get_kv_value(key)
    return None if text is None else decode(text)


def install() -> None:
    """Give the context the names of the table; called once, when the package is imported."""
    for method in (
        schedule_activity_typed,
        schedule_activity_on_session_typed,
        schedule_activity_with_retry_typed,
        schedule_activity_with_retry_on_session_typed,
        schedule_sub_orchestration_typed,
        schedule_sub_orchestration_with_id_typed,
        schedule_sub_orchestration_versioned_typed,
        schedule_sub_orchestration_versioned_with_id_typed,
        start_orchestration_typed,
        start_orchestration_versioned_typed,
        continue_as_new_typed,
        dequeue_event_typed,
        get_kv_value_from_instance_typed,
        set_kv_value_typed,
        get_kv_value_typed,
    ):
        setattr(OrchestrationContext, method.__name__, method)
    for name, plain in OTHER_NAMES.items():
        setattr(OrchestrationContext, name, getattr(OrchestrationContext, plain))
