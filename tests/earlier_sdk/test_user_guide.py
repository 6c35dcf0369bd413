"""The blocks of the user guide, each unchanged, under the heading that it has there.

Where the guide documents a limit that no longer exists (two tasks in a race, no nesting), its blocks stay within the
limit; ``test_composition.py`` covers more. Long timers get a shorter number, or are cancelled once they are recorded.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from duroxide import (
    Client,
    OrchestrationCancelled,
    OrchestrationFailed,
    PostgresProvider,
    Runtime,
    RuntimeOptions,
    SqliteProvider,
)
from duroxide._store.providers import Provider
from earlier_sdk.blocks import Names, Play, fragment, output_of, stand_in, start
from support.waiting import wait_for_event_kind

QUICK_START = """
from duroxide import SqliteProvider, Client, Runtime

provider = SqliteProvider.in_memory()
client = Client(provider)
runtime = Runtime(provider)

@runtime.register_activity("SayHello")
def say_hello(ctx, name):
    return f"Hello, {name}!"

@runtime.register_orchestration("HelloWorkflow")
def hello_workflow(ctx, input):
    greeting = yield ctx.schedule_activity("SayHello", input["name"])
    return greeting

runtime.start()
client.start_orchestration("hello-1", "HelloWorkflow", {"name": "World"})
result = client.wait_for_orchestration("hello-1")
print(result.output)  # "Hello, World!"
runtime.shutdown()
"""

PIPELINE = """
@runtime.register_orchestration("Pipeline")
def pipeline(ctx, input):
    step1 = yield ctx.schedule_activity("Extract", input)
    step2 = yield ctx.schedule_activity("Transform", step1)
    step3 = yield ctx.schedule_activity("Load", step2)
    return step3
"""

FAN_OUT = """
@runtime.register_orchestration("FanOut")
def fan_out(ctx, input):
    tasks = [ctx.schedule_activity("ProcessItem", item) for item in input["items"]]
    results = yield ctx.all(tasks)
    return results
"""

MIXED_ALL = """
@runtime.register_orchestration("MixedAll")
def mixed_all(ctx, input):
    act_result, _, event_data = yield ctx.all([
        ctx.schedule_activity("Work", input),
        ctx.schedule_timer(1000),        # timers return {"ok": None}
        ctx.wait_for_event("approval"),  # waits return {"ok": event_data}
    ])
    return act_result
"""

RACE = """
@runtime.register_orchestration("RaceExample")
def race_example(ctx, input):
    winner = yield ctx.race(
        ctx.schedule_activity("FastService", input),
        ctx.schedule_timer(5000),  # 5 second timeout
    )
    if winner["index"] == 0:
        return winner["value"]  # FastService completed first
    else:
        return "timed out"
"""

TIMER = """
@runtime.register_orchestration("DelayedNotification")
def delayed_notification(ctx, input):
    yield ctx.schedule_timer(60 * 60 * 1000)  # wait 1 hour (survives restarts)
    yield ctx.schedule_activity("SendReminder", input)
    return "done"
"""

EVENTS = """
@runtime.register_orchestration("ApprovalWorkflow")
def approval_workflow(ctx, input):
    yield ctx.schedule_activity("RequestApproval", input)
    ctx.trace_info("waiting for approval...")
    approval = yield ctx.wait_for_event("approval")
    if approval["approved"]:
        yield ctx.schedule_activity("Execute", input)
        return "approved"
    else:
        return "rejected"
"""

EVENTS_RAISE = """
# Raise the event from outside:
client.raise_event("instance-1", "approval", {"approved": True})
"""

SUB_ORCHESTRATIONS = """
@runtime.register_orchestration("Parent")
def parent(ctx, input):
    child_result = yield ctx.schedule_sub_orchestration("Child", input)
    return {"parent_result": child_result}

@runtime.register_orchestration("Child")
def child(ctx, input):
    r = yield ctx.schedule_activity("DoWork", input)
    return r
"""

SUB_ORCHESTRATION_WITH_ID = """
result = yield ctx.schedule_sub_orchestration_with_id(
    "Child", f"child-{input['id']}", input
)
"""

DETACHED = """
@runtime.register_orchestration("CreateInstance")
def create_instance(ctx, input):
    yield ctx.schedule_activity("ProvisionVM", input)

    # Launch monitor — runs independently
    yield ctx.start_orchestration(
        "InstanceMonitor",
        f"monitor-{input['instance_id']}",
        {"instance_id": input["instance_id"]},
    )
    return {"status": "provisioned"}
"""

CONTINUE_AS_NEW = """
@runtime.register_orchestration("Monitor")
def monitor(ctx, input):
    state = input.get("state", {"check_count": 0})

    # Do periodic work
    health = yield ctx.schedule_activity("CheckHealth", input["target"])
    ctx.trace_info(f"health check #{state['check_count']}: {health['status']}")

    # Wait before next check
    yield ctx.schedule_timer(30000)  # 30 seconds

    # Restart with updated state (keeps history from growing unbounded)
    yield ctx.continue_as_new({
        "target": input["target"],
        "state": {"check_count": state["check_count"] + 1},
    })
"""

ERROR_HANDLING = """
@runtime.register_orchestration("SafeWorkflow")
def safe_workflow(ctx, input):
    try:
        result = yield ctx.schedule_activity("RiskyCall", input)
        return result
    except Exception as e:
        ctx.trace_error(f"activity failed: {e}")
        yield ctx.schedule_activity("Cleanup", {"error": str(e)})
        return {"status": "failed", "error": str(e)}
"""

RETRY = """
result = yield ctx.schedule_activity_with_retry("FlakeyApi", input, {
    "max_attempts": 3,
    "backoff": "exponential",
    "timeout_ms": 5000,         # per-attempt timeout
    "total_timeout_ms": 30000,  # total timeout across all attempts
})
"""

SESSIONS = """
@runtime.register_orchestration("SessionWorkflow")
def session_workflow(ctx, input):
    # Explicit method
    r1 = yield ctx.schedule_activity_on_session("ProcessData", input, "my-session-1")

    # Keyword argument (equivalent)
    r2 = yield ctx.schedule_activity("ProcessData", input, session_id="my-session-1")

    return [r1, r2]
"""

SESSION_ID = """
@runtime.register_activity("MyActivity")
def my_activity(ctx, input):
    if ctx.session_id:
        print(f"Running in session: {ctx.session_id}")
    else:
        print("No session (regular activity)")
    return input
"""

SESSION_OPTIONS = """
from duroxide import Runtime, RuntimeOptions

runtime = Runtime(provider, RuntimeOptions(
    max_sessions_per_runtime=10,       # Max concurrent sessions (default: 10)
    session_idle_timeout_ms=300000,    # Idle timeout before releasing slot (default: 5 min)
    worker_node_id="pod-abc-123",      # Stable worker identity (e.g., K8s pod name)
))
"""

SESSION_EXAMPLE = """
from duroxide import SqliteProvider, Client, Runtime, RuntimeOptions

provider = SqliteProvider.in_memory()
client = Client(provider)
runtime = Runtime(provider, RuntimeOptions(
    max_sessions_per_runtime=5,
    session_idle_timeout_ms=60000,
    worker_node_id="worker-1",
))

# Stateful activity — shares in-memory state within a session
session_state = {}

@runtime.register_activity("Accumulate")
def accumulate(ctx, input):
    sid = ctx.session_id
    if sid not in session_state:
        session_state[sid] = []
    session_state[sid].append(input)
    return session_state[sid]

@runtime.register_orchestration("BatchProcess")
def batch_process(ctx, input):
    for item in input["items"]:
        result = yield ctx.schedule_activity_on_session(
            "Accumulate", item, f"batch-{input['batch_id']}"
        )
    return result  # All items accumulated in order

runtime.start()
client.start_orchestration("batch-1", "BatchProcess", {
    "batch_id": "001",
    "items": ["a", "b", "c"],
})
result = client.wait_for_orchestration("batch-1")
print(result.output)  # ["a", "b", "c"]
runtime.shutdown()
"""

CUSTOM_STATUS = """
@runtime.register_orchestration("ProvisionServer")
def provision_server(ctx, input):
    ctx.set_custom_status("validating configuration")
    yield ctx.schedule_activity("ValidateConfig", input)

    ctx.set_custom_status("creating VM")
    vm = yield ctx.schedule_activity("CreateVM", input)

    ctx.set_custom_status("installing software")
    yield ctx.schedule_activity("InstallSoftware", vm)

    ctx.reset_custom_status()  # clear status when done
    return {"vm_id": vm["id"]}
"""

CUSTOM_STATUS_POLL = """
# Start orchestration
client.start_orchestration("prov-1", "ProvisionServer", config)

# Poll for status changes
last_version = 0
while True:
    result = client.wait_for_status_change("prov-1", last_version, 50, 10000)
    if result is None:
        break  # timeout — orchestration may have completed

    print(f"Status: {result.custom_status}")
    last_version = result.custom_status_version
"""

KV_STORE = """
@runtime.register_orchestration("RequestServer")
def request_server(ctx, input):
    ctx.set_kv_value("status", "ready")
    request = yield ctx.wait_for_event("request")
    response = request["command"][::-1]
    ctx.set_kv_value(f"response:{request['op_id']}", response)
    return "done"
"""

KV_WAIT = """
status = client.wait_for_kv_value("server-1", "status", 10000)
"""

KV_READ = """
response = client.get_kv_value("server-1", "response:op-1")
"""

EVENT_QUEUE = """
@runtime.register_orchestration("RequestProcessor")
def request_processor(ctx, input):
    # Block until a message arrives on the "requests" queue
    request_json = yield ctx.dequeue_event("requests")
    request = json.loads(request_json)

    result = yield ctx.schedule_activity("ProcessRequest", request)
    return result
"""

EVENT_QUEUE_ENQUEUE = """
client.enqueue_event("proc-1", "requests", json.dumps({
    "action": "process",
    "data": {"id": 42},
}))
"""

MULTIPLE_QUEUES = """
@runtime.register_orchestration("MultiQueue")
def multi_queue(ctx, input):
    # Each queue is independent — FIFO within each queue
    command = yield ctx.dequeue_event("commands")
    config = yield ctx.dequeue_event("config")
    return {"command": command, "config": config}
"""

RETRY_ON_SESSION = """
@runtime.register_orchestration("RetrySessionWorkflow")
def retry_session_workflow(ctx, input):
    result = yield ctx.schedule_activity_with_retry_on_session(
        "FlakeyGpuTask",
        input,
        {"max_attempts": 3, "backoff_strategy": "none"},
        "gpu-session-1",
    )
    return result
"""

CHAT_BOT = """
import json

@runtime.register_activity("Generate")
def generate(ctx, text):
    # Call an LLM or generate a response
    return f"Echo: {text}"

@runtime.register_orchestration("ChatBot")
def chat_bot(ctx, input):
    # Wait for next message on the "inbox" queue
    msg_json = yield ctx.dequeue_event("inbox")
    msg = json.loads(msg_json)

    # Process the message
    response = yield ctx.schedule_activity("Generate", msg["text"])

    # Report the response via custom status
    ctx.set_custom_status(json.dumps({
        "state": "replied",
        "response": response,
        "seq": msg["seq"],
    }))

    # Exit on "bye", otherwise loop
    if "bye" in msg["text"].lower():
        return f"Done after {msg['seq']} msgs"

    # Restart with fresh history (messages survive continue-as-new)
    return (yield ctx.continue_as_new(""))
"""

CHAT_BOT_CLIENT = """
# --- Client side ---

# Start the chat bot
client.start_orchestration("chat-1", "ChatBot", "")

# Send a message
client.enqueue_event("chat-1", "inbox", json.dumps({"seq": 1, "text": "Hello!"}))

# Wait for the response
status = client.wait_for_status_change("chat-1", 0, 50, 10000)
reply = json.loads(status.custom_status)
print(reply["response"])  # "Echo: Hello!"

# End the conversation
client.enqueue_event("chat-1", "inbox", json.dumps({"seq": 2, "text": "Bye!"}))
"""

SEND_EMAIL = """
@runtime.register_activity("SendEmail")
def send_email(ctx, input):
    ctx.trace_info(f"sending to {input['to']}")
    # ... actual email sending ...
    return {"sent": True}
"""

CLIENT_ACCESS = """
@runtime.register_activity("TriggerCleanup")
def trigger_cleanup(ctx, input):
    client = ctx.get_client()
    client.start_orchestration(
        f"cleanup-{input['id']}",
        "CleanupWorkflow",
        {"resource_id": input["id"]},
    )
    return {"triggered": True}
"""

ACTIVITY_FAILURE = """
@runtime.register_activity("ValidateInput")
def validate_input(ctx, input):
    if not input.get("email"):
        raise Exception("email is required")
    return {"valid": True}
"""

COOPERATIVE_CANCELLATION = """
@runtime.register_activity("LongRunning")
def long_running(ctx, input):
    for i in range(100):
        if ctx.is_cancelled():
            ctx.trace_info("cancelled, cleaning up")
            return "cancelled"
        time.sleep(0.1)  # do work
    return "done"
"""

TRACED = """
@runtime.register_orchestration("Traced")
def traced(ctx, input):
    ctx.trace_info("[v1.0.0] starting workflow")
    ctx.trace_debug(f"input: {input}")
    result = yield ctx.schedule_activity("Work", input)
    ctx.trace_info(f"[v1.0.0] completed: {result}")
    return result
"""

FETCH_DATA = """
@runtime.register_activity("FetchData")
def fetch_data(ctx, input):
    ctx.trace_info(f"fetching data for {input['id']}")
    data = requests.get(input["url"]).json()
    ctx.trace_info(f"got {len(data)} records")
    return data
"""

SQLITE_PROVIDER = """
# File-backed (persistent)
provider = SqliteProvider.open("myapp.db")

# In-memory (ephemeral, great for tests)
provider = SqliteProvider.in_memory()
"""

POSTGRES_PROVIDER = """
provider = PostgresProvider.connect("postgresql://user:pass@host:5432/mydb")

# With schema isolation
provider = PostgresProvider.connect_with_schema(
    "postgresql://user:pass@host:5432/mydb",
    "duroxide_app",
)
"""

RUNTIME_OPTIONS = """
from duroxide import Runtime, RuntimeOptions

runtime = Runtime(provider, RuntimeOptions(
    orchestration_concurrency=4,       # Max concurrent orchestration dispatches
    worker_concurrency=8,              # Max concurrent activity workers
    dispatcher_poll_interval_ms=100,   # Polling interval in ms
    log_level="info",                  # Tracing log level
    log_format="pretty",               # "pretty" or "json"
    service_name="my-service",         # Service name for tracing metadata
    service_version="1.0.0",           # Service version for tracing metadata
    max_sessions_per_runtime=10,       # Max concurrent session slots
    session_idle_timeout_ms=300000,    # Session idle timeout (5 min default)
    worker_node_id="pod-name",         # Stable worker identity for sessions
))
"""

METRICS = """
snapshot = runtime.metrics_snapshot()
if snapshot:
    print(f"Orchestrations started: {snapshot['orch_starts']}")
    print(f"Orchestrations completed: {snapshot['orch_completions']}")
    print(f"Activity successes: {snapshot['activity_success']}")
    print(f"Provider errors: {snapshot['provider_errors']}")
"""

CLIENT_OPERATIONS = """
client = Client(provider)

# Start an orchestration
client.start_orchestration("id", "WorkflowName", input_data)
client.start_orchestration_versioned("id", "WorkflowName", input_data, "1.0.2")

# Wait for completion (with timeout in ms)
result = client.wait_for_orchestration("id", 30000)
# result.status: "Completed" | "Failed" | "Running" | "Terminated" | ...
# result.custom_status: custom status string or None
# result.custom_status_version: monotonically increasing version counter

# Cancel a running orchestration
client.cancel_instance("id", "reason")

# Raise an event
client.raise_event("id", "event_name", event_data)

# Enqueue event to a named queue (FIFO, survives continue-as-new)
client.enqueue_event("id", "queue_name", data_string)

# Poll for custom status changes
status = client.wait_for_status_change("id", last_seen_version, poll_interval_ms, timeout_ms)

# Get status without waiting
status = client.get_status("id")

# Admin operations
client.delete_instance("id", force=False)
metrics = client.get_system_metrics()
depths = client.get_queue_depths()
"""

VERSIONING = """
@runtime.register_orchestration("MyWorkflow")
def my_workflow_v1(ctx, input):
    # v1.0.0 — original
    r = yield ctx.schedule_activity("Work", input)
    return r

@runtime.register_orchestration_versioned("MyWorkflow", "1.0.1")
def my_workflow_v2(ctx, input):
    # v1.0.1 — with validation
    yield ctx.schedule_activity("Validate", input)
    r = yield ctx.schedule_activity("Work", input)
    return r
"""

ASYNC_BLOCKS = """
# Pattern: wrap multi-step logic as a sub-orchestration
@runtime.register_orchestration("BlockA")
def block_a(ctx, input):
    first = yield ctx.schedule_activity("Step", "A1")
    if "step" in first:
        second = yield ctx.schedule_activity("Step", "A2")
        return f"A:[{first},{second}]"
    return "A:fallback"

@runtime.register_orchestration("BlockB")
def block_b(ctx, input):
    yield ctx.schedule_timer(5)
    result = yield ctx.schedule_activity("Step", "B1")
    return f"B:[timer,{result}]"

# Parent: join/race sub-orchestration descriptors
@runtime.register_orchestration("Parent")
def parent(ctx, input):
    # Join multiple multi-step blocks
    a, b = yield ctx.all([
        ctx.schedule_sub_orchestration("BlockA", ""),
        ctx.schedule_sub_orchestration("BlockB", ""),
    ])
    return f"{a},{b}"
"""

DETERMINISM = """
now = yield ctx.utc_now()
guid = yield ctx.new_guid()
"""


def test_quick_start_prints_hello_world(play: Play, provider: Provider, capsys: pytest.CaptureFixture[str]) -> None:
    play(in_this_store(QUICK_START, provider))

    assert capsys.readouterr().out == "Hello, World!\n"


def test_activity_chain_passes_each_result_on(play: Play, names: Names) -> None:
    play(PIPELINE)
    for activity in ("Extract", "Transform", "Load"):
        names["runtime"].register_activity(activity, lambda ctx, input: [*input, ctx.activity_name])

    start(names, "Pipeline", [])

    assert output_of(names) == ["Extract", "Transform", "Load"]


def test_fan_out_gives_an_outcome_for_every_item_in_order(play: Play, names: Names) -> None:
    # The skill shows activities' values unwrapped here; the guide, which has {"ok": None} for timers, does not say.
    # Every outcome is wrapped, as existing programs expect.
    play(FAN_OUT)
    names["runtime"].register_activity("ProcessItem", lambda ctx, item: item * 10)

    start(names, "FanOut", {"items": [1, 2, 3]})

    assert output_of(names) == [{"ok": 10}, {"ok": 20}, {"ok": 30}]


def test_mixed_all_waits_for_activity_timer_and_event(play: Play, names: Names) -> None:
    play(stand_in(MIXED_ALL, {"schedule_timer(1000)": "schedule_timer(10)"}))
    names["runtime"].register_activity("Work", lambda ctx, input: f"worked on {input}")
    start(names, "MixedAll", "it")
    wait_for_event_kind(names["client"], "instance-1", "ExternalSubscribed")

    names["client"].raise_event("instance-1", "approval", {"by": "Ada"})

    assert output_of(names) == {"ok": "worked on it"}


def test_race_is_won_by_the_fast_service(play: Play, names: Names) -> None:
    play(RACE)
    names["runtime"].register_activity("FastService", lambda ctx, input: f"served {input}")

    start(names, "RaceExample", "you")

    assert output_of(names) == "served you"


def test_race_is_won_by_the_timer_when_the_service_is_slow(play: Play, names: Names) -> None:
    play(stand_in(RACE, {"schedule_timer(5000)": "schedule_timer(20)"}))
    over = threading.Event()
    names["runtime"].register_activity("FastService", lambda ctx, input: over.wait(30))

    start(names, "RaceExample")
    output = output_of(names)
    over.set()

    assert output == "timed out"


def test_timer_of_an_hour_is_recorded_as_due_in_an_hour(play: Play, names: Names) -> None:
    play(TIMER)
    client = names["client"]
    begin = datetime.now(timezone.utc).timestamp()
    start(names, "DelayedNotification")
    wait_for_event_kind(client, "instance-1", "TimerCreated")
    created = next(event for event in client.read_execution_history("instance-1", 1) if event.kind == "TimerCreated")
    client.cancel_instance("instance-1", "an hour is too long for a test")

    assert 3590 < json.loads(created.data)["fire_at_ms"] / 1000 - begin < 3660
    with pytest.raises(OrchestrationCancelled):
        output_of(names)


def test_reminder_is_sent_after_the_timer(play: Play, names: Names) -> None:
    play(stand_in(TIMER, {"60 * 60 * 1000": "5"}))
    sent: list[str] = []
    names["runtime"].register_activity("SendReminder", lambda ctx, input: sent.append(input))

    start(names, "DelayedNotification", "wake up")

    assert (output_of(names), sent) == ("done", ["wake up"])


def test_approval_that_is_raised_from_outside_executes(play: Play, names: Names) -> None:
    executed = request_approval(play, names)

    play(EVENTS_RAISE)

    assert (output_of(names), executed) == ("approved", ["order"])


def test_refused_approval_executes_nothing(play: Play, names: Names) -> None:
    executed = request_approval(play, names)

    play(stand_in(EVENTS_RAISE, {'{"approved": True}': '{"approved": False}'}))

    assert (output_of(names), executed) == ("rejected", [])


def test_parent_returns_what_its_child_returned(play: Play, names: Names) -> None:
    play(SUB_ORCHESTRATIONS)
    names["runtime"].register_activity("DoWork", lambda ctx, input: input * 2)

    start(names, "Parent", 21)

    assert output_of(names) == {"parent_result": 42}


def test_sub_orchestration_takes_the_explicit_id(play: Play, names: Names) -> None:
    play(SUB_ORCHESTRATIONS)
    play(fragment(SUB_ORCHESTRATION_WITH_ID, "result"))
    names["runtime"].register_activity("DoWork", lambda ctx, input: ctx.instance_id)
    names["runtime"].register_orchestration("Fragment", names["fragment"])

    start(names, "Fragment", {"id": 7})

    assert output_of(names) == "child-7"


def test_detached_monitor_runs_independently(play: Play, names: Names) -> None:
    play(DETACHED)
    runtime = names["runtime"]
    runtime.register_activity("ProvisionVM", lambda ctx, input: None)
    runtime.register_orchestration("InstanceMonitor", lambda ctx, input: f"watching {input['instance_id']}")

    start(names, "CreateInstance", {"instance_id": "vm-9"})

    assert output_of(names) == {"status": "provisioned"}
    assert output_of(names, "monitor-vm-9") == "watching vm-9"


def test_monitor_counts_its_checks_across_executions(
    play: Play, names: Names, caplog: pytest.LogCaptureFixture
) -> None:
    play(stand_in(CONTINUE_AS_NEW, {"schedule_timer(30000)": "schedule_timer(1)"}))
    checks: list[int] = []
    third = threading.Event()

    def check_health(ctx: Any, target: str) -> dict[str, str]:
        checks.append(ctx.execution_id)
        if len(checks) == 3:
            third.set()
        return {"status": f"{target} is up"}

    names["runtime"].register_activity("CheckHealth", check_health)
    start(names, "Monitor", {"target": "web"})

    assert third.wait(20)
    names["client"].cancel_instance("instance-1", "seen enough")
    with pytest.raises(OrchestrationCancelled):
        output_of(names)
    assert checks[:3] == [1, 2, 3]


def test_timer_of_thirty_seconds_is_recorded_before_the_next_check(play: Play, names: Names) -> None:
    play(CONTINUE_AS_NEW)
    names["runtime"].register_activity("CheckHealth", lambda ctx, target: {"status": "up"})
    start(names, "Monitor", {"target": "web"})

    wait_for_event_kind(names["client"], "instance-1", "TimerCreated")

    assert names["client"].get_status("instance-1").status == "Running"
    names["client"].cancel_instance("instance-1")
    assert names["client"].wait_for_orchestration("instance-1", 10_000).status == "Failed"


def test_failed_activity_is_caught_and_cleaned_up(play: Play, names: Names) -> None:
    play(ERROR_HANDLING)
    cleaned: list[Any] = []

    def risky_call(ctx: Any, input: Any) -> None:
        raise ValueError("the service is down")

    names["runtime"].register_activity("RiskyCall", risky_call)
    names["runtime"].register_activity("Cleanup", lambda ctx, input: cleaned.append(input))

    start(names, "SafeWorkflow")

    assert output_of(names) == {"status": "failed", "error": "ValueError: the service is down"}
    assert cleaned == [{"error": "ValueError: the service is down"}]


def test_flakey_api_is_retried_until_it_answers(play: Play, names: Names) -> None:
    play(fragment(RETRY, "result"))
    calls: list[int] = []

    def flakey_api(ctx: Any, input: str) -> str:
        calls.append(len(calls))
        if len(calls) < 3:
            raise ConnectionError("no answer")
        return f"answer to {input}"

    names["runtime"].register_activity("FlakeyApi", flakey_api)
    names["runtime"].register_orchestration("Fragment", names["fragment"])

    start(names, "Fragment", "question")

    assert (output_of(names), len(calls)) == ("answer to question", 3)


def test_both_ways_to_name_a_session_reach_the_same_worker(play: Play, names: Names) -> None:
    play(SESSIONS)
    names["runtime"].register_activity("ProcessData", lambda ctx, input: [ctx.session_id, ctx.worker_id])

    start(names, "SessionWorkflow")

    first, second = output_of(names)
    assert first == second
    assert first[0] == "my-session-1"


def test_activity_sees_its_session_or_none(play: Play, names: Names, capsys: pytest.CaptureFixture[str]) -> None:
    play(SESSION_ID)

    @names["runtime"].register_orchestration("Both")
    def both(ctx: Any, input: Any) -> Any:
        yield ctx.schedule_activity("MyActivity", 1, session_id="s-1")
        yield ctx.schedule_activity("MyActivity", 2)

    start(names, "Both")
    output_of(names)

    assert capsys.readouterr().out.splitlines() == ["Running in session: s-1", "No session (regular activity)"]


def test_session_options_block_makes_a_runtime_that_starts(play: Play, names: Names) -> None:
    play(SESSION_OPTIONS)

    names["runtime"].start()

    assert isinstance(names["runtime"], Runtime)


def test_session_options_have_the_documented_defaults() -> None:
    options = RuntimeOptions()

    assert (options.max_sessions_per_runtime, options.session_idle_timeout_ms) == (10, 300_000)


def test_session_example_accumulates_all_items_in_order(
    play: Play, provider: Provider, capsys: pytest.CaptureFixture[str]
) -> None:
    play(in_this_store(SESSION_EXAMPLE, provider))

    assert capsys.readouterr().out == "['a', 'b', 'c']\n"


def test_custom_status_loop_prints_every_step_and_ends(play: Play, names: Names) -> None:
    play(CUSTOM_STATUS)
    lines: list[str] = []
    printed = threading.Semaphore(0)

    def show(line: str) -> None:
        lines.append(line)
        printed.release()

    def after_the_line(ctx: Any, input: Any) -> dict[str, str]:
        # Each step waits until its status is read, so that the next does not overwrite it.
        printed.acquire(timeout=30)
        return {"id": "vm-1"}

    for activity in ("ValidateConfig", "CreateVM", "InstallSoftware"):
        names["runtime"].register_activity(activity, after_the_line)
    names["runtime"].start()

    play(CUSTOM_STATUS_POLL, config={}, print=show)

    assert lines[:3] == ["Status: validating configuration", "Status: creating VM", "Status: installing software"]
    assert output_of(names, "prov-1") == {"vm_id": "vm-1"}


def test_kv_store_answers_a_request(play: Play, names: Names) -> None:
    play(KV_STORE)
    start(names, "RequestServer", instance_id="server-1")
    play(KV_WAIT)
    wait_for_event_kind(names["client"], "server-1", "ExternalSubscribed")
    names["client"].raise_event("server-1", "request", {"command": "ping", "op_id": "op-1"})
    assert output_of(names, "server-1") == "done"

    play(KV_READ)

    assert (names["status"], names["response"]) == ("ready", "gnip")


def test_event_queue_hands_the_request_to_the_orchestration(play: Play, names: Names) -> None:
    play(EVENT_QUEUE)
    names["runtime"].register_activity("ProcessRequest", lambda ctx, request: request["data"]["id"])
    start(names, "RequestProcessor", instance_id="proc-1")

    play(EVENT_QUEUE_ENQUEUE)

    assert output_of(names, "proc-1") == 42


def test_multiple_queues_are_independent(play: Play, names: Names) -> None:
    play(MULTIPLE_QUEUES)
    start(names, "MultiQueue")

    names["client"].enqueue_event("instance-1", "config", "second asked for, first sent")
    names["client"].enqueue_event("instance-1", "commands", "go")

    assert output_of(names) == {"command": "go", "config": "second asked for, first sent"}


def test_retry_on_session_keeps_every_attempt_on_the_worker(play: Play, names: Names) -> None:
    play(RETRY_ON_SESSION)
    attempts: list[tuple[str, str]] = []

    def flakey_gpu_task(ctx: Any, input: Any) -> str:
        attempts.append((ctx.session_id, ctx.worker_id))
        if len(attempts) < 3:
            raise RuntimeError("out of memory")
        return "trained"

    names["runtime"].register_activity("FlakeyGpuTask", flakey_gpu_task)

    start(names, "RetrySessionWorkflow")

    assert output_of(names) == "trained"
    assert len(attempts) == 3
    assert len(set(attempts)) == 1


def test_chat_bot_echoes_and_ends_on_bye(play: Play, names: Names, capsys: pytest.CaptureFixture[str]) -> None:
    play(CHAT_BOT)
    names["runtime"].start()

    play(CHAT_BOT_CLIENT)

    assert capsys.readouterr().out == "Echo: Hello!\n"
    assert output_of(names, "chat-1") == "Done after 2 msgs"


def test_activity_returns_that_the_email_is_sent(play: Play, names: Names) -> None:
    play(SEND_EMAIL)

    assert run_activity(names, "SendEmail", {"to": "ada@example.org"}) == {"sent": True}


def test_activity_starts_another_orchestration_by_its_client(play: Play, names: Names) -> None:
    play(CLIENT_ACCESS)
    names["runtime"].register_orchestration("CleanupWorkflow", lambda ctx, input: f"cleaned {input['resource_id']}")

    assert run_activity(names, "TriggerCleanup", {"id": 5}) == {"triggered": True}
    assert output_of(names, "cleanup-5") == "cleaned 5"


def test_raised_exception_marks_the_activity_as_failed(play: Play, names: Names) -> None:
    play(ACTIVITY_FAILURE)

    with pytest.raises(OrchestrationFailed, match="^Exception: email is required$"):
        run_activity(names, "ValidateInput", {})


def test_valid_input_passes(play: Play, names: Names) -> None:
    play(ACTIVITY_FAILURE)

    assert run_activity(names, "ValidateInput", {"email": "ada@example.org"}) == {"valid": True}


def test_long_running_activity_notices_that_it_lost_a_race(
    play: Play, names: Names, caplog: pytest.LogCaptureFixture
) -> None:
    play(COOPERATIVE_CANCELLATION)
    noticed = threading.Event()
    documented = names["long_running"]

    def watched(ctx: Any, input: Any) -> str:
        outcome: str = documented(ctx, input)
        if outcome == "cancelled":
            noticed.set()
        return outcome

    names["runtime"].register_activity("Watched", watched)

    @names["runtime"].register_orchestration("Lose")
    def lose(ctx: Any, input: Any) -> Any:
        return (yield ctx.race(ctx.schedule_activity("Watched"), ctx.schedule_timer(20)))["index"]

    start(names, "Lose")

    assert output_of(names) == 1
    assert noticed.wait(60)


def test_orchestration_traces_are_written_once(play: Play, names: Names, caplog: pytest.LogCaptureFixture) -> None:
    play(TRACED)
    names["runtime"].register_activity("Work", lambda ctx, input: "worked")
    with caplog.at_level(logging.DEBUG, "duroxide"):
        start(names, "Traced", "it")
        output_of(names)
        names["runtime"].shutdown()

    traces = [record.getMessage() for record in caplog.records if record.name == "duroxide.orchestration"]
    assert [text for text in traces if "v1.0.0" in text] == ["[v1.0.0] starting workflow", "[v1.0.0] completed: worked"]


def test_activity_traces_carry_the_name_of_the_activity(
    play: Play, names: Names, caplog: pytest.LogCaptureFixture
) -> None:
    class Response:
        def json(self) -> list[int]:
            return [1, 2, 3]

    class Requests:
        def get(self, url: str) -> Response:
            return Response()

    play(FETCH_DATA, requests=Requests())
    with caplog.at_level(logging.INFO, "duroxide"):
        assert run_activity(names, "FetchData", {"id": 7, "url": "of nowhere"}) == [1, 2, 3]
        names["runtime"].shutdown()

    traces = [record for record in caplog.records if record.name == "duroxide.activity"]
    assert [trace.getMessage() for trace in traces] == ["fetching data for 7", "got 3 records"]
    assert {(vars(trace)["activity_name"], vars(trace)["instance_id"]) for trace in traces} == {
        ("FetchData", "instance-1")
    }
    assert all(vars(trace)["worker_id"] for trace in traces)


# The guide sets RUST_LOG for pytest; its three filters work alike in any program, and a small one is quicker.
@pytest.mark.parametrize(
    ("rust_log", "orchestration_debug", "activity_info"),
    [
        ("info", False, True),
        ("duroxide::orchestration=debug", True, False),
        ("duroxide::activity=info", False, True),
    ],
)
def test_rust_log_selects_what_is_printed(
    rust_log: str, orchestration_debug: bool, activity_info: bool, tmp_path: Path
) -> None:
    script = tmp_path / "traces.py"
    script.write_text(
        "from duroxide import Client, Runtime, SqliteProvider\n"
        "runtime = Runtime(SqliteProvider.in_memory())\n"
        "runtime.register_activity('Work', lambda ctx, input: ctx.trace_info('from the activity'))\n"
        "@runtime.register_orchestration('Traced')\n"
        "def traced(ctx, input):\n"
        "    ctx.trace_debug('from the orchestration')\n"
        "    yield ctx.schedule_activity('Work')\n"
        "with runtime:\n"
        "    runtime.client.start_orchestration('one', 'Traced')\n"
        "    runtime.client.wait_for_orchestration('one', 10_000).result()\n"
    )
    environment = {**os.environ, "RUST_LOG": rust_log}
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    printed = done.stdout + done.stderr

    assert ("from the orchestration" in printed, "from the activity" in printed) == (orchestration_debug, activity_info)


def test_sqlite_provider_block_opens_a_file_and_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: Names = {"SqliteProvider": SqliteProvider}

    exec(SQLITE_PROVIDER, names)

    assert (tmp_path / "myapp.db").exists()
    assert names["provider"].kind == "memory"


def test_postgres_provider_block_connects_with_a_schema(postgres_url: str, postgres_schema: str) -> None:
    block = stand_in(
        POSTGRES_PROVIDER,
        {'"postgresql://user:pass@host:5432/mydb"': "url", '"duroxide_app"': "schema"},
    )
    names: Names = {"PostgresProvider": PostgresProvider, "url": postgres_url, "schema": postgres_schema}

    exec(block, names)

    assert Client(names["provider"]).list_all_instances() == []


def test_runtime_options_block_makes_a_working_runtime(play: Play, names: Names) -> None:
    play(RUNTIME_OPTIONS)
    names["runtime"].register_orchestration("Echo", lambda ctx, input: input)

    start(names, "Echo", "hello")

    assert output_of(names) == "hello"


def test_metrics_snapshot_prints_the_counters(play: Play, names: Names, capsys: pytest.CaptureFixture[str]) -> None:
    # The guide gets None when observability is off; here the snapshot exists without any option.
    names["runtime"].register_activity("Work", lambda ctx, input: input)
    run_activity(names, "Work", 1)
    # The end is visible as soon as it is recorded, and counted right after.
    names["runtime"].shutdown()

    play(METRICS)

    assert capsys.readouterr().out.splitlines() == [
        "Orchestrations started: 1",
        "Orchestrations completed: 1",
        "Activity successes: 1",
        "Provider errors: 0",
    ]


def test_client_block_runs_on_a_finished_instance(play: Play, names: Names) -> None:
    runtime = names["runtime"]
    runtime.register_orchestration_versioned("WorkflowName", "1.0.2", lambda ctx, input: ctx.orchestration_version)
    runtime.start()

    play(
        CLIENT_OPERATIONS,
        Client=Client,
        input_data={"n": 1},
        event_data={"n": 2},
        data_string="text",
        last_seen_version=0,
        poll_interval_ms=50,
        timeout_ms=1000,
    )

    assert (names["result"].status, names["result"].output) == ("Completed", "1.0.2")
    assert names["status"].status == "Completed"
    assert names["metrics"].total_instances == 0


def test_new_orchestrations_take_the_latest_version(play: Play, names: Names) -> None:
    play(VERSIONING)
    called: list[str] = []
    names["runtime"].register_activity("Validate", lambda ctx, input: called.append("Validate"))
    names["runtime"].register_activity("Work", lambda ctx, input: called.append("Work"))

    start(names, "MyWorkflow")
    output_of(names)

    assert called == ["Validate", "Work"]
    assert names["client"].get_instance_info("instance-1").orchestration_version == "1.0.1"


def test_async_blocks_are_joined(play: Play, names: Names) -> None:
    # The block formats the outcomes into a text unchanged, so they show as dictionaries.
    play(ASYNC_BLOCKS)
    names["runtime"].register_activity("Step", lambda ctx, input: f"step {input}")

    start(names, "Parent", "")

    assert output_of(names) == "{'ok': 'A:[step A1,step A2]'},{'ok': 'B:[timer,step B1]'}"


def test_deterministic_time_and_guid_are_yielded(play: Play, names: Names) -> None:
    play(fragment(DETERMINISM, "[now, guid]"))
    names["runtime"].register_orchestration("Fragment", names["fragment"])
    begin = datetime.now(timezone.utc).timestamp() * 1000

    start(names, "Fragment")
    now, guid = output_of(names)

    assert abs(now - begin) < 60_000
    assert str(UUID(guid)) == guid


def in_this_store(block: str, provider: Provider) -> str:
    """The block, with the test's store in place of the store in memory that it makes."""
    return block if provider.kind == "memory" else stand_in(block, {"SqliteProvider.in_memory()": "provider"})


def request_approval(play: Play, names: Names) -> list[str]:
    """Bring the approval workflow to where it waits; return the list of what it executes."""
    play(EVENTS)
    executed: list[str] = []
    names["runtime"].register_activity("RequestApproval", lambda ctx, input: None)
    names["runtime"].register_activity("Execute", lambda ctx, input: executed.append(input))
    start(names, "ApprovalWorkflow", "order")
    wait_for_event_kind(names["client"], "instance-1", "ExternalSubscribed", "approval")
    return executed


def run_activity(names: Names, activity: str, input: object) -> Any:
    """Return the activity's result to an orchestration that only calls it."""

    @names["runtime"].register_orchestration("CallOne")
    def call_one(ctx: Any, input: Any) -> Any:
        return (yield ctx.schedule_activity(activity, input))

    start(names, "CallOne", input)
    return output_of(names)
