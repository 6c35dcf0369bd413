"""A wait for an instance that is deleted ends, in every kind of wait and of client."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any

import pytest

from conftest import OpenProvider, StartRuntime
from duroxide import AsyncClient, Client, InstanceNotFound, OrchestrationContext, Provider
from support.waiting import wait_until

WAIT_MS = 60_000
ATTEMPTS = 5
# Another process is told of a deletion within a second.
NOTICE_SECONDS = 5

Wait = Callable[[Any], Any]

WAITS: dict[str, Wait] = {
    "the end": lambda client: client.wait_for_orchestration("order", WAIT_MS),
    "a status": lambda client: client.wait_for_status_change("order", 99, timeout_ms=WAIT_MS),
    "a key": lambda client: client.wait_for_kv_value("order", "price", WAIT_MS),
    "a result": lambda client: client.handle("order").result(timeout=WAIT_MS / 1000),
}


def order(ctx: OrchestrationContext, _: Any) -> Generator[Any, Any, Any]:
    ctx.set_custom_status("waits")
    yield ctx.wait_for_event("never")


def delete_until(has_ended: Callable[[], bool], client: Client, beside: Client) -> None:
    """Start the instance and delete it, until the wait has ended: it may not have seen the first instance.

    Args:
        has_ended: Whether the wait has ended.
        client: Deletes.
        beside: A client of the store that the wait reads, which sees the instance at the same time.
    """
    for _ in range(ATTEMPTS):
        client.start_orchestration("order", "order")
        beside.wait_for_status_change("order", timeout_ms=WAIT_MS)
        client.delete_instance("order", force=True)
        with suppress(AssertionError):
            # A new instance of this id would hide the deletion.
            return wait_until(has_ended, seconds=NOTICE_SECONDS)
    raise AssertionError("the wait has not ended after a deletion")


@pytest.mark.parametrize("kind", WAITS)
def test_a_wait_for_a_deleted_instance_ends(kind: str, runtime_factory: StartRuntime, client: Client) -> None:
    runtime_factory({}, {"order": order})
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            WAITS[kind](client)
        except Exception as error:
            raised.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    delete_until(lambda: not waiter.is_alive(), client, client)
    waiter.join()
    assert isinstance(raised[0], InstanceNotFound)
    assert "was deleted" in str(raised[0])


@pytest.mark.parametrize("kind", WAITS)
def test_an_awaited_wait_for_a_deleted_instance_ends(
    kind: str, runtime_factory: StartRuntime, client: Client, provider: Provider
) -> None:
    runtime_factory({}, {"order": order})

    async def main() -> None:
        waiting = asyncio.ensure_future(WAITS[kind](AsyncClient(provider)))
        await asyncio.to_thread(delete_until, waiting.done, client, client)
        with pytest.raises(InstanceNotFound, match="was deleted"):
            await waiting

    asyncio.run(main())


@pytest.mark.parametrize("store", ["postgres"], indirect=True)
def test_a_wait_ends_when_another_client_deletes_the_instance(
    runtime_factory: StartRuntime, client: Client, open_store: OpenProvider
) -> None:
    runtime_factory({}, {"order": order})
    raised: list[BaseException] = []
    with open_store() as provider:
        waiting_client = Client(provider)

        def wait() -> None:
            try:
                WAITS["the end"](waiting_client)
            except Exception as error:
                raised.append(error)

        waiter = threading.Thread(target=wait)
        waiter.start()
        delete_until(lambda: not waiter.is_alive(), client, waiting_client)
        waiter.join()
    assert isinstance(raised[0], InstanceNotFound)
