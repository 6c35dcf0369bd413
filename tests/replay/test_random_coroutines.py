"""Random coroutine programs see the same awake, replayed and evicted, in whatever order events come first.

``DUROXIDE_RANDOM_PROGRAMS=10000`` sets the number of programs, and ``DUROXIDE_RANDOM_SEED`` the first seed.
"""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from duroxide import Client, OrchestrationContext, RuntimeOptions, SqliteProvider
from replay import racing_programs
from replay.program_runner import AWAKE, CROWDED, PROGRAMS_AT_ONCE, REPLAYED, Histories, ProgramRunner, instance_of
from replay.random_coroutines import RandomProgram
from support.waiting import wait_until

pytestmark = [
    pytest.mark.task_groups,
    pytest.mark.filterwarnings("ignore:orchestration 'program' made a task and never yielded it:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
]

PROGRAMS = int(os.environ.get("DUROXIDE_RANDOM_PROGRAMS", "200"))
FIRST_SEED = int(os.environ.get("DUROXIDE_RANDOM_SEED", "0"))
RACING = PROGRAMS * 2 // 3
KILLS = 3


@pytest.fixture(autouse=True)
def free_coroutines() -> Iterator[None]:
    """Collect coroutines that were cancelled before they began, while the warnings about them are ignored."""
    yield
    gc.collect()


async def program(ctx: OrchestrationContext, input: list[int]) -> Any:
    seed, rounds = input
    result = await RandomProgram(ctx, f"{seed} {rounds}", in_turn=True).run()
    if rounds > 0:
        await ctx.continue_as_new([seed, rounds - 1])
    return result


def play(
    seeds: range, options: RuntimeOptions, provider: SqliteProvider, *, restarts: bool = False
) -> tuple[Histories, int]:
    """The histories of programs, and how often their code was called."""
    runner = ProgramRunner(program, options, provider, restarts=restarts, cancelled=0.03)
    return runner.play(seeds), runner.calls


@pytest.mark.parametrize("first_seed", range(FIRST_SEED, FIRST_SEED + PROGRAMS, PROGRAMS_AT_ONCE))
def test_a_coroutine_program_records_the_same_awake_replayed_and_evicted(first_seed: int, tmp_path: Path) -> None:
    seeds = range(first_seed, min(first_seed + PROGRAMS_AT_ONCE, FIRST_SEED + PROGRAMS))
    replayed, most_calls = play(seeds, REPLAYED, SqliteProvider.in_memory())
    awake, fewest_calls = play(seeds, AWAKE, SqliteProvider.in_memory())
    crowded, some_calls = play(seeds, CROWDED, SqliteProvider.open(str(tmp_path / "store.db")), restarts=True)
    for seed in seeds:
        instance = instance_of(seed)
        assert awake[instance] == replayed[instance], f"seed {seed}, kept awake"
        assert crowded[instance] == replayed[instance], f"seed {seed}, sometimes evicted"
    assert fewest_calls < some_calls < most_calls


def has_ended(client: Client, instance: str) -> bool:
    status = client.get_status(instance)
    assert status.mismatch is None, f"{instance}: {status.mismatch}"
    return status.status != "Running"


def check_replay(provider: SqliteProvider, seeds: range) -> None:
    """Let a runtime without a sticky cache replay whole histories: the code must see what it saw the first time."""
    client = Client(provider)
    with racing_programs.runtime_of(provider, racing_programs.REPLAYED):
        for seed in seeds:
            instance = instance_of(seed)
            status = client.get_status(instance)
            if status.status == "Running":
                client.raise_event(instance, racing_programs.AGAIN)
                wait_until(partial(has_ended, client, instance))
                status = client.get_status(instance)
            values = client.get_kv_all_values(instance)
            # One that was cancelled long ago has used up its time.
            if "saw again" in values or status.status == "Completed":
                assert values["saw again"] == values["saw"], f"seed {seed}"


@pytest.mark.parametrize("first_seed", range(FIRST_SEED, FIRST_SEED + RACING, PROGRAMS_AT_ONCE))
def test_the_order_of_racing_events_is_the_same_at_replay(first_seed: int) -> None:
    seeds = range(first_seed, min(first_seed + PROGRAMS_AT_ONCE, FIRST_SEED + RACING))
    chance = random.Random(first_seed)
    provider = SqliteProvider.in_memory()
    client = Client(provider)
    runtime = racing_programs.runtime_of(provider, racing_programs.CROWDED)
    runtime.start()

    def have_all_written() -> bool:
        nonlocal runtime
        if chance.random() < 0.1:
            runtime.shutdown(10_000)
            runtime = racing_programs.runtime_of(provider, racing_programs.CROWDED)
            runtime.start()
        return racing_programs.advance(client, seeds, chance) == 0

    wait_until(have_all_written, seconds=racing_programs.SECONDS)
    runtime.shutdown(10_000)
    check_replay(provider, seeds)
    provider.close()


@pytest.mark.alone
@pytest.mark.slow
def test_coroutine_programs_continue_in_another_process_after_a_kill(tmp_path: Path) -> None:
    seeds = range(FIRST_SEED, FIRST_SEED + PROGRAMS_AT_ONCE)
    chance = random.Random(FIRST_SEED)
    file = tmp_path / "store.db"
    for lives in range(KILLS + 1):
        command = [sys.executable, racing_programs.__file__, str(file), str(seeds.start), str(seeds.stop), str(lives)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        ) as process:
            assert process.stdout is not None
            # The last life is not killed.
            for _ in range(chance.randint(2, 6) if lives < KILLS else sys.maxsize):
                if process.stdout.readline() != "continued\n":
                    break
            process.kill() if lives < KILLS else process.wait()
    assert process.returncode == 0
    with SqliteProvider.open(str(file)) as provider:
        check_replay(provider, seeds)
