"""Coroutine programs made by chance: awake, replayed and evicted, and whatever happened first, they see the same.

``DUROXIDE_RANDOM_PROGRAMS=10000`` plays so many of them, and ``DUROXIDE_RANDOM_SEED`` begins elsewhere.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from duroxide import OrchestrationContext, RuntimeOptions, SqliteProvider
from replay.coroutines import Walk
from replay.stage import AWAKE, CROWDED, PROGRAMS_AT_ONCE, REPLAYED, Histories, Stage, instance_of

pytestmark = [
    pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio has no task groups and no timeouts"),
    pytest.mark.filterwarnings("ignore:orchestration 'program' made a task and never yielded it:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
]

PROGRAMS = int(os.environ.get("DUROXIDE_RANDOM_PROGRAMS", "150"))
FIRST_SEED = int(os.environ.get("DUROXIDE_RANDOM_SEED", "0"))


async def program(ctx: OrchestrationContext, input: list[int]) -> Any:
    seed, rounds = input
    result = await Walk(ctx, f"{seed} {rounds}", in_turn=True).run()
    if rounds > 0:
        await ctx.continue_as_new([seed, rounds - 1])
    return result


def play(seeds: range, options: RuntimeOptions, provider: SqliteProvider, *, restarts: bool = False) -> tuple[Histories, int]:
    """The histories of programs, and how often the code of all of them was called."""
    stage = Stage(program, options, provider, restarts=restarts, cancelled=0.03)
    return stage.play(seeds), stage.calls


@pytest.mark.parametrize("first_seed", range(FIRST_SEED, FIRST_SEED + PROGRAMS, PROGRAMS_AT_ONCE))
def test_a_program_of_coroutines_records_the_same_awake_replayed_and_evicted(first_seed: int, tmp_path: Path) -> None:
    seeds = range(first_seed, min(first_seed + PROGRAMS_AT_ONCE, FIRST_SEED + PROGRAMS))
    replayed, most_calls = play(seeds, REPLAYED, SqliteProvider.in_memory())
    awake, fewest_calls = play(seeds, AWAKE, SqliteProvider.in_memory())
    crowded, some_calls = play(seeds, CROWDED, SqliteProvider.open(str(tmp_path / "store.db")), restarts=True)
    for seed in seeds:
        instance = instance_of(seed)
        assert awake[instance] == replayed[instance], f"seed {seed}, kept awake"
        assert crowded[instance] == replayed[instance], f"seed {seed}, evicted now and then"
    assert fewest_calls < some_calls < most_calls


RACING = int(PROGRAMS * 0.6)
# Some are evicted, and some go on awake.
RACED = RuntimeOptions(dispatcher_poll_interval_ms=10, max_sticky_orchestrations=10, sticky_idle_timeout_ms=50)


async def race(ctx: OrchestrationContext, input: list[int]) -> Any:
    """A program in which whatever ends first comes first; it tells what it saw, and once more when it is replayed."""
    walk = Walk(ctx, f"race {input[0]}", in_turn=False)
    try:
        result = await walk.run()
    except asyncio.CancelledError as error:
        result = f"cancelled {error.args} {json.dumps(walk.seen, default=said)}"
    ctx.set_kv_value("saw", result)
    await ctx.wait_for_event("again")
    return result


def advance(client: Client, seeds: range, chance: random.Random) -> bool:
    """Bring about one of the things that each program waits for, or end it; whether some program has not seen all yet."""
    racing = False
    for seed in seeds:
        instance = instance_of(seed)
        status = client.get_status(instance)
        assert status.mismatch is None, f"seed {seed}: {status.mismatch}"
        if status.status == "NotFound" or client.get_kv_value(instance, "saw") is not None:
            racing |= status.status == "NotFound"
            continue
        assert status.status == "Running", f"seed {seed}: {status}"
        racing = True
        missing = [(kind, name) for kind, name in waits_of(client.read_execution_history(instance, 1)) if name != REQUESTS]
        if chance.random() < 0.01:
            client.cancel_instance(instance, "by chance")
        elif missing:
            kind, name = chance.choice(missing)
            (client.enqueue_event if kind == "QueueSubscribed" else client.raise_event)(instance, name, "message")
    return racing
