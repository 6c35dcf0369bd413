"""A context outside an engine, for unit tests that step through the code of an orchestration by hand.

``OrchestrationContext({"instance_id": "order-7"})`` makes one. Its methods describe steps as dicts, in the form of the
earlier SDK, and nothing happens. The status, the keys and the traces take effect on the context alone.
"""

from __future__ import annotations

import logging
import random
import uuid
from collections.abc import Generator, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from duroxide._declare.names import function_name
from duroxide._declare.retry import Duration, RetryPolicy
from duroxide._declare.tags import check_tag
from duroxide._native import OrchestrationContext, RawText
from duroxide._orchestration import context_calls, typed_context
from duroxide._runtime.call_key import call_key
from duroxide._values.codec import encode
from duroxide._values.parameter_names import also_named
from duroxide._values.trace_text import loggable
from duroxide._values.validation import check_milliseconds, check_name, check_text


class DescribedTask(dict[str, Any]):
    """The description of a step: a dict with its ``type`` and its arguments.

    ``yield``, ``yield from`` and ``await`` hand it to the test, which sends the result.
    """

    def with_tag(self, tag: str) -> DescribedTask:
        """Set the tag of an activity, and return the same task."""
        if "activity" not in self["type"]:
            raise TypeError(f"{self['type']} cannot be tagged: tags route activities to workers")
        self["tag"] = check_tag(tag)
        return self

    def __iter__(self) -> Generator[Any, Any, Any]:
        return (yield self)

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield self)


class DetachedInfo:
    """The facts of a context about its instance, read from a dict in snake or camel case; each has a default."""

    def __init__(self, ctx_info: Mapping[str, Any]) -> None:
        self._info = {name.replace("_", "").lower(): value for name, value in ctx_info.items()}
        self.instance_id: str = self._get("instance_id", "")
        self.execution_id: int = self._get("execution_id", 1)
        self.orchestration_name: str = self._get("orchestration_name", "")
        self.orchestration_version: str = self._get("orchestration_version", "1.0.0")

    def _get(self, name: str, default: Any) -> Any:
        return self._info.get(name.replace("_", ""), default)

    def _log(self, level: int, message: str) -> None:
        logging.getLogger(self._logger).log(level, "%s", loggable(message))

    _logger = "duroxide"

    def trace_debug(self, message: str) -> None:
        """Log ``message`` for debugging."""
        self._log(logging.DEBUG, message)

    def trace_info(self, message: str) -> None:
        """Log ``message``."""
        self._log(logging.INFO, message)

    def trace_warn(self, message: str) -> None:
        """Log ``message`` as a warning."""
        self._log(logging.WARNING, message)

    def trace_error(self, message: str) -> None:
        """Log ``message`` as an error."""
        self._log(logging.ERROR, message)


class DetachedOrchestrationContext(DetachedInfo):
    """The context that ``OrchestrationContext(ctx_info)`` gives."""

    _logger = "duroxide.orchestration"

    def __init__(self, ctx_info: Mapping[str, Any]) -> None:
        super().__init__(ctx_info)
        self._status: str | None = None
        self._values: dict[str, str] = {}
        self._random = random.Random(self.instance_id)  # noqa: S311  (as ctx.random, not for secrets)

    def is_replaying(self) -> bool:
        """Return False."""
        return False

    # Activities

    def schedule_activity(
        self,
        name: Any,
        input: object = None,
        session_id: str | None = None,
        *,
        tag: str | None = None,
        retry: Any = None,
        result_type: Any = None,
    ) -> DescribedTask:
        """Describe an activity."""
        kind = "activity"
        fields: dict[str, Any] = {"name": function_name(name, "activity"), "input": _text(input)}
        if retry is not None:
            fields["retry"] = _retry_fields(retry)
            kind += "WithRetry"
        if session_id is not None:
            fields["sessionId"] = check_name(session_id, "a session")
            kind += "WithSession" if retry is None else "OnSession"
        task = _task(kind, **fields)
        return task if tag is None else task.with_tag(tag)

    def schedule_activity_on_session(
        self, name: Any, input: object, session_id: str, *, tag: str | None = None, result_type: Any = None
    ) -> DescribedTask:
        """Describe an activity on a session."""
        return self.schedule_activity(name, input, session_id, tag=tag)

    def schedule_activity_with_retry(
        self,
        name: Any,
        input: object,
        retry: Any = None,
        *,
        session_id: str | None = None,
        tag: str | None = None,
        result_type: Any = None,
    ) -> DescribedTask:
        """Describe an activity that is tried again."""
        return self.schedule_activity(name, input, session_id, tag=tag, retry={} if retry is None else retry)

    def schedule_activity_with_retry_on_session(
        self, name: Any, input: object, retry: Any, session_id: str, *, tag: str | None = None, result_type: Any = None
    ) -> DescribedTask:
        """Describe an activity on a session that is tried again."""
        return self.schedule_activity(name, input, session_id, tag=tag, retry=retry)

    # Time, events and messages

    @also_named(delay="delay_ms")
    def schedule_timer(self, delay_ms: int | timedelta) -> DescribedTask:
        """Describe a timer."""
        return _task("timer", delayMs=check_milliseconds(delay_ms, "the time of a timer"))

    def wait_for_event(self, name: str, *, result_type: Any = None) -> DescribedTask:
        """Describe a wait for an event."""
        return _task("waitEvent", name=check_name(name, "the name of the event"))

    @also_named(queue="queue_name")
    def dequeue_event(self, queue_name: str, *, result_type: Any = None) -> DescribedTask:
        """Describe a wait for a message."""
        return _task("dequeueEvent", queueName=check_name(queue_name, "the name of the queue"))

    def utc_now(self) -> DescribedTask:
        """Describe the reading of the time."""
        return _task("utcNow")

    def new_guid(self) -> DescribedTask:
        """Describe the making of an id."""
        return _task("newGuid")

    def now(self) -> datetime:
        """Return the time."""
        return datetime.now(timezone.utc)

    def uuid(self) -> uuid.UUID:
        """Return an id, which depends on the instance alone."""
        return uuid.UUID(int=self._random.getrandbits(128), version=4)

    def random(self) -> random.Random:
        """Return a random generator that is seeded by the instance."""
        return self._random

    # Other orchestrations

    def schedule_sub_orchestration(
        self,
        name: Any,
        input: object = None,
        *,
        instance_id: str | None = None,
        version: str | None = None,
        retry: Any = None,
        result_type: Any = None,
    ) -> DescribedTask:
        """Describe a sub-orchestration."""
        kind = "subOrchestration" + ("Versioned" if version is not None else "") + ("WithId" if instance_id else "")
        fields = {"name": function_name(name, "orchestration"), "version": version, "instanceId": instance_id}
        given = {key: value for key, value in fields.items() if value is not None}
        policy = {} if retry is None else {"retry": _retry_fields(retry)}
        return _task(kind, **given, input=_text(input), **policy)

    def schedule_sub_orchestration_with_id(
        self, name: Any, instance_id: str, input: object = None, *, result_type: Any = None
    ) -> DescribedTask:
        """Describe a sub-orchestration under an id."""
        return self.schedule_sub_orchestration(name, input, instance_id=instance_id)

    def schedule_sub_orchestration_versioned(
        self, name: Any, version: str | None = None, input: object = None, *, result_type: Any = None
    ) -> DescribedTask:
        """Describe a sub-orchestration of one version."""
        return self.schedule_sub_orchestration(name, input, version=version)

    def schedule_sub_orchestration_versioned_with_id(
        self, name: Any, version: str | None, instance_id: str, input: object = None, *, result_type: Any = None
    ) -> DescribedTask:
        """Describe a sub-orchestration of one version under an id."""
        return self.schedule_sub_orchestration(name, input, instance_id=instance_id, version=version)

    def start_orchestration(
        self, name: Any, instance_id: str, input: object = None, *, version: str | None = None
    ) -> DescribedTask:
        """Describe the start of another orchestration."""
        chosen = {} if version is None else {"version": version}
        kind = "orchestration" if version is None else "orchestrationVersioned"
        title = function_name(name, "orchestration")
        return _task(kind, name=title, **chosen, instanceId=instance_id, input=_text(input))

    def continue_as_new(self, input: object = None, *, version: str | None = None) -> DescribedTask:
        """Describe the start of the next execution."""
        if version is None:
            return _task("continueAsNew", input=_text(input))
        return _task("continueAsNewVersioned", input=_text(input), version=version)

    # Combinators

    def race(self, *tasks: Any) -> DescribedTask:
        """Describe a race."""
        return _task("select", tasks=_listed(tasks))

    def gather(self, *tasks: Any) -> DescribedTask:
        """Describe a wait for all tasks."""
        return _task("join", tasks=_listed(tasks))

    def all(self, *several: Any, tasks: Any = None) -> DescribedTask:
        """Describe a wait for all tasks."""
        return _task("join", tasks=[*_listed(several), *(() if tasks is None else tasks)])

    def all_typed(self, *several: Any, tasks: Any = None) -> DescribedTask:
        """Describe a wait for all tasks."""
        return self.all(*several, tasks=tasks)

    def wait(self, tasks: Any, *, return_when: str = "ALL_COMPLETED") -> DescribedTask:
        """Describe a wait that keeps its tasks."""
        return _task("wait", returnWhen=return_when, tasks=list(tasks))

    def spawn(self, task: Any) -> Any:
        """Return the task."""
        return task

    # Status and keys

    def set_custom_status(self, status: str) -> None:
        """Set the status."""
        self._status = check_text(status, "the status")

    def reset_custom_status(self) -> None:
        """Remove the status."""
        self._status = None

    def get_custom_status(self) -> str | None:
        """Return the status."""
        return self._status

    def set_kv_value(self, key: str, value: str) -> None:
        """Set the value of a key."""
        self._values[check_name(key, "a key")] = check_text(value, "a value")

    def get_kv_value(self, key: str) -> str | None:
        """Return the value of a key."""
        return self._values.get(key)

    def get_kv_all_values(self) -> dict[str, str]:
        """Return all values."""
        return dict(self._values)

    def get_kv_all_keys(self) -> list[str]:
        """Return all keys."""
        return list(self._values)

    def get_kv_length(self) -> int:
        """Return the number of keys."""
        return len(self._values)

    def clear_kv_value(self, key: str) -> None:
        """Remove a key."""
        self._values.pop(key, None)

    def clear_all_kv_values(self) -> None:
        """Remove all keys."""
        self._values.clear()

    def prune_kv_values_updated_before(self, cutoff_ms: int) -> int:
        """Return 0: the context does not know when a key was set."""
        return 0

    def get_kv_value_from_instance(self, instance_id: str, key: str, *, result_type: Any = None) -> DescribedTask:
        """Describe the reading of another instance's key."""
        text = encode({"instance_id": instance_id, "key": key})
        return _task("activity", name="__duroxide_syscall:get_kv_value", input=text)


class DetachedActivityContext(DetachedInfo):
    """The context that ``ActivityContext(ctx_info)`` gives."""

    _logger = "duroxide.activity"

    def __init__(self, ctx_info: Mapping[str, Any]) -> None:
        super().__init__(ctx_info)
        self.activity_name: str = self._get("activity_name", "")
        self.activity_id: int | None = self._get("activity_id", None)
        self.idempotency_key: str = self._get(
            "idempotency_key", call_key(self.instance_id, 0, self.execution_id, self.activity_id or 0)
        )
        self.attempt: int = self._get("attempt", 1)
        self.worker_id: str = self._get("worker_id", "")
        self.session_id: str | None = self._get("session_id", None)

    def tag(self) -> str | None:
        """Return its tag."""
        found: str | None = self._get("tag", None)
        return found

    def is_cancelled(self) -> bool:
        """Tell whether the dict says so."""
        return bool(self._get("is_cancelled", False))

    def get_client(self) -> Any:
        """Return the client that the dict has, or ``None``."""
        return self._get("client", None)


def install(orchestration_context: Any, activity_context: Any) -> None:
    """Let the two native classes make detached contexts; called once, when the package is imported."""

    def make_orchestration_context(cls: type, ctx_info: Mapping[str, Any]) -> Any:
        return DetachedOrchestrationContext(ctx_info)

    def make_activity_context(cls: type, ctx_info: Mapping[str, Any]) -> Any:
        return DetachedActivityContext(ctx_info)

    orchestration_context.__new__ = staticmethod(make_orchestration_context)
    activity_context.__new__ = staticmethod(make_activity_context)
    # The names that are made from others are made from these in the same way.
    for name in dir(OrchestrationContext):
        if not name.startswith("_") and not hasattr(DetachedOrchestrationContext, name):
            method = getattr(OrchestrationContext, name)
            if getattr(method, "__module__", None) in (context_calls.__name__, typed_context.__name__):
                setattr(DetachedOrchestrationContext, name, method)
    for name, plain in typed_context.OTHER_NAMES.items():
        setattr(DetachedOrchestrationContext, name, getattr(DetachedOrchestrationContext, plain))


def _task(kind: str, **fields: Any) -> DescribedTask:
    return DescribedTask(type=kind, **fields)


def _retry_fields(retry: Any) -> dict[str, Any]:
    policy = RetryPolicy.from_value(retry)
    return {
        "maxAttempts": policy.max_attempts,
        "timeoutMs": _milliseconds(policy.attempt_timeout),
        "totalTimeoutMs": _milliseconds(policy.total_timeout),
        "backoff": policy.backoff.kind,
    }


def _milliseconds(value: Duration | None) -> int | None:
    return None if value is None else check_milliseconds(value, "a timeout")


def _text(value: object) -> str:
    return value.text if isinstance(value, RawText) else encode(value)


def _listed(tasks: tuple[Any, ...]) -> list[Any]:
    return list(tasks[0] if len(tasks) == 1 and type(tasks[0]) in (list, tuple) else tasks)
