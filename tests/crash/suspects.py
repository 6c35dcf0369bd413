"""A process in which one piece of work kills, beside another one that does no harm.

``suspects.py STORE KIND``: the store is ``["sqlite", PATH]`` or ``["postgres", URL, SCHEMA]`` as JSON; the kind is
``activity`` or ``turn``. The process prints the status of the harmless instance, or is killed before.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Generator
from typing import Any

from crash.worker import open_store
from duroxide import ActivityContext, ActivityFailed, OrchestrationContext, Provider, Runtime, RuntimeOptions

Steps = Generator[Any, Any, Any]

OPTIONS = RuntimeOptions(
    max_attempts=6, worker_lock_timeout_ms=2_000, orchestrator_lock_timeout_ms=2_000, dispatcher_poll_interval_ms=20
)
EXIT_CODE = 9
HARM_SECONDS = 0.3
WORK_SECONDS = 1.0
WAIT_MS = 60_000


def harm() -> None:
    time.sleep(HARM_SECONDS)
    os._exit(EXIT_CODE)


def killer(ctx: ActivityContext, input: Any) -> None:
    harm()


def harmless(ctx: ActivityContext, input: Any) -> str:
    time.sleep(WORK_SECONDS)
    return "fine"


def activity(ctx: OrchestrationContext, name: str) -> Steps:
    try:
        return (yield ctx.schedule_activity(name))
    except ActivityFailed as failure:
        return failure.error_type


def turn(ctx: OrchestrationContext, name: str) -> str:
    # Bad practice, but a turn may also end its process in a library.
    if name == "killer":
        harm()
    time.sleep(WORK_SECONDS)
    return "fine"


def runtime_on(provider: Provider) -> Runtime:
    # The turns sleep, which strict mode forbids.
    runtime = Runtime(provider, OPTIONS, functions=[killer, harmless], strict=False)
    runtime.register_orchestration("activity", activity)
    runtime.register_orchestration("turn", turn)
    return runtime


def main() -> None:
    address, kind = json.loads(sys.argv[1]), sys.argv[2]
    with open_store(address) as provider, runtime_on(provider) as runtime:
        for name in ("killer", "harmless"):
            runtime.client.start_orchestration(name, kind, name)
        print(runtime.client.wait_for_orchestration("harmless", WAIT_MS).output, flush=True)
        killed = runtime.client.wait_for_orchestration("killer", WAIT_MS)
        print(killed.output or killed.status, flush=True)


if __name__ == "__main__":
    main()
