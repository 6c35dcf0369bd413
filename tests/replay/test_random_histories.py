"""Random programs, one event at a time: they record the same awake, replayed at every turn, or sometimes evicted.

``DUROXIDE_RANDOM_PROGRAMS=10000`` sets the number of programs, and ``DUROXIDE_RANDOM_SEED`` the first seed.
"""

from __future__ import annotations

import json
import os
import random
from typing import Any

import pytest

from duroxide import OrchestrationContext, RuntimeOptions, SqliteProvider, Task
from replay.program_runner import (
    AWAKE,
    CROWDED,
    HOURS_MS,
    PROGRAMS_AT_ONCE,
    REPLAYED,
    Histories,
    ProgramRunner,
    Steps,
    instance_of,
)

PROGRAMS = int(os.environ.get("DUROXIDE_RANDOM_PROGRAMS", "150"))
FIRST_SEED = int(os.environ.get("DUROXIDE_RANDOM_SEED", "0"))

STEPS = 4
DEPTH = 2
RETRY = {"max_attempts": 3, "backoff": "fixed", "base_ms": 1, "timeout_ms": HOURS_MS, "total_timeout_ms": 2 * HOURS_MS}


class RandomProgram:
    """One program: the same seed takes the same steps, whatever happens first."""

    def __init__(self, ctx: OrchestrationContext, seed: str) -> None:
        self.ctx = ctx
        self.chance = random.Random(seed)
        self.names = 0
        self.seen: list[Any] = []

    def name(self) -> str:
        self.names += 1
        return f"name-{self.names:03}"

    def step(self) -> Steps:
        """One operation that ends without the test, or an effect."""
        ctx, chance = self.ctx, self.chance
        match chance.randrange(15):
            case 0 | 1 | 2:
                return (yield ctx.schedule_activity("echo", self.name()))
            case 3:
                return (yield ctx.schedule_activity("fail", self.name()))
            case 4:
                return (yield ctx.schedule_activity("third_time", f"{ctx.instance_id}-{self.name()}", retry=RETRY))
            case 5:
                return (yield ctx.schedule_activity("fail", self.name(), retry=RETRY))
            case 6:
                yield ctx.schedule_timer(chance.randrange(3))
            case 7:
                return (yield ctx.schedule_sub_orchestration("child", self.name()))
            case 8:
                yield ctx.start_orchestration(
                    "child", f"{ctx.instance_id}-{ctx.execution_id}-{self.name()}", "detached"
                )
            case 9:
                values = [ctx.now().isoformat(), str(ctx.uuid()), ctx.random().random(), ctx.is_replaying()]
                # Recorded, so that a replay that sees something else does not match.
                return (yield ctx.schedule_activity("echo", values[:3])) == values[:3]
            case 10:
                ctx.set_kv_value(f"key-{chance.randrange(4)}", self.name())
                ctx.set_custom_status(str(ctx.get_kv_length()))
            case 11:
                ctx.clear_kv_value(f"key-{chance.randrange(4)}")
            case 12:
                count = ctx.prune_kv_values_updated_before(chance.choice([0, 1 << 52]))
                ctx.set_custom_status(f"pruned {count}")
            case 13:
                ctx.reset_custom_status() if chance.random() < 0.5 else ctx.clear_all_kv_values()
            case _:
                yield ctx.get_kv_value_from_instance(f"{ctx.instance_id}-unknown", "key")
        return [ctx.get_custom_status(), ctx.get_kv_all_values()]

    def branch(self, others: int) -> Steps:
        """Steps of which each waits until the test releases it, so that branches never race each other."""
        taken: list[Any] = []
        for _ in range(others):
            taken.append((yield self.outside()))
            taken.append((yield from self.caught(self.step())))
            self.seen.append(len(taken))
        return taken

    async def coroutine(self, tree: Task[Any]) -> Any:
        return [await tree, await self.outside()]

    def outside(self) -> Task[Any]:
        """A wait for the test."""
        if self.chance.random() < 0.3:
            return self.ctx.dequeue_event(f"queue-{self.chance.randrange(2)}")
        return self.ctx.wait_for_event(self.name())

    def tree(self, depth: int) -> Any:
        """Tasks that all need the test to end."""
        ctx, chance = self.ctx, self.chance
        if depth == 0 or chance.random() < 0.2:
            return ctx.schedule_timer(HOURS_MS) if chance.random() < 0.1 else self.outside()
        tasks = [self.tree(depth - 1) for _ in range(chance.randint(1, 3))]
        match chance.randrange(6):
            case 0:
                return ctx.all([*tasks, self.outside()])
            case 1:
                return ctx.race(*tasks, self.outside())
            case 2:
                return ctx.gather(*tasks, self.outside())
            case 3:
                return ctx.race(ctx.gather(tasks), self.branch(2), self.outside())
            case 4:
                return ctx.race(ctx.spawn(ctx.all(tasks)), self.coroutine(self.outside()))
            case _:
                return ctx.gather(self.branch(1), self.outside())

    def caught(self, steps: Steps) -> Steps:
        try:
            return (yield from steps)
        except Exception as error:
            return f"{type(error).__name__}: {error} {getattr(error, 'index', '')}"

    def run(self) -> Steps:
        for _ in range(STEPS):
            # A race against something that the test can deliver, since hours are too long.
            steps = self.step() if self.chance.random() < 0.5 else one(self.ctx.race(self.tree(DEPTH), self.outside()))
            self.seen.append((yield from self.caught(steps)))
            yield self.ctx.schedule_activity("echo", json.dumps(self.seen, default=str))
        return self.seen


def one(task: Task[Any]) -> Steps:
    return (yield task)


def program(ctx: OrchestrationContext, input: list[int]) -> Steps:
    seed, rounds = input
    result = yield from RandomProgram(ctx, f"{seed} {rounds}").run()
    if rounds > 0:
        yield ctx.continue_as_new([seed, rounds - 1])
    return result


def play(seeds: range, options: RuntimeOptions, *, restarts: bool = False) -> tuple[Histories, int]:
    """The histories of programs, and how often their code was called."""
    runner = ProgramRunner(program, options, SqliteProvider.in_memory(), restarts=restarts)
    return runner.play(seeds), runner.calls


@pytest.mark.filterwarnings("ignore:orchestration 'program' made a task and never yielded it:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("first_seed", range(FIRST_SEED, FIRST_SEED + PROGRAMS, PROGRAMS_AT_ONCE))
def test_a_program_records_the_same_awake_replayed_and_evicted(first_seed: int) -> None:
    seeds = range(first_seed, min(first_seed + PROGRAMS_AT_ONCE, FIRST_SEED + PROGRAMS))
    replayed, most_calls = play(seeds, REPLAYED)
    awake, fewest_calls = play(seeds, AWAKE)
    crowded, some_calls = play(seeds, CROWDED, restarts=True)
    for seed in seeds:
        instance = instance_of(seed)
        assert awake[instance] == replayed[instance], f"seed {seed}, kept awake"
        assert crowded[instance] == replayed[instance], f"seed {seed}, sometimes evicted"
    assert fewest_calls < some_calls < most_calls
