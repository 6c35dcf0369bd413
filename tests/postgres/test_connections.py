"""How many connections a process opens, and that a few are enough."""

from __future__ import annotations

import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from duroxide import Client, OrchestrationContext, PostgresOptions, PostgresProvider, Runtime


class Watcher:
    """Counts the connections of one program, as often as the server answers."""

    def __init__(self, url: str, program: str) -> None:
        self.most: list[tuple[int, str, str]] = []
        self._connection = psycopg.connect(url, autocommit=True)
        self._program = program
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._connection.close()

    def _watch(self) -> None:
        question = "SELECT pid, state, left(query, 80) FROM pg_stat_activity WHERE application_name = %s"
        while not self._over.is_set():
            found = self._connection.execute(question, (self._program,)).fetchall()
            self.most = max(self.most, found, key=len)


def double(_: Any, number: int) -> int:
    return 2 * number


def chain(ctx: OrchestrationContext, number: int) -> Generator[Any, Any, int]:
    for _ in range(3):
        number = yield ctx.schedule_activity("double", number)
    return number


# The smallest allowed number, and the smallest that runs more than one of each kind at a time.
@pytest.mark.parametrize("most", [5, 9])
def test_a_process_opens_no_more_connections_than_its_limit(most: int, postgres_url: str, postgres_schema: str) -> None:
    options = PostgresOptions(max_connections=most, application_name=postgres_schema)
    with Watcher(postgres_url, postgres_schema) as watcher:
        provider = PostgresProvider.connect_with_schema(postgres_url, postgres_schema, options=options)
        with provider, Runtime(provider, functions=[double, chain]), ThreadPoolExecutor(16) as callers:
            client = Client(provider)

            def run(number: int) -> int:
                client.start_orchestration(f"chain-{number}", "chain", number)
                client.list_all_instances()
                client.get_system_metrics()
                result: int = client.wait_for_orchestration(f"chain-{number}", 60_000).result()
                client.read_execution_history(f"chain-{number}", 1)
                return result

            assert list(callers.map(run, range(64))) == [8 * number for number in range(64)]
    assert 0 < len(watcher.most) <= most, watcher.most


def test_all_connections_end_with_the_store(postgres_url: str, postgres_schema: str) -> None:
    options = PostgresOptions(application_name=postgres_schema)
    provider = PostgresProvider.connect_with_schema(postgres_url, postgres_schema, options=options)
    with provider, Runtime(provider, functions=[double, chain]):
        Client(provider).start_orchestration("one", "chain", 1)
        assert Client(provider).wait_for_orchestration("one", 60_000).result() == 8
    question = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        # The server ends a session a moment after its client has closed it.
        while connection.execute(question, (postgres_schema,)).fetchone() != (0,):
            pass
