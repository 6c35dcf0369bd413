"""The options of a client's maintenance calls, as frozen dataclasses that check themselves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from duroxide._values.validation import check_integer, check_moment, check_name, keyword_options


@keyword_options
@dataclass(frozen=True, kw_only=True)
class PruneOptions:
    """Which old executions of an instance to remove; both conditions must hold. The current execution always stays.

    Attributes:
        keep_last: How many of the newest executions stay; default ``None``, no condition.
        completed_before: Only executions that ended before this moment, an aware ``datetime`` or milliseconds since
            1970; default ``None``, no condition.

    Raises:
        UnknownOption: An option has an unknown name.
        ConfigurationError: A value is of the wrong type or out of its range.
    """

    keep_last: int | None = None
    completed_before: datetime | int | None = None

    def __post_init__(self) -> None:
        if self.keep_last is not None:
            check_integer(self.keep_last, "keep_last", most=2**32 - 1)
        _replace_moment(self, self.completed_before)


@keyword_options
@dataclass(frozen=True, kw_only=True)
class InstanceFilter:
    """Which instances a bulk operation takes; all conditions must hold.

    Attributes:
        instance_ids: Only these instances; default ``None``, all.
        completed_before: Only instances that ended before this moment, an aware ``datetime`` or milliseconds since
            1970; default ``None``, no condition.
        limit: The largest number of instances; default ``None``, the engine's 1,000.

    Raises:
        UnknownOption: An option has an unknown name.
        ConfigurationError: A value is of the wrong type or out of its range.
    """

    instance_ids: list[str] | tuple[str, ...] | None = None
    completed_before: datetime | int | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        instance_ids = cast("Any", self.instance_ids)
        if instance_ids is not None:
            if isinstance(instance_ids, str):
                raise TypeError(f"instance_ids must be a list; write instance_ids=['{instance_ids[:50]}']")
            checked = tuple(check_name(instance_id, "an instance id") for instance_id in instance_ids)
            object.__setattr__(self, "instance_ids", checked)
        _replace_moment(self, self.completed_before)
        if self.limit is not None:
            check_integer(self.limit, "limit", least=1, most=2**32 - 1)


def _replace_moment(options: PruneOptions | InstanceFilter, value: datetime | int | None) -> None:
    if value is not None:
        object.__setattr__(options, "completed_before", check_moment(value, "completed_before"))
