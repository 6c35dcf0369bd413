"""What fails because the process ends, or because the process lacks something, has not failed: it runs again."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from conftest import WAIT_MS
from duroxide import OrchestrationContext, Runtime, SqliteProvider, activity, context, orchestration
from duroxide._runtime import cut_off

# Each program starts one instance, waits until its activity has begun, and ends.
PROGRAM = """
import asyncio, concurrent.futures, os, signal, sys, threading, time
from duroxide import OrchestrationContext, Runtime, SqliteProvider, activity, orchestration

begun = threading.Event()

def use_pool():
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(time.sleep, 0.01).result()

def use_thread():
    thread = threading.Thread(target=time.sleep, args=(0.01,))
    thread.start()
    thread.join()

async def use_loop():
    await asyncio.to_thread(time.sleep, 0.01)

if sys.argv[2] == "loop":
    @activity
    async def work() -> int:
        while True:
            await use_loop()
            begun.set()
else:
    @activity
    def work() -> int:
        while True:
            {"pool": use_pool, "thread": use_thread}[sys.argv[2]]()
            begun.set()

@orchestration
def flow(ctx: OrchestrationContext):
    return (yield ctx.schedule_activity("work"))

def leave(*_):
    sys.exit(0)

signal.signal(signal.SIGTERM, leave)
provider = SqliteProvider.open(sys.argv[1])
runtime = Runtime(provider, functions=[work, flow])
runtime.start()
runtime.client.start("flow", id="one")
begun.wait()
# The program lives until this thread ends, which is after executors have begun to refuse work.
threading.Thread(target=time.sleep, args=(0.2,)).start()
"""

ENDS = {
    "the end of the file": "",
    "an exception": "raise ValueError('uncaught')",
    "Ctrl-C": "os.kill(os.getpid(), signal.SIGINT); time.sleep(10)",
    "sys.exit in a handler": "os.kill(os.getpid(), signal.SIGTERM); time.sleep(10)",
}


@activity
def work() -> int:
    return context().attempt


@orchestration
def flow(ctx: OrchestrationContext) -> Generator[Any, Any, int]:
    return (yield ctx.schedule_activity("work"))


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
@pytest.mark.parametrize(
    "uses",
    [
        "loop",
        "pool",
        pytest.param(
            "thread", marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="threads start until the very end")
        ),
    ],
)
def test_an_activity_that_fails_because_the_program_ends_runs_again_in_its_first_attempt(
    tmp_path: Path, uses: str, end: str
) -> None:
    file = str(tmp_path / "store.db")
    program = textwrap.dedent(PROGRAM) + end
    subprocess.run(
        [sys.executable, "-c", program, file, uses], capture_output=True, timeout=WAIT_MS / 1000, check=False
    )
    with SqliteProvider.open(file) as provider, Runtime(provider, functions=[work, flow]) as runtime:
        assert runtime.client.handle("one").result(WAIT_MS / 1000) == 1


def test_a_refusal_of_an_executor_that_the_application_has_shut_down_is_the_failure_of_the_activity() -> None:
    assert cut_off.end_of_process(RuntimeError("cannot schedule new futures after shutdown")) is None


def test_an_error_that_was_raised_from_a_refusal_at_the_end_is_not_the_failure_of_the_activity() -> None:
    error = ConnectionError("no address")
    error.__cause__ = RuntimeError("cannot schedule new futures after interpreter shutdown")
    assert cut_off.end_of_process(error) == "the process ends"
