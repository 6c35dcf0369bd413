"""Random coroutine programs that use all of asyncio.

All tasks of a program share the random generator and the names, so a replay that runs two of them in another order asks
for other steps. Each task records what it has seen, so a replay that sees something else is detected.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any

from duroxide import OrchestrationContext, Task
from replay.program_runner import HOURS_MS, Steps

STEPS = 3
DEPTH = 2
HOURS = HOURS_MS / 1000

Part = Coroutine[Any, Any, Any]

who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="unknown")


class RandomProgram:
    """One program.

    Args:
        ctx: Its context.
        seed: The same seed takes the same steps, as long as the same events happen.
        in_turn: Whether one thing happens at a time, so that only messages from outside decide what happens first.
    """

    def __init__(self, ctx: OrchestrationContext, seed: str, *, in_turn: bool) -> None:
        self.ctx = ctx
        self.chance = random.Random(seed)
        self.names = 0
        self.began_ms = ctx.now().timestamp() * 1000
        self.in_turn = in_turn
        self.lock = asyncio.Lock()
        self.seen: list[Any] = []
        self.left_behind: list[asyncio.Task[Any]] = []

    def name(self) -> str:
        self.names += 1
        return f"name-{self.names:03}"

    def turn(self) -> AbstractAsyncContextManager[Any]:
        """A context for operations that end without the test."""
        return self.lock if self.in_turn else contextlib.nullcontext()

    # Waits of a program

    async def step(self) -> Any:
        """One operation that ends without the test."""
        ctx, chance = self.ctx, self.chance
        async with self.turn():
            match chance.randrange(9):
                case 0 | 1 | 2:
                    return await ctx.schedule_activity("echo", self.name())
                case 3:
                    return await ctx.schedule_activity("fail", self.name())
                case 4:
                    return await ctx.schedule_sub_orchestration("child", self.name())
                case 5:
                    await asyncio.sleep(chance.choice([0, 0.001, 0.003]))
                case 6:
                    await ctx.schedule_timer(chance.randrange(3))
                case 7:
                    since = asyncio.get_running_loop().time() * 1000
                    values = [ctx.now().isoformat(), str(ctx.uuid()), round(self.began_ms + since)]
                    return await ctx.schedule_activity("echo", values) == values
                case _:
                    policy = {"max_attempts": 3, "backoff": "fixed", "base_ms": 1}
                    key = f"{ctx.instance_id}-{ctx.execution_id}-{self.name()}"
                    return await ctx.schedule_activity("third_time", key, retry=policy)
        return ctx.is_replaying() in (True, False)

    def outside(self) -> Awaitable[Any]:
        """A wait for the test."""
        if self.chance.random() < 0.2:
            return self.ctx.dequeue_event(f"queue-{self.chance.randrange(2)}")
        return self.ctx.wait_for_event(self.name())

    async def briefly(self) -> Any:
        """A timeout that expires, or may expire."""
        async with self.turn():
            delay = self.chance.choice([-1, 0, 0.001, 0.004])
            match self.chance.randrange(3):
                case 0:
                    async with asyncio.timeout(delay):
                        return await self.outside()
                case 1:
                    return await asyncio.wait_for(self.outside(), delay)
                case _:
                    async with asyncio.timeout(None) as scope:
                        scope.reschedule(asyncio.get_running_loop().time() + delay)
                        return await self.outside()

    async def part(self, depth: int) -> Any:
        """One or several operations of a task."""
        who.set(f"{who.get()}, {self.name()}")
        if depth > 0 and self.chance.random() < 0.6:
            return await self.combination(depth)
        match self.chance.randrange(6):
            case 0:
                return await self.outside()
            case 1:
                return await self.briefly()
            case 2:
                return [await self.outside(), await self.step()]
            case 3:
                return await self.cleaned_up(self.outside())
            case 4:
                return [await self.caught(self.step()), who.get()]
            case _:
                return await self.step()

    async def cleaned_up(self, awaited: Awaitable[Any]) -> Any:
        try:
            return await awaited
        finally:
            await self.record("cleaned up")

    async def record(self, what: Any) -> None:
        async with self.turn():
            await self.ctx.schedule_activity("echo", [what, who.get(), json.dumps(self.seen, default=str)])

    async def caught(self, awaited: Awaitable[Any]) -> Any:
        """The outcome of an awaitable, unless this task itself is cancelled."""
        try:
            return await awaited
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            assert task is not None
            if task.cancelling():
                raise
            return f"cancelled {error.args}"
        except Exception as error:
            return text_of(error)

    # Combinations of several operations

    def parts(self, depth: int, most: int = 3) -> list[Part]:
        return [self.part(depth - 1) for _ in range(self.chance.randint(1, most))]

    def tasks(self, depth: int) -> list[asyncio.Task[Any]]:
        return [asyncio.create_task(part, name=self.name()) for part in self.parts(depth)]

    async def combination(self, depth: int) -> Any:
        combinations: list[Callable[[int], Part]] = [
            self.gathered,
            self.grouped,
            self.first,
            self.all_done,
            self.as_completed,
            self.in_time,
            self.shielded,
            self.cancelled,
            self.queued,
            self.signalled,
            self.limited,
            self.conditioned,
            self.iterated,
            self.of_the_context,
            self.beside,
        ]
        return await self.chance.choice(combinations)(depth)

    async def gathered(self, depth: int) -> Any:
        some: list[Any] = [*self.parts(depth), self.outside()]
        return await asyncio.gather(*some, return_exceptions=self.chance.random() < 0.5)

    async def grouped(self, depth: int) -> Any:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part) for part in self.parts(depth)]
            if self.chance.random() < 0.3:
                await self.outside()
        return [task.result() for task in tasks]

    async def first(self, depth: int) -> Any:
        tasks = [*self.tasks(depth), asyncio.create_task(self.waited(self.outside()))]
        when = self.chance.choice([asyncio.FIRST_COMPLETED, asyncio.FIRST_EXCEPTION])
        timeout = self.chance.choice([None, HOURS])
        done, pending = await asyncio.wait(tasks, return_when=when, timeout=timeout)
        for task in pending:
            task.cancel(self.name())
        seen = [task.get_name() for task in [*done, *pending]]
        return [seen, *[await self.caught(task) for task in [*done, *pending]]]

    async def waited(self, awaited: Awaitable[Any]) -> Any:
        return await awaited

    async def all_done(self, depth: int) -> Any:
        done, _ = await asyncio.wait(self.tasks(depth))
        return [await self.caught(task) for task in done]

    async def as_completed(self, depth: int) -> Any:
        results: list[Any] = []
        some: list[Any] = self.parts(depth) if self.chance.random() < 0.5 else self.tasks(depth)
        for each in asyncio.as_completed(some):
            results.append(await self.caught(each))
            self.seen.append(len(results))
        return results

    async def in_time(self, depth: int) -> Any:
        if self.chance.random() < 0.5:
            return await asyncio.wait_for(self.part(depth - 1), HOURS)
        async with asyncio.timeout(HOURS):
            return await self.part(depth - 1)

    async def shielded(self, depth: int) -> Any:
        inner = asyncio.create_task(self.part(depth - 1))
        self.left_behind.append(inner)
        outer = asyncio.create_task(self.waited(asyncio.shield(inner)))
        done, _ = await asyncio.wait(
            [outer, asyncio.create_task(self.waited(self.outside()))], return_when="FIRST_COMPLETED"
        )
        outer.cancel()
        return [len(done), await self.caught(outer)]

    async def cancelled(self, depth: int) -> Any:
        tasks = self.tasks(depth)
        await self.outside()
        for task in tasks:
            task.cancel(self.name())
        return [await self.caught(task) for task in tasks]

    async def queued(self, depth: int) -> Any:
        queue: asyncio.Queue[Any] = asyncio.Queue(self.chance.randrange(3))
        parts = self.parts(depth)

        async def produce(part: Part) -> None:
            await queue.put(await self.caught(part))

        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(produce(part))
            return [await queue.get() for _ in parts]

    async def signalled(self, depth: int) -> Any:
        event = asyncio.Event()

        async def wait() -> Any:
            await event.wait()
            return await self.caught(self.step())

        waiters = [asyncio.create_task(wait()) for _ in range(2)]
        try:
            result = await self.part(depth - 1)
        finally:
            event.set()
        return [result, *await asyncio.gather(*waiters)]

    async def limited(self, depth: int) -> Any:
        semaphore = asyncio.Semaphore(self.chance.randint(1, 2))

        async def work(part: Part) -> Any:
            async with semaphore:
                return await self.caught(part)

        return await asyncio.gather(*[work(part) for part in self.parts(depth, 4)])

    async def conditioned(self, depth: int) -> Any:
        condition = asyncio.Condition()
        results: list[Any] = []

        async def work(part: Part) -> None:
            result = await self.caught(part)
            async with condition:
                results.append(result)
                condition.notify_all()

        tasks = [asyncio.create_task(work(part)) for part in self.parts(depth)]
        async with condition:
            await condition.wait_for(lambda: len(results) == len(tasks))
        return results

    async def iterated(self, depth: int) -> Any:
        async def generate() -> AsyncIterator[Any]:
            for part in parts:
                yield await self.caught(part)

        parts = self.parts(depth)
        return [each async for each in generate()]

    async def of_the_context(self, depth: int) -> Any:
        ctx = self.ctx
        match self.chance.randrange(4):
            case 0:
                return await ctx.race(*self.parts(depth), self.outside())
            case 1:
                return await ctx.gather(self.generator(), self.outside(), *self.parts(depth))
            case 2:
                return [str(each) for each in await ctx.all([*self.parts(depth), self.generator()])]
            case _:
                return await ctx.race(ctx.spawn(self.part(depth - 1)), self.generator())

    def generator(self) -> Any:
        first, second = self.outside(), self.outside()

        def steps() -> Steps:
            assert isinstance(first, Task)
            assert isinstance(second, Task)
            return [(yield first), (yield second)]

        return steps()

    async def beside(self, depth: int) -> Any:
        self.left_behind += self.tasks(depth)
        return await self.outside()

    # The whole program

    async def run(self) -> Any:
        token = who.set("main")
        for _ in range(STEPS):
            self.seen.append(await self.caught(self.part(DEPTH)))
            await self.record("seen")
        who.reset(token)
        if self.left_behind and self.chance.random() < 0.3:
            self.seen.append(await asyncio.gather(*self.left_behind, return_exceptions=True))
        return json.dumps(self.seen, default=text_of)


def text_of(error: Any) -> Any:
    """The text of an exception, or of the group that it is."""
    if isinstance(error, BaseExceptionGroup):
        return [type(error).__name__, *(text_of(each) for each in error.exceptions)]
    return f"{type(error).__name__}: {error} {getattr(error, 'index', '')}"
