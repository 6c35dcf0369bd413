"""The ``Py*`` names of an earlier SDK, and its word for a task; each is another name of the same class."""

from __future__ import annotations

from duroxide import _native, client, options, providers, records, runtime

PyActivityContext = _native.ActivityContext
PyClient = client.Client
PyDeleteInstanceResult = records.DeleteInstanceResult
PyEvent = records.Event
PyExecutionInfo = records.ExecutionInfo
PyInstanceFilter = options.InstanceFilter
PyInstanceInfo = records.InstanceInfo
PyInstanceTree = records.InstanceTree
PyMetricsSnapshot = records.MetricsSnapshot
PyOrchestrationContext = _native.OrchestrationContext
PyOrchestrationResult = records.OrchestrationResult
PyOrchestrationStatus = records.OrchestrationResult
PyPostgresEntraOptions = options.PostgresEntraOptions
PyPostgresProvider = providers.PostgresProvider
PyPruneOptions = options.PruneOptions
PyPruneResult = records.PruneResult
PyQueueDepths = records.QueueDepths
PyRetryPolicy = options.RetryPolicy
PyRuntime = runtime.Runtime
PyRuntimeOptions = options.RuntimeOptions
PySqliteProvider = providers.SqliteProvider
PySystemMetrics = records.SystemMetrics
PySystemStats = records.SystemStats
PyTagFilter = options.TagFilter
ScheduledTask = _native.Task
