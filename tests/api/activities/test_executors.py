"""Sync activities in an executor that the application gives: processes or threads."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from conftest import WAIT_MS
from duroxide import (
    ActivityContext,
    Client,
    OrchestrationContext,
    OrchestrationFailed,
    Provider,
    RegistrationError,
    RetryPolicy,
    Runtime,
    WaitTimedOut,
)
from duroxide._runtime import executors
from support import pool_activities

Steps = Generator[Any, Any, Any]
Play = Callable[..., Any]

# How an activity reaches its pool does not depend on the store.
pytestmark = pytest.mark.parametrize("store", ["memory"])


def new_pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


@pytest.fixture(scope="module")
def process_pool() -> Iterator[ProcessPoolExecutor]:
    with new_pool() as pool:
        yield pool


@pytest.fixture
def play(provider: Provider) -> Play:
    """Calls one activity from an orchestration, in a runtime with an executor; returns the activity's result."""

    def play(
        function: Callable[..., Any],
        input: Any = None,
        *,
        executor: Any,
        retry: RetryPolicy | None = None,
        instance: str = "one",
    ) -> Any:
        def call_it(ctx: OrchestrationContext, input: Any) -> Steps:
            return (yield ctx.schedule_activity(function.__name__, input, retry=retry))

        runtime = Runtime(provider, executor=executor)
        runtime.register_orchestration("call_it", call_it)
        runtime.register_activity(function.__name__, function)
        with runtime:
            runtime.client.start_orchestration(instance, "call_it", input)
            return runtime.client.wait_for_orchestration(instance, WAIT_MS).result()

    return play


def test_an_activity_runs_in_a_process_of_the_pool(play: Play, process_pool: Executor) -> None:
    assert play(pool_activities.process_of, executor=process_pool) not in (None, os.getpid())


def test_values_are_converted_in_the_process(play: Play, process_pool: Executor) -> None:
    assert play(pool_activities.double, {"item": "lamp", "total": 4}, executor=process_pool) == {
        "item": "lamp",
        "total": 8,
    }


def test_an_input_of_the_wrong_type_is_reported(play: Play, process_pool: Executor) -> None:
    with pytest.raises(OrchestrationFailed, match="CodecError: .* does not fit the annotation Order"):
        play(pool_activities.double, {"item": "lamp"}, executor=process_pool)


@pytest.mark.task_groups
def test_a_declared_activity_runs_in_a_process(provider: Provider, process_pool: Executor) -> None:
    async def call_it(ctx: OrchestrationContext, input: Any) -> str:
        return await pool_activities.join("a", "b", "c")

    runtime = Runtime(provider, functions=[pool_activities.join], executor=process_pool)
    runtime.register_orchestration("call_it", call_it)
    with runtime:
        runtime.client.start_orchestration("one", "call_it")
        result = runtime.client.wait_for_orchestration("one", WAIT_MS).result()
    assert result.startswith("abc in ")
    assert not result.endswith(str(os.getpid()))


def test_the_context_in_the_process_has_ids_names_and_tag(
    play: Play, process_pool: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "duroxide.activity"):
        described = play(pool_activities.describe, executor=process_pool)

    assert described == ["one", "describe", "call_it", 1, None, False]
    assert "described" in caplog.text


def test_a_bad_trace_is_refused_alike_in_a_process_and_in_a_thread(play: Play, process_pool: Executor) -> None:
    with ThreadPoolExecutor(1) as pool:
        in_a_thread = play(pool_activities.trace_badly, executor=pool, instance="thread")
    in_a_process = play(pool_activities.trace_badly, executor=process_pool, instance="process")

    assert [each.partition(":")[0] for each in in_a_process] == ["TypeError"]
    assert in_a_process == in_a_thread


def test_a_trace_that_the_log_refuses_does_not_lose_the_result(
    play: Play, process_pool: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    assert play(pool_activities.trace_unchecked, executor=process_pool) == "kept"
    assert "a trace of activity 'trace_unchecked' could not be logged" in caplog.text


def test_an_error_while_the_process_returns_the_result_is_a_failure(
    play: Play, process_pool: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(text: str) -> None:
        raise ValueError("no such text")

    monkeypatch.setattr(executors, "RawText", fail)

    with pytest.raises(OrchestrationFailed, match="ValueError: no such text"):
        play(pool_activities.process_of, executor=process_pool)


def test_a_context_in_another_process_has_no_client(play: Play, process_pool: Executor) -> None:
    with pytest.raises(OrchestrationFailed, match="DuroxideError: activity 'ask_client' runs in another process"):
        play(pool_activities.ask_client, executor=process_pool)


def test_a_failure_keeps_its_type_its_message_and_its_details(
    play: Play, process_pool: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(OrchestrationFailed, match="Refused: refused with code 7") as caught:
        play(pool_activities.refuse, 7, executor=process_pool)

    assert caught.value.details == {"code": 7}
    # The traceback from its process is in the log of this one.
    assert "raise Refused(code=code)" in caplog.text


def test_a_process_that_dies_fails_the_attempt_and_the_next_gets_a_new_pool(play: Play, tmp_path: Path) -> None:
    made: list[Executor] = []

    def make() -> Executor:
        made.append(new_pool())
        return made[-1]

    retry = RetryPolicy(max_attempts=3)
    assert play(pool_activities.die_once, str(tmp_path / "mark"), executor=make, retry=retry) == "alive"
    assert len(made) == 2


def test_a_process_that_dies_is_reported(play: Play) -> None:
    with pytest.raises(
        OrchestrationFailed, match="a process of the pool ended while activity 'die' was in it"
    ) as caught:
        play(pool_activities.die, executor=new_pool)

    assert caught.value.is_caused_by(BrokenProcessPool)
    assert caught.value.retryable is True


def test_a_broken_pool_of_the_application_stays_broken_and_the_error_says_what_to_do(play: Play) -> None:
    with new_pool() as pool, pytest.raises(OrchestrationFailed, match="give what makes one, as in executor=lambda"):
        play(pool_activities.die, executor=pool, retry=RetryPolicy(max_attempts=2))


def test_an_attempt_fails_when_every_new_pool_is_broken(play: Play) -> None:
    class Broken(Executor):
        def submit(self, *arguments: Any, **options: Any) -> Any:
            raise BrokenProcessPool("no process starts")

    with pytest.raises(
        OrchestrationFailed, match=r"executor\(\) gave 3 pools.* when activity 'describe' came"
    ) as caught:
        play(pool_activities.describe, executor=Broken)

    assert caught.value.is_caused_by(BrokenProcessPool)
    assert caught.value.retryable is True


def test_a_pool_that_the_runtime_made_ends_with_it(provider: Provider) -> None:
    made: list[ThreadPoolExecutor] = []

    def make() -> Executor:
        made.append(ThreadPoolExecutor(1))
        return made[-1]

    runtime = Runtime(provider, executor=make)
    runtime.register_activity("process_of", pool_activities.process_of)
    for _ in range(2):
        with runtime:
            pass

    assert len(made) == 2
    for pool in made:
        with pytest.raises(RuntimeError, match="after shutdown"):
            pool.submit(print)


def test_a_pool_of_threads_gets_the_real_context(play: Play) -> None:
    def look(ctx: ActivityContext, order: pool_activities.Order) -> list[Any]:
        status = ctx.get_client().get_status(ctx.instance_id).status
        return [status, order.total, threading.current_thread().name[:4]]

    with ThreadPoolExecutor(1, thread_name_prefix="mine") as pool:
        assert play(look, {"item": "lamp", "total": 4}, executor=pool) == ["Running", 4, "mine"]


def test_only_the_activities_that_are_named_run_in_the_pool(provider: Provider, process_pool: Executor) -> None:
    def here(ctx: ActivityContext, input: Any) -> int:
        return os.getpid()

    async def on_the_loop(ctx: ActivityContext, input: Any) -> int:
        return os.getpid()

    def call_all(ctx: OrchestrationContext, input: Any) -> Steps:
        return (yield ctx.gather([ctx.schedule_activity(name) for name in ("process_of", "here", "on_the_loop")]))

    runtime = Runtime(provider, executor={"process_of": process_pool})
    runtime.register_activity("process_of", pool_activities.process_of)
    runtime.register_activity("here", here)
    runtime.register_activity("on_the_loop", on_the_loop)
    runtime.register_orchestration("call_all", call_all)
    with runtime:
        runtime.client.start_orchestration("one", "call_all")
        there, *rest = runtime.client.wait_for_orchestration("one", WAIT_MS).result()

    assert rest == [os.getpid()] * 2
    assert there != os.getpid()


def test_an_async_activity_stays_on_its_loop(provider: Provider, process_pool: Executor) -> None:
    async def work(ctx: ActivityContext, input: Any) -> int:
        return os.getpid()

    def call_it(ctx: OrchestrationContext, input: Any) -> Steps:
        return (yield ctx.schedule_activity("work"))

    runtime = Runtime(provider, executor=process_pool)
    runtime.register_activity("work", work)
    runtime.register_orchestration("call_it", call_it)
    with runtime:
        runtime.client.start_orchestration("one", "call_it")
        assert runtime.client.wait_for_orchestration("one", WAIT_MS).result() == os.getpid()


class Shop:
    def work(self, ctx: ActivityContext, input: Any) -> None: ...


def test_a_function_that_another_process_cannot_find_is_refused_at_the_start(
    provider: Provider, process_pool: Executor
) -> None:
    def inner(ctx: ActivityContext, input: Any) -> None: ...

    for function in (inner, lambda ctx, input: None, Shop().work):
        runtime = Runtime(provider, executor=process_pool)
        runtime.register_activity("inner", function)
        with pytest.raises(RegistrationError, match="activity 'inner' cannot be found from another process"):
            runtime.start()


def test_a_pool_for_an_unregistered_activity_is_refused(provider: Provider, process_pool: Executor) -> None:
    runtime = Runtime(provider, executor={"resize": process_pool})

    with pytest.raises(RegistrationError, match="executor names activity 'resize', which is not registered"):
        runtime.start()


def test_a_pool_for_an_async_activity_is_refused(provider: Provider, process_pool: Executor) -> None:
    async def work(ctx: ActivityContext, input: Any) -> None: ...

    runtime = Runtime(provider, executor={"work": process_pool})
    runtime.register_activity("work", work)

    with pytest.raises(RegistrationError, match="is an 'async def' and runs on a loop"):
        runtime.start()


@pytest.mark.parametrize("wrong", [5, "processes", {"work": 5}])
def test_a_value_that_is_not_an_executor_is_refused(provider: Provider, wrong: Any) -> None:
    with pytest.raises(TypeError, match="executor must be an executor of concurrent.futures"):
        Runtime(provider, executor=wrong)


def test_a_shutdown_takes_back_the_activities_that_a_pool_has_not_begun(provider: Provider, client: Client) -> None:
    began, release, given, runs = threading.Event(), threading.Event(), threading.Semaphore(0), list[str]()

    def work(ctx: ActivityContext, input: Any) -> str:
        began.set()
        release.wait(WAIT_MS / 1_000)
        runs.append(ctx.instance_id)
        return ctx.instance_id

    def call_it(ctx: OrchestrationContext, input: Any) -> Steps:
        return (yield ctx.schedule_activity("work"))

    class CountedPool(ThreadPoolExecutor):
        def submit(self, *arguments: Any, **named: Any) -> Any:
            given.release()
            return super().submit(*arguments, **named)

    with CountedPool(1) as pool:
        runtime = Runtime(provider, executor=pool)
        runtime.register_activity("work", work)
        runtime.register_orchestration("call_it", call_it)
        with runtime:
            client.start_orchestration("first", "call_it")
            began.wait(WAIT_MS / 1_000)
            client.start_orchestration("second", "call_it")
            for _ in range(2):
                given.acquire(timeout=WAIT_MS / 1_000)
            runtime.shutdown(0)
        release.set()
        with runtime:
            for each in ("first", "second"):
                assert client.wait_for_orchestration(each, WAIT_MS).result() == each

    assert runs.count("second") == 1


def test_a_pool_that_its_owner_ended_fails_no_activity(provider: Provider, client: Client) -> None:
    pool = ThreadPoolExecutor(1)
    pool.shutdown()

    def call_it(ctx: OrchestrationContext, input: Any) -> Steps:
        return (yield ctx.schedule_activity("process_of"))

    for executor in (pool, None):
        runtime = Runtime(provider, executor=executor)
        runtime.register_activity("process_of", pool_activities.process_of)
        runtime.register_orchestration("call_it", call_it)
        with runtime:
            client.start_orchestration("one", "call_it")
            if executor is not None:
                with pytest.raises(WaitTimedOut):
                    client.wait_for_orchestration("one", 200)
                runtime.shutdown(0)
            else:
                assert client.wait_for_orchestration("one", WAIT_MS).result() == os.getpid()


def test_a_pool_forgets_the_calls_that_have_ended(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[executors.Pool] = []
    init = executors.Pool.__init__

    def note(pool: executors.Pool, choice: Any) -> None:
        made.append(pool)
        init(pool, choice)

    monkeypatch.setattr(executors.Pool, "__init__", note)

    def flow(ctx: OrchestrationContext, _: Any) -> Steps:
        yield ctx.gather([ctx.schedule_activity("process_of", None) for _ in range(5)])

    with ThreadPoolExecutor(2) as pool:
        runtime = Runtime(provider, executor=pool)
        runtime.register_orchestration("flow", flow)
        runtime.register_activity("process_of", pool_activities.process_of)
        with runtime:
            runtime.client.start("flow", None).result(WAIT_MS / 1000)
            pool.shutdown(wait=True)  # a call is forgotten on its thread, after its result is known
            assert [pool._futures for pool in made if pool._executor is not None] == [set()]


def test_calls_that_wait_in_an_executor_that_is_shut_down_are_cut_off_and_run_again(provider: Provider) -> None:
    begun, release = threading.Event(), threading.Event()

    def block(ctx: ActivityContext, input: Any) -> str:
        begun.set()
        release.wait(WAIT_MS / 1000)
        return "done"

    def flow(ctx: OrchestrationContext, _: Any) -> Steps:
        return (yield ctx.gather([ctx.schedule_activity("block", number) for number in range(3)]))

    def new_runtime(pool: Executor) -> Runtime:
        runtime = Runtime(provider, executor=pool)
        runtime.register_orchestration("flow", flow)
        runtime.register_activity("block", block)
        return runtime

    with ThreadPoolExecutor(1) as pool, ThreadPoolExecutor(3) as next_pool:
        with new_runtime(pool) as runtime:
            handle = runtime.client.start("flow", None)
            begun.wait(WAIT_MS / 1000)
            pool.shutdown(wait=False, cancel_futures=True)
            release.set()
        with new_runtime(next_pool):
            assert handle.result(WAIT_MS / 1000) == ["done"] * 3
