"""Traces: each appears once however often its step is replayed, with the fields that identify its instance."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conftest import Run, StartRuntime
from duroxide import ActivityContext, Client, OrchestrationContext, OrchestrationFailed, RuntimeOptions
from duroxide._values.conversions import convert
from support.waiting import wait_for_event_kind

Steps = Generator[Any, Any, Any]


def echo(ctx: ActivityContext, input: Any) -> Any:
    return input


def texts(caplog: pytest.LogCaptureFixture, logger: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == logger]


@pytest.fixture(autouse=True)
def info(caplog: pytest.LogCaptureFixture) -> None:
    """Capture what the package logs from level INFO on."""
    caplog.set_level(logging.INFO, "duroxide")


def test_trace_of_each_step_appears_once(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    def chain(ctx: OrchestrationContext, input: Any) -> Steps:
        for step in range(5):
            ctx.trace_info(f"before step {step}")
            yield ctx.schedule_activity("echo", step)
        ctx.trace_info("after the last step")

    run(chain, activities={"echo": echo})

    expected = [f"before step {step}" for step in range(5)]
    assert texts(caplog, "duroxide.orchestration") == [*expected, "after the last step"]


def test_trace_in_a_fan_in_appears_once(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    def branch(ctx: OrchestrationContext, number: int) -> Steps:
        yield ctx.schedule_activity("echo", number)
        ctx.trace_info(f"branch {number}")
        yield ctx.schedule_timer(number)

    def fan(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.gather([branch(ctx, number) for number in range(5)])
        ctx.trace_info("all in")

    run(fan, activities={"echo": echo})

    traces = texts(caplog, "duroxide.orchestration")
    assert sorted(traces) == ["all in", *(f"branch {number}" for number in range(5))]


def test_trace_appears_once_in_a_loop_over_messages(
    runtime_factory: StartRuntime, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    def read(ctx: OrchestrationContext, input: Any) -> Steps:
        for _ in range(4):
            ctx.trace_info((yield ctx.dequeue_event("inbox")))

    runtime = runtime_factory(orchestrations={"read": read})
    client.start_orchestration("reader", "read")
    wait_for_event_kind(client, "reader", "QueueSubscribed")
    for number in range(4):
        client.enqueue_event("reader", "inbox", f"message {number}")
    client.wait_for_orchestration("reader").result()
    runtime.shutdown()

    assert texts(caplog, "duroxide.orchestration") == [f"message {number}" for number in range(4)]


def test_trace_does_not_appear_again_in_a_fresh_runtime(
    runtime_factory: StartRuntime, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    def wait(ctx: OrchestrationContext, input: Any) -> Steps:
        ctx.trace_info("before the wait")
        yield ctx.wait_for_event("go")
        ctx.trace_info("after the wait")

    first = runtime_factory(orchestrations={"wait": wait})
    client.start_orchestration("waiter", "wait")
    wait_for_event_kind(client, "waiter", "ExternalSubscribed")
    first.shutdown()
    second = runtime_factory(orchestrations={"wait": wait})
    client.raise_event("waiter", "go")
    client.wait_for_orchestration("waiter").result()
    second.shutdown()

    assert texts(caplog, "duroxide.orchestration") == ["before the wait", "after the wait"]


def test_trace_methods_use_the_levels_of_logging(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    def trace(ctx: OrchestrationContext, input: Any) -> None:
        ctx.trace_info("information")
        ctx.trace_warn("warning")
        ctx.trace_error("error")

    run(trace)

    records = [record for record in caplog.records if record.name == "duroxide.orchestration"]
    assert [record.levelno for record in records] == [logging.INFO, logging.WARNING, logging.ERROR]


def test_trace_of_an_orchestration_names_its_instance(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    def trace(ctx: OrchestrationContext, input: Any) -> None:
        ctx.trace_info("here")

    run(trace, instance="named")

    fields = vars(next(record for record in caplog.records if record.name == "duroxide.orchestration"))
    assert (fields["instance_id"], fields["orchestration_name"], fields["orchestration_version"]) == (
        "named",
        "trace",
        "1.0.0",
    )
    assert int(fields["execution_id"]) == 1


def test_trace_of_an_activity_names_it_and_its_instance(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    def trace(ctx: ActivityContext, input: Any) -> str:
        ctx.trace_info("from the activity")
        return ctx.worker_id

    def call(ctx: OrchestrationContext, input: Any) -> Steps:
        return (yield ctx.schedule_activity("trace"))

    worker = run(call, activities={"trace": trace}, instance="named")

    fields = vars(next(record for record in caplog.records if record.name == "duroxide.activity"))
    assert (fields["instance_id"], fields["activity_name"], fields["worker_id"]) == ("named", "trace", worker)
    assert "activity_id" in fields


def test_trace_keeps_any_text_with_its_control_characters_escaped(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    text = 'per cent %s %d {braces} "quotes" ü🎉\nsecond line'

    def trace(ctx: OrchestrationContext, input: Any) -> None:
        ctx.trace_info(text)

    run(trace)

    assert texts(caplog, "duroxide.orchestration") == [text.replace("\n", "\\n")]


def test_failure_is_logged_with_its_traceback(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    def fail(ctx: ActivityContext, input: Any) -> None:
        raise ValueError("of the activity")

    def call(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.schedule_activity("fail")

    with pytest.raises(OrchestrationFailed):
        run(call, activities={"fail": fail})

    logged = [record for record in caplog.records if record.name == "duroxide.activity" and record.exc_info]
    assert "in fail" in caplog.text
    assert len(logged) == 1


def test_healthy_run_logs_no_warning(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    def chain(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.schedule_activity("echo")
        yield ctx.race(ctx.schedule_timer(60_000), ctx.schedule_activity("echo"))
        yield ctx.schedule_sub_orchestration("child")

    run(chain, activities={"echo": echo}, orchestrations={"child": lambda ctx, input: input})

    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_orchestration_knows_whether_it_replays(run: Run) -> None:
    seen: list[bool] = []

    def look(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.schedule_activity("echo")
        seen.append(ctx.is_replaying())
        yield ctx.schedule_activity("echo")

    run(look, activities={"echo": echo})

    # The first run of the step happens once; every later turn replays it.
    assert seen[0] is False
    assert seen.count(False) == 1


PROGRAM = """
from duroxide import Runtime, SqliteProvider, init_tracing

init_tracing(log_file={log_file!r}, log_level={log_level!r}, log_format={log_format!r})
runtime = Runtime(SqliteProvider.in_memory())

@runtime.register_orchestration("Speak")
def trace(ctx, input):
    ctx.trace_info("for the file")
    ctx.trace_debug("for the curious")

with runtime:
    runtime.client.start_orchestration("speaker", "Speak")
    runtime.client.wait_for_orchestration("speaker", 20_000).result()
"""


@pytest.mark.parametrize(("log_level", "curious"), [(None, False), ("info", False), ("debug", True)])
def test_init_tracing_writes_to_a_file_from_its_level_on(log_level: str | None, curious: bool, tmp_path: Path) -> None:
    log_file = tmp_path / "traces.log"

    printed = play_program(log_file, log_level, "pretty")

    written = log_file.read_text()
    assert ("for the file" in written, "for the curious" in written) == (True, curious)
    assert printed == ""


def test_init_tracing_writes_one_json_object_per_line(tmp_path: Path) -> None:
    log_file = tmp_path / "traces.log"

    play_program(log_file, "info", "json")

    records = [json.loads(line) for line in log_file.read_text().splitlines()]
    assert any("for the file" in json.dumps(record) and "speaker" in json.dumps(record) for record in records)


def play_program(log_file: Path, log_level: str | None, log_format: str) -> str:
    """Run the program in a separate process, since tracing is set up once a process; return its output."""
    program = PROGRAM.format(log_file=str(log_file), log_level=log_level, log_format=log_format)
    environment = {name: value for name, value in os.environ.items() if name != "RUST_LOG"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout + done.stderr


CONTROL = "a\nINFO forged\x1b[2J\u2028\x9bb"
ESCAPED = r"a\nINFO forged\u{1b}[2J\u{2028}\u{9b}b"


def test_control_characters_in_traces_ids_and_failures_are_escaped(
    runtime_factory: StartRuntime, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    def trace(ctx: OrchestrationContext, input: Any) -> Steps:
        ctx.trace_info(CONTROL)
        yield ctx.schedule_activity("echo", input)
        raise ValueError(CONTROL)

    def activity(ctx: ActivityContext, input: Any) -> Any:
        ctx.trace_info(CONTROL)

    runtime = runtime_factory({"echo": activity}, {"trace": trace})
    client.start_orchestration(CONTROL, "trace")
    with pytest.raises(OrchestrationFailed):
        client.wait_for_orchestration(CONTROL).result()
    runtime.shutdown()

    assert texts(caplog, "duroxide.orchestration").count(ESCAPED) == 1
    assert texts(caplog, "duroxide.activity").count(ESCAPED) == 1
    for record in caplog.records:
        assert record.getMessage().isprintable(), record


def write_log_with_control_characters(folder: Path, log_format: str) -> Path:
    """Let a program write control characters into a log of its own; return the log."""
    log = folder / "log.txt"
    code = f"""
from duroxide import Client, Runtime, SqliteProvider, init_tracing
init_tracing({str(log)!r}, "debug", {log_format!r})

def trace(ctx, input):
    ctx.trace_info({CONTROL!r})
    raise ValueError({CONTROL!r})

provider = SqliteProvider.in_memory()
runtime = Runtime(provider)
runtime.register_orchestration("trace", trace)
with runtime:
    client = Client(provider)
    client.start_orchestration({CONTROL!r}, "trace")
    client.wait_for_orchestration({CONTROL!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    return log


@pytest.mark.parametrize("log_format", ["pretty", "compact"])
def test_control_characters_begin_no_line_of_a_text_log(log_format: str, tmp_path: Path) -> None:
    text = write_log_with_control_characters(tmp_path, log_format).read_text(encoding="utf-8")
    assert ESCAPED in text
    assert "\nINFO forged" not in text
    assert all(line.isprintable() for line in text.replace("\t", " ").split("\n"))


def test_control_characters_break_no_line_of_a_json_log(tmp_path: Path) -> None:
    log = write_log_with_control_characters(tmp_path, "json")
    records = [json.loads(line) for line in log.read_text(encoding="utf-8").split("\n") if line]
    assert any(CONTROL in text or ESCAPED in text for record in records for text in texts_within(record))


def texts_within(record: Any) -> Iterator[str]:
    """The texts of a value of JSON."""
    if isinstance(record, str):
        yield record
    elif isinstance(record, dict):
        for value in record.values():
            yield from texts_within(value)


def test_control_characters_in_a_message_of_the_python_half_are_escaped(caplog: pytest.LogCaptureFixture) -> None:
    @dataclass
    class Order:
        number: int

    convert({"number": 7, CONTROL: 8}, Order)

    (message,) = texts(caplog, "duroxide.values")
    assert f"has the fields {ESCAPED}, which that class does not have" in message


def test_no_log_of_the_package_has_an_input_or_a_result(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    def keep(ctx: ActivityContext, value: str) -> str:
        return value.upper()

    def call(ctx: OrchestrationContext, value: str) -> Steps:
        ctx.set_kv_value("name", value)
        ctx.set_custom_status(value)
        return (yield ctx.schedule_activity("keep", value))

    options = RuntimeOptions(log_level="trace")
    assert run(call, "lovelace", activities={"keep": keep}, options=options) == "LOVELACE"
    assert caplog.records
    assert [
        record for record in caplog.records if "lovelace" in f"{record.getMessage()} {record.__dict__}".lower()
    ] == []
