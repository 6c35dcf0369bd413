"""Coroutine programs whose steps really race, and a process that plays them until it is killed.

``racing_programs.py STORE FIRST LAST LIFE``: the path of a SQLite file, the seeds, and the number of its life.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from typing import Any

from duroxide import Client, OrchestrationContext, Runtime, RuntimeOptions, SqliteProvider
from replay.program_runner import REQUESTS, child, fail, instance_of, waits_of
from replay.random_coroutines import RandomProgram, text_of

# Small enough that some are evicted before they continue, and some are not.
CROWDED = RuntimeOptions(dispatcher_poll_interval_ms=10, max_sticky_orchestrations=10, sticky_idle_timeout_ms=50)
REPLAYED = RuntimeOptions(dispatcher_poll_interval_ms=10, sticky=False)

SECONDS = 90

AGAIN = "again"
"""The event at which a program writes what it saw once more."""


async def race(ctx: OrchestrationContext, seed: int) -> Any:
    """One program; it writes what it saw, and writes it again when it is replayed."""
    program = RandomProgram(ctx, f"race {seed}", in_turn=False)
    try:
        result = await program.run()
    except asyncio.CancelledError as error:
        result = f"cancelled {error.args} {json.dumps(program.seen, default=text_of)}"
    ctx.set_kv_value("saw", result)
    await ctx.wait_for_event(AGAIN)
    ctx.set_kv_value("saw again", result)
    return result


def third_time(ctx: Any, _key: str) -> int:
    """Raise for about every second activity."""
    if ctx.activity_id % 2:
        raise ConnectionError("not yet")
    return 3


def runtime_of(provider: SqliteProvider, options: RuntimeOptions) -> Runtime:
    """A runtime that plays the programs, not started yet."""
    runtime = Runtime(provider, options)
    runtime.register_activity("echo", lambda ctx, input: input)
    runtime.register_activity("fail", fail)
    runtime.register_activity("third_time", third_time)
    runtime.register_orchestration("race", race)
    runtime.register_orchestration("child", child)
    return runtime


def advance(client: Client, seeds: range, chance: random.Random) -> int:
    """Deliver one awaited event to each program, or cancel it; return how many have not written what they saw."""
    left = 0
    for seed in seeds:
        instance = instance_of(seed)
        status = client.get_status(instance)
        assert status.mismatch is None, f"seed {seed}: {status.mismatch}"
        if status.status == "NotFound":
            client.start_orchestration(instance, "race", seed)
            left += 1
            continue
        assert status.status == "Running" or status.error == "canceled: by chance", f"seed {seed}: {status}"
        if status.status != "Running" or client.get_kv_value(instance, "saw") is not None:
            continue
        left += 1
        # It may have written since the check; then only the test decides when it continues.
        not_ours = (REQUESTS, AGAIN)
        waits = [wait for wait in waits_of(client.read_execution_history(instance, 1)) if wait[1] not in not_ours]
        if chance.random() < 0.01:
            client.cancel_instance(instance, "by chance")
        elif waits:
            kind, name = chance.choice(waits)
            if kind == "QueueSubscribed":
                client.enqueue_event(instance, name, "message")
            else:
                client.raise_event(instance, name, "event")
    return left


def main(arguments: list[str]) -> None:
    path, first, last, life = arguments
    seeds, chance = range(int(first), int(last)), random.Random(life)
    provider = SqliteProvider.open(path)
    client = Client(provider)
    with runtime_of(provider, CROWDED):
        deadline = time.monotonic() + SECONDS
        while advance(client, seeds, chance) > 0:
            print("continued", flush=True)
            assert time.monotonic() < deadline
            time.sleep(0.002)
        print("over", flush=True)
    provider.close()


if __name__ == "__main__":
    main(sys.argv[1:])
