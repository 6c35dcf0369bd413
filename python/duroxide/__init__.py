"""Durable workflows as ordinary Python, on the duroxide engine."""

from __future__ import annotations

import atexit as _atexit

if __name__ != "duroxide":
    raise ImportError(
        f"duroxide was imported as {__name__!r}, and its parts find each other as 'duroxide' alone: put the folder that "
        "holds it on sys.path, and import it under its own name"
    )

from duroxide import _native
from duroxide import aliases as _aliases
from duroxide._client.async_client import (
    AsyncClient,
)
from duroxide._client.async_handles import (
    AsyncHandle,
)
from duroxide._client.bulk import (
    EventToRaise,
    QueueMessage,
    StartRequest,
)
from duroxide._client.client import (
    Client,
)
from duroxide._client.descriptions import (
    ActivityWait,
    ChildWait,
    EventWait,
    InstanceDescription,
    Obstacle,
    QueueWait,
    TimerWait,
    UnreadMessages,
    Wait,
)
from duroxide._client.handles import (
    Handle,
)
from duroxide._client.listing import (
    InstancePage,
    InstanceSummary,
)
from duroxide._client.options import (
    InstanceFilter,
    PruneOptions,
)
from duroxide._client.records import (
    DeleteInstanceResult,
    Event,
    ExecutionInfo,
    InstanceInfo,
    InstanceTree,
    MetricsSnapshot,
    OrchestrationResult,
    PruneResult,
    QueueDepths,
    SystemMetrics,
    SystemStats,
)
from duroxide._declare.declarations import (
    Activity,
    Orchestration,
)
from duroxide._declare.decorators import (
    activity,
    orchestration,
)
from duroxide._declare.definitions import (
    ActivityDefinition,
    OrchestrationDefinition,
)
from duroxide._declare.retry import (
    Backoff,
    RetryPolicy,
)
from duroxide._declare.tags import (
    TagFilter,
)
from duroxide._native import (
    ActivityContext,
    OrchestrationContext,
    Task,
    engine_version,
    sqlite_version,
)
from duroxide._orchestration import context_calls as _context_calls
from duroxide._orchestration import event_loop as _event_loop
from duroxide._orchestration import typed_context as _typed_context
from duroxide._orchestration import unawaited as _unawaited
from duroxide._orchestration.outcomes import (
    Outcome,
    Winner,
)
from duroxide._runtime import activity_thread as _activity_thread
from duroxide._runtime import cut_off as _cut_off
from duroxide._runtime import detached_context as _detached_context
from duroxide._runtime import logs as _logs
from duroxide._runtime import runtime as _runtime_module
from duroxide._runtime.current_context import (
    context,
    continue_as_new,
    dequeue_event,
    wait_for_event,
)
from duroxide._runtime.options import (
    RuntimeOptions,
)
from duroxide._runtime.printed_logs import (
    init_tracing,
)
from duroxide._runtime.process_context import (
    ProcessActivityContext,
)
from duroxide._runtime.runtime import (
    Runtime,
)
from duroxide._store.postgres_options import (
    PostgresEntraOptions,
    PostgresOptions,
)
from duroxide._store.providers import (
    PostgresProvider,
    Provider,
    SqliteProvider,
)
from duroxide._transactions.client import (
    AsyncTransactionClient,
    TransactionClient,
)
from duroxide._transactions.outbox import (
    Outbox,
    SetAsideRow,
)
from duroxide._values.limits import (
    MAX_BULK_ITEMS,
    MAX_DURATION_MS,
    MAX_KV_KEYS,
    MAX_KV_VALUE_BYTES,
    MAX_NAME_BYTES,
    MAX_PAYLOAD_BYTES,
    MAX_TAG_NAME_BYTES,
    MAX_WORKER_TAGS,
)
from duroxide.aliases import (
    OrchestrationStatus,
    PyActivityContext,
    PyClient,
    PyDeleteInstanceResult,
    PyEvent,
    PyExecutionInfo,
    PyInstanceFilter,
    PyInstanceInfo,
    PyInstanceTree,
    PyMetricsSnapshot,
    PyOrchestrationContext,
    PyOrchestrationResult,
    PyOrchestrationStatus,
    PyPostgresEntraOptions,
    PyPostgresProvider,
    PyPruneOptions,
    PyPruneResult,
    PyQueueDepths,
    PyRetryPolicy,
    PyRuntime,
    PyRuntimeOptions,
    PySqliteProvider,
    PySystemMetrics,
    PySystemStats,
    PyTagFilter,
    ScheduledTask,
)
from duroxide.exceptions import (
    ActivityFailed,
    ActivityTimedOut,
    ClientError,
    CodecError,
    ConfigurationError,
    DuroxideError,
    InstanceAlreadyExists,
    InstanceNotFound,
    InstanceStillRunning,
    LimitExceeded,
    NondeterminismError,
    NotAllowedInOrchestration,
    NotInOrchestration,
    OrchestrationCancelled,
    OrchestrationFailed,
    OrchestrationTerminated,
    PoisonMessageError,
    ProviderError,
    RegistrationError,
    SubOrchestrationFailed,
    SubOrchestrationTimedOut,
    TaskFailed,
    TurnClosed,
    UnknownOption,
    WaitTimedOut,
)

__all__ = [
    "MAX_BULK_ITEMS",
    "MAX_DURATION_MS",
    "MAX_KV_KEYS",
    "MAX_KV_VALUE_BYTES",
    "MAX_NAME_BYTES",
    "MAX_PAYLOAD_BYTES",
    "MAX_TAG_NAME_BYTES",
    "MAX_WORKER_TAGS",
    "Activity",
    "ActivityContext",
    "ActivityDefinition",
    "ActivityFailed",
    "ActivityTimedOut",
    "ActivityWait",
    "AsyncClient",
    "AsyncHandle",
    "AsyncTransactionClient",
    "Backoff",
    "ChildWait",
    "Client",
    "ClientError",
    "CodecError",
    "ConfigurationError",
    "DeleteInstanceResult",
    "DuroxideError",
    "Event",
    "EventToRaise",
    "EventWait",
    "ExecutionInfo",
    "Handle",
    "InstanceAlreadyExists",
    "InstanceDescription",
    "InstanceFilter",
    "InstanceInfo",
    "InstanceNotFound",
    "InstancePage",
    "InstanceStillRunning",
    "InstanceSummary",
    "InstanceTree",
    "LimitExceeded",
    "MetricsSnapshot",
    "NondeterminismError",
    "NotAllowedInOrchestration",
    "NotInOrchestration",
    "Obstacle",
    "Orchestration",
    "OrchestrationCancelled",
    "OrchestrationContext",
    "OrchestrationDefinition",
    "OrchestrationFailed",
    "OrchestrationResult",
    "OrchestrationStatus",
    "OrchestrationTerminated",
    "Outbox",
    "Outcome",
    "PoisonMessageError",
    "PostgresEntraOptions",
    "PostgresOptions",
    "PostgresProvider",
    "ProcessActivityContext",
    "Provider",
    "ProviderError",
    "PruneOptions",
    "PruneResult",
    "PyActivityContext",
    "PyClient",
    "PyDeleteInstanceResult",
    "PyEvent",
    "PyExecutionInfo",
    "PyInstanceFilter",
    "PyInstanceInfo",
    "PyInstanceTree",
    "PyMetricsSnapshot",
    "PyOrchestrationContext",
    "PyOrchestrationResult",
    "PyOrchestrationStatus",
    "PyPostgresEntraOptions",
    "PyPostgresProvider",
    "PyPruneOptions",
    "PyPruneResult",
    "PyQueueDepths",
    "PyRetryPolicy",
    "PyRuntime",
    "PyRuntimeOptions",
    "PySqliteProvider",
    "PySystemMetrics",
    "PySystemStats",
    "PyTagFilter",
    "QueueDepths",
    "QueueMessage",
    "QueueWait",
    "RegistrationError",
    "RetryPolicy",
    "Runtime",
    "RuntimeOptions",
    "ScheduledTask",
    "SetAsideRow",
    "SqliteProvider",
    "StartRequest",
    "SubOrchestrationFailed",
    "SubOrchestrationTimedOut",
    "SystemMetrics",
    "SystemStats",
    "TagFilter",
    "Task",
    "TaskFailed",
    "TimerWait",
    "TransactionClient",
    "TurnClosed",
    "UnknownOption",
    "UnreadMessages",
    "Wait",
    "WaitTimedOut",
    "Winner",
    "__version__",
    "activity",
    "context",
    "continue_as_new",
    "dequeue_event",
    "engine_version",
    "init_tracing",
    "orchestration",
    "sqlite_version",
    "wait_for_event",
]

__version__: str = _native.version
"""Version of the package."""

_context_calls.install()
_typed_context.install()
_detached_context.install(OrchestrationContext, ActivityContext)
_aliases.install_context_module(context)
_logs.silence_by_default()
_logs.keep_enabled()
_native.deliver_logs_to(_logs.deliver)
_native.look_up_exceptions()
# The native half uses these modules. An import at first use may fail, and would fail an orchestration or an activity.
_USED_BY_NATIVE_HALF = (_activity_thread, _event_loop, _unawaited)

_cut_off.watch_for_end()

# atexit runs the last registered function first, so the logs end after the runtimes, and then all other Python code below
# native code.
_atexit.register(_native.end_sections)
_atexit.register(_native.stop_logging)
_atexit.register(_runtime_module.shut_down_all)
