"""An instance whose start is acknowledged and that no turn has touched: it exists for every client."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import OpenProvider, StartRuntime
from duroxide import (
    AsyncClient,
    Client,
    InstanceAlreadyExists,
    InstanceNotFound,
    InstanceStillRunning,
    OrchestrationContext,
    Provider,
    SqliteProvider,
    WaitTimedOut,
)

Steps = Generator[Any, Any, Any]

# Starts an instance in a process of its own, which ends without a runtime.
START = """
import sys
from duroxide import Client, PostgresProvider, SqliteProvider
place, schema = sys.argv[1:]
store = PostgresProvider.connect_with_schema(place, schema) if schema else SqliteProvider.open(place)
with store:
    Client(store).start_orchestration("waits", "order", 1)
"""


def order(ctx: OrchestrationContext, input: Any) -> Steps:
    yield ctx.wait_for_event("go")


@pytest.fixture(params=["here", "in another process"])
def started(request: pytest.FixtureRequest, store: str, open_store: OpenProvider, tmp_path: Path) -> Iterator[Client]:
    """A client of a store in which ``waits`` was started, and which has no runtime."""
    if request.param == "here":
        provider = open_store()
        Client(provider).start_orchestration("waits", "order", 1)
    elif store == "memory":
        pytest.skip("no other process sees a store in memory")
    else:
        is_file = store == "sqlite"
        place = str(tmp_path / "store.db") if is_file else request.getfixturevalue("postgres_url")
        schema = "" if is_file else request.getfixturevalue("postgres_schema")
        subprocess.run([sys.executable, "-c", START, place, schema], check=True, timeout=60)
        provider = open_store()
    yield Client(provider)
    provider.close()


def test_its_status_is_running(started: Client) -> None:
    assert started.get_status("waits").status == "Running"


def test_its_info_says_that_it_has_not_begun(started: Client) -> None:
    info = started.get_instance_info("waits")

    assert (info.status, info.has_begun, info.orchestration_name) == ("Running", False, "order")
    assert info.created_at == info.updated_at > 1_600_000_000_000


def test_it_is_listed_with_all_and_with_the_running_instances(started: Client) -> None:
    assert started.list_all_instances() == ["waits"]
    assert started.list_instances_by_status("Running") == ["waits"]
    assert started.list_instances_by_status("Completed") == []


def test_it_is_counted_among_the_running_instances(started: Client) -> None:
    metrics = started.get_system_metrics()

    assert (metrics.total_instances, metrics.running_instances) == (1, 1)


def test_it_is_the_whole_of_its_tree(started: Client) -> None:
    assert started.get_instance_tree("waits").all_ids == ["waits"]


def test_its_first_execution_has_no_history(started: Client) -> None:
    assert started.list_executions("waits") == [1]
    assert started.read_execution_history("waits") == []
    assert started.read_execution_history("waits", 1) == []
    assert started.get_execution_info("waits", 1).event_count == 0


def test_it_has_no_second_execution(started: Client) -> None:
    with pytest.raises(InstanceNotFound, match="has no execution 2"):
        started.get_execution_info("waits", 2)
    with pytest.raises(InstanceNotFound, match="has no execution 2"):
        started.read_execution_history("waits", 2)


def test_it_has_a_size_of_nothing(started: Client) -> None:
    stats = started.get_orchestration_stats("waits")

    assert stats is not None
    assert stats.history_event_count == 0


def test_pruning_finds_nothing_in_it(started: Client) -> None:
    assert started.prune_executions("waits").executions_deleted == 0


def test_it_is_deleted_only_by_force(started: Client) -> None:
    with pytest.raises(InstanceStillRunning):
        started.delete_instance("waits")
    assert started.get_status("waits").status == "Running"


def test_it_is_gone_after_its_deletion(started: Client) -> None:
    assert started.delete_instance("waits", force=True).instances_deleted == 1

    assert started.get_status("waits").status == "NotFound"
    assert started.list_all_instances() == []


def test_its_id_can_be_used_after_its_deletion(started: Client) -> None:
    started.delete_instance("waits", force=True)

    assert started.start_orchestration("waits", "another", if_exists="raise") is True


def test_its_id_is_taken(started: Client) -> None:
    with pytest.raises(InstanceAlreadyExists, match="'waits'"):
        started.start_orchestration("waits", "order", if_exists="raise")


def test_a_wait_that_runs_out_says_that_it_has_not_begun(started: Client) -> None:
    with pytest.raises(WaitTimedOut, match="'waits' has not begun"):
        started.wait_for_orchestration("waits", 0)


def test_early_messages_alone_make_no_instance(client: Client) -> None:
    client.raise_event("early", "go")

    assert client.get_status("early").status == "NotFound"
    assert client.list_all_instances() == []


def test_it_begins_when_a_runtime_comes(client: Client, runtime_factory: StartRuntime) -> None:
    client.start_orchestration("waits", "order", 1)

    runtime_factory(orchestrations={"order": order})
    client.raise_event("waits", "go")

    assert client.wait_for_orchestration("waits").status == "Completed"
    assert client.get_instance_info("waits").has_begun
    assert client.list_all_instances() == ["waits"]
    assert client.get_system_metrics().total_instances == 1


def test_it_exists_for_the_client_of_asyncio(provider: Provider) -> None:
    async def main() -> tuple[str, list[str], int]:
        client = AsyncClient(provider)
        handle = await client.start("order", 1, id="waits")
        status, listed = await handle.status(), await client.list_all_instances()
        deleted = await client.delete_instance("waits", force=True)
        return status.status, listed, deleted.instances_deleted

    assert asyncio.run(main()) == ("Running", ["waits"], 1)


def test_a_client_process_sees_a_start_that_the_owner_has_taken_over(tmp_path: Path) -> None:
    path = str(tmp_path / "store.db")
    with SqliteProvider.open(path) as provider:
        Client(provider).start_orchestration("waits", "order", 1)
        # The deletion of another instance makes this process the owner for a moment, which takes over the start.
        with pytest.raises(InstanceNotFound):
            Client(provider).delete_instance("unknown")
        Client(provider).start_orchestration("later", "order", 1)

        assert Client(provider).list_all_instances() == ["later", "waits"]
        assert Client(provider).get_system_metrics().running_instances == 2
