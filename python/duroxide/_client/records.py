"""The records that the client and the runtime return: frozen, read by attribute or by subscript."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from duroxide._client.event_data import with_values
from duroxide._values.codec import decode
from duroxide._values.failures import describe_failure
from duroxide.exceptions import InstanceNotFound, InstanceStillRunning, OrchestrationFailed, orchestration_failed

if TYPE_CHECKING:
    from duroxide._native import EventRecord, ExecutionRecord, InstanceRecord, StatusRecord, TreeRecord


class Record(Mapping[str, Any]):
    """Gives a dataclass the reading half of a dict: ``record["name"]`` is ``record.name``."""

    __slots__ = ()

    def __getitem__(self, name: str) -> Any:
        if name not in self._names():
            raise KeyError(name)
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def _names(self) -> list[str]:
        return [each.name for each in fields(self)]  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class OrchestrationResult(Record):
    """The status of an instance.

    Attributes:
        status: ``"NotFound"``, ``"Running"``, ``"Completed"`` or ``"Failed"``; a cancelled orchestration has failed.
        output: The decoded value that the orchestration returned; ``None`` unless it is completed. Text that is not
            JSON stays a ``str``.
        error: The failure as text, such as ``ValueError: email is required``; ``None`` unless it has failed.
        failure: The failure as the exception that ``result()`` raises; ``None`` unless it has failed. If the failure of an
            activity or child caused it, that one is its ``__cause__``.
        custom_status: The text that the orchestration last set, or ``None``.
        custom_status_version: How often the orchestration set or reset the custom status.
        instance_id: The instance.
        mismatch: Where the code of the orchestration no longer agrees with its history; the instance waits for code
            that does. ``None`` in a healthy instance.
    """

    status: str
    output: Any = None
    error: str | None = None
    custom_status: str | None = None
    custom_status_version: int = 0
    instance_id: str = field(default="", kw_only=True)
    failure: OrchestrationFailed | None = field(default=None, compare=False, kw_only=True)
    mismatch: str | None = field(default=None, kw_only=True)

    def result(self) -> Any:
        """Return the output of a completed orchestration.

        Raises:
            OrchestrationFailed: It failed.
            OrchestrationCancelled: It was cancelled.
            OrchestrationTerminated: It was terminated.
            InstanceStillRunning: It has not ended.
            InstanceNotFound: The store does not have the instance.
        """
        if self.failure is not None:
            raise self.failure
        if self.status == "NotFound":
            raise InstanceNotFound(f"instance '{self.instance_id}' does not exist in this store")
        if self.status == "Running":
            reason = f": {self.mismatch}" if self.mismatch else "; wait for it with wait_for_orchestration"
            raise InstanceStillRunning(f"instance '{self.instance_id}' has not ended{reason}")
        return self.output


def read_status(instance_id: str, answer: StatusRecord) -> OrchestrationResult:
    """Build the record from the native client's answer about ``instance_id``."""
    output, failure = answer.output, None
    if answer.failure is not None or answer.cancel_reason is not None:
        failure = orchestration_failed(
            answer.failure or "", instance_id, answer.cancel_reason, answer.cleanup_failure, answer.termination
        )
    return OrchestrationResult(
        instance_id=instance_id,
        status=answer.status,
        output=None if output is None else decode(output),
        error=None if failure is None else describe_failure(str(failure)),
        failure=failure,
        custom_status=answer.custom_status,
        custom_status_version=answer.custom_status_version,
        mismatch=answer.mismatch,
    )


@dataclass(frozen=True, slots=True)
class InstanceInfo(Record):
    """The store's record of an instance.

    Attributes:
        instance_id: The instance.
        orchestration_name: Name of its orchestration.
        orchestration_version: Version of its orchestration.
        current_execution_id: Number of its newest execution, counted from 1.
        status: ``"Running"``, ``"Completed"``, ``"Failed"`` or ``"ContinuedAsNew"``.
        output: Recorded text of its output or failure, or ``None`` while it runs.
        created_at: When it was created, in milliseconds since 1970.
        updated_at: When it last changed, in milliseconds since 1970.
        parent_instance_id: Instance that started it as a sub-orchestration, or ``None`` for a root.
        has_begun: Whether a runtime has recorded its first turn. Before that the status is ``"Running"``, and the version
            is ``"unknown"`` unless the start named one.
    """

    instance_id: str
    orchestration_name: str
    orchestration_version: str
    current_execution_id: int
    status: str
    output: str | None
    created_at: int
    updated_at: int
    parent_instance_id: str | None
    has_begun: bool = True


def read_instance(answer: InstanceRecord) -> InstanceInfo:
    """Build the record of what the native client answered."""
    return InstanceInfo(
        instance_id=answer.instance_id,
        orchestration_name=answer.orchestration_name,
        orchestration_version=answer.orchestration_version,
        current_execution_id=answer.current_execution_id,
        status=answer.status,
        output=answer.output,
        created_at=answer.created_at,
        updated_at=answer.updated_at,
        parent_instance_id=answer.parent_instance_id,
        has_begun=answer.has_begun,
    )


@dataclass(frozen=True, slots=True)
class ExecutionInfo(Record):
    """The store's record of one execution of an instance.

    Attributes:
        execution_id: Its number, counted from 1.
        status: ``"Running"``, ``"Completed"``, ``"Failed"`` or ``"ContinuedAsNew"``.
        output: Recorded text of its output, its failure or the next execution's input; ``None`` while it runs.
        started_at: When it started, in milliseconds since 1970.
        completed_at: When it ended, in milliseconds since 1970, or ``None`` while it runs.
        event_count: Number of events in its history.
    """

    execution_id: int
    status: str
    output: str | None
    started_at: int
    completed_at: int | None
    event_count: int


def read_execution(answer: ExecutionRecord) -> ExecutionInfo:
    """Build the record of what the native client answered."""
    return ExecutionInfo(
        execution_id=answer.execution_id,
        status=answer.status,
        output=answer.output,
        started_at=answer.started_at,
        completed_at=answer.completed_at,
        event_count=answer.event_count,
    )


@dataclass(frozen=True, slots=True)
class Event(Record):
    """One event of a history.

    Attributes:
        event_id: Its number in the history, counted from 1.
        source_event_id: Number of the event that this one answers, or ``None``.
        kind: What happened, such as ``"ActivityCompleted"``.
        timestamp_ms: When it was recorded, in milliseconds since 1970.
        data: JSON text of the fields of this kind: ``name``, ``input``, ``result``, ``error`` and the like. Recorded values
            stand in it as values.
        execution_id: Number of the execution.
    """

    event_id: int
    source_event_id: int | None
    kind: str
    timestamp_ms: int
    data: str
    execution_id: int


def read_history(answers: list[EventRecord]) -> list[Event]:
    """Build the records of what the native client answered."""
    # By position and in one expression: names and a call for each event make 10,000 events 5 ms slower.
    return [
        Event(
            each.event_id, each.source_event_id, each.kind, each.timestamp_ms, with_values(each.data), each.execution_id
        )
        for each in answers
    ]


@dataclass(frozen=True, slots=True)
class InstanceTree(Record):
    """An instance with all its sub-orchestrations.

    Attributes:
        root_id: The instance at the top.
        all_ids: Every instance of the tree, the root included.
    """

    root_id: str
    all_ids: list[str]

    @property
    def size(self) -> int:
        """The number of its instances."""
        return len(self.all_ids)

    def _names(self) -> list[str]:
        return [*Record._names(self), "size"]


def read_tree(answer: TreeRecord) -> InstanceTree:
    """Build the record of what the native client answered."""
    return InstanceTree(root_id=answer.root_id, all_ids=answer.all_ids)


@dataclass(frozen=True, slots=True)
class SystemMetrics(Record):
    """Counts over the whole store.

    Attributes:
        total_instances: Instances of every status.
        total_executions: Executions of all instances.
        running_instances: Instances that have not ended.
        completed_instances: Instances that returned.
        failed_instances: Instances that failed or were cancelled.
        total_events: Events of all histories.
    """

    total_instances: int
    total_executions: int
    running_instances: int
    completed_instances: int
    failed_instances: int
    total_events: int


@dataclass(frozen=True, slots=True)
class QueueDepths(Record):
    """The numbers of messages that wait in the store.

    Attributes:
        orchestrator_queue: Messages that wait for a turn of their orchestration, without the timers that are not due.
        worker_queue: Activities that wait for a worker.
        timer_queue: Timers that are not due yet.
    """

    orchestrator_queue: int
    worker_queue: int
    timer_queue: int


@dataclass(frozen=True, slots=True)
class SystemStats(Record):
    """The size of one instance.

    Attributes:
        history_event_count: Events in the current execution's history.
        history_size_bytes: About the size of that history, in bytes.
        queue_pending_count: Queue messages that the previous execution left unread.
        kv_user_key_count: Keys in its key-value store.
        kv_total_value_bytes: Size of all values in it, in bytes.
    """

    history_event_count: int
    history_size_bytes: int
    queue_pending_count: int
    kv_user_key_count: int
    kv_total_value_bytes: int


@dataclass(frozen=True, slots=True)
class DeleteInstanceResult(Record):
    """The numbers of instances, executions, events and messages that a deletion removed.

    Attributes:
        instances_deleted: Instances, sub-orchestrations included.
        executions_deleted: Their executions.
        events_deleted: Events of their histories.
        queue_messages_deleted: Messages that waited for these instances.
    """

    instances_deleted: int
    executions_deleted: int
    events_deleted: int
    queue_messages_deleted: int


@dataclass(frozen=True, slots=True)
class PruneResult(Record):
    """The numbers of instances, executions and events that a pruning concerned.

    Attributes:
        instances_processed: Instances that the pruning read.
        executions_deleted: Executions that it removed.
        events_deleted: Events of their histories.
    """

    instances_processed: int
    executions_deleted: int
    events_deleted: int


@dataclass(frozen=True, slots=True)
class MetricsSnapshot(Record):
    """Counters of a runtime since its start.

    Attributes:
        orch_starts: Orchestrations started.
        orch_completions: Orchestrations that returned.
        orch_failures: Orchestrations that failed, for any reason.
        orch_application_errors: Failed orchestrations whose own code raised, or that were cancelled.
        orch_infrastructure_errors: Orchestrations that failed because the store failed.
        orch_configuration_errors: Orchestrations that failed because their code did not fit their history.
        orch_poison: Orchestrations that the engine gave up after too many deliveries.
        activity_success: Activities that returned.
        activity_app_errors: Activities that raised.
        activity_infra_errors: Activities whose end the store could not record.
        activity_config_errors: Activities that failed because they are not registered.
        activity_poison: Activities that the engine gave up after too many deliveries.
        orch_dispatcher_items_fetched: Batches of messages fetched for orchestrations.
        worker_dispatcher_items_fetched: Activities fetched.
        orch_continue_as_new: Executions that continued as new.
        suborchestration_calls: Sub-orchestrations started.
        provider_errors: Store operations that failed.
        active_orchestrations: Instances of the store that have not ended now, whichever runtime runs them.
        orch_waiting_for_code: Instances of the store that wait now for code that fits their history, or that is not
            registered.
        sessions_held_back: How often a session had to wait, since the runtime held as many as it may.
        activities_waiting_for_code: Activities that wait now for a runtime that has registered them.
        rows_left_out: Rows of the queues on PostgreSQL that this process leaves out now because of their values.
    """

    orch_starts: int = 0
    orch_completions: int = 0
    orch_failures: int = 0
    orch_application_errors: int = 0
    orch_infrastructure_errors: int = 0
    orch_configuration_errors: int = 0
    orch_poison: int = 0
    activity_success: int = 0
    activity_app_errors: int = 0
    activity_infra_errors: int = 0
    activity_config_errors: int = 0
    activity_poison: int = 0
    orch_dispatcher_items_fetched: int = 0
    worker_dispatcher_items_fetched: int = 0
    orch_continue_as_new: int = 0
    suborchestration_calls: int = 0
    provider_errors: int = 0
    active_orchestrations: int = 0
    orch_waiting_for_code: int = 0
    sessions_held_back: int = 0
    activities_waiting_for_code: int = 0
    rows_left_out: int = 0
