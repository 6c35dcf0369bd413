"""The context of an orchestrator."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Generator, Mapping, MutableMapping
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, TypeVar, overload

from duroxide.durabletask._functions import Function, get_name
from duroxide.durabletask._orchestration.calls import (
    Attempt,
    run_once,
    run_timer,
    run_with_retries,
    whole_milliseconds,
)
from duroxide.durabletask._orchestration.event_inbox import EventChannel
from duroxide.durabletask._orchestration.tasks import (
    CancellableTask,
    CompletableTask,
    RetryableTask,
    Task,
    TimerTask,
)
from duroxide.durabletask._payloads import from_recorded, to_recorded
from duroxide.durabletask._values import annotations_of

if TYPE_CHECKING:
    from duroxide import OrchestrationContext as NativeContext
    from duroxide.durabletask._orchestration.retries import RetryPolicy
    from duroxide.durabletask.serialization import DataConverter

T = TypeVar("T")


# In Python 3.10 the class takes no type argument.
class ReplaySafeLogger(logging.LoggerAdapter):  # type: ignore[type-arg]  # pyright: ignore[reportMissingTypeArgument]
    """A logger that is silent while recorded steps are replayed.

    Args:
        logger: The logger that gets the records.
        is_replaying: Tells whether recorded steps are replayed now.
    """

    def __init__(self, logger: logging.Logger, is_replaying: Callable[[], bool]) -> None:
        super().__init__(logger, {})  # pyright: ignore[reportUnknownMemberType]
        self._is_replaying = is_replaying

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  (as in logging)
        """Tell whether a record of a level would be logged now.

        Args:
            level: The level.
        """
        return not self._is_replaying() and super().isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Leave a record as the program wrote it.

        Args:
            msg: The message.
            kwargs: The other arguments of the call.
        """
        return msg, kwargs


class OrchestrationContext:
    """The operations of an orchestrator. Each call starts its operation at once and returns a task.

    The worker makes it.
    """

    def __init__(self, native: NativeContext, converter: DataConverter, activities: Mapping[str, Function]) -> None:
        self._native = native
        self._converter = converter
        self._activities = activities
        self._last_number = 0
        # Activities and sub-orchestrations that have not ended, by their numbers.
        self._calls: dict[int, CompletableTask[Any]] = {}
        self._channels: dict[str, EventChannel] = {}
        self._next_execution: tuple[Any, str | None] | None = None

    @property
    def instance_id(self) -> str:
        """Id of the instance."""
        return self._native.instance_id

    @property
    def version(self) -> str | None:
        """Version of the orchestration; ``None`` if it was registered without one."""
        return None

    @property
    def current_utc_datetime(self) -> datetime:
        """Time of the current step, in UTC and without a zone; the same at every replay."""
        return self._native.now().replace(tzinfo=None)

    @property
    def is_replaying(self) -> bool:
        """Whether history already has the current step."""
        return self._native.is_replaying()

    def set_custom_status(self, custom_status: Any) -> None:
        """Publish a value that clients can read as ``serialized_custom_status``.

        Args:
            custom_status: The value; ``None`` removes the earlier one.
        """
        text = self._converter.serialize(custom_status)
        if text is None:
            self._native.reset_custom_status()
        else:
            self._native.set_custom_status(text)

    def create_timer(self, fire_at: datetime | timedelta) -> TimerTask:
        """Start a durable timer.

        Args:
            fire_at: When it fires, a ``datetime`` in UTC or after a ``timedelta``. A time in the past fires at once.

        Returns:
            A task without a result.

        Raises:
            TypeError: ``fire_at`` is neither.
            ValueError: It is more than ten years away.
        """
        if isinstance(fire_at, datetime):
            zoned = fire_at if fire_at.tzinfo is not None else fire_at.replace(tzinfo=timezone.utc)
            delay = zoned - self._native.now()
        elif isinstance(fire_at, timedelta):  # pyright: ignore[reportUnnecessaryIsInstance]
            delay = fire_at
        else:
            raise TypeError(f"fire_at must be a datetime or a timedelta, not {type(fire_at).__name__}")
        self._next_number()
        task = TimerTask()
        task._step = self._native.spawn(run_timer(task, self._native.schedule_timer(whole_milliseconds(delay))))
        return task

    @overload
    def call_activity(
        self,
        activity: Callable[..., Any] | str,
        *,
        input: Any = None,
        retry_policy: RetryPolicy | None = None,
        tags: Mapping[str, str] | None = None,
        return_type: type[T],
    ) -> CompletableTask[T]: ...
    @overload
    def call_activity(
        self,
        activity: str,
        *,
        input: Any = None,
        retry_policy: RetryPolicy | None = None,
        tags: Mapping[str, str] | None = None,
        return_type: None = None,
    ) -> CompletableTask[Any]: ...
    @overload
    def call_activity(
        self,
        activity: Callable[[Any, Any], Coroutine[Any, Any, T]],
        *,
        input: Any = None,
        retry_policy: RetryPolicy | None = None,
        tags: Mapping[str, str] | None = None,
        return_type: None = None,
    ) -> CompletableTask[T]: ...
    @overload
    def call_activity(
        self,
        activity: Callable[[Any, Any], T],
        *,
        input: Any = None,
        retry_policy: RetryPolicy | None = None,
        tags: Mapping[str, str] | None = None,
        return_type: None = None,
    ) -> CompletableTask[T]: ...
    def call_activity(
        self,
        activity: Callable[..., Any] | str,
        *,
        input: Any = None,
        retry_policy: RetryPolicy | None = None,
        tags: Mapping[str, str] | None = None,
        return_type: Any = None,
    ) -> CompletableTask[Any]:
        """Run an activity.

        Args:
            activity: The function, or its name.
            input: Its input; default ``None``.
            retry_policy: Whether and when to try again; default ``None``, one attempt.
            tags: Accepted for durabletask's programs; the runtime does not record them. Default ``None``.
            return_type: Type of the result; default ``None``, the annotation of the function.

        Returns:
            A task with the result. It raises ``TaskFailedError`` if the activity failed.
        """
        del tags
        name = activity if isinstance(activity, str) else get_name(activity)
        value = to_recorded(self._converter, input)
        number = self._next_number()
        return self._call(
            number,
            lambda _: self._native.schedule_activity(name, value),
            f"{self.instance_id}: Activity task #{number}",
            return_type or self._result_type(activity, self._activities),
            retry_policy,
        )

    @overload
    def call_sub_orchestrator(
        self,
        orchestrator: Callable[..., Any] | str,
        *,
        input: Any = None,
        instance_id: str | None = None,
        retry_policy: RetryPolicy | None = None,
        version: str | None = None,
        return_type: type[T],
    ) -> CompletableTask[T]: ...
    @overload
    def call_sub_orchestrator(
        self,
        orchestrator: str,
        *,
        input: Any = None,
        instance_id: str | None = None,
        retry_policy: RetryPolicy | None = None,
        version: str | None = None,
        return_type: None = None,
    ) -> CompletableTask[Any]: ...
    @overload
    def call_sub_orchestrator(
        self,
        orchestrator: Callable[[Any, Any], Generator[Any, Any, T] | Coroutine[Any, Any, T]],
        *,
        input: Any = None,
        instance_id: str | None = None,
        retry_policy: RetryPolicy | None = None,
        version: str | None = None,
        return_type: None = None,
    ) -> CompletableTask[T]: ...
    @overload
    def call_sub_orchestrator(
        self,
        orchestrator: Callable[[Any, Any], T],
        *,
        input: Any = None,
        instance_id: str | None = None,
        retry_policy: RetryPolicy | None = None,
        version: str | None = None,
        return_type: None = None,
    ) -> CompletableTask[T]: ...
    def call_sub_orchestrator(
        self,
        orchestrator: Callable[..., Any] | str,
        *,
        input: Any = None,
        instance_id: str | None = None,
        retry_policy: RetryPolicy | None = None,
        version: str | None = None,
        return_type: Any = None,
    ) -> CompletableTask[Any]:
        """Run another orchestration and wait for its end.

        Args:
            orchestrator: The function, or its name.
            input: Its input; default ``None``.
            instance_id: Id of its instance; default ``None``, one made of this instance's id and a number.
            retry_policy: Whether and when to try again; every attempt is a new instance. Default ``None``, one attempt.
            version: Version to run; default ``None``, the newest.
            return_type: Type of the result; default ``None``, the annotation of the function.

        Returns:
            A task with the result. It raises ``TaskFailedError`` if the orchestration failed.
        """
        name = orchestrator if isinstance(orchestrator, str) else get_name(orchestrator)
        value = to_recorded(self._converter, input)
        number = self._next_number()
        child = instance_id or self._child_id(number)
        return self._call(
            number,
            lambda attempt: self._native.schedule_sub_orchestration(
                name, value, instance_id=child if attempt == 1 else f"{child}-attempt-{attempt}", version=version
            ),
            f"{self.instance_id}: Sub-orchestration task #{number}",
            return_type or self._result_type(orchestrator, {}),
            retry_policy,
        )

    @overload
    def wait_for_external_event(self, name: str, *, data_type: type[T]) -> CancellableTask[T]: ...
    @overload
    def wait_for_external_event(self, name: str, *, data_type: None = None) -> CancellableTask[Any]: ...
    def wait_for_external_event(self, name: str, *, data_type: Any = None) -> CancellableTask[Any]:
        """Wait for an event that a client raises; an event that came earlier is kept for it.

        Args:
            name: Name of the event, without regard to case. Events of one name go to its waits in order.
            data_type: Type of the event's data; default ``None``, the JSON value.

        Returns:
            A task with the data.
        """
        folded = name.casefold()
        channel = self._channels.get(folded)
        if channel is None:
            channel = self._channels[folded] = EventChannel(self._native, folded)
        return channel.wait(lambda data: from_recorded(self._converter, data, data_type))

    def continue_as_new(self, new_input: Any, *, save_events: bool = False, new_version: str | None = None) -> None:
        """Begin a new execution with an empty history when the orchestrator returns; its result is then ignored.

        Args:
            new_input: Input of the next execution.
            save_events: Whether the next execution gets the events that no wait has taken. The store always keeps them
                for it, with either value; default False.
            new_version: Version of the next execution; default ``None``, the newest.
        """
        del save_events
        self._next_execution = (to_recorded(self._converter, new_input), new_version)

    def new_uuid(self) -> str:
        """Return a new unique id, the same at every replay."""
        return str(self._native.uuid())

    def create_replay_safe_logger(self, logger: logging.Logger) -> ReplaySafeLogger:
        """Return a logger that is silent while recorded steps are replayed.

        Args:
            logger: The logger that gets the records.
        """
        return ReplaySafeLogger(logger, self._native.is_replaying)

    def _call(
        self, number: int, make: Attempt, title: str, result_type: Any, policy: RetryPolicy | None
    ) -> CompletableTask[Any]:
        task: CompletableTask[Any] = CompletableTask() if policy is None else RetryableTask()
        self._calls[number] = task

        def convert(value: Any) -> Any:
            self._calls.pop(number, None)
            return from_recorded(self._converter, value, result_type)

        if policy is None:
            branch = run_once(task, make(1), convert, title)
        else:
            branch = run_with_retries(self._native, task, make, convert, title, policy)
        task._step = self._native.spawn(branch)
        return task

    def _next_number(self) -> int:
        self._last_number += 1
        return self._last_number

    def _child_id(self, number: int) -> str:
        # Another execution counts from 1 again, and the ids of its children must be new.
        execution = self._native.execution_id
        return (
            f"{self.instance_id}:{number:04x}" if execution == 1 else f"{self.instance_id}:{execution:x}:{number:04x}"
        )

    def _result_type(self, function: Callable[..., Any] | str, registered: Mapping[str, Function]) -> Any:
        if isinstance(function, str):
            return None
        known = registered.get(get_name(function))
        kind = known.result_type if known is not None and known.call is function else annotations_of(function)[1]
        return kind if self._converter.can_reconstruct(kind) else None

    def _forgotten(self) -> list[Task[Any]]:
        """Return the calls that have not ended and that the orchestrator has never waited for."""
        return [task for task in self._calls.values() if not task.is_complete and not task._was_yielded]


def next_execution(context: OrchestrationContext) -> tuple[Any, str | None] | None:
    """Return the input and the version that ``continue_as_new`` was called with, or ``None``."""
    return context._next_execution
