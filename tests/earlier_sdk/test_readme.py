"""The blocks of the newer README, each unchanged.

The blocks of its Installation and Development sections are shell commands of another checkout; the Makefile replaces
them.
"""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from duroxide import (
    MAX_KV_KEYS,
    MAX_KV_VALUE_BYTES,
    MAX_TAG_NAME_BYTES,
    MAX_WORKER_TAGS,
    Client,
    PostgresEntraOptions,
    ProviderError,
    PruneOptions,
    Runtime,
)
from duroxide._store.providers import Provider
from earlier_sdk.blocks import Names, Play, stand_in
from support.waiting import wait_for_event_kind

QUICK_START = """
from duroxide import SqliteProvider, Client, Runtime

# Create provider and runtime
provider = SqliteProvider.in_memory()
runtime = Runtime(provider)

# Register an activity
@runtime.register_activity("greet")
def greet(ctx, input):
    return f"Hello, {input['name']}!"

# Register an orchestration (generator function)
@runtime.register_orchestration("GreetWorkflow")
def greet_workflow(ctx, input):
    result = yield ctx.schedule_activity("greet", input)
    return result

# Start runtime and run orchestration
import threading
runtime.start()

client = Client(provider)
client.start_orchestration("greet-1", "GreetWorkflow", {"name": "World"})
status = client.wait_for_orchestration("greet-1", 10000)
print(status.output)  # "Hello, World!"

runtime.shutdown()
"""

ORCHESTRATIONS = """
@runtime.register_orchestration("MyWorkflow")
def my_workflow(ctx, input):
    # Schedule activities
    result = yield ctx.schedule_activity("DoWork", input)

    # Fan-out / Fan-in
    results = yield ctx.all([
        ctx.schedule_activity("TaskA", {"id": 1}),
        ctx.schedule_activity("TaskB", {"id": 2}),
    ])

    # Timer
    yield ctx.schedule_timer(5000)  # 5 seconds

    # Wait for external event
    approval = yield ctx.wait_for_event("approval")

    # Sub-orchestration
    sub_result = yield ctx.schedule_sub_orchestration("SubWorkflow", input)

    # Race (first to complete wins)
    winner = yield ctx.race(
        ctx.schedule_activity("Fast", None),
        ctx.schedule_timer(10000),
    )

    # Custom status (fire-and-forget, no yield)
    ctx.set_custom_status("processing complete")

    # Dequeue from event queue (FIFO, blocks until message available)
    msg = yield ctx.dequeue_event("inbox")

    return {"result": result, "winner": winner}
"""

ACTIVITIES = """
@runtime.register_activity("SendEmail")
def send_email(ctx, input):
    ctx.trace_info(f"Sending email to {input['to']}")
    # ... actual email sending ...
    return {"sent": True}
"""

POSTGRESQL = """
from duroxide import PostgresEntraOptions, PostgresProvider, Client, Runtime

provider = PostgresProvider.connect("postgresql://user:pass@localhost:5432/mydb")
# or with custom schema:
provider = PostgresProvider.connect_with_schema("postgresql://...", "duroxide_python")

runtime = Runtime(provider)
client = Client(provider)
"""

ENTRA = """
provider = PostgresProvider.connect_with_entra(
    host="my-server.postgres.database.azure.com",
    port=5432,
    database="appdb",
    user="my-managed-identity",
    options=PostgresEntraOptions(max_connections=10),
)
"""

ENTRA_WITH_SCHEMA = """
provider = PostgresProvider.connect_with_schema_and_entra(
    host="my-server.postgres.database.azure.com",
    port=5432,
    database="appdb",
    user="my-managed-identity",
    schema="duroxide_python",
    options=PostgresEntraOptions(refresh_interval_ms=1_200_000),
)
"""

ADMIN = """
client = Client(provider)

# Metrics
metrics = client.get_system_metrics()
stats = client.get_orchestration_stats("instance-1")
depths = client.get_queue_depths()

# Instance management
instances = client.list_all_instances()
info = client.get_instance_info("instance-1")
tree = client.get_instance_tree("instance-1")

# Execution history with full event data
executions = client.list_executions("instance-1")
events = client.read_execution_history("instance-1", executions[0])
for event in events:
    print(event.kind, event.data)
    # event.kind: "OrchestrationStarted" | "ActivityCompleted" | ...
    # event.data: JSON string with event-specific content (result, input, error, etc.)
"""

CLEANUP = """
# Cleanup
client.delete_instance("instance-1", force=True)
client.prune_executions("instance-1", PruneOptions(keep_last=5))
"""

CUSTOM_STATUS = """
@runtime.register_orchestration("ProgressWorkflow")
def progress_workflow(ctx, input):
    ctx.set_custom_status("step 1: validating")
    yield ctx.schedule_activity("Validate", input)

    ctx.set_custom_status("step 2: processing")
    result = yield ctx.schedule_activity("Process", input)

    ctx.reset_custom_status()  # clear status
    return result
"""

CUSTOM_STATUS_POLL = """
# Poll for status changes from outside
status = client.wait_for_status_change("instance-1", 0, 50, 10000)
if status:
    print(status.custom_status)          # "step 1: validating"
    print(status.custom_status_version)  # monotonically increasing counter
"""

KV_STORE = """
@runtime.register_orchestration("KvWorkflow")
def kv_workflow(ctx, input):
    ctx.set_kv_value("status", "running")
    result = yield ctx.schedule_activity("Compute", input)
    ctx.set_kv_value("result", str(result))
    snapshot = ctx.get_kv_all_values()
    keys = ctx.get_kv_all_keys()
    count = ctx.get_kv_length()
    return {"result": result, "snapshot": snapshot, "keys": keys, "count": count}
"""

KV_READS = """
# External reads
status = client.wait_for_kv_value("instance-1", "status", 10000)
result = client.get_kv_value("instance-1", "result")
"""

EVENT_QUEUES = """
@runtime.register_orchestration("ChatBot")
def chat_bot(ctx, input):
    msg_json = yield ctx.dequeue_event("inbox")
    msg = json.loads(msg_json)
    response = yield ctx.schedule_activity("Generate", msg["text"])
    ctx.set_custom_status(json.dumps({"state": "replied", "response": response, "seq": msg["seq"]}))
    if "bye" in msg["text"].lower():
        return f"Done after {msg['seq']} msgs"
    return (yield ctx.continue_as_new(""))
"""

EVENT_QUEUES_CLIENT = """
# Send messages from outside
client.enqueue_event(instance_id, "inbox", json.dumps({"seq": 1, "text": "Hello!"}))
status = client.wait_for_status_change(instance_id, 0, 50, 10000)
reply = json.loads(status.custom_status)
"""


def test_quick_start_prints_hello_world(play: Play, provider: Provider, capsys: pytest.CaptureFixture[str]) -> None:
    block = (
        QUICK_START if provider.kind == "memory" else stand_in(QUICK_START, {"SqliteProvider.in_memory()": "provider"})
    )

    play(block)

    assert capsys.readouterr().out == "Hello, World!\n"


def test_orchestrations_block_runs_every_kind_of_task(play: Play, names: Names) -> None:
    # Waiting five seconds shows no more than waiting five milliseconds.
    play(stand_in(ORCHESTRATIONS, {"schedule_timer(5000)": "schedule_timer(5)"}))
    runtime, client = names["runtime"], names["client"]
    for activity in ("DoWork", "TaskA", "TaskB", "Fast"):
        runtime.register_activity(activity, lambda ctx, input: ctx.activity_name)

    @runtime.register_orchestration("SubWorkflow")
    def sub_workflow(ctx: Any, input: Any) -> str:
        ctx.set_custom_status(f"called with {input}")
        return "sub"

    runtime.start()
    client.start_orchestration("all-kinds", "MyWorkflow", {"id": 7})
    wait_for_event_kind(client, "all-kinds", "ExternalSubscribed", "approval")
    client.raise_event("all-kinds", "approval", {"approved": True})
    assert client.wait_for_status_change("all-kinds", 0, 50, 10_000).custom_status == "processing complete"
    client.enqueue_event("all-kinds", "inbox", "continue")

    result = client.wait_for_orchestration("all-kinds", 10_000)

    assert result.output == {"result": "DoWork", "winner": {"index": 0, "value": "Fast"}}


def test_activities_block_returns_what_it_sent(play: Play, names: Names) -> None:
    play(ACTIVITIES)
    runtime, client = names["runtime"], names["client"]

    @runtime.register_orchestration("Mail")
    def mail(ctx: Any, input: Any) -> Any:
        return (yield ctx.schedule_activity("SendEmail", input))

    runtime.start()
    client.start_orchestration("mail", "Mail", {"to": "ada@example.org"})

    assert client.wait_for_orchestration("mail", 10_000).output == {"sent": True}


def test_postgresql_block_makes_a_runtime_and_a_client(play: Play, postgres_url: str) -> None:
    block = stand_in(
        POSTGRESQL,
        {
            '"postgresql://user:pass@localhost:5432/mydb"': "url",
            '"postgresql://..."': "url",
        },
    )

    names = play(block, url=postgres_url)

    assert isinstance(names["runtime"], Runtime)
    assert names["client"].list_all_instances() == []


# There is no Azure here: these two tests only show that the call takes the documented arguments and fails in good time.
@pytest.mark.parametrize("block", [ENTRA, ENTRA_WITH_SCHEMA], ids=["entra", "entra with schema"])
def test_entra_block_without_azure_raises_a_provider_error(block: str) -> None:
    from duroxide import PostgresProvider

    with pytest.raises(ProviderError):
        exec(block, {"PostgresProvider": PostgresProvider, "PostgresEntraOptions": PostgresEntraOptions})


def test_entra_options_accept_every_documented_name() -> None:
    options = PostgresEntraOptions(
        audience="scope", acquire_timeout_ms=500, refresh_interval_ms=1000, max_connections=3
    )

    assert (options.audience, options.acquire_timeout_ms, options.refresh_interval_ms) == ("scope", 500, 1000)


def test_admin_apis_block_shows_the_instance_and_its_events(
    play: Play, names: Names, capsys: pytest.CaptureFixture[str]
) -> None:
    finish_instance_1(names)

    play(ADMIN, Client=Client)

    assert names["instances"] == ["instance-1"]
    assert names["metrics"].completed_instances == 1
    assert names["stats"].history_event_count == len(names["events"])
    assert names["depths"].worker_queue == 0
    assert names["info"].orchestration_name == "Work"
    assert names["tree"].root_id == "instance-1"
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(" ", 1)[0] for line in printed] == [
        "OrchestrationStarted",
        "ActivityScheduled",
        "ActivityCompleted",
        "OrchestrationCompleted",
    ]
    assert json.loads(printed[2].split(" ", 1)[1])["result"] == {"done": 1}


def test_admin_apis_cleanup_deletes_and_prunes(play: Play, names: Names) -> None:
    # As written, line by line, the last one would prune the instance that the line before deletes; so the two change
    # places.
    delete, prune = CLEANUP.strip().splitlines()[1:]
    finish_instance_1(names)

    play(f"pruned = {prune}\n{delete}", PruneOptions=PruneOptions)

    assert names["pruned"].executions_deleted == 0
    assert names["client"].get_status("instance-1").status == "NotFound"


def test_custom_status_block_reports_the_first_step(
    play: Play, names: Names, capsys: pytest.CaptureFixture[str]
) -> None:
    play(CUSTOM_STATUS)
    runtime, client = names["runtime"], names["client"]
    read = threading.Event()
    runtime.register_activity("Validate", lambda ctx, input: read.wait(30))
    runtime.register_activity("Process", lambda ctx, input: input * 2)
    runtime.start()
    client.start_orchestration("instance-1", "ProgressWorkflow", 21)

    play(CUSTOM_STATUS_POLL)
    read.set()

    assert capsys.readouterr().out.splitlines() == ["step 1: validating", "1"]
    result = client.wait_for_orchestration("instance-1", 10_000)
    assert (result.output, result.custom_status) == (42, None)


def test_kv_store_block_keeps_what_the_orchestration_wrote(play: Play, names: Names) -> None:
    play(KV_STORE)
    runtime, client = names["runtime"], names["client"]
    runtime.register_activity("Compute", lambda ctx, input: input + 1)
    runtime.start()
    client.start_orchestration("instance-1", "KvWorkflow", 41)
    output = client.wait_for_orchestration("instance-1", 10_000).output

    play(KV_READS)

    assert (names["status"], names["result"]) == ("running", "42")
    assert output["snapshot"] == {"status": "running", "result": "42"}
    assert sorted(output["keys"]) == ["result", "status"]
    assert (output["result"], output["count"]) == (42, 2)


def test_event_queues_block_answers_each_message(play: Play, names: Names) -> None:
    play(EVENT_QUEUES)
    runtime, client = names["runtime"], names["client"]
    runtime.register_activity("Generate", lambda ctx, text: f"You said {text}")
    runtime.start()
    client.start_orchestration("chat", "ChatBot", "")
    wait_for_event_kind(client, "chat", "QueueSubscribed", "inbox")

    play(EVENT_QUEUES_CLIENT, instance_id="chat")
    client.enqueue_event("chat", "inbox", json.dumps({"seq": 2, "text": "Bye"}))

    assert names["reply"] == {"state": "replied", "response": "You said Hello!", "seq": 1}
    assert client.wait_for_orchestration("chat", 10_000).output == "Done after 2 msgs"


def test_tag_routing_limits_are_the_documented_numbers() -> None:
    limits = (MAX_WORKER_TAGS, MAX_TAG_NAME_BYTES, MAX_KV_KEYS, MAX_KV_VALUE_BYTES)

    assert limits == (5, 256, 150, 65536)


def finish_instance_1(names: Names) -> None:
    runtime, client = names["runtime"], names["client"]
    runtime.register_activity("Step", lambda ctx, input: {"done": input})

    @runtime.register_orchestration("Work")
    def work(ctx: Any, input: Any) -> Any:
        return (yield ctx.schedule_activity("Step", input))

    runtime.start()
    client.start_orchestration("instance-1", "Work", 1)
    assert client.wait_for_orchestration("instance-1", 10_000).status == "Completed"
