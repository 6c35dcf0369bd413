"""The tasks and futures of an orchestration's event loop: those of asyncio, with another hash."""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any, cast

from duroxide._orchestration.asyncio_compat import is_left_out_of_all_tasks

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

    from duroxide._orchestration.event_loop import OrchestrationLoop


class OrchestrationTask(asyncio.Task[Any]):
    """A task of asyncio whose hash, and so its place in a set, depends on when it was made."""

    def __init__(
        self, coroutine: Coroutine[Any, Any, Any] | Generator[Any, None, Any], loop: OrchestrationLoop, **options: Any
    ) -> None:
        # Before the constructor, which puts the task into a set.
        self._number = loop.count()
        # Tasks show their context only from Python 3.12 on.
        self.variables: contextvars.Context = options.get("context") or contextvars.copy_context()
        given: dict[str, Any] = {**options, "context": self.variables}
        super().__init__(coroutine, loop=loop, **given)

    def __hash__(self) -> int:
        return self._number

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return its loop; return ``None`` to ``asyncio.all_tasks`` if the task has another place in its list."""
        loop = super().get_loop()
        return cast("Any", None) if is_left_out_of_all_tasks(loop, OrchestrationTask) else loop


class OrchestrationFuture(asyncio.Future[Any]):
    """A future of asyncio whose hash, and so its place in a set, depends on when it was made."""

    def __init__(self, loop: OrchestrationLoop) -> None:
        self._number = loop.count()
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number


class StepFuture(OrchestrationFuture):
    """The future of a durable step that has not ended; cancelling it gives the step up, or asks it to end.

    Attributes:
        end_request: The slot of the request to end, or ``None`` if the step was not asked to end.
    """

    end_request: int | None = None

    def __init__(self, loop: OrchestrationLoop, slot: int) -> None:
        super().__init__(loop)
        self._orchestration_loop = loop
        self._slot = slot
        self._reason: Any | None = None

    def cancel(self, msg: Any | None = None) -> bool:
        """Give up the step, unless it has ended; ask an activity to end whose end is to be waited for."""
        if self.done():
            return False
        if self.end_request is None:
            self.end_request = self._orchestration_loop.ask_to_end(self._slot)
            self._reason = msg
        if self.end_request is not None and not self._orchestration_loop.has_ended:
            return True
        super().cancel(msg)
        self._orchestration_loop.give_up(self._slot)
        return True

    def end_as_asked(self) -> None:
        """Be cancelled, now that the activity has ended."""
        super().cancel(self._reason)


class StepTimer(asyncio.TimerHandle):
    """A callback that runs when a durable timer fires."""

    slot: int | None = None
