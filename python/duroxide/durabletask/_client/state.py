"""The state of an instance as durabletask's clients see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, TypeVar, overload

from duroxide.durabletask._orchestration.failures import FailureDetails
from duroxide.durabletask.serialization import DEFAULT_DATA_CONVERTER, DataConverter

T = TypeVar("T")


class OrchestrationStatus(Enum):
    """The status of an instance, with the numbers of durabletask."""

    RUNNING = 0
    COMPLETED = 1
    CONTINUED_AS_NEW = 2
    FAILED = 3
    TERMINATED = 5
    PENDING = 6
    SUSPENDED = 7

    def __str__(self) -> str:
        return self.name


class OrchestrationFailedError(Exception):
    """An orchestration failed.

    Args:
        message: Text of the failure.
        failure_details: The failure.
    """

    def __init__(self, message: str, failure_details: FailureDetails) -> None:
        super().__init__(message)
        self._failure_details = failure_details

    @property
    def failure_details(self) -> FailureDetails:
        """The failure."""
        return self._failure_details


@dataclass
class OrchestrationState:
    """The state of an instance.

    Attributes:
        instance_id: The instance.
        name: Name of its orchestrator.
        runtime_status: Its status.
        created_at: When it was created, in UTC and without a zone.
        last_updated_at: When it last changed, in UTC and without a zone.
        serialized_input: JSON text of its input, or ``None``.
        serialized_output: JSON text of its result, or of the output of its termination; ``None`` while it runs.
        serialized_custom_status: JSON text of its custom status, or ``None``.
        failure_details: Its failure, or ``None``.
    """

    instance_id: str
    name: str
    runtime_status: OrchestrationStatus
    created_at: datetime
    last_updated_at: datetime
    serialized_input: str | None
    serialized_output: str | None
    serialized_custom_status: str | None
    failure_details: FailureDetails | None
    _converter: DataConverter = field(default=DEFAULT_DATA_CONVERTER, repr=False, compare=False)

    @overload
    def get_input(self, target_type: type[T]) -> T: ...
    @overload
    def get_input(self, target_type: None = None) -> Any: ...
    def get_input(self, target_type: Any = None) -> Any:
        """Return the input.

        Args:
            target_type: Type to convert it to; default ``None``, the JSON value.
        """
        return self._converter.deserialize(self.serialized_input, target_type)

    @overload
    def get_output(self, target_type: type[T]) -> T: ...
    @overload
    def get_output(self, target_type: None = None) -> Any: ...
    def get_output(self, target_type: Any = None) -> Any:
        """Return the result.

        Args:
            target_type: Type to convert it to; default ``None``, the JSON value.
        """
        return self._converter.deserialize(self.serialized_output, target_type)

    @overload
    def get_custom_status(self, target_type: type[T]) -> T: ...
    @overload
    def get_custom_status(self, target_type: None = None) -> Any: ...
    def get_custom_status(self, target_type: Any = None) -> Any:
        """Return the custom status.

        Args:
            target_type: Type to convert it to; default ``None``, the JSON value.
        """
        return self._converter.deserialize(self.serialized_custom_status, target_type)

    def raise_if_failed(self) -> None:
        """Do nothing, unless the orchestration failed.

        Raises:
            OrchestrationFailedError: It failed.
        """
        if self.failure_details is not None:
            raise OrchestrationFailedError(
                f"Orchestration '{self.instance_id}' failed: {self.failure_details.message}", self.failure_details
            )


@dataclass
class PurgeInstancesResult:
    """The result of a purge.

    Attributes:
        deleted_instance_count: How many instances.
        is_complete: Whether all that were to be removed are; ``None`` if the store does not tell.
    """

    deleted_instance_count: int
    is_complete: bool | None
