"""A program connects to the database that it names, and to nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="watching the calls of a process needs a C compiler"
)

SOURCE = Path(__file__).parents[1] / "support" / "connects.c"

PROGRAM = """
import sys
from duroxide import Client, OrchestrationContext, PostgresProvider, Runtime, SqliteProvider
from duroxide import activity, init_tracing, orchestration

@activity
def greet(name: str) -> str:
    return f"Hello, {name}!"

@orchestration
def hello(ctx: OrchestrationContext, name: str):
    yield ctx.schedule_timer(10)
    return (yield greet(name))

place = sys.argv[1]
init_tracing(sys.argv[2], "trace", "json")
provider = PostgresProvider.connect_with_schema(place, sys.argv[3]) if "://" in place else SqliteProvider.open(place)
with provider, Runtime(provider, functions=[greet, hello]) as runtime:
    assert runtime.client.start(hello, "World").result() == "Hello, World!"
    runtime.client.get_system_metrics()
    runtime.metrics_snapshot()
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that writes down the connections of the process that preloads it."""
    library = tmp_path_factory.mktemp("connects") / "connects.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library


def connections(library: Path, folder: Path, code: str, *arguments: str) -> set[str]:
    """The connections and the look-ups of names that a program makes."""
    calls = folder / "calls.txt"
    calls.touch()
    environment = os.environ | {"LD_PRELOAD": str(library), "DUROXIDE_TEST_CONNECTS": str(calls)}
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, env=environment)
    return set(calls.read_text().splitlines())


def test_a_program_with_a_sqlite_store_connects_to_nothing(library: Path, tmp_path: Path) -> None:
    made = connections(library, tmp_path, PROGRAM, str(tmp_path / "store.db"), str(tmp_path / "log.txt"))
    assert made == set()


def test_a_program_with_a_postgres_store_connects_to_its_server_alone(
    library: Path, tmp_path: Path, postgres_url: str, postgres_schema: str
) -> None:
    made = connections(library, tmp_path, PROGRAM, postgres_url, str(tmp_path / "log.txt"), postgres_schema)
    server = urlsplit(postgres_url)
    assert any(line.startswith("connect") for line in made), "the library saw no connection"
    assert {line.split()[-1] for line in made if line.startswith("connect")} <= {str(server.port), "0"}
    assert {line for line in made if line.startswith("look up")} <= {f"look up {server.hostname}"}


def test_the_library_of_these_tests_sees_a_connection_of_python(library: Path, tmp_path: Path) -> None:
    code = "import socket; s = socket.socket(); s.settimeout(1); s.connect_ex(('127.0.0.1', 9))"
    assert connections(library, tmp_path, code) == {"connect 127.0.0.1 9"}
