"""How programs end, and the effects of a fork."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from processes.conftest import Start


def test_a_program_that_forgets_the_shutdown_still_ends(
    start_program: Start,
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


def test_a_program_that_ends_by_an_exception_during_work_prints_only_that_exception(
    start_program: Start,
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


def test_a_loop_that_catches_everything_does_not_hang_the_process(
    start_program: Start,
) -> None:
    process = start_program(
        """
        @runtime.register_orchestration("stubborn")
        def stubborn(ctx, _):
            while True:
                try:
                    return (yield ctx.schedule_activity("block", 0))
                except:
                    continue

        with runtime:
            client.start_orchestration("stubborn", "stubborn")
            print(client.wait_for_orchestration("stubborn", 20_000).status, flush=True)
        """
    )
    try:
        output, errors = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        pytest.fail("the process hangs")
    assert (output, errors) == ("Completed\n", "")


def test_a_forked_child_gets_a_clear_error_and_the_parent_continues(
    start_program: Start,
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


def test_spawned_processes_of_multiprocessing_open_separate_stores(tmp_path: Path) -> None:
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
