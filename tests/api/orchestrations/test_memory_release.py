"""The memory of an orchestration is freed when it has ended, whatever it waited for."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.alone

# Half a megabyte for every instance would be 240 MB; the memory that allocators keep for reuse varies by some tens.
MOST_MB = 100

# A separate process: the memory of other tests would blur the measurement.
PROGRAM = """
import os, sys
from duroxide import Client, InstanceFilter, Runtime, SqliteProvider

provider = SqliteProvider.in_memory()
client = Client(provider)
runtime = Runtime(provider)

@runtime.register_activity("big")
def big(ctx, _):
    return "x" * 500_000

@runtime.register_orchestration("holder")
def holder(ctx, _):
    ctx.set_kv_value("key", "value")
    yield ctx.wait_for_event("never")

@runtime.register_orchestration("timer")
def timer(ctx, _):
    yield ctx.schedule_activity("big")
    yield ctx.schedule_timer(1)

@runtime.register_orchestration("event")
def event(ctx, _):
    yield ctx.schedule_activity("big")
    # Recorded together with the wait, which the event must not come before.
    ctx.set_kv_value("ready", "yes")
    yield ctx.wait_for_event("go")

@runtime.register_orchestration("queue")
def queue(ctx, _):
    yield ctx.schedule_activity("big")
    yield ctx.dequeue_event("inbox")

@runtime.register_orchestration("value_of_another")
def value_of_another(ctx, _):
    yield ctx.schedule_activity("big")
    assert (yield ctx.get_kv_value_from_instance("holder", "key")) == "value"

@runtime.register_orchestration("race")
def race(ctx, _):
    yield ctx.schedule_activity("big")
    yield ctx.race(ctx.wait_for_event("never"), ctx.dequeue_event("inbox"), ctx.schedule_timer(1))

@runtime.register_orchestration("activity")
def activity(ctx, _):
    yield ctx.schedule_activity("big")
    yield ctx.schedule_activity("big")

def play(name, numbers):
    instances = [f"{name}-{number}" for number in numbers]
    for instance in instances:
        client.start_orchestration(instance, name)
    for instance in instances:
        if name == "event":
            client.wait_for_kv_value(instance, "ready", 20_000)
            client.raise_event(instance, "go")
        if name == "queue":
            client.enqueue_event(instance, "inbox", "message")
    for instance in instances:
        client.wait_for_orchestration(instance, 60_000).result()
    deleted = client.delete_instance_bulk(InstanceFilter(instance_ids=instances))
    assert deleted.instances_deleted == len(instances), deleted

def megabytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1_000_000

name = sys.argv[1]
with runtime:
    client.start_orchestration("holder", "holder")
    client.wait_for_kv_value("holder", "key", 20_000)
    for start in range(0, 240, 20):
        play(name, range(start, start + 20))
    before = megabytes()
    for start in range(240, 720, 20):
        play(name, range(start, start + 20))
    print(megabytes() - before)
"""


@pytest.mark.parametrize("orchestration", ["timer", "event", "queue", "value_of_another", "race", "activity"])
def test_the_results_of_an_orchestration_do_not_stay_in_memory(orchestration: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, orchestration], capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert float(done.stdout) < MOST_MB
