"""What the loop uses of asyncio beyond its documented interface is as it expects, on this Python."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, cast

import pytest

from duroxide._orchestration import asyncio_compat


class SpyingLoop(asyncio.SelectorEventLoop):
    """A loop of asyncio that notes what can be seen where it makes futures and tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.waited_for: list[set[Any]] = []
        self.wrapped = 0
        self.begun_in_order: list[tuple[Any, ...]] = []

    def create_future(self) -> asyncio.Future[Any]:
        given = asyncio_compat.futures_given_to_wait()
        if given is not None:
            self.waited_for.append(set(given))
        self.wrapped += asyncio_compat.is_wrapping_future()
        return super().create_future()

    def create_task(self, coro: Any, **options: Any) -> Any:
        given = asyncio_compat.given_to_as_completed()
        if given is not None:
            self.begun_in_order.append(given)
        return super().create_task(coro, **options)


class NumberedTask(asyncio.Task[Any]):
    """A task that has its number as its place in a set."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], *, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self.number = number
        super().__init__(coroutine, loop=loop)

    def __hash__(self) -> int:
        return self.number

    def get_loop(self) -> asyncio.AbstractEventLoop:
        loop = super().get_loop()
        return cast("Any", None) if asyncio_compat.is_left_out_of_all_tasks(loop, NumberedTask) else loop


@pytest.fixture
def loop() -> Iterator[SpyingLoop]:
    with contextlib.closing(SpyingLoop()) as loop:
        yield loop


@pytest.fixture
def errors(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The errors that asyncio has logged."""

    def errors() -> list[str]:
        gc.collect()
        return [record.getMessage().partition("\n")[0] for record in caplog.records if record.name == "asyncio"]

    caplog.set_level(logging.ERROR, "asyncio")
    return errors


async def nothing() -> None: ...


async def failing() -> None:
    raise ValueError("5")


def test_a_loop_can_be_made_the_running_one(loop: SpyingLoop) -> None:
    assert asyncio_compat.running_loop() is None
    asyncio_compat.set_running_loop(loop)
    try:
        assert asyncio.get_running_loop() is loop
        assert asyncio_compat.running_loop() is loop
    finally:
        asyncio_compat.set_running_loop(None)
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


def test_a_task_can_be_made_the_current_one(loop: SpyingLoop) -> None:
    task = loop.create_task(nothing())
    asyncio_compat.enter_task(loop, task)
    try:
        assert asyncio.current_task(loop) is task
    finally:
        asyncio_compat.leave_task(loop, task)
    assert asyncio.current_task(loop) is None
    loop.run_until_complete(task)


def test_a_task_that_failed_is_forgotten_until_its_exception_is_read(loop: SpyingLoop) -> None:
    task = loop.create_task(failing())
    assert not asyncio_compat.was_forgotten(task)
    loop.run_until_complete(asyncio.wait([task]))
    assert asyncio_compat.was_forgotten(task)
    task.exception()
    assert not asyncio_compat.was_forgotten(task)


@pytest.mark.parametrize("is_silent", [False, True])
def test_a_task_that_is_freed_logs_nothing_if_it_is_to_keep_silent(
    is_silent: bool, loop: SpyingLoop, errors: Callable[[], list[str]]
) -> None:
    def leave_tasks() -> None:
        pending, failed = loop.create_task(waiting()), loop.create_task(failing())
        loop.run_until_complete(asyncio.sleep(0.001))
        if is_silent:
            asyncio_compat.keep_silent(pending)
            asyncio_compat.keep_silent(failed)

    async def waiting() -> None:
        await asyncio.Future()

    leave_tasks()
    expected = [] if is_silent else ["Task exception was never retrieved", "Task was destroyed but it is pending!"]
    assert sorted(errors()) == expected


def test_the_garbage_collector_is_known_where_it_calls() -> None:
    class Noting:
        def __del__(self) -> None:
            seen.append(asyncio_compat.is_collecting_garbage())

    seen: list[bool] = []
    freed = Noting()
    del freed
    assert seen == [False]
    circle: Any = Noting()
    circle.itself = circle
    del circle
    gc.collect()
    assert seen == [False, True]
    assert not asyncio_compat.is_collecting_garbage()


def test_what_wait_was_given_is_seen_where_it_makes_its_future(loop: SpyingLoop) -> None:
    async def program() -> None:
        await asyncio.sleep(0.001)
        assert loop.waited_for == []
        gathered = [asyncio.gather(nothing()), asyncio.gather(nothing())]
        await asyncio.wait(gathered)
        assert loop.waited_for == [set(gathered)]

    loop.run_until_complete(program())


def test_wrap_future_is_seen_where_it_makes_its_future(loop: SpyingLoop) -> None:
    async def program() -> None:
        await asyncio.sleep(0.001)
        assert loop.wrapped == 0
        ended: Future[int] = Future()
        ended.set_result(5)
        assert await asyncio.wrap_future(ended) == 5
        assert loop.wrapped == 1

    loop.run_until_complete(program())


@pytest.mark.parametrize("kind", [list, tuple])
def test_what_as_completed_was_given_is_seen_where_it_makes_its_tasks(kind: Any, loop: SpyingLoop) -> None:
    async def program() -> None:
        await asyncio.gather(nothing(), asyncio.create_task(nothing()))
        async with asyncio.TaskGroup() as group:
            group.create_task(nothing())
        assert loop.begun_in_order == []
        given = kind(nothing() for _ in range(3))
        for each in asyncio.as_completed(given):
            await each
        assert loop.begun_in_order == [tuple(given)] * 3

    loop.run_until_complete(program())


def test_of_an_iterable_that_is_no_list_as_completed_has_lost_the_order(loop: SpyingLoop) -> None:
    async def program() -> None:
        for each in asyncio.as_completed({nothing(), nothing()}):
            await each
        assert loop.begun_in_order == [(), ()]

    loop.run_until_complete(program())


def test_all_tasks_has_the_tasks_of_a_loop_in_the_order_of_their_numbers(loop: SpyingLoop) -> None:
    # The same places in the table of a set of eight: the first that comes takes it, and the others the next ones.
    numbers = [8 * number for number in range(1, 5)]
    with contextlib.closing(SpyingLoop()) as other:
        orders = []
        for made_in in (numbers, numbers[::-1]):
            mine = [NumberedTask(nothing(), number=number, loop=loop) for number in made_in]
            beside = [NumberedTask(nothing(), number=number, loop=other) for number in numbers]
            orders.append([task.number for task in asyncio.all_tasks(loop)])
            assert asyncio.all_tasks(other) == set(beside)
            for each in (*mine, *beside):
                each.get_loop().run_until_complete(each)
    assert orders[0] == orders[1]
    assert sorted(orders[0]) == numbers
