"""Activities that another process can import: they are at the top level of a module."""

from __future__ import annotations

import os
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from duroxide import ActivityContext, activity, context


@dataclass
class Order:
    item: str
    total: int


class Refused(Exception):
    """An exception that pickle cannot carry: its constructor takes other arguments than it keeps."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"refused with code {code}")
        self.details = {"code": code}


def process_of(ctx: ActivityContext, input: Any) -> int:
    return os.getpid()


def double(ctx: ActivityContext, order: Order) -> Order:
    return Order(order.item, order.total * 2)


def describe(ctx: ActivityContext, input: Any) -> list[Any]:
    assert context(ActivityContext) is ctx
    ctx.trace_info("described")
    return [ctx.instance_id, ctx.activity_name, ctx.orchestration_name, ctx.attempt, ctx.tag(), ctx.is_cancelled()]


def ask_client(ctx: ActivityContext, input: Any) -> str:
    return ctx.get_client().get_status(ctx.instance_id).status


def refuse(ctx: ActivityContext, code: int) -> None:
    raise Refused(code=code)


def trace_badly(ctx: ActivityContext, input: Any) -> list[str]:
    wrong: Any = 5
    said: list[str] = []
    for message in ("half a \ud800", wrong):
        try:
            ctx.trace_info(message)
        except (TypeError, ValueError) as error:
            said.append(f"{type(error).__name__}: {error}".encode("ascii", "backslashreplace").decode())
    return said


def trace_unchecked(ctx: ActivityContext, input: Any) -> str:
    traces: Any = getattr(ctx, "_traces")  # noqa: B009  (as if the process did not look at them)
    traces.append(("trace_info", 5))
    return "kept"


def die(ctx: ActivityContext, input: Any) -> None:
    os._exit(1)


def die_once(ctx: ActivityContext, mark: str) -> str:
    if not Path(mark).exists():
        Path(mark).touch()
        os._exit(1)
    return "alive"


@activity
def join(first: str, second: str = "b", *more: str) -> str:
    return f"{first}{second}{''.join(more)} in {os.getpid()}"


tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


def set_tenant(ctx: ActivityContext, input: Any) -> str:
    """Return the tenant that the activity sees, and set another one."""
    seen = tenant.get()
    tenant.set("an activity")
    return seen


def set_tenant_of_pool() -> None:
    tenant.set("the pool")


def note_key_and_fail_twice(ctx: ActivityContext, path: str) -> None:
    with Path(path).open("a+", encoding="utf-8") as keys:
        keys.write(f"{ctx.idempotency_key}\n")
        keys.seek(0)
        if len(keys.readlines()) < 3:
            raise ConnectionError("try again")
