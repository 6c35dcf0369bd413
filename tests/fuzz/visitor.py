"""A process that opens stores that an attacker has changed: one JSON line in, one JSON line out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing
from typing import Any

from duroxide import Client, DuroxideError, PostgresProvider, Provider, Runtime, SqliteProvider
from store.programs import register
from support.child_process import answer_requests

SHUTDOWN_MS = 5_000


class Visitor:
    """Its methods are the requests. Each returns the words and error classes that its steps came to."""

    def __init__(self) -> None:
        self._visits = 0

    def fill(self, path: str) -> None:
        """Make a file with an instance that has ended, one that waits, and pages of large values."""
        with closing(SqliteProvider.open(path)) as provider:
            runtime, client = register(Runtime(provider)), Client(provider)
            runtime.start()
            client.start_orchestration("ended", "echo", "a" * 20_000)
            client.wait_for_orchestration("ended").result()
            client.start_orchestration("waits", "waiting")
            runtime.shutdown(SHUTDOWN_MS)

    def work_on_file(self, path: str, wait_ms: int) -> list[str]:
        """Open a file, run one orchestration on it, and read from it."""
        return self._work(lambda: SqliteProvider.open(path), wait_ms)

    def work_on_schema(self, url: str, schema: str, wait_ms: int) -> list[str]:
        """The same with a schema of PostgreSQL. The start comes from another node, so the runtime has to look for it."""
        return self._work(lambda: PostgresProvider.connect_with_schema(url, schema), wait_ms)

    def _work(self, open_store: Callable[[], Provider], wait_ms: int) -> list[str]:
        try:
            provider, sender = open_store(), open_store()
        except DuroxideError as error:
            return [type(error).__name__]
        with closing(provider), closing(sender):
            runtime = register(Runtime(provider))
            try:
                runtime.start()
            except DuroxideError as error:
                return [type(error).__name__]
            try:
                return [attempt(step) for step in self._steps(Client(sender), wait_ms)]
            finally:
                runtime.shutdown(SHUTDOWN_MS)

    def _steps(self, client: Client, wait_ms: int) -> list[Callable[[], Any]]:
        self._visits += 1
        instance = f"honest-{self._visits}"

        def run() -> None:
            client.start_orchestration(instance, "echo", self._visits)
            assert client.wait_for_orchestration(instance, wait_ms).result() == self._visits

        return [run, client.list_all_instances, lambda: client.read_execution_history("ended", 1)]


def attempt(step: Callable[[], Any]) -> str:
    """``"works"``, or the name of the error of this package."""
    try:
        step()
    except DuroxideError as error:
        return type(error).__name__
    return "works"


if __name__ == "__main__":
    # Complaints about strange rows are right, and would fill the output of the tests.
    logging.getLogger("duroxide").addHandler(logging.NullHandler())
    logging.getLogger("duroxide").propagate = False
    answer_requests(Visitor())
