"""The client: starting, attaching, waiting, and what it refuses."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Generator
from datetime import timedelta
from typing import Any

import pytest

from conftest import Run, StartRuntime
from duroxide import (
    Client,
    CodecError,
    InstanceAlreadyExists,
    InstanceNotFound,
    InstanceStillRunning,
    LimitExceeded,
    OrchestrationCancelled,
    OrchestrationContext,
    OrchestrationFailed,
    WaitTimedOut,
)

Steps = Generator[Any, Any, Any]


def echo(ctx: OrchestrationContext, input: Any) -> Any:
    return input


def wait_for_go(ctx: OrchestrationContext, input: Any) -> Steps:
    return (yield ctx.wait_for_event("go"))


def boom(ctx: OrchestrationContext, input: Any) -> Any:
    raise ValueError("email is required")


def new_id() -> str:
    return f"client-{uuid.uuid4().hex}"


def test_start_reports_that_it_started(client: Client) -> None:
    assert client.start_orchestration(new_id(), "echo") is True


def test_second_start_of_the_same_orchestration_attaches(runtime_factory: StartRuntime, client: Client) -> None:
    runtime_factory(orchestrations={"echo": echo})
    instance = new_id()
    client.start_orchestration(instance, "echo", "first")

    assert client.start_orchestration(instance, "echo", "second") is False
    assert client.wait_for_orchestration(instance).output == "first"


def test_start_attaches_to_an_instance_that_has_ended(runtime_factory: StartRuntime, client: Client) -> None:
    runtime_factory(orchestrations={"echo": echo})
    instance = new_id()
    client.start_orchestration(instance, "echo", "first")
    client.wait_for_orchestration(instance)

    assert client.start_orchestration(instance, "echo", "second") is False
    assert client.wait_for_orchestration(instance).output == "first"


def test_start_of_another_orchestration_under_a_taken_id_is_refused(client: Client) -> None:
    instance = new_id()
    client.start_orchestration(instance, "echo")

    with pytest.raises(InstanceAlreadyExists, match=instance):
        client.start_orchestration(instance, "another")


def test_start_of_another_orchestration_is_refused_after_the_first_has_ended(
    runtime_factory: StartRuntime, client: Client
) -> None:
    runtime_factory(orchestrations={"echo": echo})
    instance = new_id()
    client.start_orchestration(instance, "echo")
    client.wait_for_orchestration(instance)

    with pytest.raises(InstanceAlreadyExists):
        client.start_orchestration(instance, "another")


def test_strict_start_refuses_an_id_that_is_taken(client: Client) -> None:
    instance = new_id()
    client.start_orchestration(instance, "echo", if_exists="raise")

    with pytest.raises(InstanceAlreadyExists):
        client.start_orchestration(instance, "echo", if_exists="raise")


def test_unknown_policy_for_an_existing_id_is_refused(client: Client) -> None:
    with pytest.raises(ValueError, match="'attach', 'raise', 'restart', 'restart_failed', not 'overwrite'"):
        client.start_orchestration(new_id(), "echo", if_exists="overwrite")  # type: ignore[arg-type]


def test_concurrent_starts_of_one_id_start_it_once(client: Client) -> None:
    instance = new_id()
    started: list[bool] = []
    ready = threading.Barrier(4)

    def start() -> None:
        ready.wait(20)
        started.append(client.start_orchestration(instance, "echo"))

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert sorted(started) == [False, False, False, True]


def test_status_of_an_unknown_instance_is_not_found(client: Client) -> None:
    assert client.get_status(new_id()).status == "NotFound"


def test_result_of_an_unknown_instance_raises(client: Client) -> None:
    with pytest.raises(InstanceNotFound):
        client.get_status(new_id()).result()


def test_status_of_a_waiting_orchestration_is_running(runtime_factory: StartRuntime, client: Client) -> None:
    def report(ctx: OrchestrationContext, input: Any) -> Steps:
        ctx.set_custom_status("here")
        yield ctx.wait_for_event("never")

    runtime_factory(orchestrations={"report": report})
    instance = new_id()
    client.start_orchestration(instance, "report")
    client.wait_for_status_change(instance, 0, 50, 20_000)

    status = client.get_status(instance)
    assert (status.status, status.output, status.error) == ("Running", None, None)
    with pytest.raises(InstanceStillRunning):
        status.result()


def test_status_can_be_read_by_a_second_name(client: Client) -> None:
    assert client.get_orchestration_status("unknown") == client.get_status("unknown")


def test_status_of_a_failed_orchestration_has_its_error(runtime_factory: StartRuntime, client: Client) -> None:
    runtime_factory(orchestrations={"boom": boom})
    instance = new_id()
    client.start_orchestration(instance, "boom")

    status = client.wait_for_orchestration(instance)

    assert (status.status, status.error, status.output) == ("Failed", "ValueError: email is required", None)


def test_result_of_a_failed_orchestration_raises_its_failure(runtime_factory: StartRuntime, client: Client) -> None:
    runtime_factory(orchestrations={"boom": boom})
    instance = new_id()
    client.start_orchestration(instance, "boom")

    with pytest.raises(OrchestrationFailed) as caught:
        client.wait_for_orchestration(instance).result()

    assert (caught.value.error_type, caught.value.message) == ("ValueError", "email is required")
    assert caught.value.instance_id == instance


def test_status_is_read_by_subscript_too(runtime_factory: StartRuntime, client: Client) -> None:
    runtime_factory(orchestrations={"echo": echo})
    instance = new_id()
    client.start_orchestration(instance, "echo", 1)

    assert client.wait_for_orchestration(instance)["output"] == 1


def test_wait_raises_at_its_timeout(client: Client) -> None:
    instance = new_id()
    client.start_orchestration(instance, "unregistered")

    with pytest.raises(WaitTimedOut):
        client.wait_for_orchestration(instance, 50)


def test_wait_that_times_out_is_a_timeout_error(client: Client) -> None:
    with pytest.raises(TimeoutError):
        client.wait_for_orchestration(new_id(), 20)


def test_wait_takes_a_timedelta(runtime_factory: StartRuntime, client: Client) -> None:
    runtime_factory(orchestrations={"echo": echo})
    instance = new_id()
    client.start_orchestration(instance, "echo", 5)

    assert client.wait_for_orchestration(instance, timedelta(seconds=20)).output == 5


def test_wait_may_begin_before_the_instance_exists(runtime_factory: StartRuntime, client: Client) -> None:
    runtime_factory(orchestrations={"echo": echo})
    instance = new_id()
    outputs: list[Any] = []
    waiter = threading.Thread(target=lambda: outputs.append(client.wait_for_orchestration(instance, 20_000).output))
    waiter.start()

    client.start_orchestration(instance, "echo", "late")
    waiter.join(30)

    assert outputs == ["late"]


def test_another_client_of_the_same_store_sees_the_instance(
    runtime_factory: StartRuntime, client: Client, provider: Any
) -> None:
    runtime_factory(orchestrations={"echo": echo})
    instance = new_id()
    client.start_orchestration(instance, "echo", 1)

    assert Client(provider).wait_for_orchestration(instance).output == 1


def test_cancelled_orchestration_fails_with_the_reason(runtime_factory: StartRuntime, client: Client) -> None:
    runtime_factory(orchestrations={"wait_for_go": wait_for_go})
    instance = new_id()
    client.start_orchestration(instance, "wait_for_go")

    client.cancel_instance(instance, "changed our minds")
    status = client.wait_for_orchestration(instance)

    assert (status.status, status.error) == ("Failed", "canceled: changed our minds")
    with pytest.raises(OrchestrationCancelled, match="changed our minds"):
        status.result()


def test_cancellation_of_an_unknown_instance_is_refused(client: Client) -> None:
    with pytest.raises(InstanceNotFound):
        client.cancel_instance(new_id())


def test_cancellation_after_the_end_changes_nothing(runtime_factory: StartRuntime, client: Client) -> None:
    runtime_factory(orchestrations={"echo": echo})
    instance = new_id()
    client.start_orchestration(instance, "echo", 1)
    client.wait_for_orchestration(instance)

    client.cancel_instance(instance)

    assert client.get_status(instance).output == 1


def test_typed_wait_gives_the_output_itself(runtime_factory: StartRuntime, client: Client) -> None:
    runtime_factory(orchestrations={"echo": echo})
    instance = new_id()
    client.start_orchestration_typed(instance, "echo", {"n": 1})

    assert client.wait_for_orchestration_typed(instance) == {"n": 1}


def test_typed_wait_raises_the_failure(runtime_factory: StartRuntime, client: Client) -> None:
    runtime_factory(orchestrations={"boom": boom})
    instance = new_id()
    client.start_orchestration(instance, "boom")

    with pytest.raises(OrchestrationFailed, match="email is required"):
        client.wait_for_orchestration_typed(instance)


@pytest.mark.parametrize("bad_id", ["", "x" * 2000, "\ud800"])
def test_invalid_instance_id_is_refused(bad_id: str, client: Client) -> None:
    with pytest.raises(LimitExceeded):
        client.start_orchestration(bad_id, "echo")


def test_instance_id_that_is_not_text_is_refused(client: Client) -> None:
    with pytest.raises(TypeError, match="must be a str"):
        client.start_orchestration(7, "echo")  # type: ignore[arg-type]


def test_input_that_json_cannot_represent_is_refused(client: Client) -> None:
    with pytest.raises(CodecError):
        client.start_orchestration(new_id(), "echo", object())


def test_input_of_a_hundred_megabytes_is_refused(client: Client) -> None:
    with pytest.raises(LimitExceeded, match="keep the data elsewhere"):
        client.start_orchestration(new_id(), "echo", "x" * 100_000_000)


def test_negative_wait_is_refused(client: Client) -> None:
    with pytest.raises(ValueError, match="at least 0"):
        client.wait_for_orchestration(new_id(), -1)


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.start_orchestration("inner", "echo"),
        lambda client: client.get_status("inner"),
        lambda client: client.wait_for_orchestration("inner", 10),
        lambda client: client.raise_event("inner", "go"),
        lambda client: client.list_all_instances(),
    ],
    ids=["start", "status", "wait", "event", "list"],
)
@pytest.mark.parametrize("store", ["memory"])
def test_client_inside_an_orchestration_is_refused(call: Any, run: Run, client: Client) -> None:
    def disallowed(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.schedule_timer(0)
        call(client)

    with pytest.raises(OrchestrationFailed) as caught:
        run(disallowed)

    assert caught.value.error_type == "NotAllowedInOrchestration"
