"""Programs whose threads gevent or eventlet has replaced by greenlets."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

PATCHES = {
    "gevent": "from gevent import monkey; monkey.patch_all(); from gevent import sleep, spawn",
    "eventlet": "import eventlet; eventlet.monkey_patch(); from eventlet import sleep, spawn",
}

PROGRAM = """
import threading
from duroxide import ConfigurationError, Runtime, SqliteProvider, activity, orchestration

turns = 0

def count():
    global turns
    while True:
        turns += 1
        sleep(0.001)

spawn(count)
sleep(0.001)

@activity
def work(number: int) -> int:
    sleep(0.2)
    return number

@activity
async def async_work() -> None: ...

@orchestration
async def flow(number: int) -> int:
    return await work(number)

with SqliteProvider.in_memory() as provider:
    with Runtime(provider, functions=[work, flow]) as runtime:
        before = turns
        print(runtime.client.start(flow, 7).result(20), turns - before > 10)
    try:
        Runtime(provider, functions=[async_work]).start()
    except ConfigurationError as error:
        print(error)
"""


@pytest.mark.parametrize("library", PATCHES)
def test_plain_activities_run_beside_greenlets_and_others_are_refused(library: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PATCHES[library] + PROGRAM],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer, refusal = done.stdout.splitlines()
    assert answer == "7 True"
    assert refusal.startswith(f"{library} has replaced the threads of this process, and 'async def' activities")
