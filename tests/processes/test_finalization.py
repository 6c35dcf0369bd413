"""A program ends with its exit code and without a trace of a crash, whatever its other threads and its objects do then."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

# A crash happens in some of the ends only.
ENDS = 12
END_SECONDS = 30

DAEMONS_IN_WAITS = """
import threading
from duroxide import Client, SqliteProvider
client = Client(SqliteProvider.in_memory())
begun = threading.Barrier(41)
def wait():
    begun.wait()
    while True:
        try:
            client.wait_for_orchestration("unknown", 5_000)
        except Exception:
            pass
for _ in range(40):
    threading.Thread(target=wait, daemon=True).start()
begun.wait()
"""

DAEMONS_IN_SHORT_CALLS = """
import threading
from duroxide import Client, InstanceNotFound, SqliteProvider
client = Client(SqliteProvider.in_memory())
begun = threading.Barrier(5)
def ask():
    begun.wait()
    while True:
        try:
            client.get_instance_info("unknown")
        except Exception:
            pass
for _ in range(4):
    threading.Thread(target=ask, daemon=True).start()
begun.wait()
"""

LOOP_IN_A_DAEMON = """
import asyncio, threading
from duroxide import AsyncClient, SqliteProvider
provider = SqliteProvider.in_memory()
begun = threading.Event()
async def ask():
    client = AsyncClient(provider)
    while True:
        await client.get_status("unknown")
        begun.set()
async def main():
    await asyncio.gather(*(ask() for _ in range(10)))
threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
begun.wait()
"""

CLOSE_IN_A_FINALIZER = """
from duroxide import SqliteProvider
class Service:
    def __init__(self):
        self.provider = SqliteProvider.in_memory()
    def __del__(self):
        self.provider.close()
service = Service()
"""

CLOSE_IN_A_SUSPENDED_GENERATOR = """
from duroxide import SqliteProvider
def resource():
    with SqliteProvider.in_memory() as provider:
        yield provider
suspended = resource()
next(suspended)
"""

FIRST_EXCEPTION_IN_A_FINALIZER = """
from duroxide import SqliteProvider
class Service:
    def __init__(self):
        self.provider = SqliteProvider.in_memory()
        self.provider.close()
    def __del__(self):
        try:
            self.provider.backup("copy.db")
        except Exception:
            pass
service = Service()
"""

ORCHESTRATION_IN_AN_ENDLESS_LOOP = """
import threading, time
from duroxide import Runtime, SqliteProvider
begun = threading.Event()
def endless(ctx, _):
    begun.set()
    while True:
        {body}
    yield
runtime = Runtime(SqliteProvider.in_memory(), functions=[endless])
runtime.start()
runtime.client.start("endless")
begun.wait()
runtime.shutdown(100)
"""

PROGRAMS = {
    "daemon threads wait": DAEMONS_IN_WAITS,
    "daemon threads make short calls": DAEMONS_IN_SHORT_CALLS,
    "a daemon thread runs a loop": LOOP_IN_A_DAEMON,
    "a finalizer closes a store": CLOSE_IN_A_FINALIZER,
    "a suspended generator closes a store": CLOSE_IN_A_SUSPENDED_GENERATOR,
    "a finalizer gets the first exception": FIRST_EXCEPTION_IN_A_FINALIZER,
    "an orchestration computes for ever": ORCHESTRATION_IN_AN_ENDLESS_LOOP.format(body="pass"),
    "an orchestration sleeps for ever": ORCHESTRATION_IN_AN_ENDLESS_LOOP.format(body="time.sleep(0.001)"),
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_a_program_ends_without_crash_hang_or_output(program: str, tmp_path: Path) -> None:
    ends = set()
    for _ in range(ENDS):
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, timeout=END_SECONDS, check=False
        )
        ends.add((done.returncode, done.stdout, done.stderr))
    assert ends == {(0, b"", b"")}


def test_a_callback_of_the_exit_may_close_a_store_and_use_asyncio() -> None:
    program = textwrap.dedent(
        """
        import asyncio, atexit
        callbacks = []
        atexit.register(lambda: [each() for each in callbacks])  # before the import, so it is called after the package's own
        from duroxide import AsyncClient, SqliteProvider
        provider = SqliteProvider.in_memory()
        async def ask():
            print((await AsyncClient(provider).get_status("unknown")).status)
        callbacks += [lambda: asyncio.run(ask()), provider.close]
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=END_SECONDS, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("NotFound\n", "", 0)
