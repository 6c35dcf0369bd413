"""A node: a runtime on a PostgreSQL schema that executes requests. ``node_process.py NAME URL SCHEMA FOLDER``."""

from __future__ import annotations

import logging
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from duroxide import PostgresProvider, Runtime, RuntimeOptions, TagFilter
from faults.programs import Functions
from support.child_process import answer_requests

# The shortest allowed leases, so that the work of a killed node soon moves.
LEASES = {
    "orchestrator_lock_timeout_ms": 2_000,
    "worker_lock_timeout_ms": 2_000,
    "session_lock_timeout_ms": 2_000,
    "session_lock_renewal_buffer_ms": 1_000,
}


class NodeProcess:
    """Its methods are the requests."""

    def __init__(self, name: str, url: str, schema: str, folder: str) -> None:
        self._functions = Functions(name, Path(folder))
        self._records: list[tuple[str, str, str]] = []
        handler = logging.Handler()
        handler.emit = lambda record: self._records.append((record.levelname, record.name, record.getMessage()))  # type: ignore[method-assign]
        logger = logging.getLogger("duroxide")
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
        logger.propagate = False
        self._provider = PostgresProvider.connect_with_schema(url, schema)

    def serve(self, versions: list[str], tags: list[str], *, retention_days: int | None = None, **options: Any) -> None:
        """Start a runtime, with short leases unless ``options`` sets others."""
        if retention_days is not None:
            options["retention"] = timedelta(days=retention_days)
        taken = TagFilter.tags(*tags) if tags else TagFilter.default_only()
        named: dict[str, Any] = {"worker_node_id": self._functions.node}
        self._runtime = Runtime(
            self._provider,
            RuntimeOptions(**(LEASES | named | options), worker_tag_filter=taken),
            # Some orchestrations report their node, and wait there.
            strict=False,
        )
        self._functions.register(self._runtime, versions)
        self._runtime.start()

    def shutdown(self, timeout_ms: int) -> None:
        self._runtime.shutdown(timeout_ms)

    def records(self) -> list[tuple[str, str, str]]:
        """Everything that was logged: level, name of the logger and message."""
        return self._records


if __name__ == "__main__":
    answer_requests(NodeProcess(*sys.argv[1:]))
