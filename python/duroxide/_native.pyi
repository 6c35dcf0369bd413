"""The native half of the package.

Programs use ``OrchestrationContext``, ``ActivityContext`` and ``Task`` of it; the package wraps all other classes.
"""

import random as _random
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType, UnionType
from typing import Any, Final, Generic, Literal, NoReturn, TypeAlias, TypeVar, final, overload
from uuid import UUID

from typing_extensions import Self

from duroxide._client.client import Client as _PublicClient
from duroxide._declare.declarations import Activity, Orchestration
from duroxide._declare.definitions import ActivityDefinition, OrchestrationDefinition
from duroxide._declare.retry import BackoffKind, RetryPolicy
from duroxide._orchestration.outcomes import Outcome, Winner
from duroxide._runtime.activity_loop import ActivityHost

_T = TypeVar("_T")
_U = TypeVar("_U")
_T_co = TypeVar("_T_co", covariant=True)
_Duration: TypeAlias = int | timedelta
_Retry: TypeAlias = RetryPolicy | Mapping[str, Any]
# A call that takes the name of a registered function also takes the declared function.
_ActivityName: TypeAlias = str | Activity[..., Any] | ActivityDefinition
_OrchestrationName: TypeAlias = str | Orchestration[..., Any] | OrchestrationDefinition
_Branch: TypeAlias = Generator[Any, Any, _T] | Coroutine[Any, Any, _T]

version: Final[str]
"""Version of the package."""

engine_version: Final[str]
"""Version of the duroxide engine."""

sqlite_version: Final[str]
"""Version of the SQLite library in this package. Python's ``sqlite3`` uses another copy, of its own version."""

CANCELLATION_QUEUE: Final[str]
"""The queue that carries the cancellation requests of an orchestration."""

MAX_WORKER_TAGS: Final[int]
"""The largest number of tags that one runtime serves."""

MAX_TAG_NAME_BYTES: Final[int]
"""Longest tag, in bytes of UTF-8."""

MAX_KV_KEYS: Final[int]
"""The largest number of keys in the key-value store of one instance."""

MAX_KV_VALUE_BYTES: Final[int]
"""Longest value in a key-value store, in bytes of UTF-8."""

MAX_PAYLOAD_BYTES: Final[int]
"""Longest input, output or message, in bytes of JSON text."""

MAX_DURATION_MS: Final[int]
"""The longest duration of a timer, wait or timeout, in milliseconds: ten years."""

DEFAULT_VERSION: Final[str]
"""Version of an orchestration that is registered without a version."""

MAX_NAME_BYTES: Final[int]
"""Longest name or instance id, in bytes of UTF-8."""

MAX_NESTING: Final[int]
"""How deep a payload may nest lists and objects."""

def nesting(text: str) -> int:
    """Return how deep JSON text nests lists and objects."""

def check_text(value: object, what: str) -> str:
    """Return ``value`` if it is text that UTF-8 and every store can hold; ``what`` names it in the error.

    Raises:
        TypeError: It is not a ``str``.
        LimitExceeded: It has lone surrogates or a null character.
    """

def check_name(value: object, what: str) -> str:
    """Return ``value`` if it can be a name or an id; ``what`` names it in the error.

    Raises:
        TypeError: It is not a ``str``.
        LimitExceeded: It is empty, longer than ``MAX_NAME_BYTES``, or not valid UTF-8.
    """

@final
class Version:
    """A semantic version."""

    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    def __lt__(self, other: Version, /) -> bool: ...
    def __le__(self, other: Version, /) -> bool: ...
    def __gt__(self, other: Version, /) -> bool: ...
    def __ge__(self, other: Version, /) -> bool: ...

def parse_version(text: str) -> Version | None:
    """Read a semantic version; ``None`` if the text is something else."""

def without_attempt_header(recorded: str) -> str:
    """Return the input of an activity without the header that is recorded in front of it."""

def stores_statement() -> str:
    """The SQL that finds the stores of a PostgreSQL database, for ``schema_without_name``."""

def schema_without_name(stores: list[tuple[str, str, bool, bool]]) -> str:
    """The schema of the store for a transaction that names none, from the rows of ``stores_statement``."""

def write_message(kind: str, instance: str, name: str, data: str, version: str | None) -> str:
    """Write a start, an event or a message in the form of PostgreSQL's queue."""

@final
class EncodedStart:
    """A start whose names are checked and whose input is encoded."""

    def __new__(
        cls, instance: str, orchestration: str, input: str, version: str | None, due_ms: int | None
    ) -> Self: ...
    @property
    def instance(self) -> str: ...
    @property
    def orchestration(self) -> str: ...
    @property
    def input(self) -> str: ...
    @property
    def version(self) -> str | None: ...
    @property
    def due_ms(self) -> int | None: ...

@final
class EncodedMessage:
    """A message for an event or a queue, whose names are checked and whose data is encoded."""

    def __new__(cls, instance: str, name: str, data: str) -> Self: ...
    @property
    def instance(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def data(self) -> str: ...

@final
class OutboxRow:
    """A row of an outbox that is checked."""

    def __new__(cls, kind: str, instance: str, name: str, data: str, version: str | None) -> Self: ...
    @property
    def kind(self) -> str: ...
    @property
    def instance(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def data(self) -> str: ...
    @property
    def version(self) -> str | None: ...

@final
class RelayAnswer:
    """The result of relaying rows of an outbox."""

    @property
    def is_done(self) -> bool:
        """Whether the rows are in the store."""

    @property
    def seen(self) -> int | None:
        """The key that the store has recorded, where it is not the one that the rows follow."""

    @property
    def refused(self) -> list[RefusedRow]:
        """The rows that the store will never take."""

@final
class RefusedRow:
    """A row that a store will never take."""

    @property
    def position(self) -> int:
        """Its position among the rows of the call."""

    @property
    def reason(self) -> str: ...

@final
class EncodedRetryPolicy:
    """A ``RetryPolicy`` that is checked; times are milliseconds.

    Raises:
        ConfigurationError: The kind of the backoff is unknown.
    """

    def __new__(
        cls,
        *,
        max_attempts: int,
        backoff: BackoffKind,
        base_ms: int,
        multiplier: float,
        max_ms: int,
        attempt_timeout_ms: int | None,
        start_timeout_ms: int | None,
        total_timeout_ms: int | None,
        non_retryable: list[str],
    ) -> Self: ...
    @property
    def non_retryable(self) -> list[str]:
        """Names of the exceptions that end the attempts, subclasses included."""

    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...

@final
class DatabaseWatcher:
    """Notices that a SQLite file may have changed, without opening it."""

    def __new__(cls, file: str) -> Self: ...
    def notices(self) -> int:
        """Return how many changes the watcher has noticed; read it before the file."""

    def wait(self, notices: int) -> bool:
        """Wait for a change after the first ``notices``, or until the next look is due.

        Returns:
            Whether the watcher noticed a change.
        """

    def wake(self) -> None:
        """End a wait."""

@final
class LoopSteps:
    """The interface of an orchestration to its event loop."""

    @property
    def orchestration_name(self) -> str: ...
    @property
    def instance_id(self) -> str: ...
    def time(self) -> float: ...
    def is_silent(self) -> bool: ...
    def start_timer(self, seconds: float) -> int: ...
    def ask_to_end(self, slot: int) -> int | None: ...
    def give_up(self, slot: int) -> None: ...
    def end_branch(self, branch: int, value: object, error: BaseException | None) -> None: ...

@final
class Task(Coroutine[Any, Any, _T_co]):
    """A described step of an orchestration.

    A task starts when it is yielded, awaited, or given to a combinator or ``ctx.spawn``. Its result is recorded once,
    and every replay returns the same. For the type checker, ``await task`` and ``yield from task`` have the type of the
    result, and ``yield task`` has the type ``Any``.
    """

    def with_tag(self, tag: str) -> Self:
        """Leave the activity to workers with ``tag``, and return the same task.

        Args:
            tag: The tag, at most 256 bytes. It takes the place of an earlier one.

        Raises:
            LimitExceeded: The tag is empty or too long.
            TypeError: The task is not an activity.
            ValueError: The task has started.
        """

    def __getitem__(self, key: str, /) -> Any:
        """Return a field of the task by its name, such as ``"type"``, ``"name"``, ``"input"`` or ``"tag"``.

        Raises:
            KeyError: This kind of task has no such field, or the field was not given.
        """

    def __contains__(self, key: object, /) -> bool:
        """Tell whether the task has a field of this name."""

    def get(self, key: str, default: Any = None) -> Any:
        """Return the field ``key`` of the task; ``default`` if the task does not have it."""

    def keys(self) -> list[str]:
        """Return the names of the task's fields."""

    def __iter__(self) -> Generator[Any, Any, _T_co]:
        """Run the task with ``yield from``."""

    def __await__(self) -> Generator[Any, Any, _T_co]:
        """Run the task with ``await``."""

    def send(self, value: Any) -> Any:
        """Run one step of the task as a coroutine, and send it ``value``; asyncio calls this method."""

    @overload
    def throw(
        self,
        error: type[BaseException],
        value: BaseException | object = None,
        traceback: TracebackType | None = None,
    ) -> Any:
        """Raise ``error``, with ``value`` and ``traceback``, in the task as in a coroutine; asyncio calls this."""

    @overload
    def throw(self, error: BaseException, value: None = None, traceback: TracebackType | None = None) -> Any: ...
    def close(self) -> None:
        """Close the task as a coroutine, and give it up."""

    def __class_getitem__(cls, key: Any) -> Any: ...

@final
class OrchestrationContext:
    """The operations of an orchestration. A method returns a task, to be yielded or awaited, unless it says otherwise.

    Raises:
        TurnClosed: The context is used after its turn.
        NotAllowedInOrchestration: The context is used from another thread.
    """

    def __new__(cls, ctx_info: Mapping[str, Any]) -> Self:
        """Make a context outside an engine, for unit tests; ``ctx_info`` may have its attributes by name."""

    @property
    def instance_id(self) -> str:
        """Id of the instance."""

    @property
    def execution_id(self) -> int:
        """Number of the execution, counted from 1; continue-as-new starts the next."""

    @property
    def orchestration_name(self) -> str:
        """Name of the orchestration."""

    @property
    def orchestration_version(self) -> str:
        """Version of the orchestration."""

    def is_replaying(self) -> bool:
        """Tell whether history already has the current step."""

    # Activities

    @overload
    def schedule_activity(
        self,
        name: _ActivityName,
        input: object = None,
        session_id: str | None = None,
        *,
        tag: str | None = None,
        retry: _Retry | None = None,
        cancellation: Literal["abandon", "wait"] | None = None,
        result_type: type[_T],
    ) -> Task[_T]:
        """Run an activity.

        Args:
            name: Name of the activity, or the declared activity itself.
            input: Its input, any value that can be written as JSON; default ``None``.
            session_id: Session whose worker must run it; default ``None``, any worker.
            tag: Tag that its worker must serve; default ``None``, a worker for activities without a tag.
            retry: Retry policy, a ``RetryPolicy`` or a dictionary; default ``None``, no retries.
            cancellation: What a cancelled wait for the task does about the activity. ``"abandon"``: the wait ends at once.
                ``"wait"``: the activity is asked to end, and the wait ends when it has ended. Only in an ``async def``
                orchestration; default ``None``, which is ``"abandon"``.
            result_type: Type to convert the result to; default ``None``, the annotation of the activity if this process
                has registered it.

        Returns:
            A task with the result.

        Raises:
            CodecError: The input cannot be written as JSON.
            LimitExceeded: A name or the input is too long.
            ActivityFailed: The activity raised; raised where the task is yielded or awaited.
            ActivityTimedOut: A timeout of ``retry`` passed; raised where the task is yielded or awaited.
        """

    @overload
    def schedule_activity(
        self,
        name: Activity[..., _T],
        input: object = None,
        session_id: str | None = None,
        *,
        tag: str | None = None,
        retry: _Retry | None = None,
        cancellation: Literal["abandon", "wait"] | None = None,
        result_type: None = None,
    ) -> Task[_T]: ...
    @overload
    def schedule_activity(
        self,
        name: str | ActivityDefinition,
        input: object = None,
        session_id: str | None = None,
        *,
        tag: str | None = None,
        retry: _Retry | None = None,
        cancellation: Literal["abandon", "wait"] | None = None,
        result_type: None = None,
    ) -> Task[Any]: ...
    @overload
    def schedule_activity(
        self,
        name: _ActivityName,
        input: object = None,
        session_id: str | None = None,
        *,
        tag: str | None = None,
        retry: _Retry | None = None,
        cancellation: Literal["abandon", "wait"] | None = None,
        result_type: UnionType,
    ) -> Task[Any]: ...
    def schedule_activity_on_session(
        self, name: _ActivityName, input: object, session_id: str, *, tag: str | None = None, result_type: Any = None
    ) -> Task[Any]:
        """Run an activity on the worker that holds a session; otherwise as ``schedule_activity``.

        Args:
            name: Name of the activity, or the declared activity itself.
            input: Its input, any value that can be written as JSON.
            session_id: The session; the worker of its first activity holds it.
            tag: As for ``schedule_activity``; default ``None``.
            result_type: As for ``schedule_activity``; default ``None``.
        """

    def schedule_activity_with_retry(
        self,
        name: _ActivityName,
        input: object,
        retry: _Retry | None = None,
        *,
        session_id: str | None = None,
        tag: str | None = None,
        result_type: Any = None,
    ) -> Task[Any]:
        """Run an activity with the retry policy ``retry``; otherwise as ``schedule_activity``.

        Args:
            name: Name of the activity, or the declared activity itself.
            input: Its input, any value that can be written as JSON.
            retry: A ``RetryPolicy`` or a dictionary; default ``None``, the default ``RetryPolicy``: three attempts.
            session_id: As for ``schedule_activity``; default ``None``.
            tag: As for ``schedule_activity``; default ``None``.
            result_type: As for ``schedule_activity``; default ``None``.

        Raises:
            ConfigurationError: ``retry`` has an invalid value.
        """

    def schedule_activity_with_retry_on_session(
        self,
        name: _ActivityName,
        input: object,
        retry: _Retry | None,
        session_id: str,
        *,
        tag: str | None = None,
        result_type: Any = None,
    ) -> Task[Any]:
        """Run an activity on the worker that holds a session, with the retry policy ``retry``.

        Args:
            name: Name of the activity, or the declared activity itself.
            input: Its input, any value that can be written as JSON.
            retry: A ``RetryPolicy`` or a dictionary; ``None`` for the default ``RetryPolicy``: three attempts.
            session_id: The session.
            tag: As for ``schedule_activity``; default ``None``.
            result_type: As for ``schedule_activity``; default ``None``.

        Raises:
            ConfigurationError: ``retry`` has an invalid value.
        """

    # Time and messages

    def schedule_timer(self, delay_ms: _Duration) -> Task[None]:
        """Wait for a durable timer, which survives restarts.

        Args:
            delay_ms: Time to wait, in milliseconds or as a ``timedelta``, from zero to ten years.

        Raises:
            ValueError: The time is negative or too long.
        """

    @overload
    def wait_for_event(self, name: str, *, result_type: type[_T]) -> Task[_T]:
        """Wait for an event that ``client.raise_event`` raises.

        Args:
            name: Name of the event.
            result_type: Type to convert the data to; default ``None``, the JSON value as it is.

        Returns:
            A task with the data of the event.
        """

    @overload
    def wait_for_event(self, name: str, *, result_type: None = None) -> Task[Any]: ...
    @overload
    def wait_for_event(self, name: str, *, result_type: UnionType) -> Task[Any]: ...
    def schedule_wait(self, name: str, *, result_type: Any = None) -> Task[Any]:
        """Wait for an event; another name of ``wait_for_event``."""

    @overload
    def dequeue_event(self, queue_name: str, *, result_type: type[_T]) -> Task[_T]:
        """Take the oldest message of a queue of this instance; wait for a message if the queue is empty.

        Args:
            queue_name: Name of the queue.
            result_type: Type to convert the message to, read as JSON; default ``None``, the text as it was sent.

        Returns:
            A task with the message.
        """

    @overload
    def dequeue_event(self, queue_name: str, *, result_type: None = None) -> Task[str]: ...

    # Other orchestrations

    @overload
    def schedule_sub_orchestration(
        self,
        name: _OrchestrationName,
        input: object = None,
        *,
        instance_id: str | None = None,
        version: str | None = None,
        retry: _Retry | None = None,
        result_type: type[_T],
    ) -> Task[_T]:
        """Run another orchestration and wait for its end.

        Args:
            name: Name of the orchestration, or the declared orchestration itself.
            input: Its input; default ``None``.
            instance_id: Id of its instance; default ``None``, one derived from this instance.
            version: Version to run; default ``None``, the newest.
            retry: Retry policy, a ``RetryPolicy`` or a dictionary; default ``None``, one attempt. Every attempt is a new
                instance. With an ``instance_id``, the second one has the id ``{instance_id}-attempt-2``, and so on.
            result_type: Type to convert the result to; default ``None``, the annotation of the orchestration if this
                process has registered it.

        Returns:
            A task with the result.

        Raises:
            SubOrchestrationFailed: The child failed or was cancelled; raised where the task is yielded or awaited.
            SubOrchestrationTimedOut: A timeout of ``retry`` passed; raised where the task is yielded or awaited.
        """

    @overload
    def schedule_sub_orchestration(
        self,
        name: Orchestration[..., _T],
        input: object = None,
        *,
        instance_id: str | None = None,
        version: str | None = None,
        retry: _Retry | None = None,
        result_type: None = None,
    ) -> Task[_T]: ...
    @overload
    def schedule_sub_orchestration(
        self,
        name: str | OrchestrationDefinition,
        input: object = None,
        *,
        instance_id: str | None = None,
        version: str | None = None,
        retry: _Retry | None = None,
        result_type: None = None,
    ) -> Task[Any]: ...
    @overload
    def schedule_sub_orchestration(
        self,
        name: _OrchestrationName,
        input: object = None,
        *,
        instance_id: str | None = None,
        version: str | None = None,
        retry: _Retry | None = None,
        result_type: UnionType,
    ) -> Task[Any]: ...
    def schedule_sub_orchestration_with_id(
        self, name: _OrchestrationName, instance_id: str, input: object = None, *, result_type: Any = None
    ) -> Task[Any]:
        """Run another orchestration under a given ``instance_id``; otherwise as ``schedule_sub_orchestration``."""

    def schedule_sub_orchestration_versioned(
        self, name: _OrchestrationName, version: str | None = None, input: object = None, *, result_type: Any = None
    ) -> Task[Any]:
        """Run one version of another orchestration; otherwise as ``schedule_sub_orchestration``."""

    def schedule_sub_orchestration_versioned_with_id(
        self,
        name: _OrchestrationName,
        version: str | None,
        instance_id: str,
        input: object = None,
        *,
        result_type: Any = None,
    ) -> Task[Any]:
        """Run one version under a given ``instance_id``; otherwise as ``schedule_sub_orchestration``."""

    def start_orchestration(
        self, name: _OrchestrationName, instance_id: str, input: object = None, *, version: str | None = None
    ) -> Task[None]:
        """Start another orchestration that runs independently, and continue at once.

        Args:
            name: Name of the orchestration, or the declared orchestration itself.
            instance_id: Id of its instance.
            input: Its input; default ``None``.
            version: Version to run; default ``None``, the newest.
        """

    def start_orchestration_versioned(
        self, name: _OrchestrationName, version: str | None, instance_id: str, input: object = None
    ) -> Task[None]:
        """Start one version of another orchestration that runs independently; otherwise as ``start_orchestration``."""

    def schedule_orchestration(
        self, name: _OrchestrationName, instance_id: str, input: object = None, *, version: str | None = None
    ) -> Task[None]:
        """Start another orchestration that runs independently; another name of ``start_orchestration``."""

    def schedule_orchestration_versioned(
        self, name: _OrchestrationName, version: str | None, instance_id: str, input: object = None
    ) -> Task[None]:
        """Start one version of another orchestration; another name of ``start_orchestration_versioned``."""

    def continue_as_new(self, input: object = None, *, version: str | None = None) -> Task[NoReturn]:
        """End this execution and start the orchestration again with an empty history; the task never returns.

        Args:
            input: Input of the next execution; default ``None``.
            version: Version of the next execution; default ``None``, the newest.
        """

    def continue_as_new_versioned(self, input: object, version: str | None = None) -> Task[NoReturn]:
        """End this execution and start ``version`` of the orchestration again with ``input`` and an empty history."""

    # Combinators

    @overload
    def all(self, tasks: Sequence[Task[Any] | _Branch[Any]], /) -> Task[list[Outcome]]:
        """Run tasks concurrently and wait for all of them.

        Args:
            tasks: Tasks, generators or coroutines, any number of them, one by one or as a list.

        Returns:
            A task with one outcome for each, in order: ``{"ok": value}`` or ``{"err": failure}``.
        """

    @overload
    def all(self, *tasks: Task[Any] | _Branch[Any]) -> Task[list[Outcome]]: ...
    @overload
    def all(self, *, tasks: Sequence[Task[Any] | _Branch[Any]]) -> Task[list[Outcome]]: ...
    @overload
    def race(self, tasks: Sequence[Task[Any] | _Branch[Any]], /) -> Task[Winner]:
        """Wait for the first of several tasks and cancel the others.

        Args:
            tasks: Tasks, generators or coroutines, one by one or as a list.

        Returns:
            A task with ``{"index": position, "value": value}`` of the first task to end; if two end at the same time,
            of the one that started first.

        Raises:
            TaskFailed: The first task to end failed; ``index`` of the exception is its position. Raised where the task
                is yielded or awaited.
        """

    @overload
    def race(self, *tasks: Task[Any] | _Branch[Any]) -> Task[Winner]: ...
    @overload
    def gather(self, *tasks: Task[_T] | _Branch[_T]) -> Task[list[_T]]:
        """Run tasks concurrently and wait for all of them.

        Args:
            tasks: Tasks, generators or coroutines, one by one or as a list.

        Returns:
            A task with their values, in order.

        Raises:
            TaskFailed: One of them failed; raised where the task is yielded or awaited.
        """

    @overload
    def gather(self, tasks: Sequence[Task[_T] | _Branch[_T]], /) -> Task[list[_T]]: ...
    def wait(
        self, tasks: Sequence[Task[_T]], *, return_when: Literal["FIRST_COMPLETED", "ALL_COMPLETED"] = "ALL_COMPLETED"
    ) -> Task[tuple[list[Task[_T]], list[Task[_T]]]]:
        """Run tasks concurrently, and wait for the first or for all of them. The tasks are kept: none is cancelled.

        Args:
            tasks: Tasks; a task that runs already may be among them.
            return_when: ``"FIRST_COMPLETED"`` to wait for the first, ``"ALL_COMPLETED"`` to wait for all; default all.

        Returns:
            A task with two lists, ``(done, pending)``. Of ``"FIRST_COMPLETED"``, ``done`` has one task: if several have
            ended, the one that started first. Yield or await a task for its value or its failure.

        Raises:
            ValueError: There are no tasks, or ``return_when`` is unknown.
        """

    def spawn(self, task: Task[_T] | _Branch[_T]) -> Task[_T]:
        """Start ``task`` at once, without a yield, and return a task to be yielded or awaited later."""

    # Time and randomness, the same at every replay

    def utc_now(self) -> Task[int]:
        """Read the time as a recorded step, in milliseconds since 1970."""

    def new_guid(self) -> Task[str]:
        """Create a unique id as a recorded step."""

    def now(self) -> datetime:
        """Return the time of the current step, in UTC, at once and without a record."""

    def uuid(self) -> UUID:
        """Return a new unique id at once, without a record."""

    def random(self) -> _random.Random:
        """Return at once a random generator with a seed from this execution; not for secrets."""

    # Status and key-value store: at once, without a yield, unless a task is returned

    def set_custom_status(self, status: str) -> None:
        """Publish a status text that clients can read and wait for.

        Args:
            status: The text, at most 262,144 bytes.

        Raises:
            LimitExceeded: The text is longer than that.
        """

    def reset_custom_status(self) -> None:
        """Remove the status text."""

    def get_custom_status(self) -> str | None:
        """Return the status text, or ``None``."""

    def set_kv_value(self, key: str, value: str) -> None:
        """Set one value of this instance.

        Args:
            key: The key; an instance has at most 150 keys.
            value: The text, at most 65,536 bytes.

        Raises:
            LimitExceeded: There are too many keys, or the value is too long.
        """

    def get_kv_value(self, key: str) -> str | None:
        """Return the value of ``key`` of this instance, or ``None``."""

    def get_kv_all_values(self) -> dict[str, str]:
        """Return all values of this instance."""

    def get_kv_all_keys(self) -> list[str]:
        """Return all keys of this instance."""

    def get_kv_length(self) -> int:
        """Return the number of keys of this instance."""

    def clear_kv_value(self, key: str) -> None:
        """Remove ``key`` and its value, if the instance has it."""

    def clear_all_kv_values(self) -> None:
        """Remove all keys."""

    def prune_kv_values_updated_before(self, cutoff_ms: int) -> int:
        """Remove the keys that were last set before a moment.

        Args:
            cutoff_ms: The moment, in milliseconds since 1970.

        Returns:
            How many keys were removed.
        """

    def get_kv_value_from_instance(self, instance_id: str, key: str, *, result_type: Any = None) -> Task[Any]:
        """Read one value of another instance as a recorded step.

        Args:
            instance_id: The other instance, which need not exist.
            key: The key.
            result_type: Type to convert the value to, read as JSON; default ``None``, the text as it was set.

        Returns:
            A task with the value, or with ``None`` if the instance does not exist or does not have the key.
        """

    # Traces: at once, suppressed during replay

    def trace_debug(self, message: str) -> None:
        """Log ``message`` for debugging."""

    def trace_info(self, message: str) -> None:
        """Log ``message``."""

    def trace_warn(self, message: str) -> None:
        """Log ``message`` as a warning."""

    def trace_error(self, message: str) -> None:
        """Log ``message`` as an error."""

    # Typed names: a ``str`` input is recorded as it is, without being encoded again

    def schedule_activity_typed(
        self,
        name: _ActivityName,
        input: object = None,
        result_type: Any = None,
        *,
        session_id: str | None = None,
        tag: str | None = None,
        retry: _Retry | None = None,
    ) -> Task[Any]:
        """As ``schedule_activity``; a ``str`` input is sent as it is."""

    def schedule_activity_on_session_typed(
        self,
        name: _ActivityName,
        input: object = None,
        session_id: str | None = None,
        *,
        tag: str | None = None,
        result_type: Any = None,
    ) -> Task[Any]:
        """As ``schedule_activity_on_session``; a ``str`` input is sent as it is."""

    def schedule_activity_with_retry_typed(
        self,
        name: _ActivityName,
        input: object = None,
        retry: _Retry | None = None,
        *,
        session_id: str | None = None,
        tag: str | None = None,
        result_type: Any = None,
    ) -> Task[Any]:
        """As ``schedule_activity_with_retry``; a ``str`` input is sent as it is."""

    def schedule_activity_with_retry_on_session_typed(
        self,
        name: _ActivityName,
        input: object = None,
        retry: _Retry | None = None,
        session_id: str | None = None,
        *,
        tag: str | None = None,
        result_type: Any = None,
    ) -> Task[Any]:
        """As ``schedule_activity_with_retry_on_session``; a ``str`` input is sent as it is."""

    def schedule_sub_orchestration_typed(
        self,
        name: _OrchestrationName,
        input: object = None,
        result_type: Any = None,
        *,
        instance_id: str | None = None,
        version: str | None = None,
    ) -> Task[Any]:
        """As ``schedule_sub_orchestration``; a ``str`` input is sent as it is."""

    def schedule_sub_orchestration_with_id_typed(
        self, name: _OrchestrationName, instance_id: str, input: object = None, *, result_type: Any = None
    ) -> Task[Any]:
        """As ``schedule_sub_orchestration_with_id``; a ``str`` input is sent as it is."""

    def schedule_sub_orchestration_versioned_typed(
        self, name: _OrchestrationName, version: str | None = None, input: object = None, *, result_type: Any = None
    ) -> Task[Any]:
        """As ``schedule_sub_orchestration_versioned``; a ``str`` input is sent as it is."""

    def schedule_sub_orchestration_versioned_with_id_typed(
        self,
        name: _OrchestrationName,
        version: str | None,
        instance_id: str,
        input: object = None,
        *,
        result_type: Any = None,
    ) -> Task[Any]:
        """As ``schedule_sub_orchestration_versioned_with_id``; a ``str`` input is sent as it is."""

    def start_orchestration_typed(
        self, name: _OrchestrationName, instance_id: str, input: object = None, *, version: str | None = None
    ) -> Task[None]:
        """As ``start_orchestration``; a ``str`` input is sent as it is."""

    def start_orchestration_versioned_typed(
        self, name: _OrchestrationName, version: str | None, instance_id: str, input: object = None
    ) -> Task[None]:
        """As ``start_orchestration_versioned``; a ``str`` input is sent as it is."""

    def continue_as_new_typed(self, input: object = None, *, version: str | None = None) -> Task[Any]:
        """As ``continue_as_new``; a ``str`` input is sent as it is."""

    def wait_for_event_typed(self, name: str, *, result_type: Any = None) -> Task[Any]:
        """As ``wait_for_event``."""

    def schedule_wait_typed(self, name: str, *, result_type: Any = None) -> Task[Any]:
        """As ``wait_for_event``."""

    def dequeue_event_typed(self, queue_name: str, *, result_type: Any = None) -> Task[Any]:
        """As ``dequeue_event``; the message is read as JSON."""

    def set_kv_value_typed(self, key: str, value: object) -> None:
        """As ``set_kv_value``; the value is written as JSON."""

    def get_kv_value_typed(self, key: str) -> Any:
        """As ``get_kv_value``; the value is read as JSON."""

    def get_kv_value_from_instance_typed(self, instance_id: str, key: str, *, result_type: Any = None) -> Task[Any]:
        """As ``get_kv_value_from_instance``; the value is read as JSON."""

    @overload
    def all_typed(self, tasks: Sequence[Task[_T] | _Branch[_T]], /) -> Task[list[_T]]:
        """As ``gather``."""

    @overload
    def all_typed(self, *tasks: Task[_T] | _Branch[_T]) -> Task[list[_T]]: ...
    @overload
    def all_typed(self, *, tasks: Sequence[Task[_T] | _Branch[_T]]) -> Task[list[_T]]: ...
    @overload
    def race_typed(self, tasks: Sequence[Task[Any] | _Branch[Any]], /) -> Task[Winner]:
        """As ``race``."""

    @overload
    def race_typed(self, *tasks: Task[Any] | _Branch[Any]) -> Task[Winner]: ...

def current_context() -> OrchestrationContext | None:
    """Return the context of the orchestration that calls, or ``None`` outside an orchestration."""

@final
class ActivityContext:
    """The context of an activity; usable from any thread while the activity runs."""

    def __new__(cls, ctx_info: Mapping[str, Any]) -> Self:
        """Make a context outside an engine, for unit tests; ``ctx_info`` may have its attributes by name."""

    @property
    def instance_id(self) -> str:
        """Instance of the orchestration that scheduled the activity."""

    @property
    def execution_id(self) -> int:
        """Number of the execution that scheduled it, counted from 1."""

    @property
    def orchestration_name(self) -> str:
        """Name of that orchestration."""

    @property
    def orchestration_version(self) -> str:
        """Version of that orchestration."""

    @property
    def activity_name(self) -> str:
        """Name of the activity."""

    @property
    def activity_id(self) -> int | None:
        """Number of the event that scheduled it. A retry is a new scheduling with a new number.

        ``None`` if the store did not give it.
        """

    @property
    def idempotency_key(self) -> str:
        """Key of this call, for another system that must not do the same work twice.

        All deliveries and retries of one call have the same key. Each other call has another one, also in the next
        execution of its instance, and in an instance that was deleted and started again. It is a UUID, as text. The first
        use asks the store.
        """

    @property
    def attempt(self) -> int:
        """How often the store delivered this scheduling, counted from 1.

        Above 1 after a crash; a retry is a new scheduling.
        """

    @property
    def worker_id(self) -> str:
        """The worker that runs it."""

    @property
    def session_id(self) -> str | None:
        """Its session, or ``None``."""

    def tag(self) -> str | None:
        """Return its tag, or ``None``."""

    def is_cancelled(self) -> bool:
        """Tell whether the activity was cancelled, so that its result has no receiver any more."""

    def get_client(self) -> _PublicClient:
        """Return a client of the store that scheduled the activity."""

    def trace_debug(self, message: str) -> None:
        """Log ``message`` for debugging."""

    def trace_info(self, message: str) -> None:
        """Log ``message``."""

    def trace_warn(self, message: str) -> None:
        """Log ``message`` as a warning."""

    def trace_error(self, message: str) -> None:
        """Log ``message`` as an error."""

@final
class RawText:
    """Text that is recorded as it is, in place of a value that would be encoded.

    Args:
        text: The text.
    """

    def __new__(cls, text: str) -> Self: ...
    @property
    def text(self) -> str:
        """The text."""

@final
class Store:
    """An opened store; wrapped by the providers."""

    @staticmethod
    def open_sqlite(path: str, durability: str) -> Store:
        """Open or create a SQLite file."""

    @staticmethod
    def sqlite_in_memory() -> Store:
        """Open a store in memory."""

    @staticmethod
    def connect_postgres(urls: list[str], required: str, schema: str | None, options: dict[str, object]) -> Store:
        """Connect to PostgreSQL with a password; the options are those of ``PostgresOptions.to_native``.

        Args:
            urls: The URL of each server.
            required: The demand on the server that is used: ``"any"``, ``"read-write"`` or ``"primary"``.
            schema: Name of the schema; ``None`` is ``public``.
            options: The options.
        """

    @staticmethod
    def connect_postgres_entra(place: dict[str, object], schema: str | None, options: dict[str, object]) -> Store:
        """Connect to Azure Database for PostgreSQL with tokens."""

    @property
    def kind(self) -> str:
        """``"memory"``, ``"sqlite"`` or ``"postgres"``."""

    @property
    def schema(self) -> str | None:
        """Schema of its tables, on PostgreSQL."""

    @property
    def description(self) -> str:
        """The kind and place of the store, without secrets."""

    def back_up(self, path: str) -> None:
        """Copy the state of the store at one moment into a new file."""

    def tune(self) -> list[str]:
        """Add indexes and settings to a PostgreSQL store; return what was missing."""

    def missing_rights(self) -> list[str]:
        """Return the statements that give the role of a PostgreSQL store the rights that it lacks."""

    def close(self) -> None:
        """Close the store; may be called twice."""

@final
class Call(Generic[_T]):
    """The description of one call of a client, which can be made once."""

    def then(self, decode: Callable[[_T], _U]) -> Call[_U]:
        """Convert the answer with ``decode``, which runs where the caller waits for the answer."""

    def run(self) -> _T:
        """Make the call, and wait for its answer with the interpreter released.

        Raises:
            NotAllowedInOrchestration: An orchestration calls.
            RuntimeError: The call was made already.
        """

    def begin(self, queue: LoopQueue) -> Awaited[_T]:
        """Make the call without waiting.

        Raises:
            RuntimeError: The call was made already.
        """

@final
class Awaited(Generic[_T]):
    """A call that runs for an event loop."""

    def __await__(self) -> Generator[Any, Any, _T]:
        """Wait for the answer, on that loop."""

    def abort(self) -> None:
        """Give the call up, unless it has ended."""

@final
class LoopQueue:
    """Takes the results of calls to one event loop; many that arrive at once wake the loop once."""

    @staticmethod
    def of_running_loop(last: LoopQueue | None) -> LoopQueue:
        """Return the queue of the running loop.

        Args:
            last: The queue that the caller used last, which is returned if it belongs to the running loop.

        Raises:
            NotAllowedInOrchestration: The caller is an orchestration.
            RuntimeError: No loop runs in this thread.
        """

    def complete(self) -> None:
        """Complete the futures of the calls that have ended; the loop calls it."""

@final
class StatusRecord:
    """How an instance stands."""

    @property
    def status(self) -> str: ...
    @property
    def output(self) -> str | None: ...
    @property
    def failure(self) -> str | None: ...
    @property
    def cancel_reason(self) -> str | None: ...
    @property
    def cleanup_failure(self) -> str | None: ...
    @property
    def termination(self) -> str | None: ...
    @property
    def custom_status(self) -> str | None: ...
    @property
    def custom_status_version(self) -> int: ...
    @property
    def mismatch(self) -> str | None: ...

@final
class InstanceQuery:
    """Which instances a list or a count is about, with checked values; times in milliseconds since 1970."""

    def __new__(
        cls,
        *,
        statuses: list[str],
        name: str | None,
        version: str | None,
        id_prefix: str | None,
        parent: str | None,
        created_from: int | None,
        created_to: int | None,
        ended_from: int | None,
        ended_to: int | None,
        has_mismatch: bool | None,
    ) -> Self: ...

@final
class PageRecord:
    """A page of a list."""

    @property
    def summaries(self) -> list[SummaryRecord]: ...
    @property
    def next(self) -> tuple[int, str] | None:
        """The place of the last instance, if there is another page."""

@final
class SummaryRecord:
    """What a list tells of an instance."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str | None: ...
    @property
    def status(self) -> str: ...
    @property
    def created_ms(self) -> int: ...
    @property
    def started_ms(self) -> int | None: ...
    @property
    def ended_ms(self) -> int | None: ...
    @property
    def custom_status(self) -> str | None: ...
    @property
    def failure(self) -> str | None: ...
    @property
    def cancel_reason(self) -> str | None: ...
    @property
    def cleanup_failure(self) -> str | None: ...
    @property
    def termination(self) -> str | None: ...
    @property
    def parent(self) -> str | None: ...
    @property
    def executions(self) -> int: ...
    @property
    def has_mismatch(self) -> bool: ...

@final
class CountRecord:
    """How many instances of a name have a status."""

    @property
    def name(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def count(self) -> int: ...

@final
class InstanceRecord:
    """The recorded facts about an instance."""

    @property
    def instance_id(self) -> str: ...
    @property
    def orchestration_name(self) -> str: ...
    @property
    def orchestration_version(self) -> str: ...
    @property
    def current_execution_id(self) -> int: ...
    @property
    def status(self) -> str: ...
    @property
    def output(self) -> str | None: ...
    @property
    def created_at(self) -> int: ...
    @property
    def updated_at(self) -> int: ...
    @property
    def parent_instance_id(self) -> str | None: ...
    @property
    def has_begun(self) -> bool: ...

@final
class ExecutionRecord:
    """The recorded facts about one execution of an instance."""

    @property
    def execution_id(self) -> int: ...
    @property
    def status(self) -> str: ...
    @property
    def output(self) -> str | None: ...
    @property
    def started_at(self) -> int: ...
    @property
    def completed_at(self) -> int | None: ...
    @property
    def event_count(self) -> int: ...

@final
class EventRecord:
    """One event of a history."""

    @property
    def event_id(self) -> int: ...
    @property
    def source_event_id(self) -> int | None: ...
    @property
    def kind(self) -> str: ...
    @property
    def timestamp_ms(self) -> int: ...
    @property
    def data(self) -> str:
        """JSON text of the fields of the kind."""

    @property
    def execution_id(self) -> int: ...

@final
class TreeRecord:
    """An instance at the root of a tree, and all instances of the tree."""

    @property
    def root_id(self) -> str: ...
    @property
    def all_ids(self) -> list[str]: ...

@final
class Client:
    """The client's operations on checked arguments and JSON text; wrapped by ``Client`` and ``AsyncClient``."""

    def __new__(cls, store: Store) -> Self: ...
    def start(self, request: EncodedStart, if_exists: str) -> Call[tuple[bool, bool]]:
        """Answer whether the instance was started, and whether one that existed has another input."""

    def raise_event(self, instance: str, name: str, data: str) -> Call[bool]: ...
    def enqueue_event(self, instance: str, queue: str, data: str) -> Call[bool]: ...
    def start_all(self, requests: list[EncodedStart], if_exists: str) -> Call[list[bool]]: ...
    def raise_events(self, events: list[EncodedMessage]) -> Call[list[bool]]: ...
    def enqueue_events(self, messages: list[EncodedMessage]) -> Call[list[bool]]: ...
    def relayed(self, outbox: str) -> Call[int | None]: ...
    def relay(self, outbox: str, seen: int | None, last: int, rows: list[OutboxRow]) -> Call[RelayAnswer | None]:
        """Send the rows; the answer is ``None`` where another process works on the store."""

    def restart(
        self, instance: str, new_instance: str | None, input: str | None, version: str | None
    ) -> Call[bool]: ...
    def cancel(self, instance: str, reason: str) -> Call[bool]: ...
    def terminate(self, instance: str, reason: str, output: str | None, recursive: bool) -> Call[bool]: ...
    def status(self, instance: str) -> Call[StatusRecord]: ...
    def wait(self, instance: str, timeout_ms: int) -> Call[StatusRecord]: ...
    def wait_for_status_change(
        self, instance: str, last_seen_version: int, poll_interval_ms: int, timeout_ms: int
    ) -> Call[StatusRecord | None]: ...
    def kv_value(self, instance: str, key: str) -> Call[str | None]: ...
    def kv_values(self, instance: str) -> Call[dict[str, str]]: ...
    def wait_for_kv_value(self, instance: str, key: str, timeout_ms: int) -> Call[str]: ...
    def list_instances(self, status: str | None) -> Call[list[str]]: ...
    def instance_info(self, instance: str) -> Call[InstanceRecord]: ...
    def describe(self, instance: str) -> Call[str]: ...
    def page(
        self, query: InstanceQuery, is_oldest_first: bool, limit: int, after: tuple[int, str] | None
    ) -> Call[PageRecord]: ...
    def counts(self, query: InstanceQuery) -> Call[list[CountRecord]]: ...
    def execution_info(self, instance: str, execution_id: int) -> Call[ExecutionRecord]: ...
    def list_executions(self, instance: str) -> Call[list[int]]: ...
    def history(self, instance: str, execution_id: int | None) -> Call[list[EventRecord]]: ...
    def stats(self, instance: str) -> Call[dict[str, int] | None]: ...
    def system_metrics(self) -> Call[dict[str, int]]: ...
    def queue_depths(self) -> Call[dict[str, int]]: ...
    def tree(self, instance: str) -> Call[TreeRecord]: ...
    def delete(self, instance: str, force: bool) -> Call[dict[str, int]]: ...
    def delete_bulk(
        self, instance_ids: list[str] | None, completed_before: int | None, limit: int | None
    ) -> Call[dict[str, int]]: ...
    def prune(self, instance: str, keep_last: int | None, completed_before: int | None) -> Call[dict[str, int]]: ...
    def prune_bulk(
        self,
        instance_ids: list[str] | None,
        filter_completed_before: int | None,
        limit: int | None,
        keep_last: int | None,
        completed_before: int | None,
    ) -> Call[dict[str, int]]: ...

@final
class Runtime:
    """The engine's runtime, which runs once; wrapped by ``duroxide.Runtime``."""

    def __new__(cls, store: Store, options: dict[str, object]) -> Self: ...
    def start(
        self,
        activities: list[ActivityDefinition],
        orchestrations: list[OrchestrationDefinition],
        hosts: dict[str, ActivityHost],
        client: Callable[[], object],
    ) -> None: ...
    def shutdown(self, timeout_ms: int) -> None: ...
    def metrics(self) -> dict[str, int]: ...

@final
class Worker:
    """The source of work for one thread of activities."""

    def take(self) -> PreparedActivity | None:
        """Wait for the next activity; ``None`` when the thread is to end."""

@final
class PreparedActivity:
    """An activity that a thread is to call."""

    @property
    def function(self) -> Callable[[ActivityContext, Any], object]: ...
    @property
    def context(self) -> ActivityContext: ...
    @property
    def input(self) -> Any: ...
    @property
    def done(self) -> Callable[[object, BaseException | None], None]:
        """The thread calls it with the result, or with ``None`` and the error."""

def init_tracing(log_file: str | None = None, log_level: str | None = None, log_format: str | None = None) -> None:
    """Send the engine's logs and the traces of orchestrations and activities to a file or the terminal.

    Args:
        log_file: Path of the file to append to; default ``None``, the standard error stream.
        log_level: ``"off"``, ``"error"``, ``"warn"``, ``"info"``, ``"debug"`` or ``"trace"``; default ``None``,
            unchanged. The environment variable ``RUST_LOG`` overrides it.
        log_format: ``"pretty"``, ``"compact"`` or ``"json"``; default ``None``, pretty.

    Raises:
        ConfigurationError: The level or the format is unknown, or the file cannot be opened.
    """

def deliver_logs_to(deliver: Callable[[str, int, str, dict[str, object]], None]) -> None:
    """Pass log records to ``deliver(logger_name, level, message, fields)``.

    They arrive on a separate thread, which starts with the first record of each process.
    """

def escaped(text: str) -> str:
    r"""Return the text with its control characters but tabs as escapes, such as ``\n`` and ``\u{1b}``."""

def stop_logging() -> None:
    """Deliver the waiting records, and end that thread."""

def look_up_exceptions() -> None:
    """Find the classes of exceptions now: an import at first use fails while the interpreter ends."""

def end_sections() -> None:
    """Wait until no other thread runs Python code below native code, a second at most, and let none begin.

    Python calls it at the end of the process, which could not unwind such a thread.
    """
