"""Plays CPython's tests of asyncio that need no I/O on the loop of orchestrations; not a test itself.

``python tests/asyncio_conformance`` prints which pass, and why the others do not. It needs the package ``test`` of the
interpreter, which some distributions leave out. Timers fire in virtual time, as soon as nothing else is ready.
"""

from __future__ import annotations

import asyncio
import asyncio.log
import contextlib
import importlib
import io
import logging
import sys
import unittest
import warnings
from collections import Counter
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from duroxide._orchestration.event_loop import OrchestrationFuture, OrchestrationLoop, OrchestrationTask

MODULES = ("test_taskgroups", "test_timeouts", "test_locks", "test_queues", "test_tasks")
# The classes of test_tasks that test the loop, not one implementation of tasks in C or Python.
OF_TASKS = ("BaseTaskTests", "FutureGatherTests", "CoroutineGatherTests", "SleepTests", "CompatibilityTests")


class VirtualSteps:
    """Stands in for the steps of an orchestration: timers that fire on request."""

    orchestration_name = instance_id = "conformance"

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: dict[int, float] = {}
        self.started = 0

    def time(self) -> float:
        return self.now

    def is_silent(self) -> bool:
        return False

    def start_timer(self, seconds: float) -> int:
        self.started += 1
        self.timers[self.started] = self.now + seconds
        return self.started

    def give_up(self, slot: int) -> None:
        self.timers.pop(slot, None)

    def fire_next(self) -> int | None:
        """Make the next timer due."""
        if not self.timers:
            return None
        slot = min(self.timers, key=lambda slot: (self.timers[slot], slot))
        self.now = max(self.now, self.timers.pop(slot))
        return slot


class ConformanceLoop(OrchestrationLoop):
    """The loop of an orchestration, with the methods that run and close a loop: here the tests replace the runtime."""

    def __init__(self, virtual_times: Callable[[], Generator[float, float, None]] | None = None) -> None:
        self.steps = VirtualSteps()
        super().__init__(self.steps)  # type: ignore[arg-type]
        self._closed = False
        self._default_executor = None
        self._handler: Callable[..., Any] | None = None

    def run_until_complete(self, future: Any) -> Any:
        self._main = main = asyncio.ensure_future(future, loop=self)  # type: ignore[assignment]
        ended = self.run_ready()
        while not ended:
            slot = self.steps.fire_next()
            if slot is None:
                main.cancel()
                self.run_ready()
                raise RuntimeError("the loop is stuck: here only timers wake it")
            ended = self.deliver(slot, None, None)
        # A loop that is stopped still runs the callbacks that were ready.
        self._ended = True
        self.run_ready()
        self._ended = False
        return main.result()

    def close(self) -> None:
        self._closed = True

    def is_closed(self) -> bool:
        return self._closed

    def set_task_factory(self, factory: Any) -> None: ...

    def set_debug(self, enabled: bool) -> None: ...

    def set_exception_handler(self, handler: Any) -> None:
        self._handler = handler

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self._handler is not None:
            self._handler(self, context)
        else:
            asyncio.log.logger.error(context["message"])

    async def shutdown_asyncgens(self) -> None: ...

    async def shutdown_default_executor(self, timeout: float | None = None) -> None: ...

    def advance_time(self, seconds: float) -> None:
        self.steps.now += seconds


class ConformancePolicy(asyncio.DefaultEventLoopPolicy):
    """Makes every loop that a test requests a loop of orchestrations."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return ConformanceLoop()


class Result(unittest.TestResult):
    """Keeps the last message of each test that does not pass."""

    def __init__(self) -> None:
        super().__init__()
        self.reasons: dict[str, str] = {}
        self.passed: list[str] = []

    def addSuccess(self, test: unittest.TestCase) -> None:
        self.passed.append(test.id())

    def _refuse(self, test: unittest.TestCase, error: Any) -> None:
        self.reasons.setdefault(test.id(), f"{error[0].__name__}: {error[1]}".splitlines()[0][:150])

    addError = addFailure = _refuse  # type: ignore[assignment]

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, error: Any) -> None:
        if error is not None:
            self._refuse(test, error)


def tests_of(module: Any) -> unittest.TestSuite:
    """The tests of a module that a loop can pass."""
    loader = unittest.TestLoader()
    if not module.__name__.endswith("test_tasks"):
        return loader.loadTestsFromModule(module)
    utils = importlib.import_module("test.test_asyncio.utils")

    def new_task(self: Any, loop: Any, coroutine: Coroutine[Any, Any, Any], name: Any = None, **options: Any) -> Any:
        return loop.create_task(coroutine, name=name, **options)

    bases = {"BaseTaskTests": (module.BaseTaskTests, utils.TestCase)}
    suites = []
    for name in OF_TASKS:
        base = bases.get(name, (getattr(module, name),))
        names = {
            "Task": OrchestrationTask,
            "Future": lambda *arguments, loop: OrchestrationFuture(loop),
            "new_task": new_task,
            "all_tasks": staticmethod(asyncio.all_tasks),
            "current_task": staticmethod(asyncio.current_task),
        }
        suites.append(loader.loadTestsFromTestCase(type(name, base, names)))
    return unittest.TestSuite(suites)


def main() -> int:
    try:
        utils = importlib.import_module("test.test_asyncio.utils")
    except ImportError:
        print("this interpreter has no package 'test', so no test can be played")
        return 1
    utils.TestLoop = ConformanceLoop
    warnings.simplefilter("ignore")
    print(f"Python {sys.version.split()[0]}")
    for name in MODULES:
        result = Result()
        # Set for each module, since each removes it in the end.
        asyncio.set_event_loop_policy(ConformancePolicy())
        suite = tests_of(importlib.import_module(f"test.test_asyncio.{name}"))
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            suite.run(result)
        print(f"\n{name}: {len(result.passed)} of {result.testsRun} pass, {len(result.skipped)} are skipped")
        for reason, count in Counter(result.reasons.values()).most_common():
            print(f"  {count} x {reason}")
            for test, why in result.reasons.items():
                if why == reason:
                    print(f"      {'.'.join(test.split('.')[-2:])}")
    # Silences messages about objects that the tests have left behind.
    logging.disable()
    return 0


if __name__ == "__main__":
    sys.exit(main())
