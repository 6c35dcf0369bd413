"""FastAPI: the runtime lives as long as the application, one route starts an order, and one streams its status.

Run it with ``uvicorn fastapi_app:app``.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import orders
from fastapi import Depends, FastAPI, Request
from fastapi.responses import StreamingResponse

from duroxide import AsyncClient, Runtime, SqliteProvider


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    with SqliteProvider.open(os.environ.get("ORDERS_DB", "orders.db")) as provider:
        # ``async def`` activities run on the loop of the application, and may use its objects.
        async with Runtime(provider, functions=[orders]) as runtime:
            app.state.client = runtime.async_client
            yield


def the_client(request: Request) -> AsyncClient:
    client: AsyncClient = request.app.state.client
    return client


app = FastAPI(lifespan=lifespan)
Client = Annotated[AsyncClient, Depends(the_client)]


@app.put("/orders/{order_id}", status_code=202)
async def start(order_id: str, order: dict[str, Any], client: Client) -> dict[str, bool]:
    """Start an order; a second request has no effect."""
    return {"started": await client.start_orchestration(order_id, orders.fulfil, order)}


@app.post("/orders/{order_id}/packed", status_code=202)
async def packed(order_id: str, client: Client) -> None:
    """Send an order the message that it is packed."""
    await client.raise_event(order_id, "packed")


@app.get("/orders/{order_id}/events")
async def events(order_id: str, client: Client) -> StreamingResponse:
    """Stream each status of an order, and its end, as server-sent events."""

    async def stream() -> AsyncIterator[str]:
        seen = 0
        while True:
            # A wait needs no thread, and ends at once when the browser disconnects.
            changed = await client.wait_for_status_change(order_id, seen, timeout_ms=15_000)
            if changed is not None:
                seen = changed.custom_status_version
                yield f"event: status\ndata: {changed.custom_status}\n\n"
                continue
            now = await client.get_status(order_id)
            if now.status in ("Completed", "Failed"):
                yield f"event: end\ndata: {json.dumps(now.output or now.error)}\n\n"
                return
            yield ": no change, sent to keep the connection open\n\n"

    return StreamingResponse(stream(), media_type="text/event-stream")
