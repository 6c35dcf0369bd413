"""The options of a runtime, as a frozen dataclass that checks itself. Times are ``int`` milliseconds."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Literal

from duroxide._declare.tags import TagFilter, read_tag_filter
from duroxide._values.validation import check_integer, check_milliseconds, check_name, keyword_options, suggest
from duroxide.exceptions import ConfigurationError

_MOST_CONCURRENT = 65_536
_LOG_LEVELS = ("trace", "debug", "info", "warn", "error", "off")
# The engine renews a lock at most once a second.
_SHORTEST_LOCK_MS = 2_000
_LOG_FORMATS = ("pretty", "compact", "json")
_NONDETERMINISM = ("wait", "fail")

# The earlier SDK documents these with the default None, and programs pass it.
_MAY_BE_NONE = frozenset(
    {
        "orchestration_concurrency",
        "worker_concurrency",
        "dispatcher_poll_interval_ms",
        "max_sessions_per_runtime",
        "session_idle_timeout_ms",
        "worker_tag_filter",
        "orchestrator_lock_timeout_ms",
        "orchestrator_lock_renewal_buffer_ms",
        "worker_lock_timeout_ms",
        "session_lock_timeout_ms",
        "session_lock_renewal_buffer_ms",
        "max_attempts",
    }
)

# The engine ignores the renewal buffer of a lock shorter than this, and renews the lock at half its time.
_SHORT_LOCK_MS = 15_000


@keyword_options
@dataclass(frozen=True, kw_only=True)
class RuntimeOptions:
    """The options of a runtime. Every option has a default.

    Attributes:
        orchestration_concurrency: Orchestrations that run a turn at the same time; default 64. Idle slots cost nothing,
            and the store writes turns that end at the same time to the disk together.
        worker_concurrency: Activities that run at the same time; default 64, because most activities wait for something
            other than the processor. Idle slots cost nothing.
        dispatcher_poll_interval_ms: Shortest time between two polls of an idle dispatcher, in milliseconds, if the
            store returns nothing at once; default 100. A lower value gains nothing: every store of this package wakes
            its dispatchers.
        dispatcher_long_poll_timeout_ms: Longest time that one poll waits in the store, in milliseconds; default 30,000.
        log_level: Lowest level that is logged, one of ``"error"`` to ``"trace"``; default ``None``, as ``RUST_LOG`` or
            ``init_tracing`` configures it. If the application configures no logging, the records also go to the
            standard error stream.
        log_format: ``"pretty"``, ``"compact"`` or ``"json"``; default ``None``, as ``init_tracing`` configures it. It
            has the same effect as ``log_level="info"``, in this form.
        service_name: Passed to the engine, which does not use it in this version; default ``None``.
        service_version: Passed to the engine, which does not use it in this version; default ``None``.
        max_sessions_per_runtime: Sessions that this runtime holds at the same time; default 10. A session that has been
            idle for two seconds makes room, if an activity of another session waits.
        session_idle_timeout_ms: How long an idle session stays with its worker, in milliseconds; default 300,000. Must
            be longer than the time between two renewals of an activity's lock.
        worker_node_id: Identity of this node as the owner of sessions; default ``None``, a new one at every start.
        worker_tag_filter: Which activities this runtime takes, a ``TagFilter`` or its text; default those without a tag.
        orchestrator_lock_timeout_ms: Lease of an orchestration's turn, in milliseconds; after it, another node takes
            the turn over. Default 5,000, at least 2,000.
        orchestrator_lock_renewal_buffer_ms: How long before its end the runtime renews that lease, in milliseconds;
            default 2,000.
        worker_lock_timeout_ms: Lease of an activity, in milliseconds; after it, another node takes the activity over.
            Default 30,000, at least 2,000.
        worker_lock_renewal_buffer_ms: How long before its end the runtime renews that lease, in milliseconds; default
            ``None``, half of the lease. A node learns of a cancellation when it renews.
        session_lock_timeout_ms: Lease of a session, in milliseconds; default 30,000, at least 2,000.
        session_lock_renewal_buffer_ms: How long before its end the runtime renews that lease, in milliseconds; default
            5,000.
        session_cleanup_interval_ms: Time between two removals of abandoned sessions, in milliseconds; default 300,000.
        max_attempts: Deliveries of one message before the engine gives it up as poison; default 10.
        activity_cancellation_grace_period_ms: Time that a cancelled activity has to end by itself, in milliseconds;
            default 10,000.
        cleanup_timeout_ms: Time that a cancelled ``async def`` orchestration has for its ``except`` and ``finally``
            blocks, in milliseconds; default 30,000. The blocks may run activities. After this time the orchestration
            ends at once, and its failure says so. ``None`` lets the blocks run until they end. A change applies to
            cancellations from then on.
        unregistered_timeout_ms: Time after which work fails if no node has registered its name, in milliseconds;
            default 300,000. In a store on which one process works alone, such work fails at once.
        sticky: Whether suspended orchestrations stay in memory between their turns, so that a turn does not run the
            code again from its beginning; default ``True``. Results and histories are the same. ``False`` shows in a
            test that the code can be replayed.
        max_sticky_orchestrations: Suspended orchestrations that stay in memory at the same time; default 1,000. The one
            that has waited longest is evicted first, and is replayed at its next turn.
        max_sticky_bytes: About how many bytes of memory they may take together; default 64 MiB.
        sticky_idle_timeout_ms: How long a suspended orchestration stays in memory without a turn, in milliseconds;
            default 60,000.
        retention: How long instances stay after they have ended, a ``timedelta``; default ``None``, for ever. The
            runtime removes older ones with their sub-orchestrations, a few at a time, so that other work continues. A
            result must be read within that time.
        nondeterminism: How to treat an instance whose code no longer does what its history records. ``"wait"``, the
            default: the instance keeps its history and continues when the code is corrected; until then
            ``get_status(...).mismatch``, the metrics and the log say what differs. ``"fail"``: the instance fails for
            good with ``NondeterminismError``, which says what differs. Its running work is cancelled, except its
            sub-orchestrations.

    Raises:
        UnknownOption: An option has an unknown name.
        ConfigurationError: A value is of the wrong type, out of its range, or contradicts another option.
    """

    orchestration_concurrency: int = 64
    worker_concurrency: int = 64
    dispatcher_poll_interval_ms: int = 100
    dispatcher_long_poll_timeout_ms: int = 30_000
    log_level: str | None = None
    log_format: str | None = None
    service_name: str | None = None
    service_version: str | None = None
    max_sessions_per_runtime: int = 10
    session_idle_timeout_ms: int = 300_000
    worker_node_id: str | None = None
    worker_tag_filter: TagFilter | str = TagFilter.DEFAULT_ONLY
    orchestrator_lock_timeout_ms: int = 5_000
    orchestrator_lock_renewal_buffer_ms: int = 2_000
    worker_lock_timeout_ms: int = 30_000
    worker_lock_renewal_buffer_ms: int | None = None
    session_lock_timeout_ms: int = 30_000
    session_lock_renewal_buffer_ms: int = 5_000
    session_cleanup_interval_ms: int = 300_000
    max_attempts: int = 10
    activity_cancellation_grace_period_ms: int = 10_000
    unregistered_timeout_ms: int = 300_000
    cleanup_timeout_ms: int | None = 30_000
    sticky: bool = True
    max_sticky_orchestrations: int = 1_000
    max_sticky_bytes: int = 64 * 1024 * 1024
    sticky_idle_timeout_ms: int = 60_000
    retention: timedelta | None = None
    nondeterminism: Literal["wait", "fail"] = "wait"

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.name in _MAY_BE_NONE and getattr(self, field.name) is None:
                object.__setattr__(self, field.name, field.default)
            self._check(field.name, getattr(self, field.name))
        for kind in ("orchestrator", "worker", "session"):
            self._check_lock(kind)
        renewal = self._renewal_interval_ms()
        if self.session_idle_timeout_ms <= renewal:
            raise ConfigurationError(
                f"session_idle_timeout_ms is {self.session_idle_timeout_ms}, but the lock of a running activity is renewed "
                f"every {renewal} ms, so its session would end before it does; raise session_idle_timeout_ms or lower "
                "worker_lock_timeout_ms"
            )

    def _check(self, name: str, value: object) -> None:
        if name == "worker_tag_filter":
            try:
                object.__setattr__(self, name, read_tag_filter(value))
            except (TypeError, ConfigurationError) as error:
                raise ConfigurationError(f"{name}: {error}") from None
        elif name in ("orchestration_concurrency", "worker_concurrency", "max_sessions_per_runtime"):
            check_integer(value, name, least=1, most=_MOST_CONCURRENT)
        elif name in ("max_attempts", "max_sticky_orchestrations"):
            check_integer(value, name, least=1, most=1_000_000)
        elif name == "max_sticky_bytes":
            check_integer(value, name, least=1, most=2**40)
        elif name == "retention":
            if value is not None and not isinstance(value, timedelta):
                raise TypeError(
                    f"{name} must be a timedelta or None, not {type(value).__name__}; write timedelta(days=30)"
                )
            if value is not None:
                check_milliseconds(value, name, least=1)
        elif name == "sticky":
            if not isinstance(value, bool):
                raise TypeError(f"{name} must be True or False, not {type(value).__name__}")
        elif name == "nondeterminism":
            check_name(value, name)
            if value not in _NONDETERMINISM:
                raise ConfigurationError(f"{name} '{value}' is unknown; {suggest(str(value), _NONDETERMINISM)}")
        elif name.endswith("_ms"):
            if value is not None or name not in ("worker_lock_renewal_buffer_ms", "cleanup_timeout_ms"):
                check_milliseconds(check_integer(value, name), name, least=0 if "grace" in name else 1)
        elif value is not None:
            check_name(value, name)
            if name == "log_format" and value not in _LOG_FORMATS:
                raise ConfigurationError(f"log_format '{value}' is unknown; {suggest(str(value), _LOG_FORMATS)}")
            if name == "log_level" and str(value).lower() not in _LOG_LEVELS:
                raise ConfigurationError(f"log_level '{value}' is unknown; {suggest(str(value), _LOG_LEVELS)}")

    def _check_lock(self, kind: str) -> None:
        timeout: int = getattr(self, f"{kind}_lock_timeout_ms")
        buffer: int | None = getattr(self, f"{kind}_lock_renewal_buffer_ms")
        if timeout < _SHORTEST_LOCK_MS:
            raise ConfigurationError(
                f"{kind}_lock_timeout_ms is {timeout}, but a lock is renewed once a second at most, so it would end before "
                f"its work does; use at least {_SHORTEST_LOCK_MS}"
            )
        if buffer is not None and timeout >= _SHORT_LOCK_MS and buffer >= timeout:
            raise ConfigurationError(
                f"{kind}_lock_renewal_buffer_ms is {buffer}, not less than {kind}_lock_timeout_ms, {timeout}; the lock would "
                "be renewed without a pause"
            )

    def _renewal_buffer_ms(self) -> int:
        given = self.worker_lock_renewal_buffer_ms
        return self.worker_lock_timeout_ms // 2 if given is None else given

    def _renewal_interval_ms(self) -> int:
        interval = self.worker_lock_timeout_ms - self._renewal_buffer_ms()
        # A short lock may have a buffer that is longer than the lock; the engine then uses one second.
        return interval if interval >= 0 else 1_000

    def to_native(self) -> dict[str, object]:
        """Return every option by name, with computed defaults."""
        options: dict[str, object] = {field.name: getattr(self, field.name) for field in fields(self)}
        options["worker_lock_renewal_buffer_ms"] = self._renewal_buffer_ms()
        options["retention_ms"] = None if self.retention is None else check_milliseconds(self.retention, "retention")
        tags = read_tag_filter(self.worker_tag_filter)
        options["worker_tag_filter"] = {"kind": tags.kind, "names": sorted(set(tags.names))}
        return options
