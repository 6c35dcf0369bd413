"""A wait of a client lasts as long as its caller allows, and no longer."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from duroxide import AsyncClient, Client, WaitTimedOut
from duroxide._client.instances import DEFAULT_WAIT_MS
from duroxide._store.providers import Provider
from support.waiting import wait_until

TIMEOUT_MS = 40
SECONDS = TIMEOUT_MS / 1000
LATEST = DEFAULT_WAIT_MS / 1000 / 3
"""Far more than a busy machine adds, and far less than the default, which a wait without a given time would last."""

# None of these instances exists.
WAITS: dict[str, Callable[[Any], Any]] = {
    "handle.wait": lambda client: client.handle("none").wait(SECONDS),
    "handle.wait for a timedelta": lambda client: client.handle("none").wait(timedelta(seconds=SECONDS)),
    "handle.result": lambda client: client.handle("none").result(SECONDS),
    "wait_for_orchestration": lambda client: client.wait_for_orchestration("none", TIMEOUT_MS),
    "wait_for_orchestration_typed": lambda client: client.wait_for_orchestration_typed("none", TIMEOUT_MS),
    "wait_for_kv_value": lambda client: client.wait_for_kv_value("none", "key", TIMEOUT_MS),
    "wait_for_kv_value_typed": lambda client: client.wait_for_kv_value_typed("none", "key", TIMEOUT_MS),
}


def check_span(began: float) -> None:
    span = time.monotonic() - began
    assert SECONDS <= span < LATEST


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS.keys())
def test_a_wait_ends_when_its_time_has_passed(wait: Callable[[Client], Any], client: Client) -> None:
    began = time.monotonic()
    with pytest.raises(WaitTimedOut, match=f"{TIMEOUT_MS} ms"):
        wait(client)
    check_span(began)


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS.keys())
def test_an_awaited_wait_ends_when_its_time_has_passed(
    wait: Callable[[AsyncClient], Awaitable[Any]], provider: Provider
) -> None:
    async def main() -> None:
        await wait(AsyncClient(provider))

    began = time.monotonic()
    with pytest.raises(WaitTimedOut, match=f"{TIMEOUT_MS} ms"):
        asyncio.run(main())
    check_span(began)


def test_a_wait_for_a_change_ends_when_its_time_has_passed(client: Client, provider: Provider) -> None:
    async def main() -> object:
        return await AsyncClient(provider).wait_for_status_change("none", timeout_ms=TIMEOUT_MS)

    began = time.monotonic()
    assert client.wait_for_status_change("none", timeout_ms=TIMEOUT_MS) is None
    check_span(began)
    began = time.monotonic()
    assert asyncio.run(main()) is None
    check_span(began)


def test_a_cancelled_await_leaves_no_wait_behind(provider: Provider) -> None:
    class Result:
        """The native wait refers to it, for as long as it lasts."""

    seen = weakref.ref(Result)

    async def main(result_type: list[type]) -> None:
        client = AsyncClient(provider)
        wait = client.wait_for_orchestration_typed("none", 3_600_000, result_type=result_type.pop())
        waiting = asyncio.ensure_future(wait)
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    result_type: list[type] = [Result]
    del Result
    asyncio.run(main(result_type))

    def is_gone() -> bool:
        # The native half lets go of references that it has dropped when the interpreter next calls it.
        Client(provider).list_all_instances()
        gc.collect()
        return seen() is None

    wait_until(is_gone, "the end of the native wait")
