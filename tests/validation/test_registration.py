"""Invalid registrations are refused at once; an unregistered name fails where it is used."""

from __future__ import annotations

import sys
from collections.abc import Generator
from typing import Any

import pytest

from duroxide import (
    Client,
    OrchestrationContext,
    PostgresProvider,
    RegistrationError,
    Runtime,
    RuntimeOptions,
    SqliteProvider,
)
from validation.conftest import Play

Steps = Generator[Any, Any, Any]
Provider = SqliteProvider | PostgresProvider

in_memory = pytest.mark.parametrize("store", ["memory"])


def first(ctx: Any, input: Any) -> str:
    return "first"


def second(ctx: Any, input: Any) -> str:
    return "second"


def steps(ctx: OrchestrationContext, input: Any) -> Steps:
    return (yield ctx.schedule_activity("first", input))


@in_memory
def test_another_function_under_a_name_is_refused(runtime: Runtime) -> None:
    runtime.register_activity("work", first)
    with pytest.raises(RegistrationError) as refused:
        runtime.register_activity("work", second)
    assert "activity 'work'" in str(refused.value)
    assert "another name" in str(refused.value)
    runtime.register_orchestration("flow", steps)
    with pytest.raises(RegistrationError) as refused:
        runtime.register_orchestration("flow", first)
    assert "orchestration 'flow'" in str(refused.value)
    assert "another name or version" in str(refused.value)


@in_memory
def test_the_same_function_under_a_name_is_fine(runtime: Runtime) -> None:
    def define() -> Any:
        def work(ctx: Any, input: Any) -> str:
            return "same"

        return work

    runtime.register_activity("work", define())
    # As when the cell of a notebook runs again.
    runtime.register_activity("work", define())
    runtime.register_orchestration("flow", steps)
    runtime.register_orchestration("flow", steps)


@in_memory
def test_a_second_version_of_an_orchestration_is_fine(runtime: Runtime) -> None:
    runtime.register_orchestration("flow", steps)
    runtime.register_orchestration_versioned("flow", "1.0.1", first)
    with pytest.raises(RegistrationError, match=r"version 1\.0\.1"):
        runtime.register_orchestration_versioned("flow", "1.0.1", second)


@in_memory
@pytest.mark.parametrize("name", ["", "x" * 1_000_000, 17, "lone \ud800", "__duroxide_syscall:new_guid"])
def test_an_invalid_name_is_refused(name: Any, runtime: Runtime) -> None:
    with pytest.raises(RegistrationError) as refused:
        runtime.register_activity(name, first)
    assert len(str(refused.value)) < 500
    with pytest.raises(RegistrationError):
        runtime.register_orchestration(name, steps)


@in_memory
@pytest.mark.parametrize("version", ["", "1", "one", "1.0", "1.0.0.0", "x" * 1000])
def test_an_invalid_version_is_refused(version: str, runtime: Runtime) -> None:
    with pytest.raises(RegistrationError, match="'flow'"):
        runtime.register_orchestration_versioned("flow", version, steps)


@in_memory
@pytest.mark.parametrize("function", [17, "first", Runtime, lambda: None, lambda ctx: None])
def test_a_function_that_does_not_take_context_and_input_is_refused(function: Any, runtime: Runtime) -> None:
    with pytest.raises(RegistrationError, match="'work'"):
        runtime.register_activity("work", function)
    with pytest.raises(RegistrationError, match="'work'"):
        runtime.register_orchestration("work", function)


@in_memory
def test_a_generator_function_is_refused_as_an_activity(runtime: Runtime) -> None:
    with pytest.raises(RegistrationError) as refused:
        runtime.register_activity("work", steps)
    assert "generator function" in str(refused.value)
    assert "orchestration" in str(refused.value)


@in_memory
def test_registering_while_the_runtime_works_is_refused(runtime: Runtime) -> None:
    with runtime:
        with pytest.raises(RegistrationError, match=r"before start\(\)"):
            runtime.register_activity("work", first)
        with pytest.raises(RegistrationError, match=r"before start\(\)"):
            runtime.register_orchestration("flow", steps)
    runtime.register_activity("work", first)


@in_memory
def test_a_value_that_is_not_a_function_is_refused_in_functions(provider: Provider) -> None:
    with pytest.raises(RegistrationError, match="int"):
        Runtime(provider, functions=[17])  # type: ignore[list-item]
    with pytest.raises(RegistrationError, match="name"):
        Runtime(provider, functions=[lambda ctx, input: input])


# Another node may have the name, so the failure comes after the time of the option.
SOON = RuntimeOptions(unregistered="fail", unregistered_timeout_ms=1_000, dispatcher_poll_interval_ms=20)


def test_an_activity_that_is_not_registered_fails_and_can_be_caught(play: Play) -> None:
    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        try:
            yield ctx.schedule_activity("no such activity", 1)
        except Exception as error:
            return [error.error_type, str(error), (yield ctx.schedule_activity("echo", "continues"))]  # type: ignore[attr-defined]
        return "not refused"

    name, message, last = play(orchestration, options=SOON).result()
    assert name == "RegistrationError"
    assert "'no such activity'" in message
    assert "not registered" in message
    assert "echo" in message
    assert last == "continues"


def test_a_sub_orchestration_that_is_not_registered_fails_and_can_be_caught(play: Play) -> None:
    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        try:
            yield ctx.schedule_sub_orchestration("no such child", 1)
        except Exception as error:
            return [error.error_type, str(error), (yield ctx.schedule_activity("echo", "continues"))]  # type: ignore[attr-defined]
        return "not refused"

    name, message, last = play(orchestration, options=SOON).result()
    assert name == "RegistrationError"
    assert "'no such child'" in message
    assert "not registered" in message
    assert last == "continues"


def test_a_version_that_is_not_registered_fails_and_can_be_caught(play: Play) -> None:
    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        try:
            yield ctx.schedule_sub_orchestration_versioned("healthy", "9.9.9", 1)
        except Exception as error:
            return str(error)
        return "not refused"

    message = play(orchestration, options=SOON).result()
    assert "9.9.9" in message
    assert "1.0.0" in message


def test_an_orchestration_that_is_not_registered_fails_with_the_reason(client: Client, provider: Provider) -> None:
    runtime = Runtime(provider, SOON, functions=[steps, first])
    with runtime:
        client.start_orchestration("lost", "no such flow")
        result = client.wait_for_orchestration("lost", 30_000)
        client.start_orchestration("found", "steps")
        assert client.wait_for_orchestration("found", 30_000).result() == "first"
    assert result.status == "Failed"
    assert result.error is not None
    assert "'no such flow' is not registered" in result.error
    assert "steps" in result.error


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_an_unregistered_activity_is_not_retried(play: Play) -> None:
    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        # With a retry, the wait would outlast the test.
        policy = {"max_attempts": 2, "backoff": "fixed", "base_ms": 600_000}
        try:
            yield ctx.schedule_activity_with_retry("no such activity", 1, policy)
        except Exception as error:
            return error.attempts  # type: ignore[attr-defined]
        return "not refused"

    assert play(orchestration, options=RuntimeOptions(unregistered="fail")).result() == 1


@in_memory
def test_the_names_of_the_engines_activities_are_refused(play: Play) -> None:
    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        try:
            yield ctx.schedule_activity("__duroxide_syscall:new_guid", "")
        except ValueError as error:
            return str(error)
        return "not refused"

    assert "reserved" in play(orchestration).result()


@pytest.mark.skipif(sys.version_info >= (3, 11), reason="Python 3.11 and newer have task groups")
@in_memory
def test_a_coroutine_is_refused_by_a_python_without_task_groups(runtime: Runtime) -> None:
    async def orchestration(ctx: OrchestrationContext, input: Any) -> None:
        pass

    with pytest.raises(RegistrationError, match=r"needs Python 3\.11"):
        runtime.register_orchestration("coroutine", orchestration)
