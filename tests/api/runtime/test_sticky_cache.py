"""The sticky cache of suspended orchestrations: what it saves, its limits, and that results stay equal."""

from __future__ import annotations

import sys
from collections.abc import Generator
from typing import Any

import pytest

from conftest import StartRuntime
from duroxide import (
    ActivityContext,
    Client,
    ConfigurationError,
    OrchestrationContext,
    Provider,
    Runtime,
    RuntimeOptions,
    Task,
    TurnClosed,
)
from support.waiting import wait_until

Steps = Generator[Task[Any], Any, Any]

AWAKE = RuntimeOptions()
REPLAYED = RuntimeOptions(sticky=False)


def echo(_ctx: ActivityContext, input: Any) -> Any:
    return input


class Watched:
    """An orchestration that counts its calls and its ends."""

    def __init__(self) -> None:
        self.calls = 0
        self.closed: list[str] = []

    def chain(self, ctx: OrchestrationContext, length: int) -> Steps:
        self.calls += 1
        total = 0
        for number in range(length):
            total += yield ctx.schedule_activity("echo", number)
        return total

    def waiting(self, ctx: OrchestrationContext, names: list[str]) -> Steps:
        self.calls += 1
        seen: list[Any] = []
        try:
            while len(seen) < len(names):
                seen.append((yield ctx.wait_for_event(names[len(seen)])))
        except TurnClosed:
            self.closed.append(ctx.instance_id)
            raise
        return seen


@pytest.fixture
def watched() -> Watched:
    return Watched()


def is_waiting_for(client: Client, instance: str, event: str) -> bool:
    if client.get_status(instance).status == "NotFound":
        return False
    events = client.read_execution_history(instance)
    return any(each.kind == "ExternalSubscribed" and f'"{event}"' in each.data for each in events)


def begin_waiting(client: Client, instance: str, *names: str) -> None:
    """Start an instance of ``waiting`` and wait until it is suspended."""
    client.start_orchestration(instance, "waiting", list(names))
    wait_until(lambda: is_waiting_for(client, instance, names[0]))


def test_the_code_of_an_orchestration_runs_once_however_many_steps_it_takes(
    watched: Watched, runtime_factory: StartRuntime, client: Client
) -> None:
    runtime_factory({"echo": echo}, {"chain": watched.chain}, AWAKE)
    client.start_orchestration("chain", "chain", 20)
    assert client.wait_for_orchestration("chain").result() == sum(range(20))
    assert watched.calls == 1


@pytest.mark.parametrize("store", ["memory"])
def test_the_code_runs_again_at_every_step_without_the_cache(
    watched: Watched, runtime_factory: StartRuntime, client: Client
) -> None:
    runtime_factory({"echo": echo}, {"chain": watched.chain}, REPLAYED)
    client.start_orchestration("chain", "chain", 20)
    assert client.wait_for_orchestration("chain").result() == sum(range(20))
    assert watched.calls == 21


@pytest.mark.parametrize("store", ["memory"])
def test_a_new_runtime_replays_orchestrations_that_another_one_had_in_its_cache(
    watched: Watched, runtime_factory: StartRuntime, client: Client
) -> None:
    first = runtime_factory({}, {"waiting": watched.waiting})
    begin_waiting(client, "instance", "a", "b")
    client.raise_event("instance", "a", 1)
    wait_until(lambda: is_waiting_for(client, "instance", "b"))
    first.shutdown()
    runtime_factory({}, {"waiting": watched.waiting})
    client.raise_event("instance", "b", 2)
    assert client.wait_for_orchestration("instance").result() == [1, 2]
    assert watched.calls == 2


@pytest.mark.parametrize("store", ["memory"])
def test_a_shutdown_closes_suspended_orchestrations(
    watched: Watched, runtime_factory: StartRuntime, client: Client
) -> None:
    runtime = runtime_factory({}, {"waiting": watched.waiting})
    begin_waiting(client, "one", "a")
    begin_waiting(client, "two", "a")
    assert watched.closed == []
    runtime.shutdown()
    assert sorted(watched.closed) == ["one", "two"]


@pytest.mark.parametrize("store", ["memory"])
def test_the_orchestration_that_waited_longest_is_evicted(
    watched: Watched, runtime_factory: StartRuntime, client: Client
) -> None:
    runtime_factory({}, {"waiting": watched.waiting}, RuntimeOptions(max_sticky_orchestrations=2))
    begin_waiting(client, "first", "a")
    begin_waiting(client, "second", "a", "b")
    client.raise_event("second", "a")
    wait_until(lambda: is_waiting_for(client, "second", "b"))
    begin_waiting(client, "third", "a")
    wait_until(lambda: watched.closed == ["first"])
    client.raise_event("first", "a", "still running")
    assert client.wait_for_orchestration("first").result() == ["still running"]


@pytest.mark.parametrize("store", ["memory"])
def test_the_cache_is_also_bounded_in_bytes(watched: Watched, runtime_factory: StartRuntime, client: Client) -> None:
    def large(ctx: OrchestrationContext, _: Any) -> Steps:
        yield ctx.schedule_activity("echo", "x" * 60_000)
        return (yield from watched.waiting(ctx, ["a"]))

    runtime_factory({"echo": echo}, {"large": large}, RuntimeOptions(max_sticky_bytes=150_000))
    client.start_orchestration("first", "large")
    wait_until(lambda: is_waiting_for(client, "first", "a"))
    assert watched.closed == []
    # Each keeps the data that it sent and received, so the cache has no room for two.
    client.start_orchestration("second", "large")
    wait_until(lambda: watched.closed == ["first"])


@pytest.mark.parametrize("store", ["memory"])
def test_an_orchestration_that_is_idle_too_long_is_closed_and_continues_later(
    watched: Watched, runtime_factory: StartRuntime, client: Client
) -> None:
    runtime_factory({}, {"waiting": watched.waiting}, RuntimeOptions(sticky_idle_timeout_ms=50))
    begin_waiting(client, "instance", "a")
    wait_until(lambda: watched.closed == ["instance"])
    client.raise_event("instance", "a", 1)
    assert client.wait_for_orchestration("instance").result() == [1]


def test_a_cancelled_orchestration_is_closed(watched: Watched, runtime_factory: StartRuntime, client: Client) -> None:
    runtime_factory({}, {"waiting": watched.waiting})
    begin_waiting(client, "instance", "a")
    client.cancel_instance("instance", "no longer needed")
    assert client.wait_for_orchestration("instance").status == "Failed"
    wait_until(lambda: watched.closed == ["instance"])


def test_a_deleted_orchestration_is_closed_and_a_new_instance_begins_from_the_start(
    watched: Watched, runtime_factory: StartRuntime, client: Client
) -> None:
    runtime_factory({}, {"waiting": watched.waiting})
    begin_waiting(client, "instance", "a")
    client.delete_instance("instance", force=True)
    wait_until(lambda: watched.closed == ["instance"])
    begin_waiting(client, "instance", "a")
    client.raise_event("instance", "a", "of the second")
    assert client.wait_for_orchestration("instance").result() == ["of the second"]
    assert watched.calls == 2


def test_events_added_by_another_runtime_are_noticed(
    watched: Watched, runtime_factory: StartRuntime, client: Client
) -> None:
    # Both serve one store, and either may take a step: neither may trust its cached state.
    runtime_factory({"echo": echo}, {"chain": watched.chain})
    runtime_factory({"echo": echo}, {"chain": watched.chain})
    instances = [f"chain-{number}" for number in range(10)]
    for instance in instances:
        client.start_orchestration(instance, "chain", 15)
    for instance in instances:
        assert client.wait_for_orchestration(instance).result() == sum(range(15))


@pytest.mark.parametrize("store", ["memory"])
def test_a_context_is_refused_between_two_steps(
    watched: Watched, runtime_factory: StartRuntime, client: Client
) -> None:
    kept: list[OrchestrationContext] = []

    def orchestration(ctx: OrchestrationContext, names: list[str]) -> Steps:
        kept.append(ctx)
        return (yield from watched.waiting(ctx, names))

    runtime_factory({}, {"waiting": orchestration})
    begin_waiting(client, "instance", "a")
    with pytest.raises(TurnClosed, match="after its turn"):
        kept[0].set_kv_value("key", "late")
    client.raise_event("instance", "a", 1)
    assert client.wait_for_orchestration("instance").result() == [1]


@pytest.mark.parametrize("store", ["memory"])
def test_code_that_yields_and_raises_while_it_is_evicted_logs_nothing(
    runtime_factory: StartRuntime, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    unraisable: list[Any] = []
    ended: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: unraisable.append(unraisable.exc_value))

    def stubborn(ctx: OrchestrationContext, names: list[str]) -> Steps:
        try:
            yield ctx.wait_for_event(names[0])
        finally:
            ctx.set_custom_status("never seen")
            yield ctx.schedule_activity("echo", "never run")
            ended.append(ctx.instance_id)
            raise ValueError("while closing")

    runtime = runtime_factory({"echo": echo}, {"waiting": stubborn})
    begin_waiting(client, "instance", "a")
    runtime.shutdown()
    # It yields once more while it is closed, and continues when a further TurnClosed answers that yield.
    assert unraisable == []
    assert client.get_status("instance").custom_status is None
    kinds = [event.kind for event in client.read_execution_history("instance")]
    assert kinds == ["OrchestrationStarted", "ExternalSubscribed"]


@pytest.mark.parametrize("store", ["memory"])
def test_a_later_failure_ends_a_gather_early(runtime_factory: StartRuntime, client: Client) -> None:
    def fail(_ctx: ActivityContext, _input: Any) -> None:
        raise ValueError("refused")

    def early(ctx: OrchestrationContext, _: Any) -> Steps:
        try:
            yield ctx.gather(ctx.wait_for_event("never"), ctx.schedule_activity("fail"))
        except Exception as error:
            return str(error)
        return "not early"

    runtime_factory({"fail": fail}, {"early": early})
    client.start_orchestration("early", "early")
    assert "refused" in client.wait_for_orchestration("early").result()


@pytest.mark.parametrize("options", [AWAKE, REPLAYED], ids=["awake", "replayed"])
@pytest.mark.parametrize("store", ["memory"])
def test_is_replaying_is_true_only_during_replay(
    options: RuntimeOptions, runtime_factory: StartRuntime, client: Client
) -> None:
    last: dict[int, bool] = {}

    def observed(ctx: OrchestrationContext, _: Any) -> Steps:
        for number in range(5):
            last[number] = ctx.is_replaying()
            yield ctx.schedule_activity("echo", number)
        return ctx.is_replaying()

    runtime_factory({"echo": echo}, {"observed": observed}, options)
    client.start_orchestration("observed", "observed")
    assert client.wait_for_orchestration("observed").result() is False
    assert set(last.values()) == {not options.sticky}


@pytest.mark.parametrize("store", ["memory"])
def test_the_options_of_the_cache_are_checked(provider: Provider) -> None:
    with pytest.raises(ConfigurationError, match="sticky must be True or False"):
        RuntimeOptions(sticky="no")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="max_sticky_orchestrations"):
        RuntimeOptions(max_sticky_orchestrations=0)
    with pytest.raises(ConfigurationError, match="max_sticky_bytes"):
        RuntimeOptions(max_sticky_bytes=0)
    with pytest.raises(ConfigurationError, match="sticky_idle_timeout_ms"):
        RuntimeOptions(sticky_idle_timeout_ms=0)
    Runtime(provider, RuntimeOptions(sticky=False, max_sticky_orchestrations=1, max_sticky_bytes=1))
