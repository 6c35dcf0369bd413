"""Fixtures for programs of durabletask: a worker and a client on an empty store, once for each kind of store."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import psycopg.sql
import pytest

from duroxide.durabletask.azuremanaged.client import AsyncDurableTaskSchedulerClient, DurableTaskSchedulerClient
from duroxide.durabletask.azuremanaged.worker import DurableTaskSchedulerWorker
from duroxide.durabletask.client import OrchestrationState
from support.waiting import wait_until

WAIT_SECONDS = 30.0


class Program:
    """A worker and a client of one store."""

    def __init__(self, address: str, hub: str) -> None:
        self.address = address
        self.hub = hub
        self.client = DurableTaskSchedulerClient(host_address=address, taskhub=hub, token_credential=None)
        self.worker = self.new_worker()

    def new_worker(self, **options: Any) -> DurableTaskSchedulerWorker:
        return DurableTaskSchedulerWorker(host_address=self.address, taskhub=self.hub, token_credential=None, **options)

    def new_async_client(self) -> AsyncDurableTaskSchedulerClient:
        return AsyncDurableTaskSchedulerClient(host_address=self.address, taskhub=self.hub, token_credential=None)

    def start(self, *orchestrators: Callable[..., Any], activities: tuple[Callable[..., Any], ...] = ()) -> None:
        for each in orchestrators:
            self.worker.add_orchestrator(each)
        for each in activities:
            self.worker.add_activity(each)
        self.worker.start()

    def run(
        self,
        orchestrator: Callable[..., Any],
        input: Any = None,
        *,
        activities: tuple[Callable[..., Any], ...] = (),
        children: tuple[Callable[..., Any], ...] = (),
    ) -> OrchestrationState:
        """Play one orchestrator to its end."""
        self.start(orchestrator, *children, activities=activities)
        return self.end_of(self.client.schedule_new_orchestration(orchestrator, input=input))

    def end_of(self, instance_id: str) -> OrchestrationState:
        state = self.client.wait_for_orchestration_completion(instance_id, timeout=WAIT_SECONDS)
        assert state is not None
        return state

    def wait_for_status(self, instance_id: str, text: str | None) -> None:
        """Wait until an instance has a custom status, as JSON text."""

        def has_it() -> bool:
            state = self.client.get_orchestration_state(instance_id)
            return state is not None and state.serialized_custom_status == text

        wait_until(has_it, f"custom status {text}")

    def result_of(self, *arguments: Any, **options: Any) -> Any:
        """The output of ``run``."""
        state = self.run(*arguments, **options)
        state.raise_if_failed()
        return state.get_output()


@pytest.fixture
def address(store: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if store == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'store.db'}" if store == "sqlite" else f"memory:{secrets.token_hex(8)}"


@pytest.fixture
def postgres_hub(postgres_connection: psycopg.Connection) -> Iterator[str]:
    """The name of a task hub for this test only; its schema is dropped at the end."""
    hub = f"t{secrets.token_hex(8)}"
    yield hub
    name = psycopg.sql.Identifier(f"durabletask_{hub}")
    postgres_connection.execute(psycopg.sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(name))


@pytest.fixture
def hub(store: str, request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("postgres_hub")) if store == "postgres" else f"t{secrets.token_hex(8)}"


@pytest.fixture
def program(address: str, hub: str) -> Iterator[Program]:
    """A worker that is not started, and a client; the test runs once for each kind of store."""
    made = Program(address, hub)
    yield made
    made.worker.stop()
    made.client.close()
