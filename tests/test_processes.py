"""Runtimes among processes, threads and signals: Ctrl-C in every wait, a fork, a start or a shutdown too many."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from deadline import wait_until
from duroxide import Client, DuroxideError, OrchestrationContext, PostgresProvider, Runtime, SqliteProvider

Steps = Generator[Any, Any, Any]
Provider = SqliteProvider | PostgresProvider

PROLOGUE = """
import sys, threading, time
from duroxide import Client, PostgresProvider, Runtime, RuntimeOptions, SqliteProvider

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
def start_program(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
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


WAITS = {
    "wait_for_orchestration": "client.wait_for_orchestration('waiting', 600_000)",
    "wait_for_status_change": "client.wait_for_status_change('waiting', 0, 100, 600_000)",
    "wait_for_kv_value": "client.wait_for_kv_value('waiting', 'key', 600_000)",
    "wait_for_nobody": "client.wait_for_orchestration('nobody', 600_000)",
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_ctrl_c_ends_every_wait_at_once_and_the_program_cleanly(
    wait: str, start_program: Callable[[str], subprocess.Popen[str]]
) -> None:
    process = start_program(
        f"""
        with runtime:
            client.start_orchestration("waiting", "waiting")
            print("ready", flush=True)
            try:
                {wait}
            except KeyboardInterrupt:
                print("interrupted", flush=True)
        print("left", client.get_status("waiting").status, flush=True)
        """
    )
    assert first_line(process) == "ready"
    interrupt(process)
    began = time.monotonic()
    assert first_line(process) == "interrupted"
    assert time.monotonic() - began < 5
    output, errors = process.communicate(timeout=30)
    assert output == "left Running\n"
    assert errors == ""
    assert process.returncode == 0


def interrupt(process: subprocess.Popen[str]) -> None:
    """Press Ctrl-C, once the process has entered the wait that it has announced."""
    # Nothing tells that a call blocks; it does when the process no longer uses the processor.
    wait_until(lambda: is_asleep(process.pid))
    process.send_signal(signal.SIGINT)


def is_asleep(process: int) -> bool:
    """Whether the main thread of a process waits in the kernel, on two looks."""
    status = Path(f"/proc/{process}/stat")

    def look() -> tuple[str, str]:
        fields = status.read_text().rpartition(")")[2].split()
        return fields[0], fields[11]

    first = look()
    time.sleep(0.02)
    return first[0] == "S" and first == look()


def test_ctrl_c_that_nobody_catches_ends_the_program_like_any_other(
    start_program: Callable[[str], subprocess.Popen[str]],
) -> None:
    process = start_program(
        """
        runtime.start()
        client.start_orchestration("waiting", "waiting")
        print("ready", flush=True)
        client.wait_for_orchestration("waiting", 600_000)
        """
    )
    assert first_line(process) == "ready"
    interrupt(process)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert "panicked" not in errors


def test_ctrl_c_in_a_shutdown_ends_the_shutdown(start_program: Callable[[str], subprocess.Popen[str]]) -> None:
    process = start_program(
        """
        import os
        runtime.start()
        client.start_orchestration("blocked", "blocked", 600)
        blocking.wait()
        print("ready", flush=True)
        try:
            runtime.shutdown(600_000)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        os._exit(0)
        """
    )
    assert first_line(process) == "ready"
    interrupt(process)
    began = time.monotonic()
    assert first_line(process) == "interrupted"
    assert time.monotonic() - began < 5


def test_a_runtime_starts_again_after_ctrl_c_in_a_wait(start_program: Callable[[str], subprocess.Popen[str]]) -> None:
    process = start_program(
        """
        try:
            with runtime:
                print("ready", flush=True)
                client.wait_for_orchestration("nobody", 600_000)
        except KeyboardInterrupt:
            pass
        with runtime:
            client.start_orchestration("hello-1", "hello", "again")
            print(client.wait_for_orchestration("hello-1", 20_000).result())
        """
    )
    assert first_line(process) == "ready"
    interrupt(process)
    output, errors = process.communicate(timeout=30)
    assert (output, errors) == ("Hello, again!\n", "")


def test_a_program_that_forgets_the_shutdown_ends_all_the_same(
    start_program: Callable[[str], subprocess.Popen[str]],
) -> None:
    process = start_program(
        """
        runtime.start()
        client.start_orchestration("hello-1", "hello", "World")
        print(client.wait_for_orchestration("hello-1", 20_000).result())
        """
    )
    output, errors = process.communicate(timeout=30)
    assert (output, errors, process.returncode) == ("Hello, World!\n", "", 0)


def test_a_program_that_ends_by_an_exception_while_work_is_done_ends_with_it_alone(
    start_program: Callable[[str], subprocess.Popen[str]],
) -> None:
    process = start_program(
        """
        runtime.start()
        for number in range(50):
            client.start_orchestration(f"hello-{number}", "hello", "World")
        raise SystemExit(3)
        """
    )
    output, errors = process.communicate(timeout=30)
    assert (output, errors, process.returncode) == ("", "", 3)


def test_a_forked_child_gets_a_clear_error_and_the_parent_goes_on(
    start_program: Callable[[str], subprocess.Popen[str]],
) -> None:
    process = start_program(
        """
        import os
        runtime.start()
        child = os.fork()
        if child == 0:
            for call in (
                lambda: client.get_status("hello-1"),
                lambda: client.start_orchestration("hello-2", "hello", "child"),
                lambda: SqliteProvider.in_memory(),
                lambda: Runtime(provider).start(),
            ):
                try:
                    call()
                except Exception as error:
                    print(error, flush=True)
                else:
                    print("not refused", flush=True)
            sys.exit(0)
        _, status = os.waitpid(child, 0)
        print("child", os.waitstatus_to_exitcode(status), flush=True)
        client.start_orchestration("hello-1", "hello", "parent")
        print(client.wait_for_orchestration("hello-1", 20_000).result(), flush=True)
        runtime.shutdown()
        """
    )
    output, errors = process.communicate(timeout=60)
    *refusals, child, parent = output.splitlines()
    assert len(refusals) == 4
    for refusal in refusals:
        assert "fork" in refusal
        assert "spawn" in refusal
    assert child == "child 0"
    assert parent == "Hello, parent!"
    assert "panicked" not in errors


def test_processes_of_multiprocessing_by_spawn_have_stores_of_their_own(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import multiprocessing
            from duroxide import Client, Runtime, SqliteProvider

            def work(number):
                with SqliteProvider.in_memory() as provider:
                    runtime = Runtime(provider)
                    runtime.register_orchestration("hello", lambda ctx, name: f"Hello, {name}!")
                    with runtime:
                        Client(provider).start_orchestration("hello-1", "hello", number)
                        return Client(provider).wait_for_orchestration("hello-1", 20_000).result()

            if __name__ == "__main__":
                with SqliteProvider.in_memory() as provider:
                    with multiprocessing.get_context("spawn").Pool(2) as pool:
                        print(pool.map(work, range(2)))
            """
        )
    )
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("['Hello, 0!', 'Hello, 1!']\n", "")


@pytest.fixture
def hello_runtime(provider: Provider) -> Iterator[Runtime]:
    runtime = Runtime(provider)
    runtime.register_orchestration("hello", lambda ctx, name: f"Hello, {name}!")
    yield runtime
    runtime.shutdown()


def hello(client: Client, instance: str) -> Any:
    client.start_orchestration(instance, "hello", instance)
    return client.wait_for_orchestration(instance, 20_000).result()


def test_a_second_start_is_refused_and_the_runtime_works_on(hello_runtime: Runtime, client: Client) -> None:
    hello_runtime.start()
    with pytest.raises(DuroxideError, match="started already"):
        hello_runtime.start()
    assert hello(client, "hello-1") == "Hello, hello-1!"


def test_a_second_shutdown_does_nothing(hello_runtime: Runtime, client: Client) -> None:
    hello_runtime.shutdown()
    hello_runtime.start()
    assert hello(client, "hello-1") == "Hello, hello-1!"
    hello_runtime.shutdown()
    hello_runtime.shutdown()
    assert "stopped" in repr(hello_runtime)


def test_a_runtime_can_be_started_again_and_again(hello_runtime: Runtime, client: Client) -> None:
    for number in range(3):
        with hello_runtime:
            assert hello(client, f"hello-{number}") == f"Hello, hello-{number}!"


def test_two_threads_that_start_one_runtime_start_it_once(hello_runtime: Runtime, client: Client) -> None:
    refusals: list[BaseException] = []

    def start() -> None:
        try:
            hello_runtime.start()
        except DuroxideError as error:
            refusals.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refusals) == 3
    assert hello(client, "hello-1") == "Hello, hello-1!"


def test_a_shutdown_while_another_thread_waits_lets_it_wait_to_its_end(hello_runtime: Runtime, client: Client) -> None:
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            client.wait_for_orchestration("nobody", 200)
        except BaseException as error:
            errors.append(error)

    with hello_runtime:
        thread = threading.Thread(target=wait)
        thread.start()
    thread.join()
    assert [type(error).__name__ for error in errors] == ["WaitTimedOut"]


def test_many_threads_share_one_client(hello_runtime: Runtime, client: Client) -> None:
    results: list[Any] = []
    threads = [threading.Thread(target=lambda n=n: results.append(hello(client, f"hello-{n}"))) for n in range(16)]  # type: ignore[misc]
    with hello_runtime:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(results) == sorted(f"Hello, hello-{number}!" for number in range(16))


def test_a_blocked_activity_does_not_hold_up_a_shutdown_for_longer_than_it_was_given(
    runtime: Runtime, client: Client
) -> None:
    started, over = threading.Event(), threading.Event()

    def block(ctx: Any, _: Any) -> None:
        started.set()
        over.wait(60)

    def blocked(ctx: OrchestrationContext, _: Any) -> Steps:
        yield ctx.schedule_activity("block", None)

    runtime.register_activity("block", block)
    runtime.register_orchestration("blocked", blocked)
    runtime.start()
    client.start_orchestration("blocked", "blocked")
    assert started.wait(20)
    began = time.monotonic()
    runtime.shutdown(100)
    took = time.monotonic() - began
    over.set()
    assert took < 10


def test_a_process_has_no_thread_left_of_a_runtime_that_was_shut_down_but_those_of_the_process(
    hello_runtime: Runtime, client: Client
) -> None:
    with hello_runtime:
        hello(client, "hello-0")
    before = len(os.listdir("/proc/self/task"))
    for number in range(1, 5):
        with hello_runtime:
            hello(client, f"hello-{number}")
    # Idle threads of activities end by themselves after a while, so that there may be fewer.
    wait_until(lambda: len(os.listdir("/proc/self/task")) <= before)
