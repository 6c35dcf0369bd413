"""Processes that end, or are interrupted, while activities still run."""

from __future__ import annotations

import pytest

from processes.conftest import Start, first_line
from processes.test_interrupts import interrupt

BODIES = {
    "sleeps_again_and_again": "while True: time.sleep(0.01)",
    "computes": "while True: sum(range(1000))",
    "sleeps_for_long": "time.sleep(600)",
    "waits_for_a_lock": "threading.Lock().acquire() and threading.Event().wait(600)",
}

WORKING = """
@runtime.register_activity("work")
def work(ctx, _):
    blocking.set()
    {body}

@runtime.register_orchestration("working")
def working(ctx, _):
    yield ctx.schedule_activity("work")

runtime.start()
client.start_orchestration("working", "working")
assert blocking.wait(20)
{end}
"""


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_process_ends_cleanly_while_an_activity_runs(body: str, start_program: Start) -> None:
    process = start_program(WORKING.format(body=body, end="runtime.shutdown(100); print('end')"))
    output, errors = process.communicate(timeout=30)
    assert (output, errors, process.returncode) == ("end\n", "", 0)


def test_a_process_ends_cleanly_while_many_activities_run(start_program: Start) -> None:
    process = start_program(
        """
        numbers = []

        @runtime.register_activity("work")
        def work(ctx, number):
            numbers.append(number)
            if len(numbers) == 16:
                blocking.set()
            while True:
                time.sleep(0.001)

        @runtime.register_orchestration("working")
        def working(ctx, _):
            yield ctx.all([ctx.schedule_activity("work", number) for number in range(16)])

        runtime.start()
        client.start_orchestration("working", "working")
        assert blocking.wait(20)
        runtime.shutdown(100)
        sys.exit(3)
        """
    )
    output, errors = process.communicate(timeout=30)
    assert (output, errors, process.returncode) == ("", "", 3)


@pytest.mark.slow
def test_a_process_without_a_shutdown_ends_cleanly_while_an_activity_runs(
    start_program: Start,
) -> None:
    process = start_program(WORKING.format(body=BODIES["sleeps_again_and_again"], end="print('end')"))
    output, errors = process.communicate(timeout=30)
    assert (output, errors, process.returncode) == ("end\n", "", 0)


# A short lease, so that the activity is soon taken again after its process has ended.
LONG = """
import asyncio

runtime = Runtime(provider, RuntimeOptions(worker_lock_timeout_ms=2_000))

@runtime.register_activity("long")
async def long(ctx, _):
    blocking.set()
    await asyncio.sleep({seconds})
    return "done"

@runtime.register_orchestration("orchestration")
def orchestration(ctx, _):
    return (yield ctx.schedule_activity("long"))

"""

# One second, in which the activity would be recorded as failed.
LOOK = """
from duroxide import WaitTimedOut
try:
    print(client.wait_for_orchestration("long", 1_000), flush=True)
except WaitTimedOut:
    print("unfinished", flush=True)
"""

BEGIN = """
client.start_orchestration("long", "orchestration")
assert blocking.wait(20)
print("ready", flush=True)
"""


def test_an_async_activity_interrupted_by_ctrl_c_in_a_shutdown_completes_after_the_next_start(
    start_program: Start,
) -> None:
    interrupted = start_program(
        LONG.format(seconds=600)
        + "runtime.start()\n"
        + BEGIN
        + "try:\n    runtime.shutdown(2_000)\nexcept KeyboardInterrupt:\n    print('interrupted', flush=True)\n"
        + LOOK
    )
    assert first_line(interrupted) == "ready"
    interrupt(interrupted)
    output, errors = interrupted.communicate(timeout=30)
    assert (output, errors, interrupted.returncode) == ("interrupted\nunfinished\n", "", 0)

    assert_completes(start_program)


def test_an_async_activity_completes_after_the_next_start_when_ctrl_c_is_pressed_twice(start_program: Start) -> None:
    interrupted = start_program(
        LONG.format(seconds=600)
        + """
try:
    with runtime:
        client.start_orchestration("long", "orchestration")
        assert blocking.wait(20)
        print("ready", flush=True)
        try:
            client.wait_for_orchestration("long", 600_000)
        finally:
            print("leaving", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
        + LOOK
    )
    assert first_line(interrupted) == "ready"
    interrupt(interrupted)
    assert first_line(interrupted) == "leaving"
    interrupt(interrupted)
    output, errors = interrupted.communicate(timeout=30)
    assert (output, errors, interrupted.returncode) == ("interrupted\nunfinished\n", "", 0)

    assert_completes(start_program)


def assert_completes(start_program: Start) -> None:
    """Check that the interrupted activity runs again in another process, to its end."""
    program = (
        LONG.format(seconds=0) + "with runtime:\n    print(client.wait_for_orchestration('long', 20_000).result())\n"
    )
    output, errors = start_program(program).communicate(timeout=30)
    assert (output, errors) == ("done\n", "")
