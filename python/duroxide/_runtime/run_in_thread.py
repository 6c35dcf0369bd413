"""Runs blocking calls for a program on an event loop."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


async def run_in_thread(function: Callable[[], Result]) -> Result:
    """Run a blocking call on a new thread, and wait for its end, even if the waiting task is cancelled.

    The call does not use the loop's default pool: all threads of that pool may wait for the effect of this call.

    Raises:
        CancelledError: The task was cancelled during the wait; the call has ended.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="duroxide-off-loop")
    call = asyncio.get_running_loop().run_in_executor(pool, function)
    pool.shutdown(wait=False)
    cancelled: asyncio.CancelledError | None = None
    while not call.done():
        try:
            await asyncio.wait([call])
        except asyncio.CancelledError as error:  # noqa: PERF203  (the loop waits again)
            cancelled = error
    if cancelled is not None:
        # Mark the exception of the call as retrieved; the CancelledError replaces it.
        call.exception()
        raise cancelled
    return call.result()
