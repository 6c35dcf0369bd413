"""Log records that arrive whatever the application has configured, and traces that never fail the code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from duroxide import ActivityContext, OrchestrationContext, ProcessActivityContext

in_memory = pytest.mark.parametrize("store", ["memory"])

LONE_SURROGATE = "a name \ud800 of a file"

PROGRAM = """
import logging, logging.config, sys
import duroxide
from duroxide import Runtime, SqliteProvider, activity, orchestration
{before}

@activity
def work() -> int:
    duroxide.context().trace_info("in the activity")
    raise ValueError("no room\\nat all")

@orchestration
async def flow() -> int:
    duroxide.context().trace_info("in the orchestration")
    policy = duroxide.RetryPolicy(max_attempts=2, backoff=duroxide.Backoff.fixed(10))
    return await work.options(retry=policy)()

with SqliteProvider.in_memory() as provider, Runtime(provider, functions=[work, flow]) as runtime:
    runtime.client.start(flow, id="shop").wait(20)
"""


def play(before: str = "") -> tuple[str, str]:
    """The output and the errors of the program."""
    environment = {name: value for name, value in os.environ.items() if name != "RUST_LOG"}
    program = PROGRAM.replace("{before}", textwrap.dedent(before))
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout, done.stderr


def test_each_failed_attempt_is_one_line_where_no_logging_is_configured() -> None:
    output, errors = play()
    assert output == ""
    begin = "WARNING duroxide.activity: activity 'work' of instance 'shop' failed in attempt"
    assert errors.splitlines() == [
        f"{begin} 1 of 2: ValueError: no room; next try in 10 ms",
        f"{begin} 2 of 2: ValueError: no room; no further try",
    ]


@pytest.mark.parametrize(
    "configuration",
    ["logging.basicConfig(stream=sys.stdout)", "logging.getLogger('duroxide').setLevel('ERROR')", "logging.disable()"],
)
def test_nothing_is_printed_beside_the_logging_of_the_application(configuration: str) -> None:
    _, errors = play(configuration)
    assert errors == ""


DICT_CONFIG = """
logging.config.dictConfig({
    "version": 1,
    "handlers": {"h": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "f"}},
    "formatters": {"f": {"format": "%(name)s: %(message)s"}},
    "root": {"level": "INFO", "handlers": ["h"]},
})
"""


def test_disable_existing_loggers_silences_no_logger_of_the_package() -> None:
    output, _ = play(DICT_CONFIG)
    assert "duroxide.orchestration: in the orchestration" in output
    assert output.count("duroxide.activity: in the activity") == 2
    assert re.search(r"duroxide.activity: activity 'work' of instance 'shop' failed\nTraceback", output)


@in_memory
def test_a_trace_that_utf8_cannot_hold_is_logged_with_escapes(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    def look(ctx: ActivityContext, _: Any) -> None:
        ctx.trace_warn(LONE_SURROGATE)

    def order(ctx: OrchestrationContext, _: Any) -> Generator[Any, Any, str]:
        yield ctx.schedule_activity("look", None)
        ctx.trace_warn(LONE_SURROGATE)
        return "done"

    assert run(order, activities={"look": look}) == "done"
    assert caplog.messages.count("a name \\ud800 of a file") == 2


def test_a_trace_in_another_process_and_in_a_unit_test_may_hold_any_text(caplog: pytest.LogCaptureFixture) -> None:
    context = ProcessActivityContext("shop", 1, "order", "1.0.0", "look", 2, 1, "worker", None, None)
    context.trace_info(LONE_SURROGATE)
    assert context._traces == [("trace_info", "a name \\ud800 of a file")]

    OrchestrationContext({}).trace_warn(LONE_SURROGATE)  # type: ignore[call-arg]
    assert caplog.messages == ["a name \\ud800 of a file"]


OWNER = """
import sys
from duroxide import Runtime, SqliteProvider
with SqliteProvider.open(sys.argv[1]) as provider, Runtime(provider):
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_a_runtime_that_stands_by_says_so_where_no_logging_is_configured(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", OWNER, str(tmp_path / "store.db")]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "ready\n"
        standby = subprocess.run(arguments, input="", capture_output=True, text=True, timeout=60, check=True)
        owner.communicate("")
    assert f"process ({owner.pid}) works on" in standby.stderr
    assert "this runtime is a standby" in standby.stderr
