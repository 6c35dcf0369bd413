"""Programs of durabletask that both type checkers accept, with the inferred types. Nothing here runs."""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from typing_extensions import assert_type

from duroxide.durabletask import task
from duroxide.durabletask.azuremanaged.client import AsyncDurableTaskSchedulerClient, DurableTaskSchedulerClient
from duroxide.durabletask.azuremanaged.worker import DurableTaskSchedulerWorker
from duroxide.durabletask.client import OrchestrationState


@dataclass
class Order:
    """An input."""

    cents: int


def charge(ctx: task.ActivityContext, order: Order) -> str:
    """Be an activity."""
    return f"{ctx.orchestration_id} {order.cents}"


async def ship(ctx: task.ActivityContext, lines: list[str]) -> int:
    """Be an activity on asyncio."""
    return len(lines)


async def child(ctx: task.OrchestrationContext, number: int) -> float:
    """Be a coroutine."""
    await ctx.create_timer(timedelta(seconds=1))
    return number / 2


def generator(ctx: task.OrchestrationContext, number: int) -> Generator[task.Task[Any], Any, float]:
    """Be a generator."""
    half = yield ctx.call_sub_orchestrator(child, input=number)
    return float(half)


async def fulfil(ctx: task.OrchestrationContext, order: Order) -> str:
    """Wait for tasks of all kinds."""
    assert_type(ctx.call_activity(charge, input=order), task.CompletableTask[str])
    assert_type(ctx.call_activity(ship, input=["a"]), task.CompletableTask[int])
    assert_type(ctx.call_activity("charge"), task.CompletableTask[Any])
    assert_type(ctx.call_activity("charge", return_type=str), task.CompletableTask[str])
    assert_type(ctx.call_sub_orchestrator(child, input=1), task.CompletableTask[float])
    assert_type(ctx.call_sub_orchestrator(fulfil, input=order), task.CompletableTask[str])
    assert_type(ctx.wait_for_external_event("paid"), task.CancellableTask[Any])
    assert_type(ctx.wait_for_external_event("paid", data_type=bool), task.CancellableTask[bool])
    both = [ctx.call_activity(ship, input=[line]) for line in "ab"]
    assert_type(await task.when_all(both), list[int])
    winner = await task.when_any(both)
    assert_type(winner.get_result(), Any)
    return await ctx.call_activity(charge, input=order)


def run(scheduler: dict[str, Any]) -> None:
    """Use the worker and the client."""
    with DurableTaskSchedulerWorker(**scheduler) as worker, DurableTaskSchedulerClient(**scheduler) as client:
        assert_type(worker.add_orchestrator(fulfil), str)
        assert_type(worker.add_orchestrator(generator), str)
        assert_type(worker.add_activity(charge), str)
        instance = client.schedule_new_orchestration(fulfil, input=Order(5))
        state = client.wait_for_orchestration_completion(instance)
        assert_type(state, OrchestrationState | None)
        if state is not None:
            assert_type(state.get_output(str), str)
            assert_type(state.get_input(Order), Order)
            assert_type(state.get_output(), Any)


async def run_async(scheduler: dict[str, Any]) -> str:
    """Use the client for asyncio."""
    async with AsyncDurableTaskSchedulerClient(**scheduler) as client:
        return await client.schedule_new_orchestration("fulfil", input=Order(5))
