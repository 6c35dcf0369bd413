"""A process that lacks threads or descriptors does not fail the activities that it cannot begin: they wait."""

from __future__ import annotations

import asyncio
import errno
import sys
import threading
from typing import Any

import pytest

from conftest import WAIT_MS
from duroxide import Provider, Runtime, activity, orchestration
from duroxide._runtime import activity_loop, cut_off

# Where activities run does not depend on the store.
pytestmark = [
    pytest.mark.parametrize("store", ["memory"]),
    pytest.mark.skipif(sys.version_info < (3, 11), reason="an orchestration that is a coroutine needs Python 3.11"),
]


@activity
async def on_loop() -> str:
    return "done"


@activity
def on_thread() -> str:
    return "done"


@orchestration
async def flow(kind: str) -> str:
    return await (on_loop if kind == "loop" else on_thread)()


def run(provider: Provider, kind: str) -> Any:
    with Runtime(provider, functions=[on_loop, on_thread, flow]) as runtime:
        return runtime.client.start(flow, kind).result(WAIT_MS / 1000)


class FirstCallsFail:
    """Stands for a function, and raises an error in its first calls."""

    def __init__(self, function: Any, error: BaseException, calls: int) -> None:
        self._function = function
        self._error = error
        self.left = calls

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if self.left:
            self.left -= 1
            raise self._error
        return self._function(*arguments, **options)


def test_an_async_activity_waits_while_the_process_has_no_descriptor_for_a_loop(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = OSError(errno.EMFILE, "Too many open files")
    monkeypatch.setattr(activity_loop.asyncio, "new_event_loop", FirstCallsFail(asyncio.new_event_loop, error, 1))
    assert run(provider, "loop") == "done"


def test_an_async_activity_waits_while_the_process_has_no_thread_for_its_loop(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fails = FirstCallsFail(threading.Thread.start, RuntimeError("can't start new thread"), 1)
    start = threading.Thread.start

    def start_loop(thread: threading.Thread) -> None:
        (fails if thread.name == "duroxide-activities" else start)(thread)

    monkeypatch.setattr(threading.Thread, "start", start_loop)
    assert run(provider, "loop") == "done"
    assert "was cut off and runs again, since there are too few threads" in caplog.text


def test_a_sync_activity_waits_while_the_process_has_no_thread(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start = threading.Thread.start
    fails = FirstCallsFail(start, RuntimeError("can't start new thread"), 3)

    def start_activities(thread: threading.Thread) -> None:
        (fails if thread.name == "duroxide-activity" else start)(thread)

    monkeypatch.setattr(threading.Thread, "start", start_activities)
    assert run(provider, "thread") == "done"
    assert "activities wait for a thread: no thread could be started" in caplog.text


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "this process is short of memory"),
        (OSError(errno.ENFILE, "x"), "there are too few file descriptors of this machine"),
        (ImportError("x.so: cannot open shared object file: Too many open files"), "file descriptors"),
        (RuntimeError("cannot schedule new futures after interpreter shutdown"), "the process ends"),
    ],
)
def test_a_shortage_is_named(store: str, error: BaseException, reason: str) -> None:
    assert reason in (cut_off.shortage(error) or "")


@pytest.mark.parametrize("error", [OSError(errno.ENOENT, "x"), ImportError("No module named 'x'"), ValueError("x")])
def test_another_error_is_no_shortage(store: str, error: BaseException) -> None:
    assert cut_off.shortage(error) is None


@activity
async def exits_in_a_task() -> None:
    async def child() -> None:
        raise SystemExit(3)

    await asyncio.create_task(child())


@orchestration
async def exits() -> None:
    await exits_in_a_task()


def test_an_exit_in_a_task_of_an_async_activity_does_not_end_the_next_activity(provider: Provider) -> None:
    with Runtime(provider, functions=[on_loop, on_thread, flow, exits_in_a_task, exits]) as runtime:
        failure = runtime.client.start(exits).wait(WAIT_MS / 1000).failure
        after = runtime.client.start(flow, "loop").result(WAIT_MS / 1000)
    assert (str(failure), after) == ("SystemExit: 3", "done")
