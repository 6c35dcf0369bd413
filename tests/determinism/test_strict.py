"""Calls that replay cannot repeat are caught while the code of an orchestration runs, and only there."""

# These tests make the forbidden calls, each in a separate lambda whose line is expected in the message.
# ruff: noqa: DTZ002, DTZ005, DTZ011, PLW0108, PLW1510, PTH123, SIM115

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import datetime as dt
import gc
import logging
import os
import pathlib
import random
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Callable
from datetime import datetime as imported_datetime
from time import time as imported_time
from types import FrameType
from typing import Any

import pytest

from conftest import Run
from determinism.code_change import WAIT_MS, Steps, place
from duroxide import Client, NotAllowedInOrchestration, OrchestrationContext, OrchestrationFailed, Provider, Runtime

in_memory = pytest.mark.parametrize("store", ["memory"])

CLOCK = "use ctx.now(), the time of the last recorded step"
DURATION = "use ctx.now() for the time between recorded steps, or measure in an activity"
SLEEP = "wait for a durable timer, ctx.schedule_timer(...), or asyncio.sleep(...) in an async orchestration"
RANDOM = "use ctx.random(), a random.Random whose numbers are the same in every replay"
UUID = "use ctx.uuid(), which is the same in every replay"
ACTIVITY = "do it in an activity, whose result is recorded"

ENVIRONMENT = "take it from the input, or read it in an activity"

NOWHERE = ("127.0.0.1", 9)

CALLS: dict[str, tuple[Callable[[], Any], str]] = {
    "time.time": (lambda: time.time(), CLOCK),
    "time.time_ns": (lambda: time.time_ns(), CLOCK),
    "time.monotonic": (lambda: time.monotonic(), DURATION),
    "time.perf_counter": (lambda: time.perf_counter(), DURATION),
    "time.process_time": (lambda: time.process_time(), DURATION),
    "time.sleep": (lambda: time.sleep(0), SLEEP),
    "datetime.datetime.now": (lambda: dt.datetime.now(dt.timezone.utc), CLOCK),
    "datetime.datetime.utcnow": (lambda: getattr(dt.datetime, "utcnow")(), CLOCK),  # noqa: B009  (deprecated)
    "datetime.datetime.today": (lambda: dt.datetime.today(), CLOCK),
    "datetime.date.today": (lambda: dt.date.today(), CLOCK),
    "time.localtime": (lambda: time.localtime(), CLOCK),
    "time.strftime": (lambda: time.strftime("%Y"), CLOCK),
    "os.getenv": (lambda: os.getenv("SHOP"), ENVIRONMENT),
    "os.environ": (lambda: os.environ["PATH"], ENVIRONMENT),
    "os.listdir": (lambda: os.listdir("."), ACTIVITY),  # noqa: PTH208
    "random.random": (lambda: random.random(), RANDOM),
    "random.randint": (lambda: random.randint(1, 6), RANDOM),
    "random.choice": (lambda: random.choice("ab"), RANDOM),
    "random.shuffle": (lambda: random.shuffle([1, 2]), RANDOM),
    "random.gauss": (lambda: random.gauss(0, 1), RANDOM),
    "random.seed": (lambda: random.seed(1), RANDOM),
    "random.Random": (lambda: random.Random(), RANDOM),
    "random.SystemRandom.random": (lambda: random.SystemRandom().random(), RANDOM),
    "secrets.token_hex": (lambda: secrets.token_hex(4), RANDOM),
    "os.urandom": (lambda: os.urandom(4), RANDOM),
    "uuid.uuid1": (lambda: uuid.uuid1(), UUID),
    "uuid.uuid4": (lambda: uuid.uuid4(), UUID),
    "open": (lambda: open(os.devnull), ACTIVITY),
    "os.open": (lambda: os.open(os.devnull, os.O_RDONLY), ACTIVITY),
    "os.system": (lambda: os.system("true"), ACTIVITY),
    "pathlib.PosixPath.read_text": (lambda: pathlib.Path(os.devnull).read_text(), ACTIVITY),
    "tempfile.mkstemp": (lambda: tempfile.mkstemp(), ACTIVITY),
    "socket.socket": (lambda: socket.socket(), ACTIVITY),
    "socket.create_connection": (lambda: socket.create_connection(NOWHERE), ACTIVITY),
    "subprocess.run": (lambda: subprocess.run(["true"]), ACTIVITY),
    "threading.Thread.start": (lambda: threading.Thread(target=print).start(), ACTIVITY),
    "concurrent.futures.thread.ThreadPoolExecutor.submit": (
        lambda: concurrent.futures.ThreadPoolExecutor().submit(print),
        ACTIVITY,
    ),
}


def refusal(run: Run, orchestration: Callable[..., Any]) -> str:
    """The message when the orchestration fails because of a call."""
    with pytest.raises(OrchestrationFailed) as failed:
        run(orchestration)
    assert failed.value.error_type == "NotAllowedInOrchestration"
    return failed.value.message


@in_memory
@pytest.mark.parametrize("name", CALLS)
def test_a_refusal_names_the_call_its_line_and_the_replacement(run: Run, name: str) -> None:
    call, instead = CALLS[name]

    def order(ctx: OrchestrationContext, _: Any) -> Steps:
        yield ctx.schedule_timer(0)
        return call()

    # A lambda of several lines is called at the line of its body.
    where = place(call, "lambda")
    assert refusal(run, order) == (
        f"{name}() at {where} is not allowed in an orchestration, whose code is replayed: {instead}; "
        "Runtime(strict=False) lets it through"
    )


@in_memory
def test_functions_that_were_imported_by_name_are_refused(run: Run) -> None:
    def by_function(ctx: OrchestrationContext, _: Any) -> Any:
        return imported_time()

    def by_class(ctx: OrchestrationContext, _: Any) -> Any:
        return imported_datetime.now().isoformat()

    assert refusal(run, by_function).startswith(f"time.time() at {place(by_function, 'return')}")
    assert refusal(run, by_class).startswith(f"datetime.datetime.now() at {place(by_class, 'return')}")


@pytest.mark.task_groups
@in_memory
def test_calls_of_coroutines_helpers_and_branches_are_refused(run: Run) -> None:
    def helper() -> float:
        return time.time()

    async def coroutine(ctx: OrchestrationContext, _: Any) -> Any:
        await ctx.schedule_timer(0)
        return helper()

    def branch(ctx: OrchestrationContext) -> Steps:
        yield ctx.schedule_timer(0)
        return helper()

    def parent(ctx: OrchestrationContext, _: Any) -> Steps:
        return (yield ctx.gather(branch(ctx)))

    for orchestration in (coroutine, parent):
        assert refusal(run, orchestration).startswith(f"time.time() at {place(helper, 'return')} ")


@in_memory
def test_a_refusal_can_be_caught_where_it_is_raised(run: Run) -> None:
    def order(ctx: OrchestrationContext, _: Any) -> Steps:
        try:
            time.sleep(0)
        except Exception as error:
            yield ctx.schedule_timer(0)
            return type(error).__name__

    assert run(order) == "NotAllowedInOrchestration"


@in_memory
def test_each_call_is_refused_after_earlier_refusals_were_caught(run: Run) -> None:
    def helper() -> float:
        return time.time()

    def order(ctx: OrchestrationContext, _: Any) -> Steps:
        refused = 0
        for step in range(2):
            for call in (time.time, uuid.uuid4, helper, lambda: sorted("ab", key=lambda _: time.time())):
                for _again in range(2):
                    try:
                        call()
                    except NotAllowedInOrchestration:
                        refused += 1
            with contextlib.suppress(NotAllowedInOrchestration):
                time.sleep(0)
                refused -= 1
            yield ctx.schedule_timer(step)
        return refused

    assert run(order) == 16


@in_memory
def test_a_trace_function_is_kept_when_a_call_is_refused(run: Run) -> None:
    def trace(frame: FrameType, event: str, argument: object) -> None: ...

    def order(ctx: OrchestrationContext, _: Any) -> Any:
        sys.settrace(trace)
        try:
            with contextlib.suppress(NotAllowedInOrchestration):
                time.time()
            return sys.gettrace() is trace
        finally:
            sys.settrace(None)

    assert run(order) is True


@in_memory
def test_deterministic_calls_are_allowed(run: Run) -> None:
    def order(ctx: OrchestrationContext, _: Any) -> Steps:
        yield ctx.schedule_timer(0)
        own = random.Random(7)
        ctx.random().shuffle([1, 2, 3])
        moment = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc) + dt.timedelta(days=1)
        named = uuid.uuid5(uuid.NAMESPACE_URL, "shop")
        assert ctx.now() > moment or ctx.uuid() != named
        return [time.gmtime(0).tm_year, own.randint(1, 1), moment.isoformat()]

    assert run(order) == [1970, 1, "2026-01-02T00:00:00+00:00"]


@in_memory
def test_imports_logs_warnings_and_finalizers_are_allowed(
    run: Run, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"shop_{secrets.token_hex(4)}"
    (tmp_path / f"{module}.py").write_text("import time\nOPENED = time.time()\n")
    monkeypatch.syspath_prepend(tmp_path)
    handler = logging.FileHandler(tmp_path / "shop.log", delay=True)
    logger = logging.getLogger(module)
    logger.addHandler(handler)
    finalized = []

    class Closing:
        def __del__(self) -> None:
            finalized.append(time.time())

    def order(ctx: OrchestrationContext, _: Any) -> Steps:
        yield ctx.schedule_timer(0)
        __import__(module)
        logger.warning("imported")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warnings.warn("old", stacklevel=1)
        del_me = Closing()
        del del_me
        return [len(caught), len(finalized)]

    try:
        assert run(order) == [1, 1]
    finally:
        handler.close()
    assert (tmp_path / "shop.log").read_text() == "imported\n"


class CollectorClock:
    """Called by the garbage collector, at the beginning and the end of each collection."""

    def __init__(self) -> None:
        self.moments: list[float] = []

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        self.moments.append(time.perf_counter())

    def method(self, phase: str, info: dict[str, int]) -> None:
        self(phase, info)


@in_memory
@pytest.mark.parametrize("kind", ["function", "method", "object"])
def test_the_callbacks_of_the_garbage_collector_are_not_watched(kind: str, run: Run) -> None:
    clock = CollectorClock()

    def function(phase: str, info: dict[str, int]) -> None:
        clock.moments.append(time.perf_counter())

    def order(ctx: OrchestrationContext, _: Any) -> Steps:
        yield ctx.schedule_timer(0)
        before = len(clock.moments)
        gc.collect()
        return len(clock.moments) - before

    callback: Any = {"function": function, "method": clock.method, "object": clock}[kind]
    gc.callbacks.append(callback)
    try:
        assert run(order) >= 2
    finally:
        gc.callbacks.remove(callback)


@in_memory
def test_activities_are_not_watched(run: Run) -> None:
    def look(ctx: Any, _: Any) -> Any:
        with open(os.devnull) as nothing:
            started = threading.Thread(target=lambda: None)
            started.start()
            started.join()
            return [time.time() > 0, random.random() < 1, nothing.read(), sys.getprofile() is None]

    async def look_async(ctx: Any, _: Any) -> Any:
        return [dt.datetime.now().year > 2000, sys.getprofile() is None]

    def order(ctx: OrchestrationContext, _: Any) -> Steps:
        first = yield ctx.schedule_activity("look", None)
        second = yield ctx.schedule_activity("look_async", None)
        return first + second

    assert run(order, activities={"look": look, "look_async": look_async}) == [True, True, "", True, True, True]


def reads_the_clock(ctx: OrchestrationContext, _: Any) -> Any:
    return time.time() > 0


def played(provider: Provider, strict: bool | None) -> str:
    """The status of an orchestration that reads the clock."""
    client = Client(provider)
    with Runtime(provider, strict=strict) as runtime:
        runtime.shutdown()
        runtime.register_orchestration("reads_the_clock", reads_the_clock)
        runtime.start()
        client.start_orchestration("clock", "reads_the_clock")
        return client.wait_for_orchestration("clock", WAIT_MS).status


@in_memory
def test_watching_can_be_switched_off_by_an_option(provider: Provider) -> None:
    assert played(provider, strict=False) == "Completed"


@in_memory
def test_tests_are_watched_by_default_and_other_programs_are_not(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    assert played(provider, strict=None) == "Completed"


@in_memory
def test_a_program_is_watched_on_request(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    assert played(provider, strict=True) == "Failed"


@pytest.mark.parametrize(("options", "expected"), [([], "False"), (["-X", "dev"], "True")])
def test_programs_are_watched_in_the_development_mode_of_python(
    options: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    command = [
        sys.executable,
        *options,
        "-c",
        "from duroxide._orchestration.strict import is_strict; print(is_strict(None))",
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout.strip() == expected


@in_memory
def test_strict_takes_only_true_false_or_none(provider: Provider) -> None:
    with pytest.raises(TypeError, match="strict must be True, False or None, not str"):
        Runtime(provider, strict="yes")  # type: ignore[arg-type]


@in_memory
def test_the_profiler_of_a_thread_is_restored(run: Run) -> None:
    seen = []

    def order(ctx: OrchestrationContext, _: Any) -> Steps:
        seen.append(sys.getprofile() is not None)
        yield ctx.schedule_timer(0)
        seen.append(sys.getprofile() is not None)

    run(order)
    assert set(seen) == {True}
    assert sys.getprofile() is None


@pytest.mark.task_groups
@in_memory
def test_the_loop_of_a_coroutine_is_allowed(run: Run) -> None:
    async def order(ctx: OrchestrationContext, _: Any) -> Any:
        async def wait() -> float:
            await asyncio.sleep(0.001)
            return asyncio.get_running_loop().time()

        times = await asyncio.wait_for(asyncio.gather(wait(), wait()), 60)
        task = asyncio.create_task(wait())
        return len({*times, await task}) > 0

    assert run(order) is True


@pytest.mark.task_groups
@in_memory
def test_a_task_of_a_coroutine_is_watched(run: Run) -> None:
    async def look() -> float:
        await asyncio.sleep(0.001)
        return time.time()

    async def order(ctx: OrchestrationContext, _: Any) -> Any:
        return await asyncio.create_task(look())

    assert refusal(run, order).startswith(f"time.time() at {place(look, 'return')} ")
