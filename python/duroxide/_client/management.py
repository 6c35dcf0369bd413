"""The administrative calls of a client: lists, histories, metrics, deletion, pruning."""

from __future__ import annotations

from duroxide import _native
from duroxide._client.calls import blocking
from duroxide._client.descriptions import InstanceDescription, read_description
from duroxide._client.options import InstanceFilter, PruneOptions
from duroxide._client.records import (
    DeleteInstanceResult,
    Event,
    ExecutionInfo,
    InstanceInfo,
    InstanceTree,
    PruneResult,
    QueueDepths,
    SystemMetrics,
    SystemStats,
    read_execution,
    read_history,
    read_instance,
    read_tree,
)
from duroxide._native import Call
from duroxide._values.validation import check_id, check_integer, suggest

_STATUSES = ("Running", "Completed", "Failed", "ContinuedAsNew")


class ManagementOperations:
    """The administrative operations of ``Client``."""

    _native: _native.Client

    def has_management_capability(self) -> bool:
        """Tell whether the store supports the operations below; every store of this package does."""
        return True

    @blocking
    def list_all_instances(self) -> Call[list[str]]:
        """List the ids of all instances."""
        return self._native.list_instances(None)

    @blocking
    def list_instances_by_status(self, status: str) -> Call[list[str]]:
        """List the ids of the instances with a status.

        Args:
            status: ``"Running"``, ``"Completed"``, ``"Failed"`` or ``"ContinuedAsNew"``.

        Raises:
            ValueError: ``status`` is none of these.
        """
        if status not in _STATUSES:
            raise ValueError(f"status {status!r} is unknown; {suggest(str(status), _STATUSES)}")
        return self._native.list_instances(status)

    @blocking
    def get_instance_info(self, instance_id: str) -> Call[InstanceInfo]:
        """Read the store's record of the instance ``instance_id``.

        Raises:
            InstanceNotFound: The store does not have the instance.
        """
        return self._native.instance_info(check_id(instance_id)).then(read_instance)

    @blocking
    def describe(self, instance_id: str) -> Call[InstanceDescription]:
        """Say what an instance waits for, since when, and what stands in its way.

        The answer is put together from the history of the instance, the queues, and what the processes with runtimes
        report. On PostgreSQL these report every five seconds. On SQLite, a client process asks the process that works on
        the file.

        Args:
            instance_id: The instance.

        Raises:
            InstanceNotFound: The store does not have the instance.
        """
        return self._native.describe(check_id(instance_id)).then(read_description)

    @blocking
    def get_execution_info(self, instance_id: str, execution_id: int) -> Call[ExecutionInfo]:
        """Read the store's record of one execution of an instance.

        Args:
            instance_id: The instance.
            execution_id: Number of the execution, counted from 1.

        Raises:
            InstanceNotFound: The store does not have the instance or the execution.
        """
        return self._native.execution_info(check_id(instance_id), _check_execution(execution_id)).then(read_execution)

    @blocking
    def list_executions(self, instance_id: str) -> Call[list[int]]:
        """List the numbers of the executions of ``instance_id``, the oldest first.

        Raises:
            InstanceNotFound: The store does not have the instance.
        """
        return self._native.list_executions(check_id(instance_id))

    @blocking
    def read_execution_history(self, instance_id: str, execution_id: int | None = None) -> Call[list[Event]]:
        """Read the history of one execution.

        Args:
            instance_id: The instance.
            execution_id: Number of the execution; default ``None``, the newest one.

        Returns:
            Its events, in order; empty until a runtime has fetched its start.

        Raises:
            InstanceNotFound: The store does not have the instance or the execution.
        """
        execution = None if execution_id is None else _check_execution(execution_id)
        history = self._native.history(check_id(instance_id), execution)
        return history.then(read_history)

    @blocking
    def get_orchestration_stats(self, instance_id: str) -> Call[SystemStats | None]:
        """Read the size of the instance ``instance_id``, or ``None`` if the store does not have it."""
        stats = self._native.stats(check_id(instance_id))
        return stats.then(lambda fields: None if fields is None else SystemStats(**fields))

    @blocking
    def get_system_metrics(self) -> Call[SystemMetrics]:
        """Count instances, executions and events in the whole store."""
        return self._native.system_metrics().then(lambda fields: SystemMetrics(**fields))

    @blocking
    def get_queue_depths(self) -> Call[QueueDepths]:
        """Count the messages that wait in the store."""
        return self._native.queue_depths().then(lambda fields: QueueDepths(**fields))

    @blocking
    def get_instance_tree(self, instance_id: str) -> Call[InstanceTree]:
        """List the instance ``instance_id`` and all its sub-orchestrations.

        Raises:
            InstanceNotFound: The store does not have the instance.
        """
        return self._native.tree(check_id(instance_id)).then(read_tree)

    @blocking
    def delete_instance(self, instance_id: str, force: bool = False) -> Call[DeleteInstanceResult]:
        """Delete an instance with its sub-orchestrations, histories and messages.

        Args:
            instance_id: A root instance.
            force: Whether to delete it even while it runs; default False.

        Returns:
            How much was removed.

        Raises:
            InstanceNotFound: The store does not have the instance.
            InstanceStillRunning: It runs, and ``force`` is False.
            ClientError: It is a sub-orchestration.
        """
        if not isinstance(force, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"force must be a bool, not {type(force).__name__}")
        return self._native.delete(check_id(instance_id), force).then(lambda fields: DeleteInstanceResult(**fields))

    @blocking
    def delete_instance_bulk(self, filter: InstanceFilter | None = None) -> Call[DeleteInstanceResult]:
        """Delete ended root instances.

        Args:
            filter: Which instances; default ``None``, all that have ended. One call deletes at most 1,000, a limit of
                the engine.

        Returns:
            How much was removed in all.
        """
        ids, completed_before, limit = _filter_parts(filter)
        return self._native.delete_bulk(ids, completed_before, limit).then(
            lambda fields: DeleteInstanceResult(**fields)
        )

    @blocking
    def prune_executions(self, instance_id: str, options: PruneOptions | None = None) -> Call[PruneResult]:
        """Remove old executions of an instance that continued as new.

        Args:
            instance_id: The instance.
            options: Which executions to remove; the current one always stays. Default ``None``, all others.

        Returns:
            How much was removed.

        Raises:
            InstanceNotFound: The store does not have the instance.
        """
        return self._native.prune(check_id(instance_id), *_prune_parts(options)).then(
            lambda fields: PruneResult(**fields)
        )

    @blocking
    def prune_executions_bulk(
        self, filter: InstanceFilter | None = None, options: PruneOptions | None = None
    ) -> Call[PruneResult]:
        """Remove old executions of many instances.

        Args:
            filter: Which instances; default ``None``, all. One call takes at most 1,000, a limit of the engine.
            options: Which executions of each to remove; default ``None``, all but the current one.

        Returns:
            How much was removed in all.
        """
        return self._native.prune_bulk(*_filter_parts(filter), *_prune_parts(options)).then(
            lambda fields: PruneResult(**fields)
        )


def _check_execution(execution_id: object) -> int:
    return check_integer(execution_id, "execution_id", least=1)


def _filter_parts(filter: object) -> tuple[list[str] | None, int | None, int | None]:
    if filter is None:
        return None, None, None
    if not isinstance(filter, InstanceFilter):
        raise TypeError(f"filter must be an InstanceFilter, not {type(filter).__name__}")
    ids = None if filter.instance_ids is None else list(filter.instance_ids)
    return ids, _moment(filter.completed_before), filter.limit


def _prune_parts(options: object) -> tuple[int | None, int | None]:
    if options is None:
        return None, None
    if not isinstance(options, PruneOptions):
        raise TypeError(f"options must be PruneOptions, not {type(options).__name__}; write PruneOptions(keep_last=5)")
    return options.keep_last, _moment(options.completed_before)


def _moment(completed_before: object) -> int | None:
    # The options have converted a datetime to milliseconds.
    return completed_before if isinstance(completed_before, int) else None
