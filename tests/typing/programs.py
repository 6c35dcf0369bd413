"""Programs that both type checkers accept, strictly. Nothing here runs."""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from duroxide import (
    ActivityContext,
    ActivityFailed,
    AsyncClient,
    Backoff,
    Client,
    EventToRaise,
    MetricsSnapshot,
    OrchestrationContext,
    OrchestrationResult,
    PostgresEntraOptions,
    PostgresProvider,
    PruneOptions,
    PyRuntimeOptions,
    QueueMessage,
    RetryPolicy,
    Runtime,
    RuntimeOptions,
    ScheduledTask,
    SqliteProvider,
    StartRequest,
    TagFilter,
    Task,
)

Steps = Generator[Task[Any], Any, str]


@dataclass
class Order:
    """An input."""

    number: int


provider = SqliteProvider.open("orders.db", durability="normal")
runtime = Runtime(provider, RuntimeOptions(worker_concurrency=8, worker_tag_filter=TagFilter.tags("gpu")))
client = Client(provider)
provider.backup("copy.db")
started: list[bool] = client.start_orchestrations([StartRequest("order-1", "Shop", {"total": 3})], if_exists="raise")
client.raise_events(EventToRaise(f"order-{number}", "paid") for number in range(3))
client.enqueue_events((QueueMessage("order-1", "inbox", {"total": 3}),))
RuntimeOptions(retention=timedelta(days=30))


@runtime.register_activity("charge")
def charge(ctx: ActivityContext, order: Order) -> int:
    """Use every field of an activity's context."""
    ctx.trace_info(f"{ctx.instance_id} {ctx.activity_name} {ctx.attempt} {ctx.tag()} {ctx.session_id}")
    started: bool = ctx.get_client().start_orchestration("cleanup", "Cleanup", order)
    return 0 if ctx.is_cancelled() else int(started)


@runtime.register_activity
async def ship(ctx: ActivityContext, order: Order) -> str:
    """Be an activity under a chosen name."""
    return f"{ctx.instance_id} {order.number}"


@runtime.register_orchestration("Shop")
def shop(ctx: OrchestrationContext, order: Order) -> Steps:
    """Yield tasks."""
    paid: int = yield ctx.schedule_activity("charge", order, retry=RetryPolicy(backoff=Backoff.fixed(500)))
    yield ctx.schedule_timer(timedelta(seconds=paid))
    outcomes = yield ctx.all([ctx.schedule_activity("ship", order), ctx.wait_for_event("approval")])
    winner = yield ctx.race(ctx.schedule_timer(1000), ctx.race(ctx.wait_for_event("a"), ctx.wait_for_event("b")))
    return f"{outcomes} {winner['index']}"


@runtime.register_orchestration_versioned("Shop", "1.0.1")
async def shop_awaited(ctx: OrchestrationContext, order: Order) -> str:
    """Await tasks, whose types are known."""
    number: int = await ctx.schedule_activity("charge", order, result_type=int)
    values: list[int] = await ctx.gather(
        ctx.schedule_activity("charge", order, result_type=int), ctx.schedule_activity("charge", 1, result_type=int)
    )
    outcomes = await ctx.all([ctx.schedule_timer(1), shop(ctx, order)])
    first: Any = outcomes[0].unwrap()
    winner = await ctx.race(ctx.schedule_timer(1), ctx.schedule_activity("charge", order))
    place: int = winner["index"]
    spawned: Task[int] = ctx.spawn(ctx.schedule_activity("charge", order, result_type=int))
    described: ScheduledTask[int] = spawned
    message: str = await ctx.dequeue_event("inbox")
    moment: int = await ctx.utc_now()
    try:
        await ctx.schedule_activity("charge", order).with_tag("gpu")
    except ActivityFailed as failure:
        return f"{failure.error_type} {failure.is_caused_by(ValueError)} {failure.activity_name}"
    ctx.set_kv_value("seen", str(ctx.get_kv_length()))
    return f"{number} {values} {first} {place} {await described} {message} {moment} {ctx.now()} {ctx.random().random()}"


runtime.register_activity("Charge", charge)
PyRuntimeOptions(dispatcher_poll_interval_ms=50)
PostgresProvider.connect_with_entra(host="h", port=5432, database="d", user="u", options=PostgresEntraOptions())

with runtime:
    client.start_orchestration("order-1", "Shop", Order(1))
    status: OrchestrationResult = client.wait_for_orchestration("order-1", timedelta(seconds=5))
    changed: OrchestrationResult | None = client.wait_for_status_change("order-1", 0, 50, 10_000)
    text: str | None = client.get_kv_value("order-1", "seen")
    kind: str = client.read_execution_history("order-1", 1)[0].kind
    snapshot: MetricsSnapshot = runtime.metrics_snapshot()
    starts: int = snapshot.orch_starts + snapshot["orch_starts"]
    client.prune_executions("order-1", PruneOptions(keep_last=5))


async def serve() -> str:
    """Await the same operations."""
    awaited = AsyncClient(provider)
    started: bool = await awaited.start_orchestration("order-1", "Shop", Order(1), if_exists="raise")
    status: OrchestrationResult = await awaited.wait_for_orchestration("order-1", timeout_ms=timedelta(seconds=5))
    changed: OrchestrationResult | None = await awaited.wait_for_status_change("order-1", 0, 50)
    text: str | None = await awaited.get_kv_value("order-1", "seen")
    kind: str = (await awaited.read_execution_history("order-1"))[0].kind
    return f"{started} {status} {changed} {text} {kind}"


Runtime(provider, executor=ProcessPoolExecutor(2))
Runtime(provider, executor=lambda: ProcessPoolExecutor(2))
Runtime(provider, executor={"charge": ThreadPoolExecutor(2), "resize": ProcessPoolExecutor})


async def run() -> None:
    """Enter a runtime on a loop."""
    async with Runtime(provider, RuntimeOptions()) as entered:
        await entered.async_client.raise_event("order-1", "paid")
