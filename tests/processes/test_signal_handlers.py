"""A signal handler may use the clients while the main thread waits in a call."""

from __future__ import annotations

import pytest

from processes.conftest import Start

# An activity sends the signal once the main thread waits for the orchestration.
SIGNALLED = """
import asyncio, os, sys, threading
from duroxide import AsyncClient

main = threading.main_thread().ident

@runtime.register_activity("signal")
def send_signal(ctx, _):
    assert started.wait(20)
    while not sys._current_frames()[main].f_code.co_filename.endswith("calls.py"):
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGUSR1)
    assert handled.wait(20)

@runtime.register_orchestration("signalled")
def signalled(ctx, _):
    yield ctx.schedule_activity("signal")
    return "done"

started = threading.Event()
handled = threading.Event()

def handle(*_):
    print({call}, flush=True)
    handled.set()

signal.signal(signal.SIGUSR1, handle)
with runtime:
    client.start_orchestration("signalled", "signalled")
    started.set()
    print(client.wait_for_orchestration("signalled", 30_000).result())
"""

CALLS = {
    "a read": ("client.get_status('signalled').status", "Running"),
    "a start": ("client.start('hello', 'World', id='hello').result(20)", "Hello, World!"),
    "a wait": (
        "client.start_orchestration('other', 'hello', 'you') and client.wait_for_orchestration('other').output",
        "Hello, you!",
    ),
    "a new store": ("SqliteProvider.in_memory().kind", "memory"),
    "asyncio": ("asyncio.run(AsyncClient(provider).get_status('signalled')).status", "Running"),
}


@pytest.mark.parametrize(("call", "answer"), CALLS.values(), ids=CALLS)
def test_a_signal_handler_calls_the_client_while_the_main_thread_waits(
    start_program: Start, call: str, answer: str
) -> None:
    process = start_program(SIGNALLED.replace("{call}", call))
    output, errors = process.communicate(timeout=60)
    assert (output, errors, process.returncode) == (f"{answer}\ndone\n", "", 0)


def test_a_signal_handler_that_raises_ends_the_wait(start_program: Start) -> None:
    program = SIGNALLED.replace(
        "print({call}, flush=True)\n    handled.set()", "handled.set(); raise ValueError('stop')"
    )
    process = start_program(
        program.replace(
            'print(client.wait_for_orchestration("signalled", 30_000).result())',
            'try: client.wait_for_orchestration("signalled", 30_000)\n    except ValueError as error: print(error)',
        )
    )
    output, errors = process.communicate(timeout=60)
    assert (output, errors, process.returncode) == ("stop\n", "", 0)
