"""The retry policy of an activity: how many attempts it has, and how long it waits between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, cast

from duroxide._native import EncodedRetryPolicy
from duroxide._values.failures import class_names
from duroxide._values.validation import check_integer, check_milliseconds, keyword_options, suggest
from duroxide.exceptions import ConfigurationError, UnknownOption

Duration = timedelta | int
"""A length of time: a ``timedelta``, or an ``int`` of milliseconds."""

BackoffKind = Literal["none", "fixed", "linear", "exponential"]

_KINDS: tuple[BackoffKind, ...] = ("none", "fixed", "linear", "exponential")
_MOST_ATTEMPTS = 1_000_000

# Every accepted key of a retry dictionary, in lower case without underscores, and its meaning.
_KEYS = {
    "maxattempts": "max_attempts",
    "backoff": "backoff",
    "backoffstrategy": "backoff",
    "timeoutms": "attempt_timeout",
    "starttimeoutms": "start_timeout",
    "attempttimeoutms": "attempt_timeout",
    "totaltimeoutms": "total_timeout",
    "basems": "base",
    "delayms": "base",
    "initialms": "base",
    "initialintervalms": "base",
    "maxms": "maximum",
    "maxdelayms": "maximum",
    "maxintervalms": "maximum",
    "multiplier": "multiplier",
    "backoffmultiplier": "multiplier",
    "nonretryable": "non_retryable",
}
_DOCUMENTED_KEYS = (
    "max_attempts",
    "backoff",
    "timeout_ms",
    "start_timeout_ms",
    "total_timeout_ms",
    "base_ms",
    "max_ms",
    "multiplier",
    "non_retryable",
)


@keyword_options
@dataclass(frozen=True, kw_only=True)
class Backoff:
    """The wait before each new attempt; the class methods build it.

    Attributes:
        kind: How the wait grows: ``"none"``, ``"fixed"``, ``"linear"`` or ``"exponential"``.
        base: The first wait, a ``timedelta`` or milliseconds; default 100 ms.
        multiplier: Factor between two waits of an exponential backoff, from 1 to 1,000; default 2.
        maximum: The longest wait, a ``timedelta`` or milliseconds; default 30 s.

    Raises:
        ConfigurationError: A value is out of its range.
    """

    kind: BackoffKind
    base: Duration = timedelta(milliseconds=100)
    multiplier: float = 2.0
    maximum: Duration = timedelta(seconds=30)

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ConfigurationError(f"backoff '{self.kind}' is unknown; {suggest(str(self.kind), _KINDS)}")
        check_milliseconds(self.base, "the base of a backoff")
        check_milliseconds(self.maximum, "the maximum of a backoff")
        multiplier = self.multiplier
        if not isinstance(cast("object", multiplier), (int, float)) or isinstance(multiplier, bool):
            raise TypeError(f"the multiplier of a backoff must be a number, not {type(multiplier).__name__}")
        if not 1 <= multiplier <= 1000:  # also refuses NaN
            raise ConfigurationError(f"the multiplier of a backoff must be from 1 to 1000, not {multiplier}")

    @classmethod
    def none(cls) -> Backoff:
        """Try again at once."""
        return cls(kind="none")

    @classmethod
    def fixed(cls, delay: Duration) -> Backoff:
        """Wait ``delay``, a ``timedelta`` or milliseconds, before every new attempt."""
        return cls(kind="fixed", base=delay)

    @classmethod
    def linear(cls, base: Duration, maximum: Duration = timedelta(seconds=30)) -> Backoff:
        """Wait ``base`` after the first attempt, twice that after the second, and so on, at most ``maximum``."""
        return cls(kind="linear", base=base, maximum=maximum)

    @classmethod
    def exponential(
        cls,
        base: Duration = timedelta(milliseconds=100),
        multiplier: float = 2.0,
        maximum: Duration = timedelta(seconds=30),
    ) -> Backoff:
        """Wait ``base`` first, then each time ``multiplier`` times the wait before, at most ``maximum``."""
        return cls(kind="exponential", base=base, multiplier=multiplier, maximum=maximum)


@keyword_options
@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """The retries of an activity after a failure.

    The waits and the total timeout are durable timers. The worker that runs an attempt keeps its other two limits.

    Attributes:
        max_attempts: Number of attempts, the first included; default 3.
        backoff: The wait before each new attempt; default exponential from 100 ms, doubling, at most 30 s.
        attempt_timeout: Time that the code of one attempt may take, a ``timedelta`` or milliseconds; default ``None``,
            no limit. It counts from the start of the code, so the time in the queue is not part of it. An attempt that
            takes longer is cancelled, and a new attempt follows.
        start_timeout: Time that one attempt may wait in the queue, a ``timedelta`` or milliseconds; default ``None``, no
            limit. The first worker that takes the attempt too late does not begin it, and a new attempt follows.
        total_timeout: Time for all attempts and waits together, a ``timedelta`` or milliseconds; default ``None``, no
            limit.
        non_retryable: Exception classes, or their names, after which no new attempt follows; default none.

    Raises:
        ConfigurationError: A value is of the wrong type or out of its range.
    """

    max_attempts: int = 3
    backoff: Backoff = Backoff.exponential()  # noqa: RUF009  (frozen)
    attempt_timeout: Duration | None = None
    start_timeout: Duration | None = None
    total_timeout: Duration | None = None
    non_retryable: Sequence[type[BaseException] | str] = ()

    def __post_init__(self) -> None:
        check_integer(self.max_attempts, "max_attempts", least=1, most=_MOST_ATTEMPTS)
        if not isinstance(cast("object", self.backoff), Backoff):
            raise TypeError(f"backoff must be a Backoff, not {type(self.backoff).__name__}; write Backoff.fixed(500)")
        for what in ("attempt_timeout", "start_timeout", "total_timeout"):
            if getattr(self, what) is not None:
                check_milliseconds(getattr(self, what), what, least=1)
        if isinstance(cast("object", self.non_retryable), (str, type)):
            raise TypeError("non_retryable must be a list or a tuple; write non_retryable=[ValueError]")
        object.__setattr__(self, "non_retryable", tuple(self.non_retryable))
        for each in self.non_retryable:
            _names_of(each)

    @classmethod
    def from_value(cls, value: RetryPolicy | Mapping[str, Any] | None) -> RetryPolicy:
        """Read a policy, a dictionary, or ``None`` for the defaults.

        Args:
            value: A dictionary may have ``max_attempts``, ``backoff`` (or ``backoff_strategy``: ``"none"``,
                ``"fixed"``, ``"linear"``, ``"exponential"``, or a ``Backoff``), ``timeout_ms`` for one attempt,
                ``start_timeout_ms`` for its wait in the queue, ``total_timeout_ms`` for all, ``base_ms`` (or ``initial_interval_ms``), ``max_ms`` (or
                ``max_interval_ms``), ``multiplier`` and ``non_retryable``, each in snake or camel case. The value
                ``None`` means the default.

        Raises:
            ConfigurationError: A key is unknown or occurs twice, or a value is out of its range.
            TypeError: ``value`` is none of these.
        """
        if value is None:
            return cls()
        if isinstance(value, RetryPolicy):
            return value
        if not isinstance(cast("object", value), Mapping):
            raise TypeError(f"retry must be a RetryPolicy or a dict, not {type(value).__name__}")
        return _from_mapping(value)


def native_policy(value: RetryPolicy | Mapping[str, Any] | None) -> EncodedRetryPolicy:
    """Write a policy for the native half: times in milliseconds, classes by their names with those of their subclasses."""
    policy = RetryPolicy.from_value(value)
    backoff = policy.backoff
    names = {name for each in policy.non_retryable for name in _names_of(each)}
    return EncodedRetryPolicy(
        max_attempts=policy.max_attempts,
        backoff=backoff.kind,
        base_ms=check_milliseconds(backoff.base, "the base of a backoff"),
        multiplier=float(backoff.multiplier),
        max_ms=check_milliseconds(backoff.maximum, "the maximum of a backoff"),
        attempt_timeout_ms=_optional_milliseconds(policy.attempt_timeout, "attempt_timeout"),
        start_timeout_ms=_optional_milliseconds(policy.start_timeout, "start_timeout"),
        total_timeout_ms=_optional_milliseconds(policy.total_timeout, "total_timeout"),
        non_retryable=sorted(names),
    )


def _from_mapping(value: Mapping[str, Any]) -> RetryPolicy:
    given: dict[str, Any] = {}
    for key, content in value.items():
        meaning = _KEYS.get(str(key).replace("_", "").lower())
        if meaning is None:
            raise UnknownOption(f"a retry policy has no option '{key}'; {suggest(str(key), _DOCUMENTED_KEYS)}")
        if meaning in given:
            raise ConfigurationError(f"the retry policy has '{key}' twice, in two spellings; keep one")
        if content is not None:
            given[meaning] = content
    shape = {name: given.pop(name) for name in ("base", "maximum", "multiplier") if name in given}
    backoff = given.pop("backoff", None)
    if isinstance(backoff, Backoff):
        if shape:
            raise ConfigurationError("the retry policy has a Backoff and times beside it; put them into the Backoff")
        given["backoff"] = backoff
    elif backoff is not None or shape:
        given["backoff"] = Backoff(kind=_kind_of(backoff), **shape)
    return RetryPolicy(**given)


def _kind_of(value: object) -> Any:
    """Return the kind of a backoff from a dictionary; ``Backoff`` refuses an unknown one."""
    if value is None:
        return "exponential"
    return value.lower() if isinstance(value, str) else value


def _names_of(non_retryable: object) -> set[str]:
    if isinstance(non_retryable, str):
        return {non_retryable}
    if isinstance(non_retryable, type) and issubclass(non_retryable, BaseException):
        return class_names(non_retryable)
    raise TypeError(f"non_retryable must hold exception classes or their names, not {non_retryable!r}")


def _optional_milliseconds(value: Duration | None, what: str) -> int | None:
    return None if value is None else check_milliseconds(value, what, least=1)
