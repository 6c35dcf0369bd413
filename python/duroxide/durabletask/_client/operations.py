"""The operations of the clients. Each is a generator of calls to the native client, for threads and for asyncio."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, TypeAlias, TypeVar
from uuid import uuid4

from duroxide import (
    Event,
    InstanceAlreadyExists,
    InstanceInfo,
    InstanceNotFound,
    InstanceStillRunning,
    OrchestrationCancelled,
    OrchestrationResult,
    WaitTimedOut,
)
from duroxide.durabletask._client.errors import StatusCode, rpc_error
from duroxide.durabletask._client.state import OrchestrationState, OrchestrationStatus, PurgeInstancesResult
from duroxide.durabletask._functions import get_name
from duroxide.durabletask._orchestration.failures import details_of_failure
from duroxide.durabletask._payloads import to_recorded, to_text
from duroxide.durabletask.serialization import DataConverter

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc).replace(tzinfo=None)
_SHORTEST_PAUSE = 0.005
_LONGEST_PAUSE = 0.25


@dataclass(frozen=True)
class Call:
    """A call to the native client: a method and its arguments."""

    method: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]


@dataclass(frozen=True)
class Pause:
    """A wait of some seconds."""

    seconds: float


Operation: TypeAlias = Generator["Call | Pause", Any, T]


def call(method: str, *arguments: Any, **options: Any) -> Call:
    """Describe a call to the native client."""
    return Call(method, arguments, options)


def schedule(
    orchestrator: Callable[..., Any] | str,
    input: Any,
    instance_id: str | None,
    start_at: datetime | None,
    converter: DataConverter,
) -> Operation[str]:
    """Start an orchestration, and return the id of its instance."""
    name = orchestrator if isinstance(orchestrator, str) else get_name(orchestrator)
    chosen = uuid4().hex if instance_id is None else instance_id
    try:
        yield call(
            "start_orchestration", chosen, name, to_recorded(converter, input), if_exists="raise", at=_aware(start_at)
        )
    except InstanceAlreadyExists as error:
        raise rpc_error(StatusCode.ALREADY_EXISTS, str(error)) from error
    return chosen


def read_state(
    instance_id: str, converter: DataConverter, *, fetch_payloads: bool
) -> Operation[OrchestrationState | None]:
    """Read the state of an instance; ``None`` if it does not exist."""
    try:
        status: OrchestrationResult = yield call("get_status", instance_id)
        info: InstanceInfo = yield call("get_instance_info", instance_id)
        events: list[Event] = []
        if fetch_payloads:
            events = yield call("read_execution_history", instance_id)
    except InstanceNotFound:
        return None
    state = _state(status, info, converter)
    if fetch_payloads:
        state.serialized_input = _input_of(events)
        state.serialized_output = _output_of(status, info, state.runtime_status)
    else:
        state.serialized_custom_status = None
    return state


def wait_for_completion(
    instance_id: str, converter: DataConverter, timeout: float, *, fetch_payloads: bool
) -> Operation[OrchestrationState | None]:
    """Wait for the end of an instance, and read its state."""
    try:
        yield call("wait_for_orchestration", instance_id, _timeout(timeout))
    except WaitTimedOut as error:
        raise TimeoutError(f"orchestration '{instance_id}' did not end within {timeout} s") from error
    except InstanceNotFound:
        return None
    return (yield from read_state(instance_id, converter, fetch_payloads=fetch_payloads))


def wait_for_start(
    instance_id: str, converter: DataConverter, timeout: float, *, fetch_payloads: bool
) -> Operation[OrchestrationState | None]:
    """Wait until an instance has begun, and read its state."""
    deadline = time.monotonic() + timeout
    pause = _SHORTEST_PAUSE
    while True:
        try:
            info: InstanceInfo = yield call("get_instance_info", instance_id)
            if info.has_begun:
                return (yield from read_state(instance_id, converter, fetch_payloads=fetch_payloads))
        except InstanceNotFound:
            pass
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"orchestration '{instance_id}' did not begin within {timeout} s")
        yield Pause(min(pause, left))
        pause = min(pause * 2, _LONGEST_PAUSE)


def raise_event(instance_id: str, event_name: str, data: Any, converter: DataConverter) -> Operation[None]:
    """Send an event to an instance that exists."""
    yield from _check_exists(instance_id)
    # Names of events are compared without regard to case.
    yield call("raise_event", instance_id, event_name.casefold(), to_recorded(converter, data))


def terminate(instance_id: str, output: Any, converter: DataConverter) -> Operation[None]:
    """End an instance that runs; one that does not exist or has ended stays as it is."""
    try:
        yield call("cancel_instance", instance_id, converter.serialize(output))
    except InstanceNotFound:
        return


def purge(instance_id: str) -> Operation[PurgeInstancesResult]:
    """Delete an instance that has ended, with its sub-orchestrations."""
    try:
        removed: Any = yield call("delete_instance", instance_id)
    except (InstanceNotFound, InstanceStillRunning):
        return PurgeInstancesResult(0, is_complete=True)
    return PurgeInstancesResult(removed.instances_deleted, is_complete=True)


def _check_exists(instance_id: str) -> Operation[None]:
    status: OrchestrationResult = yield call("get_status", instance_id)
    if status.status == "NotFound":
        raise rpc_error(StatusCode.NOT_FOUND, f"orchestration '{instance_id}' does not exist in this store")


def _state(status: OrchestrationResult, info: InstanceInfo, converter: DataConverter) -> OrchestrationState:
    runtime_status = _runtime_status(status, info)
    failure = status.failure if runtime_status is OrchestrationStatus.FAILED else None
    return OrchestrationState(
        instance_id=info.instance_id,
        name=info.orchestration_name,
        runtime_status=runtime_status,
        created_at=_moment(info.created_at),
        last_updated_at=_moment(info.updated_at),
        serialized_input=None,
        serialized_output=None,
        serialized_custom_status=status.custom_status,
        failure_details=None if failure is None else details_of_failure(failure),
        _converter=converter,
    )


def _runtime_status(status: OrchestrationResult, info: InstanceInfo) -> OrchestrationStatus:
    if status.status == "Completed":
        return OrchestrationStatus.COMPLETED
    if status.status == "Failed":
        is_cancelled = isinstance(status.failure, OrchestrationCancelled)
        return OrchestrationStatus.TERMINATED if is_cancelled else OrchestrationStatus.FAILED
    return OrchestrationStatus.RUNNING if info.has_begun else OrchestrationStatus.PENDING


def _input_of(events: list[Event]) -> str | None:
    return to_text(json.loads(events[0].data).get("input")) if events else None


def _output_of(status: OrchestrationResult, info: InstanceInfo, runtime_status: OrchestrationStatus) -> str | None:
    if runtime_status is OrchestrationStatus.TERMINATED and isinstance(status.failure, OrchestrationCancelled):
        return status.failure.reason or None
    if runtime_status is not OrchestrationStatus.COMPLETED:
        return None
    output: object = status.output
    # The recorded text itself, unless a converter's text is inside.
    return to_text(output) if isinstance(output, dict) or output is None else info.output


def _moment(milliseconds: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=milliseconds)


def _aware(moment: datetime | None) -> datetime | None:
    """Take a time without a zone as one in UTC, as durabletask does."""
    return moment.replace(tzinfo=timezone.utc) if moment is not None and moment.tzinfo is None else moment


def _timeout(seconds: float) -> timedelta:
    return timedelta(seconds=max(seconds, 0))


def check_absent(**options: object) -> None:
    """Refuse options that this version does not support.

    Raises:
        NotImplementedError: One of them is given.
    """
    for name, value in options.items():
        if value is not None:
            raise NotImplementedError(f"{name} is not supported by this version of duroxide.durabletask: leave it out")


def check_recursive(recursive: bool) -> None:
    """Refuse to leave the sub-orchestrations of an instance.

    Raises:
        NotImplementedError: ``recursive`` is false.
    """
    if not recursive:
        raise NotImplementedError(
            "recursive=False is not possible here: sub-orchestrations end, and are deleted, with the instance that waits for them"
        )
