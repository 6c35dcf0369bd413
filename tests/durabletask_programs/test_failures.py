"""How failures reach orchestrators and clients of durabletask."""

from __future__ import annotations

import pytest

from durabletask_programs.conftest import Program
from duroxide import Client, SqliteProvider
from duroxide.durabletask import task
from duroxide.durabletask.client import OrchestrationFailedError, OrchestrationStatus


class OutOfStock(LookupError):
    """A class of the program."""


def sell(ctx, article):
    raise OutOfStock(f"no {article}") from KeyError(article)


def main(ctx, article):
    return (yield ctx.call_activity(sell, input=article))


def parent(ctx, article):
    return (yield ctx.call_sub_orchestrator(main, input=article))


def test_an_orchestrator_catches_the_failure_of_an_activity(program: Program) -> None:
    def catching(ctx, article):
        try:
            yield ctx.call_activity(sell, input=article)
        except task.TaskFailedError as failure:
            details = failure.details
            own = [details.is_caused_by(each) for each in (OutOfStock, LookupError, KeyError, "OutOfStock")]
            return [str(failure), details.message, details.error_type, own, details.inner_failure.error_type]

    text, message, kind, own, inner = program.result_of(catching, "tea", activities=(sell,))
    assert text.endswith(": Activity task #1 failed: no tea")
    assert message == "no tea"
    assert kind == f"{OutOfStock.__module__}.OutOfStock"
    assert own == [True, True, False, True]
    assert inner == "builtins.KeyError"


def test_a_client_sees_the_whole_chain_of_causes(program: Program) -> None:
    state = program.run(parent, "tea", activities=(sell,), children=(main,))
    chain = []
    failure = state.failure_details
    while failure is not None:
        chain.append(failure.error_type.rpartition(".")[2])
        failure = failure.inner_failure
    assert state.runtime_status is OrchestrationStatus.FAILED
    assert state.serialized_output is None
    assert chain == ["TaskFailedError", "TaskFailedError", "OutOfStock", "KeyError"]
    assert state.failure_details.error_type == "durabletask.task.TaskFailedError"


@pytest.mark.parametrize("store", ["memory"])
def test_raise_if_failed_raises_the_failure(program: Program) -> None:
    def failing(ctx, _):
        raise ValueError("no")

    state = program.run(failing)
    with pytest.raises(OrchestrationFailedError, match="no") as raised:
        state.raise_if_failed()
    assert raised.value.failure_details.is_caused_by(ValueError)


@pytest.mark.parametrize("store", ["memory"])
def test_an_unknown_orchestrator_fails(program: Program) -> None:
    program.start()
    state = program.end_of(program.client.schedule_new_orchestration("unknown"))
    assert state.failure_details.error_type == "durabletask.worker.OrchestratorNotRegisteredError"


@pytest.mark.parametrize("store", ["sqlite"])
def test_a_native_client_sees_the_class_of_a_failure(program: Program, address: str) -> None:
    program.run(main, "tea", activities=(sell,))
    instance = program.client.schedule_new_orchestration(main, input="tea", instance_id="sale-1")
    program.end_of(instance)
    path = address.removeprefix("sqlite:///").replace("store.db", f"store.{program.hub}.db")
    with SqliteProvider.open(path) as provider:
        failure = Client(provider).get_status("sale-1").failure
    assert failure.is_caused_by(task.TaskFailedError)
    assert failure.__cause__.is_caused_by(OutOfStock)
