"""Memory depends on the active instances, not on the contents of the file."""

from __future__ import annotations

from itertools import pairwise
from statistics import median

import pytest

from store.processes import StoreProcess, StoreProcesses

pytestmark = [pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(300)]

MIB = 1 << 20


def resident_after(process: StoreProcess) -> int:
    size: int = process.ask("resident_bytes")
    return size


def test_a_waiting_instance_takes_little_memory(processes: StoreProcesses) -> None:
    # The sticky cache is off, since Python sets the price of suspended generators; this is about the store.
    process = processes.start(serve=True, sticky=False)
    instances, events_each = 5_000, 2
    sizes: list[int] = []
    for number in range(1, 5):
        process.ask("start_many", f"round-{number}", instances, "waiting")
        process.ask("wait_for_events", instances * number * events_each)
        sizes.append(resident_after(process))
    # The first round also fills the process's caches. In another round the allocator may take 20 MiB at once; the
    # memory of the instances grows in every round.
    each_takes = [(after - before) / instances for before, after in pairwise(sizes)]
    assert median(each_takes) < 4_096, each_takes


def test_instances_that_have_ended_leave_the_memory(processes: StoreProcesses) -> None:
    process = processes.start(serve=True)

    def size_after(prefix: str) -> int:
        process.ask("start_many", prefix, 5_000, "echo", "x" * 1_000)
        process.ask("wait_for_many", prefix, 5_000)
        return resident_after(process)

    first = size_after("first")
    later = [size_after(f"round-{number}-") for number in range(4)]
    # Each has a kilobyte four times in its history, so four rounds that stay would be 80 MiB; the memory of the
    # allocator and the page cache varies by 20 MiB from round to round.
    assert min(later[2:]) - first < 30 * MIB


def test_opening_a_file_does_not_read_ended_instances(processes: StoreProcesses) -> None:
    process = processes.start(serve=True)
    process.ask("start_many", "ended", 2_000, "echo", "x" * 5_000)
    process.ask("wait_for_many", "ended", 2_000)
    process.ask("shutdown")
    process.ask("close")
    process.leave()
    empty = StoreProcesses(processes.file.with_name("empty.db"), processes.ledger, processes.started)
    other = empty.start(serve=True)
    again = processes.start(serve=True)
    for each in (other, again):
        assert each.ask("round_trips", "one", 1)
    # The file has 40 MB of histories.
    assert resident_after(again) - resident_after(other) < 10 * MIB
