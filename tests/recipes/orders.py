"""The program of the recipes: it charges and ships an order, and reports its progress."""

from __future__ import annotations

from typing import Any

from duroxide import activity, context, orchestration, wait_for_event


@activity
async def charge(order: dict[str, Any]) -> str:
    """Charge an order; on a loop, so that it may call a payment service without a thread."""
    return f"charged {order['total']}"


@activity
def ship(order: dict[str, Any]) -> str:
    """Ship an order; on a thread of the runtime, so it may block."""
    return f"shipped {order['item']}"


@orchestration
async def fulfil(order: dict[str, Any]) -> list[str]:
    """Charge the order, wait until it is packed, and ship it."""
    charged = await charge(order)
    context().set_custom_status(charged)
    await wait_for_event("packed")
    context().set_custom_status("packed")
    return [charged, await ship(order)]
