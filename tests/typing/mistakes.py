"""Lines that both type checkers must refuse: an ignore that is not needed is an error. Nothing here runs."""
# ruff: noqa: B018  (a useless line that is refused is what this file is for)
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from duroxide import (
    AsyncClient,
    Client,
    OrchestrationContext,
    PostgresProvider,
    PruneOptions,
    PyRuntimeOptions,
    QueueMessage,
    RetryPolicy,
    Runtime,
    RuntimeOptions,
    SqliteProvider,
    StartRequest,
    Task,
)

provider = SqliteProvider.in_memory()
client = Client(provider)
runtime = Runtime(provider)

RuntimeOptions(worker_concurency=4)  # type: ignore[call-arg]
PyRuntimeOptions(worker_concurency=4)  # type: ignore[call-arg]
RuntimeOptions(worker_concurrency="4")  # type: ignore[arg-type]
RuntimeOptions().worker_concurrency = 4  # type: ignore[misc]
PruneOptions(5)  # type: ignore[call-arg]
RetryPolicy(backoff="linear")  # type: ignore[arg-type]

Client("orders.db")  # type: ignore[arg-type]
Runtime(provider, {"worker_concurrency": 4})  # type: ignore[arg-type]
PostgresProvider.connect_with_schema("postgresql://localhost/db")  # type: ignore[call-arg]

SqliteProvider.open("orders.db", durability="off")  # type: ignore[arg-type]
provider.backup()  # type: ignore[call-arg]
RuntimeOptions(retention=60_000)  # type: ignore[arg-type]
client.start_orchestrations([("order-1", "Shop")])  # type: ignore[list-item]
client.raise_events([StartRequest("order-1", "Shop")])  # type: ignore[list-item]
QueueMessage("order-1", "inbox")  # type: ignore[call-arg]

client.start_orchestration("order-1")  # type: ignore[call-arg]
client.start_orchestration("order-1", "Shop", None, if_exists="replace")  # type: ignore[arg-type]
client.wait_for_orchestration("order-1", "10 s")  # type: ignore[arg-type]
client.wait_for_status_change("order-1", 0).custom_status  # type: ignore[union-attr]
client.get_kv_value("order-1", "key").upper()  # type: ignore[union-attr]
client.prune_executions("order-1", {"keep_last": 5})  # type: ignore[arg-type]
runtime.metrics_snapshot().orch_start  # type: ignore[attr-defined]
runtime.register_activity("charge", 5)  # type: ignore[call-overload]


async def shop(ctx: OrchestrationContext, order: int) -> str:
    """Misuse a context."""
    number: str = await ctx.schedule_activity("charge", order, result_type=int)  # type: ignore[arg-type]
    later: Task[str] = ctx.spawn(ctx.schedule_activity("charge", order, result_type=int))  # type: ignore[arg-type]
    ctx.schedule_timer("5 s")  # type: ignore[arg-type]
    ctx.set_kv_value("key", 5)  # type: ignore[arg-type]
    ctx.schedule_activity("charge", order, "session", "gpu")  # type: ignore[call-overload]
    ctx.race(1, 2)  # type: ignore[call-overload]
    ctx.execution_id = 5  # type: ignore[misc]
    winner = await ctx.race(ctx.schedule_timer(1), ctx.schedule_timer(2))
    winner["position"]  # type: ignore[typeddict-item]
    return number + await later


async def serve() -> None:
    """Misuse the awaited client."""
    awaited = AsyncClient(provider)
    awaited.get_status("order-1").status  # type: ignore[attr-defined]
    await awaited.start_orchestration("order-1")  # type: ignore[call-arg]
    await awaited.wait_for_orchestration("order-1", "10 s")  # type: ignore[arg-type]
    (await awaited.get_kv_value("order-1", "key")).upper()  # type: ignore[union-attr]
