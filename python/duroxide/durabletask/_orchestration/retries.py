"""Retry policies."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from duroxide import MAX_DURATION_MS

if TYPE_CHECKING:
    import random

    from duroxide.durabletask._orchestration.failures import FailureDetails


class RetryPolicy:
    """How often, and after which pauses, a failed activity or sub-orchestration is tried again.

    Args:
        first_retry_interval: Pause before the second attempt, a ``timedelta`` or seconds.
        max_number_of_attempts: Attempts in all, the first included.
        backoff_coefficient: What each pause is multiplied by to give the next one; default 1.0.
        max_retry_interval: The longest pause, a ``timedelta`` or seconds; default ``None``, no limit.
        retry_timeout: Time since the first attempt after which no other one begins, a ``timedelta`` or seconds, by the
            clock of the orchestration's turns; default ``None``, no limit.
        jitter: Part of each pause that is left to chance, from 0.0 to 1.0; default 0.0. The chance is the same at every
            replay.
        should_retry: Called with the failure of an attempt, tells whether to try again; it must be deterministic.
            Default ``None``, always.

    Raises:
        ValueError: A time is negative, there is no attempt, the coefficient is below 1, or the jitter is out of range.
    """

    def __init__(
        self,
        *,
        first_retry_interval: timedelta | float,
        max_number_of_attempts: int,
        backoff_coefficient: float | None = 1.0,
        max_retry_interval: timedelta | float | None = None,
        retry_timeout: timedelta | float | None = None,
        jitter: float = 0.0,
        should_retry: Callable[[FailureDetails], bool] | None = None,
    ) -> None:
        self._first_retry_interval = _as_time(first_retry_interval, "first_retry_interval")
        if max_number_of_attempts < 1:
            raise ValueError(f"max_number_of_attempts is {max_number_of_attempts}, and must be at least 1")
        coefficient = 1.0 if backoff_coefficient is None else backoff_coefficient
        if not coefficient >= 1:
            raise ValueError(f"backoff_coefficient is {coefficient}, and must be at least 1")
        if not 0 <= jitter <= 1:
            raise ValueError(f"jitter is {jitter}, and must be from 0 to 1")
        self._max_number_of_attempts = max_number_of_attempts
        self._backoff_coefficient = coefficient
        self._max_retry_interval = (
            None if max_retry_interval is None else _as_time(max_retry_interval, "max_retry_interval")
        )
        self._retry_timeout = None if retry_timeout is None else _as_time(retry_timeout, "retry_timeout")
        self._jitter = jitter
        self._should_retry = should_retry

    @property
    def first_retry_interval(self) -> timedelta:
        """Pause before the second attempt."""
        return self._first_retry_interval

    @property
    def max_number_of_attempts(self) -> int:
        """Attempts in all."""
        return self._max_number_of_attempts

    @property
    def backoff_coefficient(self) -> float:
        """What each pause is multiplied by."""
        return self._backoff_coefficient

    @property
    def max_retry_interval(self) -> timedelta | None:
        """The longest pause, or ``None``."""
        return self._max_retry_interval

    @property
    def retry_timeout(self) -> timedelta | None:
        """Time after which no other attempt begins, or ``None``."""
        return self._retry_timeout

    def _pause_after(
        self, attempt: int, elapsed: timedelta, failure: FailureDetails, chance: Callable[[], random.Random]
    ) -> timedelta | None:
        """Return the pause after a failed attempt, or ``None`` if it was the last one.

        Args:
            attempt: Number of the attempt, counted from 1.
            elapsed: Time since the first attempt began.
            failure: The failure of the attempt.
            chance: Returns the orchestration's generator of random numbers.
        """
        if attempt >= self._max_number_of_attempts:
            return None
        if self._retry_timeout is not None and elapsed >= self._retry_timeout:
            return None
        if self._should_retry is not None and not self._should_retry(failure):
            return None
        seconds = self._first_retry_interval.total_seconds()
        try:
            seconds *= self._backoff_coefficient ** (attempt - 1)
        except OverflowError:
            seconds = timedelta.max.total_seconds()
        if self._max_retry_interval is not None:
            seconds = min(seconds, self._max_retry_interval.total_seconds())
        if self._jitter:
            seconds *= 1 - self._jitter * chance().random()
        return timedelta(seconds=min(seconds, MAX_DURATION_MS / 1000))


def _as_time(value: timedelta | float, name: str) -> timedelta:
    time = value if isinstance(value, timedelta) else timedelta(seconds=value)
    if time < timedelta(0):
        raise ValueError(f"{name} is {value}, and must not be negative")
    return time
