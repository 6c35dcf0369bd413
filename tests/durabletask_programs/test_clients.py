"""The clients of durabletask, for threads and for asyncio."""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
import types
from datetime import datetime, timedelta, timezone

import pytest

from durabletask_programs.conftest import Program
from duroxide.durabletask.client import AsyncTaskHubGrpcClient, OrchestrationStatus, TaskHubGrpcClient
from duroxide.durabletask.worker import TaskHubGrpcWorker


def echo(ctx, value):
    return value


def waiting(ctx, _):
    ctx.set_custom_status("waits")
    return (yield ctx.wait_for_external_event("go"))


def test_a_state_has_the_texts_and_times_of_its_instance(program: Program) -> None:
    program.start(echo)
    before = datetime.now(timezone.utc).replace(tzinfo=None) - timedelta(seconds=5)
    instance = program.client.schedule_new_orchestration(echo, input={"a": 1}, instance_id="echo-1")
    state = program.end_of(instance)
    assert (state.instance_id, state.name, str(state.runtime_status)) == ("echo-1", "echo", "COMPLETED")
    assert (state.serialized_input, state.serialized_output) == ('{"a": 1}', '{"a": 1}')
    assert before < state.created_at <= state.last_updated_at < before + timedelta(minutes=5)
    assert state.failure_details is None


def test_payloads_are_read_only_on_demand(program: Program) -> None:
    program.start(echo)
    instance = program.client.schedule_new_orchestration(echo, input=1)
    program.end_of(instance)
    state = program.client.get_orchestration_state(instance, fetch_payloads=False)
    assert (state.serialized_input, state.serialized_output) == (None, None)


def test_an_unknown_instance_has_no_state(program: Program) -> None:
    assert program.client.get_orchestration_state("nothing") is None


def test_an_instance_is_pending_until_a_worker_begins_it(program: Program) -> None:
    instance = program.client.schedule_new_orchestration(waiting)
    state = program.client.get_orchestration_state(instance)
    assert (state.runtime_status, state.name) == (OrchestrationStatus.PENDING, "waiting")
    program.start(waiting)
    assert program.client.wait_for_orchestration_start(instance).runtime_status is OrchestrationStatus.RUNNING


def test_a_second_start_of_an_id_is_an_error(program: Program) -> None:
    program.client.schedule_new_orchestration(echo, instance_id="one")
    with pytest.raises(Exception, match="one") as raised:
        program.client.schedule_new_orchestration(echo, instance_id="one")
    assert raised.value.code().name == "ALREADY_EXISTS"


@pytest.mark.parametrize("store", ["memory"])
def test_an_error_is_one_of_grpc_where_that_is_imported(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    class TheirError(Exception):
        pass

    fake = types.SimpleNamespace(RpcError=TheirError, StatusCode={"NOT_FOUND": "their code"})
    monkeypatch.setitem(sys.modules, "grpc", fake)
    with pytest.raises(TheirError) as raised:
        program.client.raise_orchestration_event("nothing", "go")
    assert raised.value.code() == "their code"


@pytest.mark.parametrize("wait", ["wait_for_orchestration_start", "wait_for_orchestration_completion"])
def test_a_wait_ends_with_a_timeout(program: Program, wait: str) -> None:
    instance = program.client.schedule_new_orchestration(echo)
    with pytest.raises(TimeoutError, match=instance):
        getattr(program.client, wait)(instance, timeout=0.01)


def test_a_terminated_instance_has_its_output(program: Program) -> None:
    program.start(waiting)
    instance = program.client.schedule_new_orchestration(waiting)
    program.client.wait_for_orchestration_start(instance)
    program.client.terminate_orchestration(instance, output={"by": "Ada"})
    state = program.end_of(instance)
    assert (state.runtime_status, state.get_output()) == (OrchestrationStatus.TERMINATED, {"by": "Ada"})
    assert state.failure_details is None
    program.client.terminate_orchestration("nothing")


def test_a_purge_deletes_what_has_ended(program: Program) -> None:
    program.start(echo, waiting)
    ended = program.client.schedule_new_orchestration(echo)
    program.end_of(ended)
    running = program.client.schedule_new_orchestration(waiting)
    program.client.wait_for_orchestration_start(running)
    counts = [program.client.purge_orchestration(each).deleted_instance_count for each in (ended, running, "nothing")]
    assert counts == [1, 0, 0]
    assert program.client.get_orchestration_state(ended) is None


def test_the_asynchronous_client_does_the_same(program: Program) -> None:
    program.start(waiting)

    async def play() -> None:
        async with program.new_async_client() as client:
            instance = await client.schedule_new_orchestration(waiting, instance_id="async-1")
            assert (await client.wait_for_orchestration_start(instance)).name == "waiting"
            with pytest.raises(TimeoutError):
                await client.wait_for_orchestration_completion(instance, timeout=0.01)
            await client.raise_orchestration_event(instance, "GO", data=[1])
            state = await client.wait_for_orchestration_completion(instance, timeout=30)
            assert state.get_output() == [1]
            assert (await client.get_orchestration_state("nothing")) is None
            await client.terminate_orchestration(instance)
            assert (await client.purge_orchestration(instance)).deleted_instance_count == 1

    asyncio.run(play())


def test_both_clients_have_the_same_operations() -> None:
    def signatures(kind: type) -> dict[str, str]:
        return {
            name: str(inspect.signature(each))
            for name, each in vars(kind).items()
            if callable(each) and not name.startswith("_")
        }

    assert signatures(TaskHubGrpcClient) == signatures(AsyncTaskHubGrpcClient)


@pytest.mark.parametrize("zone", [timezone.utc, None])
def test_an_orchestration_begins_at_its_time(program: Program, zone: timezone | None) -> None:
    program.start(echo)
    now = datetime.now(timezone.utc)

    soon, later = (
        program.client.schedule_new_orchestration(echo, start_at=(now + delay).replace(tzinfo=zone))
        for delay in (timedelta(milliseconds=300), timedelta(hours=1))
    )

    program.client.wait_for_orchestration_completion(soon, timeout=30)
    assert program.client.get_orchestration_state(later).runtime_status is OrchestrationStatus.PENDING


@pytest.mark.parametrize("store", ["memory"])
@pytest.mark.parametrize("option", ["version", "reuse_id_policy"])
def test_an_option_without_support_is_refused(program: Program, option: str) -> None:
    with pytest.raises(NotImplementedError, match=option):
        program.client.schedule_new_orchestration(echo, **{option: "1.0"})


@pytest.mark.parametrize("store", ["memory"])
def test_only_a_recursive_end_is_possible(program: Program) -> None:
    for operation in (program.client.terminate_orchestration, program.client.purge_orchestration):
        with pytest.raises(NotImplementedError, match="recursive"):
            operation("one", recursive=False)


@pytest.mark.parametrize("store", ["memory"])
def test_a_worker_refuses_what_it_cannot_register(program: Program) -> None:
    worker = program.worker
    assert (worker.add_orchestrator(waiting), worker.add_activity(echo)) == ("waiting", "echo")
    with pytest.raises(ValueError, match="waiting"):
        worker.add_orchestrator(waiting)
    with pytest.raises(ValueError, match="name"):
        worker.add_activity(lambda ctx, value: value)
    worker.start()
    with pytest.raises(RuntimeError, match="stop"):
        worker.add_activity(waiting)
    with pytest.raises(RuntimeError, match="stop"):
        worker.start()
    worker.stop()
    worker.stop()
    worker.add_orchestrator(echo)


@pytest.mark.parametrize("store", ["memory"])
def test_stop_waits_for_the_activities_that_run(program: Program) -> None:
    begun, end = threading.Event(), threading.Event()
    ended = []

    def slow(ctx, _):
        begun.set()
        end.wait()
        ended.append(ctx.orchestration_id)

    def main(ctx, _):
        yield ctx.call_activity(slow)

    program.start(main, activities=(slow,))
    instance = program.client.schedule_new_orchestration(main)
    assert begun.wait(30)
    stopping = threading.Thread(target=program.worker.stop)
    stopping.start()
    assert not ended
    end.set()
    stopping.join(30)
    assert ended == [instance]


def test_a_logger_excludes_a_handler() -> None:
    import logging

    with pytest.raises(ValueError, match="log_handler"):
        TaskHubGrpcWorker(logger=logging.getLogger("x"), log_handler=logging.NullHandler())
