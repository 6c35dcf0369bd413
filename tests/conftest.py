"""Fixtures for all tests.

``provider`` gives a test an empty store and runs it once for each kind: in memory, in a SQLite file, in PostgreSQL.
``run`` plays one orchestration on it and returns its result. PostgreSQL needs no installation: see
``support/postgres_server.py``; ``DATABASE_URL``, from the environment or from ``.env``, names another server.
"""

from __future__ import annotations

import inspect
import os
import secrets
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import dotenv
import psycopg
import psycopg.sql
import pytest

from duroxide import Client, PostgresProvider, Provider, Runtime, RuntimeOptions, SqliteProvider
from support.postgres_server import shared_server, stop_shared_server

Function = Callable[..., Any]

STORES = ("memory", "sqlite", "postgres")
WAIT_MS = 20_000
SHUTDOWN_MS = 5_000

# Set by the process that runs pytest, so that its workers find each other.
RUN_FOLDER = "DUROXIDE_TEST_RUN_FOLDER"
RUN_PROCESS = "DUROXIDE_TEST_RUN_PROCESS"


class Run(Protocol):
    """The type of the fixture ``run``."""

    def __call__(
        self,
        orchestration: Function,
        input: Any = None,
        *,
        activities: Mapping[str, Function] | None = None,
        orchestrations: Mapping[str, Function] | None = None,
        options: RuntimeOptions | None = None,
        instance: str | None = None,
        timeout_ms: int = WAIT_MS,
    ) -> Any:
        """Play ``orchestration`` to its end in a new runtime.

        Args:
            orchestration: Registered under the name of the function.
            input: Its input.
            activities: Activities by name.
            orchestrations: Further orchestrations by name, for example its children.
            options: Options of the runtime.
            instance: Its id; default ``None``, a new one.
            timeout_ms: How long to wait for its end.

        Returns:
            Its result.

        Raises:
            OrchestrationFailed: The orchestration failed.
            WaitTimedOut: It did not end in time.
        """


class StartRuntime(Protocol):
    """The type of the fixture ``runtime_factory``."""

    def __call__(
        self,
        activities: Mapping[str, Function] | None = None,
        orchestrations: Mapping[str, Function] | None = None,
        options: RuntimeOptions | None = None,
        *,
        start: bool = True,
    ) -> Runtime:
        """Make a runtime on the test's store, start it, and shut it down when the test is over."""


class OpenProvider(Protocol):
    """The type of the fixture ``reopen``."""

    def __call__(self) -> Provider:
        """Open the test's store once more, as another process would."""


def pytest_configure(config: pytest.Config) -> None:
    """Name the run, in the process started by hand: its workers inherit the environment."""
    if not hasattr(config, "workerinput"):
        # The first process that needs a server makes the folder; it is removed with the server.
        os.environ[RUN_FOLDER] = str(Path(tempfile.gettempdir()) / f"duroxide-tests-{secrets.token_hex(8)}")
        os.environ[RUN_PROCESS] = str(os.getpid())


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the server of the run, after the last worker has ended."""
    if not hasattr(config, "workerinput"):
        stop_shared_server(Path(os.environ[RUN_FOLDER]))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests of coroutine orchestrations on a Python without task groups."""
    if sys.version_info >= (3, 11):
        return
    for item in items:
        parameters = (
            item.callspec.params.values() if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ()
        )
        runs_coroutine = any(inspect.iscoroutinefunction(getattr(each, "main", each)) for each in parameters)
        if runs_coroutine or item.get_closest_marker("task_groups"):
            item.add_marker(pytest.mark.skip(reason="an orchestration that is a coroutine needs Python 3.11"))


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Make reports safe to send from a worker: a lone surrogate in one would end the whole run."""
    return printable((yield))


def printable(value: Any) -> Any:
    """Escape the characters in all texts within ``value`` that UTF-8 cannot encode."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {printable(key): printable(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(printable(each) for each in value)
    return value


@pytest.fixture(scope="session")
def postgres_url() -> str:
    """The URL of a PostgreSQL server: the one that ``DATABASE_URL`` names, or one that lives as long as the run."""
    named = os.environ.get("DATABASE_URL") or dotenv.dotenv_values(Path(__file__).parents[1] / ".env").get(
        "DATABASE_URL"
    )
    return named or shared_server(Path(os.environ[RUN_FOLDER]), int(os.environ[RUN_PROCESS])).url


@pytest.fixture(scope="session")
def postgres_connection(postgres_url: str) -> Iterator[psycopg.Connection]:
    """A connection to that server, beside the store."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("SET client_min_messages = warning")
        yield connection


@pytest.fixture
def postgres_schema(postgres_connection: psycopg.Connection) -> Iterator[str]:
    """The name of a schema for this test only; it is dropped with its contents at the end."""
    name = f"test_{secrets.token_hex(8)}"
    yield name
    statement = psycopg.sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(psycopg.sql.Identifier(name))
    # A store that is not closed may still hold locks on its tables: they must not block the tests.
    postgres_connection.execute("SET lock_timeout = '5s'")
    for attempt in range(5):
        try:
            postgres_connection.execute(statement)
            return
        except psycopg.errors.DeadlockDetected:
            # The server may still run a query of a runtime that was shut down.
            if attempt == 4:
                raise


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> str:
    """The kind of store that a test runs on, each in turn; ``@pytest.mark.parametrize("store", ["sqlite"])`` chooses.

    With ``indirect=False``, which is the default, such a mark takes the place of this fixture.
    """
    kind: str = request.param
    return kind


@pytest.fixture
def open_store(store: str, request: pytest.FixtureRequest, tmp_path: Path) -> OpenProvider:
    """Opens a store of the kind ``store``: always the same one, but for memory, which is new each time."""
    if store == "postgres":
        url: str = request.getfixturevalue("postgres_url")
        schema: str = request.getfixturevalue("postgres_schema")
        return lambda: PostgresProvider.connect_with_schema(url, schema)
    if store == "sqlite":
        return lambda: SqliteProvider.open(str(tmp_path / "store.db"))
    return SqliteProvider.in_memory


@pytest.fixture
def provider(open_store: OpenProvider) -> Iterator[Provider]:
    """An empty store, closed after the test; the test runs once for each kind."""
    provider = open_store()
    yield provider
    provider.close()


@pytest.fixture
def reopen(store: str, provider: Provider, open_store: OpenProvider) -> Iterator[OpenProvider]:
    """Opens the store of ``provider`` again after closing it, as a restarted process would.

    A store in memory ends with its process, so tests that use this fixture skip it.
    """
    if store == "memory":
        pytest.skip("a store in memory ends with its process")
    opened: list[Provider] = []

    def reopen() -> Provider:
        (opened[-1] if opened else provider).close()
        opened.append(open_store())
        return opened[-1]

    yield reopen
    for each in opened:
        each.close()


@pytest.fixture
def client(provider: Provider) -> Client:
    """A client of the test's store."""
    return Client(provider)


@pytest.fixture
def runtime_factory(provider: Provider) -> Iterator[StartRuntime]:
    """Makes started runtimes on the test's store and shuts them down at the end, the last one first."""
    made: list[Runtime] = []

    def make(
        activities: Mapping[str, Function] | None = None,
        orchestrations: Mapping[str, Function] | None = None,
        options: RuntimeOptions | None = None,
        *,
        start: bool = True,
    ) -> Runtime:
        runtime = Runtime(provider, options)
        made.append(runtime)
        for name, function in (activities or {}).items():
            runtime.register_activity(name, function)
        for name, function in (orchestrations or {}).items():
            runtime.register_orchestration(name, function)
        if start:
            runtime.start()
        return runtime

    yield make
    for runtime in reversed(made):
        runtime.shutdown(SHUTDOWN_MS)


@pytest.fixture
def runtime(provider: Provider) -> Iterator[Runtime]:
    """A runtime that is not started yet, so that the test can register functions; shut down at the end."""
    runtime = Runtime(provider)
    yield runtime
    runtime.shutdown(SHUTDOWN_MS)


@pytest.fixture
def run(provider: Provider, client: Client) -> Run:
    """Plays one orchestration on the test's store: see ``Run``."""

    def play(
        orchestration: Function,
        input: Any = None,
        *,
        activities: Mapping[str, Function] | None = None,
        orchestrations: Mapping[str, Function] | None = None,
        options: RuntimeOptions | None = None,
        instance: str | None = None,
        timeout_ms: int = WAIT_MS,
    ) -> Any:
        name, identity = orchestration.__name__, instance or f"run-{secrets.token_hex(6)}"
        runtime = Runtime(provider, options)
        for activity, function in (activities or {}).items():
            runtime.register_activity(activity, function)
        for child, function in {name: orchestration, **(orchestrations or {})}.items():
            runtime.register_orchestration(child, function)
        runtime.start()
        try:
            client.start_orchestration(identity, name, input)
            return client.wait_for_orchestration(identity, timeout_ms).result()
        finally:
            runtime.shutdown(SHUTDOWN_MS)

    return play
