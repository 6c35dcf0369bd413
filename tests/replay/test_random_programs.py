"""Random programs: every turn replays the ones before it, so an order that changes shows as a mismatch."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Generator
from typing import Any

import pytest

from conftest import StartRuntime
from duroxide import Client, OrchestrationContext, RuntimeOptions, Task
from support.waiting import wait_until

Steps = Generator[Task[Any], Any, Any]

PROGRAMS_AT_ONCE = 60
DEPTH = 3
STEPS = 3

AWAKE = RuntimeOptions()
REPLAYED = RuntimeOptions(sticky=False)
# Small enough that most are evicted before they continue, and replay what was recorded before.
CROWDED = RuntimeOptions(max_sticky_orchestrations=PROGRAMS_AT_ONCE // 3)

LEAVES = ("echo", "echo", "fail", "timer", "event", "event", "queue", "child", "retry", "value")
COMBINATORS = ("all", "race", "gather", "branch", "coroutine", "spawn")


class Builder:
    """Builds the tasks of one program; the same seed builds the same ones in every turn."""

    def __init__(self, ctx: OrchestrationContext, seed: int) -> None:
        self.ctx = ctx
        self.chance = random.Random(seed)
        self.count = 0

    def name(self) -> str:
        self.count += 1
        return f"name-{self.count}"

    def leaf(self) -> Task[Any]:
        ctx = self.ctx
        match self.chance.choice(LEAVES):
            case "echo":
                return ctx.schedule_activity("echo", self.name())
            case "fail":
                return ctx.schedule_activity("fail", self.name())
            case "timer":
                return ctx.schedule_timer(self.chance.randint(0, 20))
            case "event":
                return ctx.wait_for_event(self.name())
            case "queue":
                return ctx.dequeue_event("inbox")
            case "child":
                return ctx.schedule_sub_orchestration("child", self.name())
            case "retry":
                policy = {
                    "max_attempts": 2,
                    "backoff": "fixed",
                    "base_ms": 5,
                    "timeout_ms": self.chance.choice([1, 10_000]),
                }
                return ctx.schedule_activity_with_retry(self.chance.choice(["echo", "fail"]), self.name(), policy)
            case _:
                return ctx.new_guid()

    def tree(self, depth: int) -> Any:
        if depth == 0 or self.chance.random() < 0.3:
            return self.leaf()
        kind = self.chance.choice(COMBINATORS)
        tasks = [self.tree(depth - 1) for _ in range(self.chance.randint(1, 4))]
        ctx = self.ctx
        match kind:
            case "all":
                return ctx.all(tasks)
            case "race":
                return ctx.race(*tasks)
            case "gather":
                return ctx.gather(*tasks)
            case "branch":
                return ctx.all([self.steps(tasks)])
            case "coroutine":
                return ctx.gather(self.awaits(tasks))
            case _:
                # Started now, and awaited where the tree ends.
                return ctx.spawn(ctx.all(tasks))

    def steps(self, tasks: list[Any]) -> Steps:
        results = []
        for task in tasks:
            try:
                results.append((yield task))
            except Exception as error:
                results.append(str(error))
            # The name is drawn when the branch reaches this line, so the order of the branches must be the same at
            # replay.
            results.append((yield self.ctx.schedule_activity("echo", self.name())))
        return results

    async def awaits(self, tasks: list[Any]) -> Any:
        return [await task for task in tasks]


def program(ctx: OrchestrationContext, seed: int) -> Steps:
    builder = Builder(ctx, seed)
    results: list[str] = []
    for _ in range(STEPS):
        try:
            results.append(text_of((yield builder.tree(DEPTH))))
        except Exception as error:
            results.append(f"{error} {getattr(error, 'index', '')}")
        # Recorded, so that a replay that sees something else does not match.
        ctx.set_kv_value("seen", str(len(results)))
        yield ctx.schedule_activity("echo", [results, str(ctx.uuid()), ctx.now().isoformat()])
    return results


def text_of(value: Any) -> str:
    return json.dumps(value, default=str)


def child(ctx: OrchestrationContext, input: Any) -> Steps:
    return (yield ctx.schedule_activity("echo", input))


def fail(ctx: Any, input: Any) -> None:
    raise ValueError(input)


def missing_events(client: Client, instance: str) -> list[str]:
    """The events that an instance waits for and that have not been raised."""
    waits: Counter[str] = Counter()
    for event in client.read_execution_history(instance):
        name = json.loads(event.data).get("name", "")
        if event.kind == "ExternalSubscribed":
            waits[name] += 1
        elif event.kind == "ExternalEvent":
            waits[name] -= 1
    return list((+waits).elements())


@pytest.mark.filterwarnings("ignore:orchestration 'program' made a task and never yielded it:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize(
    ("first_seed", "options"),
    [(0, AWAKE), (1000, REPLAYED), (2000, CROWDED)],
    ids=["awake", "replayed", "sometimes evicted"],
)
def test_a_random_program_sees_the_same_in_every_turn(
    first_seed: int, options: RuntimeOptions, runtime_factory: StartRuntime, client: Client
) -> None:
    runtime = runtime_factory(options=options, start=False)
    runtime.register_activity("echo", lambda ctx, input: input)
    runtime.register_activity("fail", fail)
    runtime.register_orchestration("program", program)
    runtime.register_orchestration("child", child)
    seeds = range(first_seed, first_seed + PROGRAMS_AT_ONCE)
    running = {f"program-{seed}" for seed in seeds}
    with runtime:
        for seed in seeds:
            client.start_orchestration(f"program-{seed}", "program", seed)
            for number in range(30):
                client.enqueue_event(f"program-{seed}", "inbox", f"message-{number}")

        def all_ended() -> bool:
            for instance in sorted(running):
                status = client.get_status(instance)
                assert status.mismatch is None
                assert status.status != "Failed", status.error
                if status.status == "Completed":
                    running.remove(instance)
                elif status.status == "Running":
                    for name in missing_events(client, instance):
                        client.raise_event(instance, name, name)
            return not running

        wait_until(all_ended, seconds=90)
