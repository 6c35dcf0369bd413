"""Debuggers, coverage, loggers and pydantic models beside orchestrations that are watched."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from determinism.code_change import Steps, place
from duroxide import OrchestrationContext, OrchestrationFailed

in_memory = pytest.mark.parametrize("store", ["memory"])

TRACED = """
import threading
seen = []

def trace(frame, event, argument):
    if frame.f_code.co_filename == __file__:
        seen.append((frame.f_code.co_name, event))
    return trace

threading.settrace(trace)
from duroxide import Runtime, RuntimeOptions, SqliteProvider, activity, orchestration

@activity
def work() -> None: ...

@orchestration
async def a_coroutine() -> None:
    await work()

def a_generator(ctx, _):
    yield ctx.schedule_activity("work")

with SqliteProvider.in_memory() as provider, Runtime(provider, functions=[work, a_coroutine, a_generator]) as runtime:
    runtime.client.start(a_coroutine).result(20)
    runtime.client.start("a_generator").result(20)
    threading.settrace(None)
    before = len(seen)
    runtime.client.start("a_generator").result(20)
    print(sorted({name for name, event in seen if event == "line"}))
    print("silent" if all(name == "work" for name, _ in seen[before:]) else "traced")
"""


def run_program(text: str, folder: Path, answers: str = "") -> str:
    program = folder / "program.py"
    program.write_text(textwrap.dedent(text))
    done = subprocess.run(
        [sys.executable, str(program)], input=answers, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_trace_function_of_all_threads_sees_orchestrations(tmp_path: Path) -> None:
    assert run_program(TRACED, tmp_path) == "['a_coroutine', 'a_generator', 'work']\nsilent\n"


BREAKPOINT = """
from duroxide import Runtime, SqliteProvider, orchestration

@orchestration
async def flow(number: int) -> int:
    double = number * 2
    breakpoint()
    return double

with SqliteProvider.in_memory() as provider, Runtime(provider, functions=[flow], strict=True) as runtime:
    print("result", runtime.client.start(flow, 21).result(20))
"""


def test_a_breakpoint_opens_the_debugger_in_strict_mode(tmp_path: Path) -> None:
    output = run_program(BREAKPOINT, tmp_path, "p double + 1\nc\n")
    assert "(Pdb) 43\n" in output
    assert "result 42" in output


@in_memory
@pytest.mark.parametrize("library", ["structlog", "loguru", "own"])
def test_a_logger_may_stamp_its_lines_in_strict_mode(
    run: Run, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if library == "structlog":
        info = pytest.importorskip("structlog").get_logger().info
    elif library == "loguru":
        info = pytest.importorskip("loguru").logger.info
    else:
        (tmp_path / "shop_logger.py").write_text("import time\ndef info(text): print(time.time(), text)\n")
        monkeypatch.syspath_prepend(tmp_path)
        info = __import__("shop_logger").info

    def order(ctx: OrchestrationContext, _: Any) -> Steps:
        yield ctx.schedule_timer(0)
        info("begun")
        return "done"

    assert run(order) == "done"


def moments() -> Any:
    pydantic = pytest.importorskip("pydantic")

    class Moments(pydantic.BaseModel):  # type: ignore[name-defined, misc]
        at: dt.datetime = pydantic.Field(default_factory=dt.datetime.now)
        stamp: float = pydantic.Field(default_factory=time.time)

    return Moments


@in_memory
@pytest.mark.parametrize("style", ["constructor", "model_validate"])
def test_a_default_factory_of_pydantic_that_reads_the_clock_is_refused(run: Run, style: str) -> None:
    model = moments()

    def order(ctx: OrchestrationContext, _: Any) -> Any:
        return str(model(stamp=1.0) if style == "constructor" else model.model_validate({"stamp": 1.0}))

    with pytest.raises(OrchestrationFailed) as failed:
        run(order)
    assert failed.value.message.startswith(f"datetime.datetime.now() at {place(order, 'return')}")


@in_memory
def test_a_default_factory_of_pydantic_may_stand_where_the_field_is_given(run: Run) -> None:
    model = moments()

    def order(ctx: OrchestrationContext, _: Any) -> Any:
        return model(at=ctx.now(), stamp=1.0).stamp

    assert run(order) == 1.0
