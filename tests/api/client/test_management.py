"""Managing instances by the client: listing, reading, deleting and pruning."""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from conftest import StartRuntime
from duroxide import (
    ActivityContext,
    Client,
    ClientError,
    ConfigurationError,
    InstanceFilter,
    InstanceNotFound,
    InstanceStillRunning,
    OrchestrationContext,
    PruneOptions,
    Runtime,
)
from support.waiting import wait_for_event_kind, wait_for_execution

Steps = Generator[Any, Any, Any]


def echo(ctx: ActivityContext, input: Any) -> Any:
    return input


def done(ctx: OrchestrationContext, input: Any) -> Steps:
    return (yield ctx.schedule_activity("echo", input))


def broken(ctx: OrchestrationContext, input: Any) -> None:
    raise ValueError("on purpose")


def waiting(ctx: OrchestrationContext, input: Any) -> Steps:
    return (yield ctx.wait_for_event("go"))


def again(ctx: OrchestrationContext, input: int) -> Steps:
    yield ctx.schedule_timer(0)
    if input > 1:
        yield ctx.continue_as_new(input - 1)
    return "the last execution"


def family(ctx: OrchestrationContext, input: int) -> Steps:
    if input:
        yield ctx.gather([ctx.schedule_sub_orchestration("family", input - 1) for _ in range(2)])
    return input


ORCHESTRATIONS = {"done": done, "broken": broken, "waiting": waiting, "again": again, "family": family}


@pytest.fixture
def started(runtime_factory: StartRuntime) -> Runtime:
    """A runtime with all functions above."""
    return runtime_factory({"echo": echo}, ORCHESTRATIONS)


@pytest.fixture
def population(started: Runtime, client: Client) -> None:
    """One instance that has completed, one that has failed, and one that waits."""
    for name in ("done", "broken", "waiting"):
        client.start_orchestration(name, name, 1)
    client.wait_for_orchestration("done")
    client.wait_for_orchestration("broken")
    wait_for_event_kind(client, "waiting", "ExternalSubscribed")


@pytest.mark.usefixtures("population")
def test_all_instances_are_listed(client: Client) -> None:
    assert sorted(client.list_all_instances()) == ["broken", "done", "waiting"]


@pytest.mark.usefixtures("population")
@pytest.mark.parametrize(("status", "instance"), [("Completed", "done"), ("Failed", "broken"), ("Running", "waiting")])
def test_instances_are_listed_by_status(status: str, instance: str, client: Client) -> None:
    assert client.list_instances_by_status(status) == [instance]


def test_unknown_status_is_refused(client: Client) -> None:
    with pytest.raises(ValueError, match="Running"):
        client.list_instances_by_status("Runing")


def test_empty_store_lists_nothing(client: Client) -> None:
    assert client.list_all_instances() == []


def test_every_store_supports_management(client: Client) -> None:
    assert client.has_management_capability() is True


@pytest.mark.usefixtures("started")
def test_info_of_an_instance_has_its_names_and_real_times(client: Client) -> None:
    begin = time.time() * 1000
    client.start_orchestration("known", "done", {"n": 1})
    client.wait_for_orchestration("known")
    end = time.time() * 1000

    info = client.get_instance_info("known")

    assert (info.instance_id, info.orchestration_name, info.orchestration_version) == ("known", "done", "1.0.0")
    assert (info.status, info.current_execution_id, info.parent_instance_id) == ("Completed", 1, None)
    assert json.loads(info.output or "") == {"n": 1}
    # A store may round to whole seconds.
    assert begin - 2000 <= info.created_at <= info.updated_at <= end + 2000


@pytest.mark.usefixtures("population")
def test_info_of_a_running_instance_has_no_output(client: Client) -> None:
    info = client.get_instance_info("waiting")

    assert (info.status, info.output) == ("Running", None)


def test_info_of_an_unknown_instance_is_refused(client: Client) -> None:
    with pytest.raises(InstanceNotFound, match="unknown"):
        client.get_instance_info("unknown")


@pytest.mark.usefixtures("started")
def test_info_of_an_execution_has_its_status_and_real_times(client: Client) -> None:
    begin = time.time() * 1000
    client.start_orchestration("thrice", "again", 3)
    client.wait_for_orchestration("thrice")
    end = time.time() * 1000

    first, last = client.get_execution_info("thrice", 1), client.get_execution_info("thrice", 3)

    assert (first.status, last.status) == ("ContinuedAsNew", "Completed")
    assert json.loads(last.output or "") == "the last execution"
    assert last.event_count == len(client.read_execution_history("thrice", 3))
    for info in (first, last):
        assert info.completed_at is not None
        assert begin - 2000 <= info.started_at <= info.completed_at + 1000 <= end + 3000


@pytest.mark.usefixtures("population")
def test_info_of_an_unknown_execution_is_refused(client: Client) -> None:
    with pytest.raises(InstanceNotFound):
        client.get_execution_info("done", 7)


@pytest.mark.usefixtures("started")
def test_executions_are_listed_in_order(client: Client) -> None:
    client.start_orchestration("thrice", "again", 3)
    client.wait_for_orchestration("thrice")

    assert client.list_executions("thrice") == [1, 2, 3]


@pytest.mark.usefixtures("started")
def test_tree_holds_all_descendants(client: Client) -> None:
    client.start_orchestration("root", "family", 2)
    client.wait_for_orchestration("root")

    tree = client.get_instance_tree("root")

    assert tree.root_id == "root"
    assert len(tree.all_ids) == len(set(tree.all_ids)) == 7
    assert "root" in tree.all_ids


@pytest.mark.usefixtures("population")
def test_tree_of_an_instance_without_children_is_itself(client: Client) -> None:
    assert client.get_instance_tree("done").all_ids == ["done"]


def test_tree_of_an_unknown_instance_is_refused(client: Client) -> None:
    with pytest.raises(InstanceNotFound):
        client.get_instance_tree("unknown")


@pytest.mark.usefixtures("population")
def test_history_lists_events_in_order(client: Client) -> None:
    events = client.read_execution_history("done", 1)

    assert [event.kind for event in events] == [
        "OrchestrationStarted",
        "ActivityScheduled",
        "ActivityCompleted",
        "OrchestrationCompleted",
    ]
    assert [event.event_id for event in events] == [1, 2, 3, 4]
    assert events[2].source_event_id == 2
    assert {event.execution_id for event in events} == {1}
    assert [event.timestamp_ms for event in events] == sorted(event.timestamp_ms for event in events)


@pytest.mark.usefixtures("population")
def test_data_of_an_event_is_the_json_of_its_kind(client: Client) -> None:
    started, scheduled, completed, ended = (
        json.loads(event.data) for event in client.read_execution_history("done", 1)
    )

    assert (started["name"], started["version"], started["input"]) == ("done", "1.0.0", 1)
    assert (scheduled["name"], scheduled["input"]) == ("echo", 1)
    assert (completed["result"], ended["output"]) == (1, 1)
    assert all("type" not in data for data in (started, scheduled, completed, ended))


@pytest.mark.usefixtures("population")
def test_data_of_a_failure_holds_its_error(client: Client) -> None:
    failed = client.read_execution_history("broken")[-1]

    assert failed.kind == "OrchestrationFailed"
    assert "on purpose" in failed.data


@pytest.mark.usefixtures("population")
def test_history_is_of_the_newest_execution_by_default(client: Client) -> None:
    assert client.read_execution_history("done") == client.read_execution_history("done", 1)


def test_history_of_an_unknown_instance_is_refused(client: Client) -> None:
    with pytest.raises(InstanceNotFound):
        client.read_execution_history("unknown")


@pytest.mark.usefixtures("population")
def test_stats_of_an_orchestration_count_its_events(client: Client) -> None:
    stats = client.get_orchestration_stats("done")

    assert stats is not None
    assert (stats.history_event_count, stats.kv_user_key_count) == (4, 0)
    assert stats.history_size_bytes > 0


def test_stats_count_keys_and_bytes_of_values(runtime_factory: StartRuntime, client: Client) -> None:
    def store(ctx: OrchestrationContext, input: Any) -> None:
        ctx.set_kv_value("a", "12345")
        ctx.set_kv_value("b", "ü")

    runtime_factory(orchestrations={"store": store})
    client.start_orchestration("storing", "store")
    client.wait_for_orchestration("storing")

    stats = client.get_orchestration_stats("storing")

    assert stats is not None
    assert (stats.kv_user_key_count, stats.kv_total_value_bytes) == (2, 7)


def test_stats_of_an_unknown_instance_are_none(client: Client) -> None:
    assert client.get_orchestration_stats("unknown") is None


@pytest.mark.usefixtures("population")
def test_system_metrics_count_instances_by_status(client: Client) -> None:
    metrics = client.get_system_metrics()

    assert (metrics.total_instances, metrics.total_executions) == (3, 3)
    assert (metrics.completed_instances, metrics.failed_instances, metrics.running_instances) == (1, 1, 1)
    assert metrics.total_events == sum(
        len(client.read_execution_history(instance)) for instance in ("done", "broken", "waiting")
    )


def test_queue_depths_count_items_that_no_runtime_has_taken(client: Client) -> None:
    client.start_orchestration("queued", "done")

    depths = client.get_queue_depths()

    assert (depths.orchestrator_queue, depths.worker_queue) == (1, 0)


@pytest.mark.usefixtures("population")
def test_records_are_read_by_subscript_too(client: Client) -> None:
    metrics = client.get_system_metrics()

    assert dict(metrics)["total_instances"] == metrics["total_instances"] == metrics.total_instances


@pytest.mark.usefixtures("population")
def test_deleted_instance_is_gone(client: Client) -> None:
    result = client.delete_instance("done")

    assert (result.instances_deleted, result.executions_deleted, result.events_deleted) == (1, 1, 4)
    assert client.get_status("done").status == "NotFound"
    assert "done" not in client.list_all_instances()


@pytest.mark.usefixtures("population")
def test_deleted_id_may_be_used_again(client: Client) -> None:
    client.delete_instance("broken")

    assert client.start_orchestration("broken", "done", "new life") is True
    assert client.wait_for_orchestration("broken").output == "new life"


@pytest.mark.usefixtures("started")
def test_deletion_includes_the_children(client: Client) -> None:
    client.start_orchestration("root", "family", 1)
    client.wait_for_orchestration("root")

    assert client.delete_instance("root").instances_deleted == 3
    assert client.list_all_instances() == []


@pytest.mark.usefixtures("started")
def test_child_is_not_deleted_without_its_root(client: Client) -> None:
    client.start_orchestration("root", "family", 1)
    client.wait_for_orchestration("root")
    child = next(instance for instance in client.list_all_instances() if instance != "root")

    with pytest.raises(ClientError, match="sub-orchestration"):
        client.delete_instance(child)


@pytest.mark.usefixtures("population")
def test_running_instance_is_only_deleted_by_force(client: Client) -> None:
    with pytest.raises(InstanceStillRunning):
        client.delete_instance("waiting")

    assert client.delete_instance("waiting", force=True).instances_deleted == 1
    assert client.get_status("waiting").status == "NotFound"


def test_deletion_of_an_unknown_instance_is_refused(client: Client) -> None:
    with pytest.raises(InstanceNotFound):
        client.delete_instance("unknown")


@pytest.mark.usefixtures("population")
def test_bulk_deletion_skips_running_instances(client: Client) -> None:
    assert client.delete_instance_bulk().instances_deleted == 2
    assert client.list_all_instances() == ["waiting"]


@pytest.mark.usefixtures("population")
def test_bulk_deletion_is_limited_to_the_given_ids(client: Client) -> None:
    result = client.delete_instance_bulk(InstanceFilter(instance_ids=["done", "unknown"]))

    assert result.instances_deleted == 1
    assert sorted(client.list_all_instances()) == ["broken", "waiting"]


@pytest.mark.usefixtures("population")
def test_bulk_deletion_by_time_deletes_instances_that_ended_before_it(client: Client) -> None:
    long_ago = datetime.now(timezone.utc) - timedelta(days=1)
    tomorrow = datetime.now(timezone.utc) + timedelta(days=1)

    assert client.delete_instance_bulk(InstanceFilter(completed_before=long_ago)).instances_deleted == 0
    assert client.delete_instance_bulk(InstanceFilter(completed_before=tomorrow)).instances_deleted == 2


@pytest.mark.usefixtures("population")
def test_bulk_deletion_stops_at_its_limit(client: Client) -> None:
    assert client.delete_instance_bulk(InstanceFilter(limit=1)).instances_deleted == 1
    assert len(client.list_all_instances()) == 2


@pytest.mark.usefixtures("started")
def test_pruning_keeps_the_newest_executions(client: Client) -> None:
    client.start_orchestration("many", "again", 6)
    client.wait_for_orchestration("many")

    result = client.prune_executions("many", PruneOptions(keep_last=2))

    assert (result.instances_processed, result.executions_deleted) == (1, 4)
    assert result.events_deleted > 0
    assert client.list_executions("many") == [5, 6]
    assert client.get_status("many").output == "the last execution"


def test_pruning_skips_the_running_execution(runtime_factory: StartRuntime, client: Client) -> None:
    def loop(ctx: OrchestrationContext, input: int) -> Steps:
        if input:
            yield ctx.continue_as_new(input - 1)
        yield ctx.wait_for_event("never")

    runtime_factory(orchestrations={"loop": loop})
    client.start_orchestration("looping", "loop", 3)
    wait_for_execution(client, "looping", 4)
    wait_for_event_kind(client, "looping", "ExternalSubscribed")

    client.prune_executions("looping", PruneOptions(keep_last=1))

    assert client.list_executions("looping") == [4]
    assert client.get_status("looping").status == "Running"


@pytest.mark.usefixtures("started")
def test_pruning_by_time_deletes_executions_that_ended_before_it(client: Client) -> None:
    client.start_orchestration("timed", "again", 3)
    client.wait_for_orchestration("timed")
    long_ago = datetime.now(timezone.utc) - timedelta(days=1)

    assert client.prune_executions("timed", PruneOptions(completed_before=long_ago)).executions_deleted == 0
    assert client.list_executions("timed") == [1, 2, 3]


def test_pruning_of_an_unknown_instance_is_refused(client: Client) -> None:
    with pytest.raises(InstanceNotFound):
        client.prune_executions("unknown", PruneOptions(keep_last=1))


@pytest.mark.usefixtures("started")
def test_bulk_pruning_covers_many_instances(client: Client) -> None:
    for name in ("one", "two", "three"):
        client.start_orchestration(name, "again", 4)
    for name in ("one", "two", "three"):
        client.wait_for_orchestration(name)

    some = client.prune_executions_bulk(InstanceFilter(instance_ids=["one"]), PruneOptions(keep_last=3))
    every = client.prune_executions_bulk(None, PruneOptions(keep_last=1))

    assert (some.instances_processed, some.executions_deleted) == (1, 1)
    assert every.executions_deleted == 2 + 3 + 3
    assert [client.list_executions(name) for name in ("one", "two", "three")] == [[4], [4], [4]]


def test_filter_with_text_instead_of_a_list_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="list"):
        InstanceFilter(instance_ids="done")  # type: ignore[arg-type]


def test_time_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="time zone"):
        PruneOptions(completed_before=datetime(2026, 1, 1))  # noqa: DTZ001


def test_history_of_an_instance_that_no_runtime_has_taken_is_empty(client: Client) -> None:
    client.start_orchestration("early", "echo")

    assert client.read_execution_history("early") == []
