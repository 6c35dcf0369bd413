"""Programs of durabletask and native programs on one store."""

from __future__ import annotations

import pytest

from durabletask_programs.conftest import WAIT_SECONDS
from duroxide import Client, Runtime, RuntimeOptions
from duroxide.durabletask import task
from duroxide.durabletask._store.opened import acquire, place_of, release
from duroxide.durabletask.client import TaskHubGrpcClient
from duroxide.durabletask.worker import TaskHubGrpcWorker


def double(ctx, number):
    return number * 2


def theirs(ctx, number):
    return (yield ctx.call_activity(double, input=number))


def ours(ctx, number):
    return (yield ctx.schedule_activity("triple", number))


def triple(ctx, number):
    if number < 0:
        raise ValueError("negative")
    return number * 3


def calling_ours(ctx, number):
    tripled = yield ctx.call_sub_orchestrator("ours", input=number)
    try:
        yield ctx.call_activity("triple", input=-1)
    except task.TaskFailedError as failure:
        return [tripled, failure.details.is_caused_by(ValueError), failure.details.error_type]


def calling_theirs(ctx, number):
    return (yield ctx.schedule_sub_orchestration("theirs", number))


# On PostgreSQL the two runtimes would leave work to each other for half a minute.
@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_each_calls_the_other(address: str) -> None:
    worker, client = TaskHubGrpcWorker(host_address=address), TaskHubGrpcClient(host_address=address)
    for each in (theirs, calling_ours):
        worker.add_orchestrator(each)
    worker.add_activity(double)
    location = place_of(address, None)
    provider = acquire(location)
    native = Runtime(provider, RuntimeOptions())
    for each in (ours, calling_theirs):
        native.register_orchestration(each)
    native.register_activity(triple)
    with worker, native:
        worker.start()
        instance = client.schedule_new_orchestration(calling_ours, input=2)
        state = client.wait_for_orchestration_completion(instance, timeout=WAIT_SECONDS)
        assert state.get_output() == [6, True, "ValueError"]
        Client(provider).start_orchestration("one", "calling_theirs", 2)
        assert Client(provider).wait_for_orchestration("one").result() == 4
    client.close()
    release(location)
