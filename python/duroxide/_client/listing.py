"""Lists and counts of instances, by what their summaries tell."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Literal, cast, overload

from duroxide import _native
from duroxide._client.calls import blocking
from duroxide._client.records import Record
from duroxide._values.validation import check_id, check_integer, check_moment, check_name, check_text, suggest
from duroxide._values.versions import check_version
from duroxide.exceptions import OrchestrationFailed, orchestration_failed

if TYPE_CHECKING:
    from duroxide._native import Call, PageRecord, SummaryRecord

STATUSES = ("Running", "Completed", "Failed", "Cancelled", "Terminated")
"""The statuses of a list."""

Moment = datetime | int
Span = tuple[Moment | None, Moment | None]
Order = Literal["newest", "oldest"]

MAX_PAGE = 10_000
_ORDERS = ("newest", "oldest")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True)
class InstanceSummary(Record):
    """What a list tells of an instance.

    Attributes:
        id: The instance.
        name: Name of its orchestration.
        version: Version of its orchestration; ``None`` until a runtime has recorded its first turn.
        status: ``"Running"``, ``"Completed"``, ``"Failed"``, ``"Cancelled"`` or ``"Terminated"``.
        created: When it was created, an aware ``datetime`` in UTC. On PostgreSQL this is when its first turn was recorded,
            and before that, when its start was sent.
        started: When its first turn was recorded; ``None`` before that.
        ended: When it ended; ``None`` while it runs.
        custom_status: The text that the orchestration last set, or ``None``.
        failure: The failure as the exception that ``result()`` raises, without its cause; ``None`` unless it has failed,
            was cancelled or was terminated. ``failure.error_type`` and ``failure.message`` tell the kind and the text.
        parent: Instance that started it as a sub-orchestration, or ``None`` for a root.
        executions: Number of its current execution: 1, and one more for each time that it continued as new.
        has_mismatch: Whether it waits for code that fits its history.
    """

    id: str
    name: str
    version: str | None
    status: str
    created: datetime
    started: datetime | None
    ended: datetime | None
    custom_status: str | None
    failure: OrchestrationFailed | None = field(compare=False)
    parent: str | None
    executions: int
    has_mismatch: bool


@dataclass(frozen=True, slots=True)
class InstancePage(Sequence[InstanceSummary]):
    """A page of a list: a sequence of summaries.

    Attributes:
        summaries: The summaries, in the order of the list.
        cursor: Pass it to the next call of ``list`` to get the next page; ``None`` at the end.
    """

    summaries: tuple[InstanceSummary, ...]
    cursor: str | None

    @overload
    def __getitem__(self, index: int) -> InstanceSummary: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[InstanceSummary]: ...
    def __getitem__(self, index: int | slice) -> InstanceSummary | Sequence[InstanceSummary]:
        return self.summaries[index]

    def __len__(self) -> int:
        return len(self.summaries)


class ListOperations:
    """The operations of ``Client`` that find instances."""

    _native: _native.Client

    @blocking
    def list(
        self,
        *,
        status: str | Iterable[str] | None = None,
        name: str | None = None,
        version: str | None = None,
        id_prefix: str | None = None,
        parent: str | None = None,
        created: Span | None = None,
        ended: Span | None = None,
        has_mismatch: bool | None = None,
        order: Order = "newest",
        limit: int = 100,
        cursor: str | None = None,
    ) -> Call[InstancePage]:
        """List instances, a page at a time. All conditions must hold.

        A start is in the list from the moment at which it is acknowledged. An instance that is there all the time comes
        once, however many others come and go between two pages. On PostgreSQL, an instance whose first turn is recorded
        between two pages may come twice.

        Args:
            status: ``"Running"``, ``"Completed"``, ``"Failed"``, ``"Cancelled"`` or ``"Terminated"``, or several of them;
                default ``None``, all.
            name: Name of the orchestration; default ``None``, any.
            version: Version of the orchestration; default ``None``, any.
            id_prefix: How the id begins; default ``None``, any.
            parent: Instance that started it as a sub-orchestration; default ``None``, any or none.
            created: When it was created: a pair of a start and an end, of which either may be ``None``. The start is
                included, the end is not. Each is an aware ``datetime`` or milliseconds since 1970. Default ``None``, any.
            ended: When it ended, a pair as ``created``; default ``None``, at any time or not at all.
            has_mismatch: Whether it waits for code that fits its history; default ``None``, either.
            order: ``"newest"``, the default, for the instances that were created last first, or ``"oldest"``.
            limit: The largest number of summaries in the page, 1 to 10,000; default 100.
            cursor: The ``cursor`` of the page before, with the same conditions and order; default ``None``, from the
                beginning.

        Returns:
            The page.

        Raises:
            ValueError: A status or an order is unknown, or ``cursor`` is not one that a list with this order has returned.
        """
        conditions = _Conditions(
            status=status,
            name=name,
            version=version,
            id_prefix=id_prefix,
            parent=parent,
            created=created,
            ended=ended,
            has_mismatch=has_mismatch,
        )
        is_oldest_first = _check_order(order) == "oldest"
        check_integer(limit, "limit", least=1, most=MAX_PAGE)
        after = None if cursor is None else _read_cursor(cursor, order)
        page = self._native.page(conditions.check(), is_oldest_first, limit, after)
        return page.then(lambda answer: _read_page(answer, order))

    def iterate(
        self,
        *,
        status: str | Iterable[str] | None = None,
        name: str | None = None,
        version: str | None = None,
        id_prefix: str | None = None,
        parent: str | None = None,
        created: Span | None = None,
        ended: Span | None = None,
        has_mismatch: bool | None = None,
        order: Order = "newest",
        page_size: int = 1_000,
    ) -> Iterator[InstanceSummary]:
        """Iterate over the instances of all pages of ``list``, which is called for one page after the other.

        Args:
            status: As in ``list``; so are the other conditions and ``order``.
            name: The same.
            version: The same.
            id_prefix: The same.
            parent: The same.
            created: The same.
            ended: The same.
            has_mismatch: The same.
            order: The same.
            page_size: The largest number of summaries in a page, 1 to 10,000; default 1,000.

        Yields:
            The summaries.
        """
        cursor: str | None = None
        while True:
            page = self.list(
                status=status,
                name=name,
                version=version,
                id_prefix=id_prefix,
                parent=parent,
                created=created,
                ended=ended,
                has_mismatch=has_mismatch,
                order=order,
                limit=page_size,
                cursor=cursor,
            )
            yield from page
            cursor = page.cursor
            if cursor is None:
                return

    @blocking
    def count(
        self,
        *,
        status: str | Iterable[str] | None = None,
        name: str | None = None,
        version: str | None = None,
        id_prefix: str | None = None,
        parent: str | None = None,
        created: Span | None = None,
        ended: Span | None = None,
        has_mismatch: bool | None = None,
    ) -> Call[int]:
        """Count the instances for which all conditions hold.

        Args:
            status: As in ``list``; so are the other conditions.
            name: The same.
            version: The same.
            id_prefix: The same.
            parent: The same.
            created: The same.
            ended: The same.
            has_mismatch: The same.

        Returns:
            Their number.
        """
        conditions = _Conditions(
            status=status,
            name=name,
            version=version,
            id_prefix=id_prefix,
            parent=parent,
            created=created,
            ended=ended,
            has_mismatch=has_mismatch,
        )
        return self._native.counts(conditions.check()).then(lambda counts: sum(each.count for each in counts))

    @blocking
    def count_by_name(
        self,
        *,
        status: str | Iterable[str] | None = None,
        name: str | None = None,
        version: str | None = None,
        id_prefix: str | None = None,
        parent: str | None = None,
        created: Span | None = None,
        ended: Span | None = None,
        has_mismatch: bool | None = None,
    ) -> Call[dict[str, dict[str, int]]]:
        """Count instances by the names of their orchestrations and by status.

        Args:
            status: As in ``list``; so are the other conditions.
            name: The same.
            version: The same.
            id_prefix: The same.
            parent: The same.
            created: The same.
            ended: The same.
            has_mismatch: The same.

        Returns:
            For each name, in order, the number of instances by status. A status that no instance has is left out.
        """
        conditions = _Conditions(
            status=status,
            name=name,
            version=version,
            id_prefix=id_prefix,
            parent=parent,
            created=created,
            ended=ended,
            has_mismatch=has_mismatch,
        )
        return self._native.counts(conditions.check()).then(_by_name)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Conditions:
    """The conditions of a list, as the caller wrote them."""

    status: str | Iterable[str] | None
    name: str | None
    version: str | None
    id_prefix: str | None
    parent: str | None
    created: Span | None
    ended: Span | None
    has_mismatch: bool | None

    def check(self) -> _native.InstanceQuery:
        """Check the conditions, and describe them to the native client."""
        created_from, created_to = _check_span(self.created, "created")
        ended_from, ended_to = _check_span(self.ended, "ended")
        if self.has_mismatch is not None and not isinstance(self.has_mismatch, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"has_mismatch must be a bool or None, not {type(self.has_mismatch).__name__}")
        return _native.InstanceQuery(
            statuses=_check_statuses(self.status),
            name=None if self.name is None else check_name(self.name, "the name of an orchestration"),
            version=None if self.version is None else check_version(self.version),
            id_prefix=None if self.id_prefix is None else check_text(self.id_prefix, "id_prefix"),
            parent=None if self.parent is None else check_id(self.parent),
            created_from=created_from,
            created_to=created_to,
            ended_from=ended_from,
            ended_to=ended_to,
            has_mismatch=self.has_mismatch,
        )


def _check_statuses(status: object) -> list[str]:
    if status is None:
        return []
    if not isinstance(status, str) and not isinstance(status, Iterable):
        raise TypeError(f"status must be a str or several of them, not {type(status).__name__}")
    statuses = [status] if isinstance(status, str) else list(cast("Iterable[object]", status))
    for each in statuses:
        if each not in STATUSES:
            raise ValueError(f"status {each!r} is unknown; {suggest(str(each), STATUSES)}")
    if not statuses:
        raise ValueError("status is empty, so it selects no instance; leave it out to select all")
    return cast("list[str]", statuses)


def _check_span(span: object, what: str) -> tuple[int | None, int | None]:
    if span is None:
        return None, None
    if not isinstance(span, tuple) or len(cast("tuple[object, ...]", span)) != 2:
        raise TypeError(f"{what} must be a pair of a start and an end; write {what}=(start, None)")
    start, end = cast("tuple[object, object]", span)
    return (
        None if start is None else check_moment(start, f"the start of {what}"),
        None if end is None else check_moment(end, f"the end of {what}"),
    )


def _check_order(order: object) -> str:
    if not isinstance(order, str) or order not in _ORDERS:
        raise ValueError(f"order {order!r} is unknown; {suggest(str(order), _ORDERS)}")
    return order


def _read_page(answer: PageRecord, order: str) -> InstancePage:
    cursor = None if answer.next is None else _write_cursor(answer.next, order)
    return InstancePage(tuple(_read_summary(each) for each in answer.summaries), cursor)


def _read_summary(answer: SummaryRecord) -> InstanceSummary:
    failure = None
    if answer.failure is not None:
        failure = orchestration_failed(
            answer.failure, answer.id, answer.cancel_reason, answer.cleanup_failure, answer.termination
        )
    return InstanceSummary(
        id=answer.id,
        name=answer.name,
        version=answer.version,
        status=answer.status,
        created=_moment(answer.created_ms),
        started=None if answer.started_ms is None else _moment(answer.started_ms),
        ended=None if answer.ended_ms is None else _moment(answer.ended_ms),
        custom_status=answer.custom_status,
        failure=failure,
        parent=answer.parent,
        executions=answer.executions,
        has_mismatch=answer.has_mismatch,
    )


def _moment(milliseconds: int) -> datetime:
    try:
        return _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return datetime.max.replace(tzinfo=timezone.utc)


def _by_name(counts: Iterable[_native.CountRecord]) -> dict[str, dict[str, int]]:
    by_name: dict[str, dict[str, int]] = {}
    for each in sorted(counts, key=lambda count: (count.name, STATUSES.index(count.status))):
        by_name.setdefault(each.name, {})[each.status] = each.count
    return by_name


def _write_cursor(place: tuple[int, str], order: str) -> str:
    text = json.dumps([order, *place], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_cursor(cursor: object, order: str) -> tuple[int, str]:
    if not isinstance(cursor, str):
        raise TypeError(f"cursor must be a str, not {type(cursor).__name__}; pass the cursor of the page before")
    try:
        text = base64.urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4))
        written, at, instance_id = json.loads(text)
        if not (isinstance(at, int) and isinstance(instance_id, str) and -(2**63) <= at < 2**63):
            raise ValueError(text)
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise ValueError("cursor is not one that list() has returned; pass the cursor of the page before") from None
    if written != order:
        raise ValueError(f"cursor belongs to a list with order={written!r}, and this one has order={order!r}")
    return at, instance_id
