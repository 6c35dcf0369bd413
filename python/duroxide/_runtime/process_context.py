"""The context of an activity that runs in another process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NoReturn

from duroxide._values.trace_text import loggable
from duroxide.exceptions import DuroxideError


@dataclass(frozen=True)
class ProcessActivityContext:
    """The context of an activity in a process of a pool: a copy of its ``ActivityContext``.

    That process has no client, and does not learn of a cancellation. The runtime writes traces after the activity has
    ended.

    Attributes:
        instance_id: Instance of the orchestration that scheduled the activity.
        execution_id: Number of the execution that scheduled it, counted from 1.
        orchestration_name: Name of that orchestration.
        orchestration_version: Version of that orchestration.
        activity_name: Name of the activity.
        activity_id: Number of the event that scheduled it, or ``None`` if the store did not give it. A retry is a new
            scheduling with a new number.
        attempt: How often the store delivered this scheduling, counted from 1.
        worker_id: The worker that runs it.
        session_id: Its session, or ``None``.
        idempotency_key: Key of this call, the same in all of its deliveries and retries, as a UUID in text.
    """

    instance_id: str
    execution_id: int
    orchestration_name: str
    orchestration_version: str
    activity_name: str
    activity_id: int | None
    attempt: int
    worker_id: str
    session_id: str | None
    idempotency_key: str
    _tag: str | None = None
    _traces: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]], compare=False, repr=False)

    @classmethod
    def of(cls, context: Any) -> ProcessActivityContext:
        """Copy ``context``, an ``ActivityContext``."""
        names = [name for name in cls.__dataclass_fields__ if not name.startswith("_")]
        return cls(**{name: getattr(context, name) for name in names}, _tag=context.tag())

    def tag(self) -> str | None:
        """Return its tag, or ``None``."""
        return self._tag

    def is_cancelled(self) -> bool:
        """Return False: the process does not learn of a cancellation, and the runtime then drops the result."""
        return False

    def get_client(self) -> NoReturn:
        """Refuse: a store cannot be sent to another process.

        Raises:
            DuroxideError: Always.
        """
        raise DuroxideError(
            f"activity '{self.activity_name}' runs in another process, which has no client; return a value that tells "
            "the orchestration what to do, or name the activities of the pool, as in executor={'resize': pool}"
        )

    def trace_debug(self, message: str) -> None:
        """Log ``message`` for debugging."""
        self._trace("trace_debug", message)

    def trace_info(self, message: str) -> None:
        """Log ``message``."""
        self._trace("trace_info", message)

    def trace_warn(self, message: str) -> None:
        """Log ``message`` as a warning."""
        self._trace("trace_warn", message)

    def trace_error(self, message: str) -> None:
        """Log ``message`` as an error."""
        self._trace("trace_error", message)

    def _trace(self, level: str, message: str) -> None:
        self._traces.append((level, loggable(message)))
