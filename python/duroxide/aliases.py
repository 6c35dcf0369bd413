"""The names of the earlier SDK, each another name of the same class, and its module ``duroxide.context``."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

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
OrchestrationStatus = records.OrchestrationResult
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


def install_context_module(context: Any) -> None:
    """Make ``from duroxide.context import OrchestrationContext`` work beside the function ``duroxide.context()``.

    A file of that name would replace the function, since an import of a module assigns it to its package.

    Args:
        context: The function; it gets the names of the module too, for ``import duroxide.context as ...``.
    """
    name = "duroxide.context"
    module = ModuleType(name, "The contexts and the task, where the earlier SDK had them.")
    module.__spec__ = ModuleSpec(name, None)
    for each in ("OrchestrationContext", "ActivityContext"):
        setattr(module, each, getattr(_native, each))
    module.ScheduledTask = ScheduledTask  # type: ignore[attr-defined]
    for each in ("OrchestrationContext", "ActivityContext", "ScheduledTask"):
        setattr(context, each, getattr(module, each))
    sys.modules[name] = module
