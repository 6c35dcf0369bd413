"""Fixtures that start programs, and a runtime that says hello."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from duroxide import Client, PostgresProvider, Runtime, SqliteProvider

AnyProvider = SqliteProvider | PostgresProvider
Start = Callable[[str], subprocess.Popen[str]]

PROLOGUE = """
import signal, sys, threading, time
from duroxide import Client, PostgresProvider, Runtime, RuntimeOptions, SqliteProvider

# A run in the background of a shell begins with Ctrl-C ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
provider = SqliteProvider.open(sys.argv[1])
client = Client(provider)
runtime = Runtime(provider)
blocking = threading.Event()

@runtime.register_activity("block")
def block(ctx, seconds):
    blocking.set()
    time.sleep(seconds)

@runtime.register_orchestration("blocked")
def blocked(ctx, seconds):
    yield ctx.schedule_activity("block", seconds)

@runtime.register_orchestration("waiting")
def waiting(ctx, _):
    return (yield ctx.wait_for_event("never"))

@runtime.register_orchestration("hello")
def hello(ctx, name):
    return f"Hello, {name}!"

"""


@pytest.fixture
def start_program(tmp_path: Path) -> Iterator[Start]:
    """Starts Python on a program that has a store, a client and a runtime."""
    started: list[subprocess.Popen[str]] = []

    def start(program: str) -> subprocess.Popen[str]:
        text = PROLOGUE + textwrap.dedent(program)
        process = subprocess.Popen(
            [sys.executable, "-c", text, str(tmp_path / "store.db")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def hello_runtime(provider: AnyProvider) -> Iterator[Runtime]:
    runtime = Runtime(provider)
    runtime.register_orchestration("hello", lambda ctx, name: f"Hello, {name}!")
    yield runtime
    runtime.shutdown()


def hello(client: Client, instance: str) -> Any:
    client.start_orchestration(instance, "hello", instance)
    return client.wait_for_orchestration(instance, 20_000).result()
