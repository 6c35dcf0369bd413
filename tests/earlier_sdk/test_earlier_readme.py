"""The blocks of the earlier README that differ from the newer one's; the others are the same, word for word.

Where the two disagree the newer one wins. Here both can hold: ``PyPruneOptions`` is the older name of ``PruneOptions``.
"""

from __future__ import annotations

from typing import Any

from duroxide import Client, PruneOptions, PyPruneOptions, Runtime
from earlier_sdk.blocks import Names, Play, stand_in

POSTGRESQL = """
from duroxide import PostgresProvider, Client, Runtime

provider = PostgresProvider.connect("postgresql://user:pass@localhost:5432/mydb")
# or with custom schema:
provider = PostgresProvider.connect_with_schema("postgresql://...", "duroxide_python")

runtime = Runtime(provider)
client = Client(provider)
"""

ADMIN = """
client = Client(provider)

# Metrics
metrics = client.get_system_metrics()
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
client.prune_executions("instance-1", PyPruneOptions(keep_last=5))
"""


def test_postgresql_block_makes_a_runtime_and_a_client(play: Play, postgres_url: str) -> None:
    block = stand_in(POSTGRESQL, {'"postgresql://user:pass@localhost:5432/mydb"': "url", '"postgresql://..."': "url"})

    names = play(block, url=postgres_url)

    assert isinstance(names["runtime"], Runtime)


def test_admin_apis_block_shows_the_instance(play: Play, names: Names) -> None:
    finish_instance_1(names)

    play(ADMIN, Client=Client)

    assert [event.kind for event in names["events"]] == ["OrchestrationStarted", "OrchestrationCompleted"]


def test_admin_apis_cleanup_takes_the_older_name_of_the_options(play: Play, names: Names) -> None:
    # As written, the last line would prune the instance that the line before deletes; so the two lines change places.
    delete, prune = CLEANUP.strip().splitlines()[1:]
    finish_instance_1(names)

    play(f"pruned = {prune}\n{delete}", PyPruneOptions=PyPruneOptions)

    assert names["pruned"].executions_deleted == 0


def test_older_name_is_the_same_class() -> None:
    assert PyPruneOptions is PruneOptions


def finish_instance_1(names: Names) -> None:
    runtime, client = names["runtime"], names["client"]

    @runtime.register_orchestration("Work")
    def work(ctx: Any, input: Any) -> Any:
        return input

    runtime.start()
    client.start_orchestration("instance-1", "Work", 1)
    assert client.wait_for_orchestration("instance-1", 10_000).status == "Completed"
