"""A replayed orchestrator of durabletask does what one that stays in memory does."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from duroxide import Client, Provider, Runtime, RuntimeOptions
from duroxide.durabletask import task
from duroxide.durabletask._functions import Function
from duroxide.durabletask._orchestration.driver import orchestration_of
from duroxide.durabletask._worker.activities import activity_of
from duroxide.durabletask.serialization import DEFAULT_DATA_CONVERTER

VIEWS: dict[str, list[list[object]]] = {}


def work(ctx, number):
    if number % 5 == 4:
        raise ValueError(number)
    return number


def child(ctx, number):
    yield ctx.create_timer(timedelta(milliseconds=number % 3))
    return (yield ctx.call_activity(work, input=number))


def program(ctx, seed):
    """Makes tasks of all kinds and waits for them in an order of chance, and notes what it sees."""
    choose = random.Random(seed)
    policy = task.RetryPolicy(first_retry_interval=0.001, max_number_of_attempts=2, jitter=0.5)
    made: list[task.Task] = []
    seen: list[object] = []
    # Each run of the code leaves a view.
    VIEWS.setdefault(ctx.instance_id, []).append(seen)
    for number in range(24):
        kind = choose.choice(["activity", "retry", "child", "timer", "event", "any", "all", "cancel"])
        if kind == "activity":
            made.append(ctx.call_activity(work, input=number))
        elif kind == "retry":
            made.append(ctx.call_activity(work, input=number, retry_policy=policy))
        elif kind == "child":
            made.append(ctx.call_sub_orchestrator(child, input=number))
        elif kind == "timer":
            made.append(ctx.create_timer(timedelta(milliseconds=choose.randrange(4))))
        elif kind == "event":
            made.append(ctx.wait_for_external_event("tick"))
        elif kind == "cancel":
            made.append(ctx.create_timer(timedelta(hours=1)))
            made[-1].cancel()
        elif made:
            chosen = [choose.choice(made) for _ in range(3)]
            made.append((task.when_any if kind == "any" else task.when_all)(chosen))
        if made and choose.random() < 0.5:
            waited = choose.choice(made)
            try:
                value = yield waited
            except (task.TaskFailedError, task.TaskCancelledError) as error:
                value = type(error).__name__
            seen.append([described(value, made), str(ctx.current_utc_datetime), [each.is_complete for each in made]])
    return seen


def described(value: object, made: list[task.Task]) -> object:
    """Name a task by its place."""
    if isinstance(value, list):
        return [described(each, made) for each in value]
    return made.index(value) if isinstance(value, task.Task) else value


@pytest.mark.parametrize(
    ("store", "seed"), [("memory", seed) for seed in range(16)] + [("postgres", 0), ("postgres", 1)]
)
@pytest.mark.parametrize("sticky", [True, False])
def test_every_run_of_the_code_sees_the_same(provider: Provider, seed: int, sticky: bool) -> None:
    functions = {each.__name__: Function.of(each) for each in (work, child, program)}
    runtime = Runtime(provider, RuntimeOptions(sticky=sticky))
    runtime.register_activity("work", activity_of(functions["work"], DEFAULT_DATA_CONVERTER))
    for name in ("child", "program"):
        runtime.register_orchestration(name, orchestration_of(functions[name], DEFAULT_DATA_CONVERTER, {}))
    client = Client(provider)
    instance = f"{provider.kind}-{sticky}-{seed}"
    with runtime:
        client.start_orchestration(instance, "program", seed)
        for number in range(24):
            client.raise_event(instance, "tick", number)
        last = client.wait_for_orchestration(instance).result()
    views = VIEWS.pop(instance)
    assert len(last) > 3
    assert (len(views) > 1) is not sticky
    assert all(last[: len(each)] == each for each in views)
