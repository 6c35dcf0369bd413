"""Calls that block, made for a program that runs on an event loop."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


async def run_in_thread(function: Callable[[], Result]) -> Result:
    """Make a call on a thread of its own, and wait for its end also when the waiting task is cancelled meanwhile.

    The loop's default pool is not used, since all of its threads may be waiting for what this call does.

    Raises:
        CancelledError: The task was cancelled. The call has ended all the same.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="duroxide-off-loop")
    call = asyncio.get_running_loop().run_in_executor(pool, function)
    pool.shutdown(wait=False)
    cancelled: asyncio.CancelledError | None = None
    while not call.done():
        try:
            await asyncio.wait([call])
        except asyncio.CancelledError as error:  # noqa: PERF203  (it is waited for again)
            cancelled = error
    if cancelled is not None:
        call.exception()  # which is less than that nobody wants it
        raise cancelled
    return call.result()
