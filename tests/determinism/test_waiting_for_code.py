"""An instance whose code does not match waits, reports it everywhere, and continues when the code is fixed."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from determinism.code_change import INSTANCE, QUICK, WAIT_MS, Steps, record, running, waiting
from duroxide import Client, NondeterminismError, OrchestrationContext, OrchestrationFailed, Provider, RuntimeOptions
from support.waiting import wait_until

COLD = RuntimeOptions(dispatcher_poll_interval_ms=20, sticky=False)
FAILING = RuntimeOptions(dispatcher_poll_interval_ms=20, nondeterminism="fail")
stickiness = pytest.mark.parametrize("options", [QUICK, COLD], ids=["sticky", "cold"])

READ_STATUS = """
import sys
from duroxide import Client, PostgresProvider, SqliteProvider
kind, place, schema, instance = sys.argv[1:]
if kind == "sqlite":
    provider = SqliteProvider.open(place)
else:
    provider = PostgresProvider.connect_with_schema(place, schema)
print(Client(provider).get_status(instance).mismatch)
"""


def old(ctx: OrchestrationContext, _: Any) -> Steps:
    first = yield ctx.schedule_activity("charge", 5)
    event = yield ctx.wait_for_event("go")
    last = yield ctx.schedule_activity("refund", 5)
    return [first, event, last]


def changed(ctx: OrchestrationContext, _: Any) -> Steps:
    first = yield ctx.schedule_activity("charge", 7)
    event = yield ctx.wait_for_event("go")
    return [first, event]


def returning_early(ctx: OrchestrationContext, _: Any) -> Steps:
    return (yield ctx.schedule_activity("charge", 5))


@stickiness
def test_the_instance_continues_when_the_code_is_fixed(provider: Provider, options: RuntimeOptions) -> None:
    record(provider, old, options)
    client = Client(provider)
    with running(provider, changed, options):
        client.raise_event(INSTANCE, "go", "went")
        assert waiting(client).status == "Running"
    with running(provider, old, options):
        status = client.wait_for_orchestration(INSTANCE, WAIT_MS)
        assert status.result() == [5, "went", 5]
        assert status.mismatch is None


@stickiness
def test_the_report_is_cleared_as_soon_as_the_instance_continues(provider: Provider, options: RuntimeOptions) -> None:
    def waiting_again(ctx: OrchestrationContext, input: Any) -> Steps:
        yield from old(ctx, input)
        yield ctx.wait_for_event("again")

    record(provider, old, options)
    client = Client(provider)
    with running(provider, changed, options):
        client.raise_event(INSTANCE, "go", "went")
        waiting(client)
    with running(provider, waiting_again, options):
        wait_until(lambda: client.get_status(INSTANCE).mismatch is None)
        assert client.get_status(INSTANCE).status == "Running"


def test_other_processes_see_why_it_waits(
    provider: Provider, store: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if store == "memory":
        pytest.skip("no other process sees a store in memory")
    server = store == "postgres"
    place = request.getfixturevalue("postgres_url") if server else str(tmp_path / "store.db")
    schema = request.getfixturevalue("postgres_schema") if server else ""
    record(provider, old)
    client = Client(provider)
    with running(provider, changed):
        client.raise_event(INSTANCE, "go", "went")
        mismatch = waiting(client).mismatch
        command = [sys.executable, "-c", READ_STATUS, store, place, schema, INSTANCE]
        read = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert read.stdout.rstrip("\n") == mismatch
    assert read.stderr == ""


def test_the_metrics_count_the_instances_that_wait(provider: Provider) -> None:
    record(provider, old)
    record(provider, old, instance="order-8")
    client = Client(provider)
    with running(provider, changed) as runtime:
        assert runtime.metrics_snapshot().orch_waiting_for_code == 0
        for instance in (INSTANCE, "order-8"):
            client.raise_event(instance, "go", "went")
            waiting(client, instance)
        assert runtime.metrics_snapshot().orch_waiting_for_code == 2
        client.cancel_instance("order-8", "given up")
        client.wait_for_orchestration("order-8", WAIT_MS)
        wait_until(lambda: runtime.metrics_snapshot().orch_waiting_for_code == 1)


@pytest.mark.parametrize("store", ["memory"])
def test_the_report_is_logged_once(provider: Provider, caplog: pytest.LogCaptureFixture) -> None:
    record(provider, old)
    client = Client(provider)
    with caplog.at_level(logging.ERROR, "duroxide"), running(provider, changed) as runtime:
        client.raise_event(INSTANCE, "go", "went")
        mismatch = waiting(client).mismatch
        before = runtime.metrics_snapshot().orch_dispatcher_items_fetched
        client.raise_event(INSTANCE, "go", "once more")
        client.enqueue_event(INSTANCE, "orders", "looked at once more")
        wait_until(lambda: runtime.metrics_snapshot().orch_dispatcher_items_fetched > before)
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert errors == [mismatch]


FORGING = "order\nERROR forged\x1b[2J"


def forging(ctx: OrchestrationContext, _: Any) -> Steps:
    yield ctx.wait_for_event(FORGING)


def test_a_value_with_a_line_break_forges_no_line_of_the_report(
    provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    record(provider, old, instance=FORGING)
    client = Client(provider)
    with caplog.at_level(logging.ERROR, "duroxide"), running(provider, forging):
        client.raise_event(FORGING, "go", "went")
        mismatch = waiting(client, FORGING).mismatch or ""
    (logged,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert logged == mismatch
    lines = logged.split("\n")
    assert all(line.isprintable() for line in lines)
    escaped = r"order\nERROR forged\u{1b}[2J"
    assert [escaped in line for line in lines] == [True, False, True, False, False], logged


def test_the_report_keeps_its_lines_in_a_text_log_and_a_value_forges_none(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    code = f"""
from determinism.code_change import record, running, waiting
from determinism.test_waiting_for_code import FORGING, forging, old
from duroxide import Client, SqliteProvider, init_tracing
init_tracing({str(log)!r})
provider = SqliteProvider.in_memory()
record(provider, old, instance=FORGING)
client = Client(provider)
with running(provider, forging):
    client.raise_event(FORGING, "go", "went")
    print(waiting(client, FORGING).mismatch, end="")
"""
    tests = str(Path(__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": tests},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    text = log.read_text(encoding="utf-8")
    assert done.stdout in text
    assert all(line.isprintable() for line in text.split("\n"))
    assert "\nERROR forged" not in text


@pytest.mark.parametrize("new", [changed, returning_early], ids=lambda new: new.__name__)
def test_the_instance_fails_with_the_same_report_if_the_option_is_fail(provider: Provider, new: Any) -> None:
    record(provider, old)
    client = Client(provider)
    with running(provider, new, FAILING) as runtime:
        client.raise_event(INSTANCE, "go", "went")
        with pytest.raises(NondeterminismError) as failed:
            client.wait_for_orchestration(INSTANCE, WAIT_MS).result()
        wait_until(lambda: runtime.metrics_snapshot().orch_configuration_errors == 1)
        assert runtime.metrics_snapshot().orch_waiting_for_code == 0
    assert failed.value.message.startswith(
        f"the code of instance '{INSTANCE}' no longer matches its history:\n  event "
    )
    assert client.read_execution_history(INSTANCE)[-1].kind == "OrchestrationFailed"


@pytest.mark.parametrize("store", ["memory"])
def test_the_failure_of_a_changed_child_can_be_caught(provider: Provider) -> None:
    def parent(ctx: OrchestrationContext, _: Any) -> Steps:
        try:
            yield ctx.schedule_sub_orchestration("order", None, instance_id=INSTANCE)
        except OrchestrationFailed as failure:
            return failure.error_type
        except Exception as failure:
            return getattr(failure, "error_type", repr(failure))

    client = Client(provider)
    with running(provider, old) as runtime:
        runtime.shutdown()
        runtime.register_orchestration("parent", parent)
        runtime.start()
        client.start_orchestration("parent", "parent")
        wait_until(lambda: client.get_status(INSTANCE).status == "Running")
        wait_until(lambda: any(e.kind == "ExternalSubscribed" for e in client.read_execution_history(INSTANCE)))
    with running(provider, changed, FAILING) as runtime:
        runtime.shutdown()
        runtime.register_orchestration("parent", parent)
        runtime.start()
        client.raise_event(INSTANCE, "go", "went")
        assert client.wait_for_orchestration("parent", WAIT_MS).result() == "NondeterminismError"


@pytest.mark.parametrize("store", ["memory"])
def test_the_engine_reports_code_that_no_longer_cancels_the_loser_of_a_race(provider: Provider) -> None:
    def racing(ctx: OrchestrationContext, _: Any) -> Steps:
        yield ctx.race(ctx.schedule_timer(0), ctx.wait_for_event("never"))
        yield ctx.wait_for_event("go")

    def not_racing(ctx: OrchestrationContext, _: Any) -> Steps:
        timer, never = ctx.schedule_timer(0), ctx.wait_for_event("never")
        ctx.spawn(timer)
        ctx.spawn(never)
        yield timer
        yield ctx.wait_for_event("go")
        yield ctx.wait_for_event("more")

    client = Client(provider)
    with running(provider, racing):
        client.start_orchestration(INSTANCE, "order")
        wait_until(
            lambda: (
                client.get_status(INSTANCE).status == "Running"
                and sum(e.kind == "ExternalSubscribed" for e in client.read_execution_history(INSTANCE)) == 2
            )
        )
    with running(provider, not_racing):
        client.raise_event(INSTANCE, "go", "went")
        assert "cancellation mismatch (external waits)" in (waiting(client).mismatch or "")


def test_an_unknown_value_of_the_option_nondeterminism_is_refused() -> None:
    with pytest.raises(ValueError, match="nondeterminism 'ignore' is unknown"):
        RuntimeOptions(nondeterminism="ignore")  # type: ignore[arg-type]
