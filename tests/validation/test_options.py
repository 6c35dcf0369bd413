"""Unknown or invalid options are refused, wherever they are given."""

from __future__ import annotations

from collections.abc import Callable, Generator
from datetime import datetime
from typing import Any

import pytest

from duroxide import (
    Backoff,
    Client,
    ConfigurationError,
    InstanceFilter,
    OrchestrationContext,
    PostgresEntraOptions,
    PostgresProvider,
    PruneOptions,
    RetryPolicy,
    Runtime,
    RuntimeOptions,
    SqliteProvider,
    TagFilter,
    UnknownOption,
)
from validation.conftest import Play

Steps = Generator[Any, Any, Any]
Provider = SqliteProvider | PostgresProvider

in_memory = pytest.mark.parametrize("store", ["memory"])


@pytest.mark.parametrize(
    ("build", "misspelt", "meant"),
    [
        (RuntimeOptions, "worker_concurency", "worker_concurrency"),
        (RuntimeOptions, "session_idle_timeout", "session_idle_timeout_ms"),
        (PruneOptions, "keep_lst", "keep_last"),
        (InstanceFilter, "instance_id", "instance_ids"),
        (PostgresEntraOptions, "max_connection", "max_connections"),
        (RetryPolicy, "max_attempt", "max_attempts"),
        (Backoff, "kinds", "kind"),
    ],
)
def test_the_error_about_a_misspelt_option_suggests_the_right_one(
    build: Callable[..., Any], misspelt: str, meant: str
) -> None:
    with pytest.raises(UnknownOption) as refused:
        build(**{misspelt: 1})
    assert f"'{misspelt}'" in str(refused.value)
    assert f"did you mean '{meant}'?" in str(refused.value)


def test_the_error_about_an_unknown_option_lists_all_options() -> None:
    with pytest.raises(UnknownOption, match="completed_before, keep_last"):
        PruneOptions(zzz=1)  # type: ignore[call-arg]


def test_options_must_be_given_by_name() -> None:
    with pytest.raises(UnknownOption, match="by name"):
        RuntimeOptions(4)  # type: ignore[call-arg]


BAD_OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"orchestration_concurrency": 0}, "at least 1"),
    ({"worker_concurrency": -1}, "at least 1"),
    ({"worker_concurrency": 10**9}, "at most"),
    ({"worker_concurrency": "8"}, "int"),
    ({"worker_concurrency": 8.0}, "int"),
    ({"worker_concurrency": True}, "int"),
    ({"max_attempts": 0}, "at least 1"),
    ({"dispatcher_poll_interval_ms": -1}, "at least"),
    ({"dispatcher_poll_interval_ms": 10**15}, "at most"),
    ({"worker_lock_timeout_ms": 0}, "at least 1"),
    ({"worker_lock_timeout_ms": 20_000, "worker_lock_renewal_buffer_ms": 20_000}, "less than"),
    ({"session_idle_timeout_ms": 15_000}, "raise session_idle_timeout_ms"),
    ({"session_idle_timeout_ms": 500, "worker_lock_timeout_ms": 2_000}, "worker_lock_timeout_ms"),
    ({"max_sessions_per_runtime": 0}, "at least 1"),
    ({"worker_node_id": ""}, "empty"),
    ({"worker_node_id": 17}, "str"),
    ({"log_level": "inof"}, "did you mean 'info'?"),
    ({"log_format": "jsn"}, "did you mean 'json'?"),
    ({"worker_tag_filter": "gpu"}, "TagFilter.tags"),
    ({"unregistered_timeout_ms": None}, "int"),
]


@pytest.mark.parametrize(("options", "words"), BAD_OPTIONS, ids=str)
def test_an_option_out_of_its_range_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        RuntimeOptions(**options)
    assert any(name in str(refused.value) for name in options)
    assert words in str(refused.value)


@in_memory
def test_a_runtime_starts_with_the_shortest_allowed_session_idle_time(provider: Provider) -> None:
    # The engine panics below it.
    options = RuntimeOptions(worker_lock_timeout_ms=2_000, session_idle_timeout_ms=1_001)
    with Runtime(provider, options) as runtime:
        assert "running" in repr(runtime)


@pytest.mark.parametrize("timeout", [1, 2, 3, 999, 1_000, 14_999, 15_000])
@pytest.mark.parametrize("buffer", [None, 1, 500, 14_999, 60_000])
@in_memory
def test_no_allowed_lock_timeout_crashes_the_engine(timeout: int, buffer: int | None, provider: Provider) -> None:
    try:
        options = RuntimeOptions(
            worker_lock_timeout_ms=timeout,
            worker_lock_renewal_buffer_ms=buffer,
            session_idle_timeout_ms=max(2, timeout),
        )
    except ConfigurationError:
        return
    with Runtime(provider, options) as runtime:
        assert "running" in repr(runtime)


@pytest.mark.parametrize(
    "build",
    [
        TagFilter.tags,
        lambda: TagFilter.tags(""),
        lambda: TagFilter.tags("x" * 257),
        lambda: TagFilter.tags(*"abcdef"),
        TagFilter.default_and,
        lambda: TagFilter("gpu"),  # type: ignore[arg-type]
        lambda: TagFilter("any", ("gpu",)),
        lambda: PruneOptions(keep_last=-1),
        lambda: PruneOptions(completed_before=datetime(2024, 1, 1)),  # noqa: DTZ001
        lambda: PruneOptions(completed_before=1.5),  # type: ignore[arg-type]
        lambda: InstanceFilter(instance_ids="one"),  # type: ignore[arg-type]
        lambda: InstanceFilter(limit=0),
        lambda: PostgresEntraOptions(max_connections=0),
        lambda: PostgresEntraOptions(refresh_interval_ms="soon"),  # type: ignore[arg-type]
        lambda: RetryPolicy(max_attempts=0),
        lambda: RetryPolicy(attempt_timeout=-1),
        lambda: RetryPolicy(total_timeout=0),
        lambda: RetryPolicy(backoff="exponential"),  # type: ignore[arg-type]
        lambda: RetryPolicy(non_retryable=(17,)),  # type: ignore[arg-type]
        lambda: Backoff.fixed(-1),
        lambda: Backoff.exponential(multiplier=0.5),
        lambda: Backoff.exponential(multiplier=float("nan")),
        lambda: Backoff(kind="exponental"),  # type: ignore[arg-type]
    ],
)
def test_other_invalid_options_are_refused(build: Callable[[], Any]) -> None:
    with pytest.raises(ConfigurationError):
        build()


BAD_RETRIES: list[tuple[Any, str, str]] = [
    ({"max_atempts": 3}, "UnknownOption", "did you mean 'max_attempts'?"),
    ({"maxAttempts": 3, "max_attempts": 3}, "ConfigurationError", "twice"),
    ({"max_attempts": 0}, "ConfigurationError", "at least 1"),
    ({"max_attempts": "3"}, "ConfigurationError", "int"),
    ({"backoff": "exponental"}, "ConfigurationError", "did you mean 'exponential'?"),
    ({"backoff": 17}, "ConfigurationError", "17"),
    ({"timeout_ms": -1}, "ConfigurationError", "at least 1"),
    ({"total_timeout_ms": 2**60}, "ConfigurationError", "at most"),
    ({"multiplier": 0}, "ConfigurationError", "from 1 to 1000"),
    ({17: 3}, "UnknownOption", "'17'"),
    (3, "TypeError", "dict"),
    ("exponential", "TypeError", "dict"),
]


@in_memory
@pytest.mark.parametrize(("policy", "expected", "words"), BAD_RETRIES, ids=str)
def test_an_invalid_retry_is_refused_at_the_call(policy: Any, expected: str, words: str, play: Play) -> None:
    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        try:
            yield ctx.schedule_activity_with_retry("echo", 1, policy)
        except Exception as error:
            return [type(error).__name__, str(error), (yield ctx.schedule_activity("echo", "continues"))]
        return "not refused"

    name, message, last = play(orchestration).result()
    assert name == expected
    assert words in message
    assert last == "continues"


@in_memory
def test_options_and_stores_of_other_types_are_refused(provider: Provider) -> None:
    with pytest.raises(TypeError, match="RuntimeOptions"):
        Runtime(provider, {"worker_concurrency": 3})  # type: ignore[arg-type]
    for wrong in ("store.db", None, 17):
        with pytest.raises(TypeError, match="SqliteProvider or PostgresProvider"):
            Runtime(wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="SqliteProvider or PostgresProvider"):
            Client(wrong)  # type: ignore[arg-type]


def test_a_provider_cannot_be_constructed_directly() -> None:
    with pytest.raises(TypeError, match=r"SqliteProvider\.open"):
        SqliteProvider("store.db")
    with pytest.raises(TypeError, match=r"PostgresProvider\.connect"):
        PostgresProvider("postgresql://localhost")


@in_memory
def test_an_unknown_value_of_if_exists_is_refused(client: Client) -> None:
    with pytest.raises(ValueError, match="must be 'attach', 'raise', .* not 'overwrite'"):
        client.start_orchestration("id", "healthy", if_exists="overwrite")  # type: ignore[arg-type]


@in_memory
def test_a_keyword_that_a_call_does_not_have_is_refused(client: Client) -> None:
    with pytest.raises(TypeError, match="inptu"):
        client.start_orchestration("id", "healthy", inptu=1)  # type: ignore[call-arg]
