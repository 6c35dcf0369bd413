"""The external events of an orchestration, by name."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from duroxide.durabletask._orchestration.calls import complete
from duroxide.durabletask._orchestration.tasks import CancellableTask

if TYPE_CHECKING:
    from duroxide import OrchestrationContext as NativeContext
    from duroxide import Task as Step


class EventTask(CancellableTask[Any]):
    """A wait for an event.

    Args:
        channel: The events of that name.
        convert: Makes the result of the event's data.
    """

    def __init__(self, channel: EventChannel, convert: Callable[[Any], Any]) -> None:
        super().__init__()
        self._channel = channel
        self._convert = convert

    def _steps(self) -> list[Step[Any]]:
        return self._channel.steps()

    def _needs_all_steps(self) -> bool:
        return False


class EventChannel:
    """The events of one name: the first event goes to the first wait that was not cancelled.

    Args:
        native: The context of the runtime.
        name: The name, without regard to case.
    """

    def __init__(self, native: NativeContext, name: str) -> None:
        self._native = native
        self._name = name
        self._waiting: deque[EventTask] = deque()
        self._steps: dict[int, Step[Any]] = {}
        self._early: deque[Any] = deque()
        self._made = 0

    def wait(self, convert: Callable[[Any], Any]) -> EventTask:
        """Wait for the next event."""
        task = EventTask(self, convert)
        if self._early:
            complete(task, self._early.popleft(), convert, f"the wait for event '{self._name}'")
            return task
        self._waiting.append(task)
        task.set_cancel_handler(lambda: self._waiting.remove(task))
        # The wait that a cancelled task has left takes the event for this one.
        if len(self._steps) < len(self._waiting):
            self._made += 1
            self._steps[self._made] = self._native.spawn(self._receive(self._made))
        return task

    def steps(self) -> list[Step[Any]]:
        """Return the open waits of the runtime."""
        return list(self._steps.values())

    def _receive(self, number: int) -> Generator[Any, Any, None]:
        data = yield self._native.wait_for_event(self._name)
        del self._steps[number]
        if self._waiting:
            task = self._waiting.popleft()
            complete(task, data, task._convert, f"the wait for event '{self._name}'")
        else:
            self._early.append(data)
