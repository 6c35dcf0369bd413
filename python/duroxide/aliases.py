"""The ``Py*`` names of an earlier SDK, and its name for a task; each is another name of the same class."""

from __future__ import annotations

from duroxide import _native
from duroxide._client import client, records
from duroxide._client import options as client_options
from duroxide._declare import retry, tags
from duroxide._runtime import options as runtime_options
from duroxide._runtime import runtime
from duroxide._store import postgres_options, providers

PyActivityContext = _native.ActivityContext
PyClient = client.Client
PyDeleteInstanceResult = records.DeleteInstanceResult
PyEvent = records.Event
PyExecutionInfo = records.ExecutionInfo
PyInstanceFilter = client_options.InstanceFilter
PyInstanceInfo = records.InstanceInfo
PyInstanceTree = records.InstanceTree
PyMetricsSnapshot = records.MetricsSnapshot
PyOrchestrationContext = _native.OrchestrationContext
PyOrchestrationResult = records.OrchestrationResult
PyOrchestrationStatus = records.OrchestrationResult
PyPostgresEntraOptions = postgres_options.PostgresEntraOptions
PyPostgresProvider = providers.PostgresProvider
PyPruneOptions = client_options.PruneOptions
PyPruneResult = records.PruneResult
PyQueueDepths = records.QueueDepths
PyRetryPolicy = retry.RetryPolicy
PyRuntime = runtime.Runtime
PyRuntimeOptions = runtime_options.RuntimeOptions
PySqliteProvider = providers.SqliteProvider
PySystemMetrics = records.SystemMetrics
PySystemStats = records.SystemStats
PyTagFilter = tags.TagFilter
ScheduledTask = _native.Task
