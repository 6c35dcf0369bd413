"""Gunicorn forks its workers, so each of them opens the store and starts a runtime after the fork.

On a SQLite file the runtime of one worker works and the others stand by; all of them serve requests. On PostgreSQL they
share the work. Run it with ``gunicorn --workers 2 gunicorn_app:application``; it reads ``gunicorn.conf.py``.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterable
from typing import Any

import orders

from duroxide import Runtime, SqliteProvider


@functools.cache
def opened() -> Runtime:
    """The runtime of this worker; gunicorn calls it after the fork."""
    runtime = Runtime(SqliteProvider.open(os.environ.get("ORDERS_DB", "orders.db")), functions=[orders])
    runtime.start()
    return runtime


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    client = opened().client
    order_id = environ["PATH_INFO"].strip("/")
    if environ["REQUEST_METHOD"] == "PUT":
        client.start_orchestration(order_id, orders.fulfil, {"item": "lamp", "total": 40})
        client.raise_event(order_id, "packed")
    end = client.wait_for_orchestration(order_id)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"worker": os.getpid(), "result": end.result()}).encode()]
