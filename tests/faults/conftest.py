"""Fixtures of the fault tests: a server, proxies to it, nodes on it and load for them."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from duroxide import Client, PostgresProvider
from faults.clocks import Clock, build_library, compiler
from faults.load import Load
from faults.nodes import Nodes
from faults.servers import ServerAtHand, keep_servers, make_server
from support.child_process import ChildProcess
from support.proxy import Proxy


@pytest.fixture(scope="session")
def servers() -> Iterator[ChildProcess]:
    process = keep_servers()
    yield process
    process.leave()
    assert process.running.stdout is not None
    process.running.stdout.close()


@pytest.fixture(scope="session")
def kept_server(servers: ChildProcess) -> ServerAtHand:
    server = make_server(servers, "main")
    server.start()
    return server


@pytest.fixture
def server(kept_server: ServerAtHand) -> Iterator[ServerAtHand]:
    """A healthy server at the beginning of a test, which may break it."""
    yield kept_server
    kept_server.stop_immediately()
    kept_server.start()


@pytest.fixture
def schema() -> str:
    """A new schema, dropped after the test."""
    return f"test_{secrets.token_hex(8)}"


@pytest.fixture
def replica(server: ServerAtHand, schema: str) -> Iterator[ServerAtHand]:
    """A server that has everything that the first one acknowledged."""
    replica = server.make_replica(f"replica-of-{schema}")
    server.stop_fast()
    # A commit is acknowledged only when both have it.
    server.start(synchronous_standby_names="*", synchronous_commit="on")
    replica.start()
    yield replica
    replica.stop_immediately()


@pytest.fixture
def proxy(server: ServerAtHand) -> Iterator[Proxy]:
    """A proxy in front of the server."""
    proxy = Proxy(server.url)
    yield proxy
    proxy.close()


@pytest.fixture
def nodes(server: ServerAtHand, schema: str, tmp_path: Path) -> Iterator[Nodes]:
    """Starts nodes on the server; those that still run are killed after the test."""
    folder = tmp_path / "nodes"
    folder.mkdir()
    nodes = Nodes(server.url, schema, folder)
    yield nodes
    nodes.kill_all()


@pytest.fixture
def open_provider(server: ServerAtHand, schema: str) -> Iterator[Callable[..., PostgresProvider]]:
    """Opens the store in this process, through any URL."""
    opened: list[PostgresProvider] = []

    def open_provider(url: str | None = None) -> PostgresProvider:
        opened.append(PostgresProvider.connect_with_schema(url or server.url, schema))
        return opened[-1]

    yield open_provider
    for provider in opened:
        provider.close()


@pytest.fixture
def client(open_provider: Callable[..., PostgresProvider]) -> Client:
    """A client of the nodes' store."""
    return Client(open_provider())


@pytest.fixture
def make_load(
    open_provider: Callable[..., PostgresProvider], server: ServerAtHand, schema: str
) -> Iterator[Callable[..., Load]]:
    """Makes load for the nodes."""
    made: list[Load] = []

    def make(url: str | None = None, **options: Any) -> Load:
        made.append(Load(open_provider(url), server.url, schema, **options))
        return made[-1]

    yield make
    for load in made:
        load.abandon()


@pytest.fixture
def make_clock() -> Iterator[Callable[[], Clock]]:
    """Makes clocks that can be given to nodes and servers."""
    if compiler() is None:
        pytest.skip("a movable clock is compiled from C, and no compiler was found")
    with tempfile.TemporaryDirectory() as folder:
        # The server's account reads it too.
        Path(folder).chmod(0o755)
        library = build_library(Path(folder))
        yield lambda: Clock(Path(folder) / secrets.token_hex(8), library)


@pytest.fixture
def clock(make_clock: Callable[[], Clock]) -> Clock:
    """A clock that can be given to nodes and servers."""
    return make_clock()
