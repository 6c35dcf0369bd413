"""The first turns of a process, when every thread needs what no thread has looked up yet."""

from __future__ import annotations

import subprocess
import sys

import pytest

DEADLINE_SECONDS = 30
PROCESSES = 8

# All orchestrations ask for their first activity at one moment. The short interval makes the threads take turns often.
PROGRAM = """
import sys, threading
from duroxide import Client, Runtime, SqliteProvider

ORCHESTRATIONS = 8
ready = threading.Barrier(ORCHESTRATIONS)

def first_turn(ctx, _):
    ready.wait(10)
    for _number in range(20_000):
        pass
    return (yield ctx.schedule_activity("echo", "done"))

sys.setswitchinterval(1e-5)
provider = SqliteProvider.in_memory()
runtime = Runtime(provider, strict=False)  # It refuses the barrier.
runtime.register_activity("echo", lambda ctx, text: text)
runtime.register_orchestration("first_turn", first_turn)
client = Client(provider)
names = [f"instance-{number}" for number in range(ORCHESTRATIONS)]
with runtime:
    for name in names:
        client.start_orchestration(name, "first_turn", None)
    print({client.wait_for_orchestration(name, 10_000).result() for name in names})
"""


@pytest.mark.slow
def test_orchestrations_may_take_the_first_turns_of_a_process_at_the_same_moment() -> None:
    for _ in range(PROCESSES):
        output = subprocess.run(
            [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False
        )
        assert (output.stdout.strip(), output.stderr) == ("{'done'}", "")
