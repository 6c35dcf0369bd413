"""Programs made by chance, one thing at a time: kept awake, replayed at every turn or now and then, they record the same.

``DUROXIDE_RANDOM_PROGRAMS=10000`` plays so many of them, and ``DUROXIDE_RANDOM_SEED`` begins elsewhere.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Generator
from typing import Any

import pytest

from deadline import wait_until
from duroxide import Client, OrchestrationContext, Runtime, RuntimeOptions, SqliteProvider, Task
from replay.playback import is_settled, mask

Steps = Generator[Task[Any], Any, Any]
Histories = dict[str, list[tuple[int, str, str]]]

PROGRAMS = int(os.environ.get("DUROXIDE_RANDOM_PROGRAMS", "150"))
FIRST_SEED = int(os.environ.get("DUROXIDE_RANDOM_SEED", "0"))
PROGRAMS_AT_ONCE = 50

STEPS = 4
DEPTH = 2
# Beyond it a timer never fires here, so that only the test decides what happens first.
HOURS_MS = 10 * 3_600_000
RETRY = {"max_attempts": 3, "backoff": "fixed", "base_ms": 1, "timeout_ms": HOURS_MS, "total_timeout_ms": 2 * HOURS_MS}

AWAKE = RuntimeOptions(dispatcher_poll_interval_ms=10)
REPLAYED = RuntimeOptions(dispatcher_poll_interval_ms=10, sticky=False)
# Most are evicted before they go on, and some are not.
CROWDED = RuntimeOptions(dispatcher_poll_interval_ms=10, max_sticky_orchestrations=PROGRAMS_AT_ONCE // 3)


class Walk:
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
        """One operation that ends by itself, or an effect."""
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
                yield ctx.get_kv_value_from_instance(f"{ctx.instance_id}-nobody", "key")
        return [ctx.get_custom_status(), ctx.get_kv_all_values()]

    def branch(self, others: int) -> Steps:
        """Steps of which each waits until the test lets it go on, so that branches never race each other."""
        taken: list[Any] = []
        for _ in range(others):
            taken.append((yield self.outside()))
            taken.append((yield from self.caught(self.step())))
            self.seen.append(len(taken))
        return taken

    async def coroutine(self, tree: Task[Any]) -> Any:
        return [await tree, await self.outside()]

    def outside(self) -> Task[Any]:
        """A wait for somebody outside."""
        if self.chance.random() < 0.3:
            return self.ctx.dequeue_event(f"queue-{self.chance.randrange(2)}")
        return self.ctx.wait_for_event(self.name())

    def tree(self, depth: int) -> Any:
        """Tasks of which none ends by itself."""
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
            # A race against something that the test can bring about, since hours are too long.
            steps = self.step() if self.chance.random() < 0.5 else one(self.ctx.race(self.tree(DEPTH), self.outside()))
            self.seen.append((yield from self.caught(steps)))
            yield self.ctx.schedule_activity("echo", json.dumps(self.seen, default=str))
        return self.seen


def one(task: Task[Any]) -> Steps:
    return (yield task)


def child(ctx: OrchestrationContext, input: Any) -> Steps:
    if (yield ctx.schedule_activity("echo", input)) == "name-003":
        raise ValueError("refused")
    return input


class Stage:
    """Plays programs side by side on one store, and answers their histories."""

    def __init__(self, options: RuntimeOptions, *, restarts: bool) -> None:
        self.provider = SqliteProvider.in_memory()
        self.client = Client(self.provider)
        self.options = options
        self.restarts = restarts
        self.chance = random.Random(FIRST_SEED)
        self.tries: Counter[str] = Counter()
        self.calls = 0

    def program(self, ctx: OrchestrationContext, input: list[int]) -> Steps:
        self.calls += 1
        seed, rounds = input
        walk = Walk(ctx, f"{seed} {rounds}")
        result = yield from walk.run()
        if rounds > 0:
            yield ctx.continue_as_new([seed, rounds - 1])
        return result

    def third_time(self, _ctx: Any, key: str) -> int:
        self.tries[key] += 1
        if self.tries[key] < 3:
            raise ConnectionError("not yet")
        return self.tries[key]

    def fail(self, _ctx: Any, input: str) -> None:
        raise ValueError(input)

    def start(self) -> Runtime:
        runtime = Runtime(self.provider, self.options)
        runtime.register_activity("echo", lambda ctx, input: input)
        runtime.register_activity("fail", self.fail)
        runtime.register_activity("third_time", self.third_time)
        runtime.register_orchestration("program", self.program)
        runtime.register_orchestration("child", child)
        runtime.start()
        return runtime

    def events(self, instance: str) -> list[Any]:
        executions = self.client.list_executions(instance)
        return [event for each in executions for event in self.client.read_execution_history(instance, each)]

    def play(self, seeds: range) -> Histories:
        runtime = self.start()
        for seed in seeds:
            self.client.start_orchestration(instance_of(seed), "program", [seed, seed % 3 // 2])
        running = dict.fromkeys(seeds, 0)
        histories: Histories = {}
        while running:
            found = {seed: self.settled(seed, known) for seed, known in running.items()}
            if self.restarts and self.chance.random() < 0.3:
                runtime.shutdown(10_000)
                runtime = self.start()
            for seed, events in found.items():
                instance = instance_of(seed)
                if events[-1].kind in ("OrchestrationCompleted", "OrchestrationFailed"):
                    del running[seed]
                    histories[instance] = [(each.execution_id, each.kind, mask(each.data, instance)) for each in events]
                else:
                    running[seed] = len(events)
                    self.go_on(seed, events)
        runtime.shutdown(10_000)
        self.provider.close()
        return histories

    def settled(self, seed: int, known: int) -> list[Any]:
        """The events of a program, when there are more and nothing more happens by itself."""
        instance = instance_of(seed)
        events: list[Any] = []

        def is_there() -> bool:
            nonlocal events
            status = self.client.get_status(instance)
            assert status.mismatch is None, f"seed {seed}"
            if status.status == "NotFound":
                return False
            events = self.events(instance)
            return len(events) > known and is_settled(events, ())

        wait_until(is_there, seconds=60)
        return events

    def go_on(self, seed: int, events: list[Any]) -> None:
        """Bring about one of the things that a program waits for."""
        current = [event for event in events if event.execution_id == events[-1].execution_id]
        cancelled = {event.source_event_id for event in current if event.kind.endswith("Cancelled")}
        waits: Counter[tuple[str, str]] = Counter()
        for event in current:
            name = json.loads(event.data).get("name", "")
            match event.kind:
                case "ExternalSubscribed" | "QueueSubscribed" if event.event_id not in cancelled:
                    waits[event.kind, name] += 1
                case "ExternalEvent":
                    waits["ExternalSubscribed", name] -= 1
                case "QueueEventDelivered":
                    waits["QueueSubscribed", name] -= 1
        missing = sorted((+waits).elements())
        assert missing, f"seed {seed} waits for nothing after {[event.kind for event in current]}"
        kind, name = random.Random(f"{seed} {len(events)}").choice(missing)
        if kind == "QueueSubscribed":
            self.client.enqueue_event(instance_of(seed), name, f"message {len(events)}")
        else:
            self.client.raise_event(instance_of(seed), name, {"data": len(events)})


def instance_of(seed: int) -> str:
    return f"program-{seed:06}"


def play(seeds: range, options: RuntimeOptions, *, restarts: bool = False) -> tuple[Histories, int]:
    """The histories of programs, and how often the code of all of them was called."""
    stage = Stage(options, restarts=restarts)
    return stage.play(seeds), stage.calls


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
        assert crowded[instance] == replayed[instance], f"seed {seed}, evicted now and then"
    assert fewest_calls < some_calls < most_calls
