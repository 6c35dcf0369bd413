"""The orchestrations of ``earlier-package.sql``: a file of the package ``duroxide`` 0.2.2, this one's predecessor.

That package also used the engine's bundled provider, so its files open, and their histories continue under the same
code.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from duroxide import Client, OrchestrationContext, Runtime

Steps = Generator[Any, Any, Any]
RETRY = {"max_attempts": 3}


def label(ctx: Any, parcel: dict[str, Any]) -> dict[str, Any]:
    return {"label": f"{parcel['name']}/{parcel['weight']}"}


def unreliable(ctx: Any, attempts: int) -> str:
    return "at last"


def parcel(ctx: OrchestrationContext, order: dict[str, Any]) -> Steps:
    printed = yield ctx.schedule_activity("label", order)
    ctx.set_custom_status("labelled")
    ctx.set_kv_value("label", printed["label"])
    both = yield ctx.all([ctx.schedule_activity("label", order), ctx.schedule_activity("label", order)])
    courier = yield ctx.wait_for_event("courier")
    first = yield ctx.dequeue_event_typed("notes")
    second = yield ctx.dequeue_event_typed("notes")
    return [printed, len(both), courier, first, second]


def delivery(ctx: OrchestrationContext, order: dict[str, Any]) -> Steps:
    result = yield ctx.schedule_sub_orchestration_with_id("parcel", order["child"], order)
    return {"delivered": result[0]}


def retrying(ctx: OrchestrationContext, _: Any) -> Steps:
    result = yield ctx.schedule_activity_with_retry("unreliable", 2, RETRY)
    yield ctx.wait_for_event("go")
    return result


def counter(ctx: OrchestrationContext, left: int) -> Steps:
    yield ctx.schedule_timer(1)
    if left:
        yield ctx.continue_as_new(left - 1)
        return None
    yield ctx.wait_for_event("go")
    return "counted"


def order(child: str) -> dict[str, Any]:
    return {"name": "Ü", "weight": 1.5, "child": child}


COMPLETED = {"done-delivery": {"delivered": {"label": "Ü/1.5"}}}
RUNNING: dict[str, Any] = {
    "parcel": [{"label": "Ü/1.5"}, 2, {"name": "Ada"}, "mind the dog", "ring twice"],
    "delivery": {"delivered": {"label": "Ü/1.5"}},
    "retrying": "at last",
    "counter": "counted",
    "not-started": "counted",
}


def register(runtime: Runtime) -> Runtime:
    for activity in (label, unreliable):
        runtime.register_activity(activity.__name__, activity)
    for orchestration in (parcel, delivery, retrying, counter):
        runtime.register_orchestration(orchestration.__name__, orchestration)
    return runtime


def resume(client: Client) -> None:
    """Send the waiting instances what they wait for."""
    client.raise_event("parcel", "courier", {"name": "Ada"})
    client.raise_event("parcel-of-delivery", "courier", None)
    for instance in ("retrying", "counter", "not-started"):
        client.raise_event(instance, "go", None)
