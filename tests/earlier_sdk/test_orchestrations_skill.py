"""The blocks of the orchestrations skill, each unchanged.

The test registers the functions that it shows without a decorator. Where it disagrees with the README and the guide,
those
win: ``all`` wraps every outcome, a race takes any number of tasks, and both nest.
"""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from duroxide import OrchestrationCancelled, RegistrationError, Runtime, RuntimeOptions
from earlier_sdk.blocks import Names, Play, output_of, stand_in, start
from support.waiting import wait_for_event_kind, wait_for_execution

CORE_RULE = """
# ✅ Orchestration: generator, yield for durable operations
@runtime.register_orchestration("MyWorkflow")
def my_workflow(ctx, input):
    ctx.trace_info("starting")           # no yield
    result = yield ctx.schedule_activity("Work", input)  # yield
    return result

# ✅ Activity: regular function for I/O
@runtime.register_activity("Work")
def work(ctx, input):
    ctx.trace_info(f"processing {input}")  # no yield
    data = requests.get(input["url"]).json()  # sync I/O
    return data
"""

SCHEDULING = """
def my_orch(ctx, input):
    # Activity
    result = yield ctx.schedule_activity("Name", input)

    # Activity with retry
    result = yield ctx.schedule_activity_with_retry("Name", input, {
        "max_attempts": 3,
        "backoff": "exponential",
        "timeout_ms": 5000,
        "total_timeout_ms": 30000,
    })

    # Timer (durable delay)
    yield ctx.schedule_timer(60000)  # 1 minute

    # External event
    event_data = yield ctx.wait_for_event("approval")

    # Sub-orchestration (waits for completion)
    child_result = yield ctx.schedule_sub_orchestration("Child", child_input)

    # Sub-orchestration with explicit ID
    child_result = yield ctx.schedule_sub_orchestration_with_id("Child", "child-1", child_input)

    # Fire-and-forget orchestration (returns immediately)
    yield ctx.start_orchestration("BackgroundWork", "bg-1", bg_input)

    # Deterministic values
    now = yield ctx.utc_now()       # timestamp in ms
    guid = yield ctx.new_guid()     # deterministic UUID

    # Continue as new (restart with fresh history)
    yield ctx.continue_as_new(new_input)
"""

COMPOSITION_ALL = """
# Fan-out / fan-in — wait for ALL tasks (supports all task types)
results = yield ctx.all([
    ctx.schedule_activity("TaskA", input_a),
    ctx.schedule_activity("TaskB", input_b),
    ctx.schedule_timer(5000),          # timers work too
    ctx.wait_for_event("approval"),    # waits work too
])
# results = [result_a, result_b, {"ok": None}, {"ok": event_data}]
"""

COMPOSITION_RACE = """
# Race — wait for FIRST of 2 tasks (supports all task types)
winner = yield ctx.race(
    ctx.schedule_activity("FastService", input),
    ctx.schedule_timer(5000),
)
# winner = {"index": 0|1, "value": ...}
"""

COOPERATIVE_CANCELLATION = """
@runtime.register_activity("LongTask")
def long_task(ctx, input):
    for i in range(1000):
        if ctx.is_cancelled():
            ctx.trace_info("cancelled, cleaning up")
            return {"status": "cancelled"}
        time.sleep(0.1)  # do work
    return {"status": "done"}
"""

TRACING = """
ctx.trace_info("message")    # suppressed during replay automatically
ctx.trace_warn("message")
ctx.trace_error("message")
ctx.trace_debug("message")
"""

ACTIVITY_CONTEXT = """
@runtime.register_activity("MyActivity")
def my_activity(ctx, input):
    # Available fields
    ctx.instance_id
    ctx.execution_id
    ctx.orchestration_name
    ctx.orchestration_version
    ctx.activity_name
    ctx.worker_id

    # Cooperative cancellation
    if ctx.is_cancelled():
        ctx.trace_info("cancelled")
        return {"status": "cancelled"}

    # Tracing (delegates to Rust ActivityContext — full structured fields)
    ctx.trace_info(f"processing {input['id']}")
    ctx.trace_warn("slow response")
    ctx.trace_error("connection failed")
    ctx.trace_debug("raw payload: ...")

    # Activities can do anything — I/O, HTTP, DB, etc.
    data = requests.get(input["url"]).json()
    return data
"""

ERROR_HANDLING = """
def my_orch(ctx, input):
    try:
        result = yield ctx.schedule_activity("RiskyOp", input)
        return result
    except Exception as e:
        ctx.trace_error(f"failed: {e}")
        yield ctx.schedule_activity("Cleanup", {"error": str(e)})
        return {"status": "failed"}
"""

ETERNAL = """
def monitor(ctx, input):
    state = input.get("state", {"iteration": 0})
    health = yield ctx.schedule_activity("CheckHealth", input["target"])
    ctx.trace_info(f"check #{state['iteration']}: {health['status']}")
    yield ctx.schedule_timer(30000)
    yield ctx.continue_as_new({
        "target": input["target"],
        "state": {"iteration": state["iteration"] + 1},
    })
"""

RACE_WITH_TIMEOUT = """
def my_orch(ctx, input):
    winner = yield ctx.race(
        ctx.schedule_activity("SlowOperation", input),
        ctx.schedule_timer(10000),
    )
    if winner["index"] == 1:
        ctx.trace_warn("operation timed out")
        return {"status": "timeout"}
    return {"status": "ok", "result": winner["value"]}
"""

VERSIONED = """
@runtime.register_orchestration("MyWorkflow")
def my_workflow_v1(ctx, input):
    ctx.trace_info("[v1.0.0] starting")
    return (yield ctx.schedule_activity("Work", input))

@runtime.register_orchestration_versioned("MyWorkflow", "1.0.1")
def my_workflow_v2(ctx, input):
    ctx.trace_info("[v1.0.1] starting")
    yield ctx.schedule_activity("Validate", input)
    return (yield ctx.schedule_activity("Work", input))
"""

WRITING_TESTS = """
import time, pytest
from duroxide import SqliteProvider, PostgresProvider, Client, Runtime, PyRuntimeOptions

@pytest.fixture(scope="module")
def provider():
    db_url = os.environ.get("DATABASE_URL")
    if not db_url:
        pytest.skip("DATABASE_URL not set")
    return PostgresProvider.connect_with_schema(db_url, "my_test_schema")

def test_my_feature(provider):
    client = Client(provider)
    runtime = Runtime(provider, PyRuntimeOptions(dispatcher_poll_interval_ms=50))

    runtime.register_activity("Echo", lambda ctx, inp: inp)

    @runtime.register_orchestration("MyWorkflow")
    def my_workflow(ctx, input):
        return (yield ctx.schedule_activity("Echo", input))

    runtime.start()
    try:
        client.start_orchestration("test-1", "MyWorkflow", "hello")
        result = client.wait_for_orchestration("test-1", 10_000)
        assert result.status == "Completed"
        assert result.output == "hello"
    finally:
        runtime.shutdown(100)
"""


class Requests:
    """Replaces the ``requests`` library: the tests have no network."""

    def get(self, url: str) -> Requests:
        self.url = url
        return self

    def json(self) -> dict[str, str]:
        return {"from": self.url}


def test_core_rule_block_runs_activity_from_orchestration(play: Play, names: Names) -> None:
    play(CORE_RULE, requests=Requests())

    start(names, "MyWorkflow", {"url": "https://example.org"})

    assert output_of(names) == {"from": "https://example.org"}


def test_async_generator_is_refused_as_an_orchestration(names: Names) -> None:
    async def steps(ctx: Any, input: Any) -> Any:
        yield ctx.schedule_timer(1)

    assert inspect.isasyncgenfunction(steps)
    with pytest.raises(RegistrationError, match="async generator"):
        names["runtime"].register_orchestration("Steps", steps)


def test_scheduling_block_reaches_continue_as_new(play: Play, names: Names) -> None:
    # The minute becomes a millisecond; the second execution, which would wait for another approval, is cancelled.
    play(
        stand_in(SCHEDULING, {"schedule_timer(60000)": "schedule_timer(1)"}),
        child_input="for the child",
        bg_input="for the background",
        new_input="for the next execution",
    )
    runtime, client = names["runtime"], names["client"]
    seen: list[Any] = []
    runtime.register_activity("Name", lambda ctx, input: seen.append(input))
    runtime.register_orchestration("Child", lambda ctx, input: input)
    runtime.register_orchestration("BackgroundWork", lambda ctx, input: input)
    runtime.register_orchestration("MyOrch", names["my_orch"])
    start(names, "MyOrch", "first input")
    wait_for_event_kind(client, "instance-1", "ExternalSubscribed")

    client.raise_event("instance-1", "approval", True)

    assert output_of(names, "bg-1") == "for the background"
    assert output_of(names, "child-1") == "for the child"
    wait_for_execution(names["client"], "instance-1", 2)
    wait_for_event_kind(client, "instance-1", "ExternalSubscribed")
    assert seen == ["first input", "first input", "for the next execution", "for the next execution"]
    results = [
        event.data for event in client.read_execution_history("instance-1", 1) if event.kind == "ActivityCompleted"
    ]
    guid = results[-1].split('"')[-2]
    assert str(UUID(guid.strip("\\"))) == guid.strip("\\")
    client.cancel_instance("instance-1")
    with pytest.raises(OrchestrationCancelled):
        output_of(names)


def test_composition_block_waits_for_all_kinds_of_tasks(play: Play, names: Names) -> None:
    # The comment in the block shows the activities' values unwrapped; every task gives the wrapped form.
    body = stand_in(COMPOSITION_ALL, {"schedule_timer(5000)": "schedule_timer(5)"})
    play(as_orchestration(body, "results"), input_a=1, input_b=2)
    for activity in ("TaskA", "TaskB"):
        names["runtime"].register_activity(activity, lambda ctx, input: [ctx.activity_name, input])
    names["runtime"].register_orchestration("MyOrch", names["my_orch"])
    start(names, "MyOrch")
    wait_for_event_kind(names["client"], "instance-1", "ExternalSubscribed")

    names["client"].raise_event("instance-1", "approval", "granted")

    assert output_of(names) == [{"ok": ["TaskA", 1]}, {"ok": ["TaskB", 2]}, {"ok": None}, {"ok": "granted"}]


def test_composition_block_gives_index_and_value_of_the_winner(play: Play, names: Names) -> None:
    play(as_orchestration(COMPOSITION_RACE, "winner"))
    names["runtime"].register_activity("FastService", lambda ctx, input: "served")
    names["runtime"].register_orchestration("MyOrch", names["my_orch"])

    start(names, "MyOrch")

    assert output_of(names) == {"index": 0, "value": "served"}


def test_long_task_cleans_up_when_its_orchestration_is_cancelled(play: Play, names: Names) -> None:
    play(COOPERATIVE_CANCELLATION)
    running, cleaned = threading.Event(), threading.Event()
    documented = names["long_task"]

    def watched(ctx: Any, input: Any) -> dict[str, str]:
        running.set()
        outcome: dict[str, str] = documented(ctx, input)
        if outcome == {"status": "cancelled"}:
            cleaned.set()
        return outcome

    names["runtime"].register_activity("Watched", watched)

    @names["runtime"].register_orchestration("Wait")
    def wait(ctx: Any, input: Any) -> Any:
        return (yield ctx.schedule_activity("Watched"))

    start(names, "Wait")
    assert running.wait(20)
    names["client"].cancel_instance("instance-1", "no longer needed")

    assert cleaned.wait(15)


def test_tracing_block_needs_no_yield(play: Play, names: Names, caplog: pytest.LogCaptureFixture) -> None:
    # The level applies to the engine's log, where debug is off by default.
    names["runtime"] = Runtime(names["provider"], RuntimeOptions(log_level="debug"))
    play(as_orchestration(TRACING, "'done'"))
    names["runtime"].register_orchestration("MyOrch", names["my_orch"])

    with caplog.at_level("DEBUG", "duroxide"):
        start(names, "MyOrch")
        assert output_of(names) == "done"
        names["runtime"].shutdown()

    levels = [record.levelname for record in caplog.records if record.getMessage() == "message"]
    assert levels == ["INFO", "WARNING", "ERROR", "DEBUG"]


def test_activity_context_block_reads_every_field(play: Play, names: Names) -> None:
    play(ACTIVITY_CONTEXT, requests=Requests())

    @names["runtime"].register_orchestration("CallOne")
    def call_one(ctx: Any, input: Any) -> Any:
        return (yield ctx.schedule_activity("MyActivity", input))

    start(names, "CallOne", {"id": 1, "url": "https://example.org"})

    assert output_of(names) == {"from": "https://example.org"}


def test_error_handling_pattern_returns_that_it_failed(play: Play, names: Names) -> None:
    play(ERROR_HANDLING)
    cleaned: list[Any] = []

    def risky(ctx: Any, input: Any) -> None:
        raise OSError("disk on fire")

    names["runtime"].register_activity("RiskyOp", risky)
    names["runtime"].register_activity("Cleanup", lambda ctx, input: cleaned.append(input["error"]))
    names["runtime"].register_orchestration("MyOrch", names["my_orch"])

    start(names, "MyOrch")

    assert (output_of(names), cleaned) == ({"status": "failed"}, ["OSError: disk on fire"])


def test_eternal_orchestration_continues_in_a_second_execution(play: Play, names: Names) -> None:
    play(stand_in(ETERNAL, {"schedule_timer(30000)": "schedule_timer(1)"}))
    names["runtime"].register_activity("CheckHealth", lambda ctx, target: {"status": target})
    names["runtime"].register_orchestration("Monitor", names["monitor"])
    start(names, "Monitor", {"target": "web"})

    wait_for_execution(names["client"], "instance-1", 2)

    names["client"].cancel_instance("instance-1")
    assert names["client"].wait_for_orchestration("instance-1", 20_000).status == "Failed"


@pytest.mark.parametrize(("timeout", "expected"), [(10_000, {"status": "ok", "result": 1}), (5, {"status": "timeout"})])
def test_race_with_timeout_pattern_shows_which_one_won(
    timeout: int, expected: dict[str, Any], play: Play, names: Names
) -> None:
    play(stand_in(RACE_WITH_TIMEOUT, {"10000": str(timeout)}))
    over = threading.Event()
    if timeout == 10_000:
        over.set()

    def slow_operation(ctx: Any, input: Any) -> int:
        over.wait(30)
        return 1

    names["runtime"].register_activity("SlowOperation", slow_operation)
    names["runtime"].register_orchestration("MyOrch", names["my_orch"])

    start(names, "MyOrch")
    output = output_of(names)
    over.set()

    assert output == expected


def test_versioned_orchestrations_start_with_the_newest(play: Play, names: Names) -> None:
    play(VERSIONED)
    called: list[str] = []
    for activity in ("Validate", "Work"):
        names["runtime"].register_activity(activity, lambda ctx, input: called.append(ctx.activity_name))

    start(names, "MyWorkflow")
    output_of(names)

    assert called == ["Validate", "Work"]


def test_pytest_file_passes_unchanged(tmp_path: Path, postgres_url: str) -> None:
    # It uses `os` without an import, so as written it would fail with a NameError before it reaches this package.
    file = tmp_path / "test_documented.py"
    file.write_text(f"import os\n{WRITING_TESTS}")

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)],
        env={**os.environ, "DATABASE_URL": postgres_url},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert "1 passed" in done.stdout, done.stdout + done.stderr


def as_orchestration(body: str, returns: str) -> str:
    """Make an orchestration named ``my_orch`` from lines that the skill shows without a function."""
    lines = "".join(f"    {line}\n" for line in body.strip().splitlines())
    return f"def my_orch(ctx, input):\n{lines}    return {returns}\n"
