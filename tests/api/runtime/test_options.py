"""Options check their values, and the errors name the value and the rule."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from duroxide import (
    Backoff,
    InstanceFilter,
    PostgresEntraOptions,
    PostgresOptions,
    PruneOptions,
    RetryPolicy,
    RuntimeOptions,
    TagFilter,
    _native,
)
from duroxide._declare.retry import native_policy
from duroxide._native import EncodedRetryPolicy
from duroxide.exceptions import ConfigurationError, UnknownOption


def policy(**changes: Any) -> EncodedRetryPolicy:
    """Return the default policy as the native half takes it, with changes."""
    default: dict[str, Any] = {
        "max_attempts": 3,
        "backoff": "exponential",
        "base_ms": 100,
        "multiplier": 2.0,
        "max_ms": 30_000,
        "attempt_timeout_ms": None,
        "start_timeout_ms": None,
        "total_timeout_ms": None,
        "non_retryable": [],
    }
    return EncodedRetryPolicy(**{**default, **changes})


def test_the_defaults_are_the_documented_ones() -> None:
    options = RuntimeOptions()
    assert (options.orchestration_concurrency, options.worker_concurrency) == (64, 64)
    assert options.dispatcher_poll_interval_ms == 100
    assert options.max_sessions_per_runtime == 10
    assert options.session_idle_timeout_ms == 300_000
    assert options.worker_node_id is None


def test_a_cancellation_arrives_within_half_of_the_lock_timeout() -> None:
    assert RuntimeOptions(worker_lock_timeout_ms=2000).to_native()["worker_lock_renewal_buffer_ms"] == 1000


def test_the_native_half_gets_each_tag_once() -> None:
    options = RuntimeOptions(worker_tag_filter=TagFilter.default_and("gpu", "arm", "gpu"))
    assert options.to_native()["worker_tag_filter"] == {"kind": "default_and", "names": ["arm", "gpu"]}


def test_an_error_about_a_misspelt_option_suggests_the_right_one() -> None:
    options: Any = {"worker_concurency": 4}
    with pytest.raises(UnknownOption, match="no option 'worker_concurency'; did you mean 'worker_concurrency'"):
        RuntimeOptions(**options)
    with pytest.raises(TypeError):
        RuntimeOptions(**options)
    with pytest.raises(ConfigurationError):
        RuntimeOptions(**options)


def test_options_must_be_given_by_name() -> None:
    with pytest.raises(UnknownOption, match="by name only"):
        PruneOptions(5)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("worker_concurrency", 0),
        ("worker_concurrency", -1),
        ("worker_concurrency", True),
        ("worker_concurrency", 2.0),
        ("worker_concurrency", 10**9),
        ("dispatcher_poll_interval_ms", 0),
        ("dispatcher_long_poll_timeout_ms", None),
        ("worker_lock_timeout_ms", 10**15),
        ("worker_lock_timeout_ms", "30000"),
        ("max_attempts", 0),
        ("log_level", "loud"),
        ("log_format", "xml"),
        ("service_name", ""),
        ("worker_node_id", 7),
        ("worker_tag_filter", "gpu"),
    ],
)
def test_an_error_about_an_invalid_value_names_the_option(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        RuntimeOptions(**{name: value})


def test_a_session_cannot_time_out_during_its_activity() -> None:
    with pytest.raises(ConfigurationError, match="raise session_idle_timeout_ms"):
        RuntimeOptions(session_idle_timeout_ms=15_000)
    RuntimeOptions(session_idle_timeout_ms=15_001)
    RuntimeOptions(session_idle_timeout_ms=1001, worker_lock_timeout_ms=2000)


def test_a_lock_renewal_buffer_must_leave_a_pause() -> None:
    with pytest.raises(ConfigurationError, match="session_lock_renewal_buffer_ms is 30000"):
        RuntimeOptions(session_lock_renewal_buffer_ms=30_000)
    # The engine ignores the buffer of a short lock.
    RuntimeOptions(orchestrator_lock_timeout_ms=2000)


@pytest.mark.parametrize("kind", ["orchestrator", "worker", "session"])
def test_a_lock_that_could_not_be_renewed_in_time_is_refused(kind: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{kind}_lock_timeout_ms is 1999.*at least 2000"):
        RuntimeOptions(**{f"{kind}_lock_timeout_ms": 1999})


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("nondeterminism", "hope", "nondeterminism 'hope' is unknown; use one of wait, fail"),
        (
            "worker_tag_filter",
            {"kind": "some", "names": []},
            "tag filter 'some' is unknown; use one of default_only, tags, default_and, any, none",
        ),
        ("log_level", "loud", "log_level 'loud' is unknown; use one of off, error, warn, info, debug, trace"),
        ("log_format", "yaml", "log_format 'yaml' is unknown; use one of pretty, compact, json"),
    ],
)
def test_the_native_runtime_refuses_an_unknown_word(option: str, value: object, message: str) -> None:
    options = {**RuntimeOptions().to_native(), "strict": False, option: value}
    runtime = _native.Runtime(_native.Store.sqlite_in_memory(), options)
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        runtime.start([], [], {}, object)


def test_the_native_store_refuses_an_unknown_word() -> None:
    options = {**PostgresOptions().to_native(), "migrate": "perhaps"}
    with pytest.raises(ConfigurationError, match="migrate 'perhaps' is unknown; use one of apply, verify"):
        _native.Store.connect_postgres(["postgres://localhost:1/none"], "any", None, options)


@pytest.mark.parametrize("names", [(), ("",), ("x" * 257,), tuple("abcdef"), (7,), (["gpu"], "cpu")], ids=str)
def test_tags_have_limits(names: Any) -> None:
    with pytest.raises((ConfigurationError, TypeError)):
        TagFilter.tags(*names)


def test_five_tags_of_256_bytes_are_allowed() -> None:
    assert len(TagFilter.tags(*(letter * 256 for letter in "abcde")).names) == 5


@pytest.mark.parametrize(
    ("value", "changes"),
    [
        (None, {}),
        ({}, {}),
        (RetryPolicy(), {}),
        (
            {"max_attempts": 3, "backoff": "exponential", "timeout_ms": 5000, "total_timeout_ms": 30000},
            {"attempt_timeout_ms": 5000, "total_timeout_ms": 30_000},
        ),
        ({"max_attempts": 3, "backoff_strategy": "none"}, {"backoff": "none"}),
        (
            {"maxAttempts": 5, "backoffStrategy": "Linear", "timeoutMs": 1, "baseMs": 7, "maxIntervalMs": 9},
            {"max_attempts": 5, "backoff": "linear", "base_ms": 7, "max_ms": 9, "attempt_timeout_ms": 1},
        ),
        ({"timeout_ms": None}, {}),
        ({"initial_interval_ms": 5, "multiplier": 3}, {"base_ms": 5, "multiplier": 3.0}),
        (
            RetryPolicy(backoff=Backoff.fixed(timedelta(seconds=1)), attempt_timeout=timedelta(microseconds=1)),
            {"backoff": "fixed", "base_ms": 1000, "attempt_timeout_ms": 1},
        ),
        (
            {"backoff": Backoff.none(), "non_retryable": ["Gone"]},
            {"backoff": "none", "non_retryable": ["Gone"]},
        ),
    ],
    ids=str,
)
def test_the_native_half_gets_every_part_of_a_retry_policy(value: Any, changes: dict[str, Any]) -> None:
    assert native_policy(value) == policy(**changes)


def test_the_native_half_refuses_an_unknown_backoff() -> None:
    with pytest.raises(
        ConfigurationError, match="backoff 'soon' is unknown; use one of none, fixed, linear, exponential"
    ):
        policy(backoff="soon")


def test_subclasses_of_errors_on_the_no_retry_list_are_not_retried() -> None:
    names = native_policy(RetryPolicy(non_retryable=(LookupError, "Gone"))).non_retryable
    assert {"LookupError", "KeyError", "IndexError", "Gone"} <= set(names)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"max_atempts": 3}, "did you mean 'max_attempts'"),
        ({"max_attempts": 3, "maxAttempts": 4}, "twice"),
        ({"max_attempts": 0}, "max_attempts must be at least 1"),
        ({"max_attempts": "3"}, "max_attempts must be an int"),
        ({"backoff": "quadratic"}, "'quadratic' is unknown"),
        ({"backoff": 3}, "unknown"),
        ({"timeout_ms": -1}, "attempt_timeout must be at least 1"),
        ({"total_timeout_ms": 10**18}, "total_timeout must be at most"),
        ({"multiplier": float("nan")}, "multiplier"),
        ({"multiplier": 0.5}, "multiplier"),
        ({"non_retryable": "Gone"}, "must be a list or a tuple"),
        ({"non_retryable": [int]}, "exception classes"),
        ({"backoff": Backoff.none(), "base_ms": 1}, "put them into the Backoff"),
    ],
    ids=str,
)
def test_a_retry_dictionary_with_a_mistake_is_refused(value: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        RetryPolicy.from_value(value)


def test_a_time_needs_a_time_zone() -> None:
    with pytest.raises(ConfigurationError, match="without a time zone"):
        PruneOptions(completed_before=datetime(2026, 1, 1))  # noqa: DTZ001
    assert PruneOptions(completed_before=datetime(1970, 1, 1, 0, 0, 1, tzinfo=timezone.utc)).completed_before == 1000


def test_a_filter_needs_a_list_of_ids() -> None:
    with pytest.raises(ConfigurationError, match=r"instance_ids=\['order-1'\]"):
        InstanceFilter(instance_ids="order-1")  # type: ignore[arg-type]
    assert InstanceFilter(instance_ids=["a"], limit=5).instance_ids == ("a",)


def test_entra_options_are_checked() -> None:
    assert PostgresEntraOptions(max_connections=10).max_connections == 10
    with pytest.raises(ConfigurationError, match="refresh_interval_ms"):
        PostgresEntraOptions(refresh_interval_ms=0)
