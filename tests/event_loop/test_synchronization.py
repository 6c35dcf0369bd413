"""Events, locks, semaphores, conditions, barriers, queues and futures between the tasks of one orchestration."""

from __future__ import annotations

import asyncio
import gc
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from typing import Any

from duroxide import OrchestrationContext
from event_loop.conftest import Play

who: ContextVar[str] = ContextVar("who", default="unknown")


def test_an_event_wakes_all_its_waiters_in_order(play: Play) -> None:
    async def signals(ctx: OrchestrationContext, _: Any) -> Any:
        event, order = asyncio.Event(), []

        async def wait(number: int) -> None:
            await event.wait()
            order.append(number)

        tasks = [asyncio.create_task(wait(number)) for number in range(3)]
        await ctx.schedule_activity("echo", "ready")
        event.set()
        await asyncio.gather(*tasks)
        return order

    assert play(signals) == [0, 1, 2]


def test_a_lock_is_held_across_steps_by_one_task_at_a_time(play: Play) -> None:
    async def locks(ctx: OrchestrationContext, _: Any) -> Any:
        lock, order = asyncio.Lock(), []

        async def work(number: int) -> None:
            async with lock:
                order.append(f"begin {number}")
                await ctx.schedule_activity("echo", number)
                order.append(f"end {number}")

        await asyncio.gather(*[work(number) for number in range(3)])
        return order

    assert play(locks) == [f"{word} {number}" for number in range(3) for word in ("begin", "end")]


def test_a_semaphore_bounds_how_many_steps_run_at_once(play: Play) -> None:
    async def bounded(ctx: OrchestrationContext, _: Any) -> Any:
        semaphore, running, most = asyncio.BoundedSemaphore(2), 0, 0

        async def work(number: int) -> Any:
            nonlocal running, most
            async with semaphore:
                running += 1
                most = max(most, running)
                value = await ctx.schedule_activity("echo", number)
                running -= 1
                return value

        return [await asyncio.gather(*[work(number) for number in range(6)]), most]

    assert play(bounded) == [list(range(6)), 2]


def test_a_condition_wakes_when_its_predicate_holds(play: Play) -> None:
    async def conditions(ctx: OrchestrationContext, _: Any) -> Any:
        condition, found = asyncio.Condition(), []

        async def find(number: int) -> None:
            value = await ctx.schedule_activity("echo", number)
            async with condition:
                found.append(value)
                condition.notify_all()

        tasks = [asyncio.create_task(find(number)) for number in range(3)]
        async with condition:
            await condition.wait_for(lambda: len(found) == 3)
        await asyncio.gather(*tasks)
        return sorted(found)

    assert play(conditions) == [0, 1, 2]


def test_a_barrier_releases_all_tasks_together(play: Play) -> None:
    async def meets(ctx: OrchestrationContext, _: Any) -> Any:
        barrier, passed = asyncio.Barrier(3), []

        async def arrive(number: int) -> None:
            await asyncio.sleep(number / 100)
            await barrier.wait()
            passed.append(number)

        await asyncio.gather(*[arrive(number) for number in range(3)])
        return await ctx.schedule_activity("echo", len(passed))

    assert play(meets) == 3


def test_a_queue_passes_items_between_tasks(play: Play) -> None:
    async def queues(ctx: OrchestrationContext, _: Any) -> Any:
        queue: asyncio.Queue[int] = asyncio.Queue(maxsize=1)

        async def produce() -> None:
            for number in range(4):
                await queue.put(await ctx.schedule_activity("echo", number))

        async with asyncio.TaskGroup() as group:
            group.create_task(produce())
            taken = []
            for _number in range(4):
                taken.append(await queue.get())
                queue.task_done()
            await queue.join()
        return taken

    assert play(queues) == [0, 1, 2, 3]


def test_a_priority_queue_gives_the_smallest_item_first(play: Play) -> None:
    async def queues(ctx: OrchestrationContext, _: Any) -> Any:
        queue: asyncio.PriorityQueue[int] = asyncio.PriorityQueue()
        for number in await asyncio.gather(*[ctx.schedule_activity("echo", number) for number in (3, 1, 2)]):
            queue.put_nowait(number)
        return [await queue.get() for _ in range(3)]

    assert play(queues) == [1, 2, 3]


def test_another_task_can_resolve_a_future_of_the_loop(play: Play) -> None:
    async def futures(ctx: OrchestrationContext, _: Any) -> Any:
        future = asyncio.get_running_loop().create_future()

        async def answer() -> None:
            future.set_result(await ctx.schedule_activity("echo", "answer"))

        task = asyncio.create_task(answer())
        return [await future, await task]

    assert play(futures) == ["answer", None]


def test_every_task_has_its_context_variables(play: Play) -> None:
    async def variables(ctx: OrchestrationContext, _: Any) -> Any:
        who.set("main")

        async def name(text: str) -> list[str]:
            before = who.get()
            who.set(text)
            await ctx.schedule_activity("echo", text)
            return [before, who.get()]

        values = await asyncio.gather(name("a"), name("b"))
        return [*values, who.get()]

    assert play(variables) == [["main", "a"], ["main", "b"], "main"]


def test_coroutines_passed_to_the_context_see_the_variables_of_the_caller(play: Play) -> None:
    async def variables(ctx: OrchestrationContext, _: Any) -> Any:
        async def name() -> str:
            await ctx.schedule_activity("echo", None)
            return who.get()

        before = ctx.spawn(name())
        who.set("giver")
        return [await before, *await ctx.gather(name(), name())]

    assert play(variables) == ["unknown", "giver", "giver"]


def test_context_variables_are_not_shared_between_orchestrations(play: Play) -> None:
    async def child(ctx: OrchestrationContext, input: str) -> str:
        before = who.get()
        who.set(input)
        await asyncio.sleep(0.005)
        return f"{before}, then {who.get()}"

    async def parent(ctx: OrchestrationContext, _: Any) -> Any:
        who.set("parent")
        return await asyncio.gather(*[ctx.schedule_sub_orchestration("child", text) for text in ("a", "b")])

    assert play(parent, orchestrations={"child": child}) == ["unknown, then a", "unknown, then b"]


def test_async_generators_and_context_managers_may_wait_for_steps(play: Play) -> None:
    async def composed(ctx: OrchestrationContext, _: Any) -> Any:
        log: list[Any] = []

        @asynccontextmanager
        async def scope(name: str) -> Any:
            log.append(await ctx.schedule_activity("echo", f"enter {name}"))
            try:
                yield name
            finally:
                log.append(await ctx.schedule_activity("echo", f"leave {name}"))

        async def numbers() -> Any:
            for number in range(3):
                yield await ctx.schedule_activity("echo", number)

        async with AsyncExitStack() as stack:
            for name in ("a", "b"):
                await stack.enter_async_context(scope(name))
            log.extend([number async for number in numbers()])
        return log

    assert play(composed) == ["enter a", "enter b", 0, 1, 2, "leave b", "leave a"]


def test_an_async_generator_that_is_left_early_is_closed(play: Play) -> None:
    async def composed(ctx: OrchestrationContext, _: Any) -> Any:
        log: list[str] = []

        async def numbers() -> Any:
            try:
                for number in range(3):
                    yield await ctx.schedule_activity("echo", number)
            finally:
                log.append(await ctx.schedule_activity("echo", "closed"))

        async for _number in numbers():
            break
        while not log:
            await asyncio.sleep(0.01)
        return log

    assert play(composed) == ["closed"]


def test_an_async_generator_found_by_the_garbage_collector_is_not_closed(play: Play) -> None:
    async def composed(ctx: OrchestrationContext, _: Any) -> Any:
        log: list[str] = []

        async def numbers() -> Any:
            try:
                yield await ctx.schedule_activity("echo", 1)
            finally:
                log.append(await ctx.schedule_activity("echo", "by chance"))

        generator = numbers()
        await anext(generator)
        circle: list[Any] = [generator]
        circle.append(circle)
        del circle, generator
        gc.collect()
        await asyncio.sleep(0.01)
        return log

    assert play(composed) == []
