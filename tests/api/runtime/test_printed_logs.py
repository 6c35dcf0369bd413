"""The runtime prints its log records where a program asks for them and configures no logging."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from duroxide import init_tracing
from duroxide.exceptions import ConfigurationError

PROGRAM = """
import logging
from duroxide import Runtime, RuntimeOptions, SqliteProvider

{before}
runtime = Runtime(SqliteProvider.in_memory(), RuntimeOptions({options}))

@runtime.register_orchestration("Speak")
def trace(ctx, input):
    ctx.trace_info("for everyone")
    ctx.trace_debug("for the curious")

with runtime:
    runtime.client.start("Speak", id="speaker").result()
"""


def printed(options: str, before: str = "", **variables: str) -> str:
    """Run the program in a separate process, and return what it prints; nothing may go to the standard output."""
    program = PROGRAM.format(options=options, before=before)
    environment = {name: value for name, value in os.environ.items() if name != "RUST_LOG"} | variables
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == ""
    return done.stderr


def test_a_runtime_without_log_options_prints_nothing() -> None:
    assert printed("") == ""


def test_a_runtime_with_a_log_level_prints_from_that_level_on() -> None:
    text = printed("log_level='info'")
    assert ("INFO duroxide.orchestration: for everyone instance_id=speaker" in text, "curious" in text) == (True, False)

    assert "DEBUG duroxide.orchestration: for the curious" in printed("log_level='debug', log_format='compact'")


def test_a_runtime_with_the_json_format_prints_one_object_per_line() -> None:
    records = [json.loads(line) for line in printed("log_format='json'").splitlines()]
    assert [(each["level"], each["message"], each["instance_id"]) for each in records] == [
        ("INFO", "for everyone", "speaker")
    ]


FAILING = """
import logging
from duroxide import Runtime, RuntimeOptions, SqliteProvider

runtime = Runtime(SqliteProvider.in_memory(), RuntimeOptions(log_level="info"))

@runtime.register_orchestration("Fail")
def fail(ctx, input):
    yield ctx.schedule_timer(0)
    raise ValueError("no room\\n2026-01-01T00:00:00.000Z  INFO duroxide: forged\\x1b[2J")

with runtime:
    runtime.client.start("Fail", id="failing").wait()
"""


def test_the_text_of_an_exception_begins_no_line_of_the_printed_records() -> None:
    done = subprocess.run([sys.executable, "-c", FAILING], capture_output=True, text=True, timeout=60, check=True)
    lines = done.stderr.split("\n")
    assert any(line.startswith("  2026-01-01T00:00:00.000Z  INFO duroxide: forged\\u{1b}[2J") for line in lines)
    assert not any(line.startswith("2026-01-01") for line in lines)
    assert all(line.isprintable() for line in lines)


def test_a_runtime_prints_nothing_where_the_application_configures_logging() -> None:
    text = printed("log_level='info'", "logging.basicConfig(level='INFO', format='application: %(message)s')")
    assert "application: for everyone" in text
    assert all(line.startswith("application: ") for line in text.splitlines())

    assert printed("log_level='info'", "logging.getLogger('duroxide').setLevel('ERROR')") == ""
    assert printed("log_level='info'", "logging.disable()") == ""
    assert printed("log_level='off'") == ""


def test_each_record_is_printed_once_where_the_native_side_prints_too() -> None:
    assert printed("log_level='info'", RUST_LOG="info").count("for everyone") == 1
    assert printed("log_level='info'", "import duroxide; duroxide.init_tracing()").count("for everyone") == 1


def test_a_log_file_that_cannot_be_opened_is_refused_as_the_earlier_sdk_did(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="Failed to open log file '.*traces.log': No such file") as refused:
        init_tracing(str(tmp_path / "missing" / "traces.log"))
    assert isinstance(refused.value, ConfigurationError)
