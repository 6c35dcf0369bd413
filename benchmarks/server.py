"""The measured PostgreSQL server: its limits, its tables and its log, read with PostgreSQL's programs."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from benchmarks.processors import POSTMASTER, PROC

ROWS_A_CONNECTION = 250
STATEMENT = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}) UTC \[\d+\] LOG:  (?:statement|execute [^:]*): ")


FUNCTIONS = """
SELECT funcname, calls, self_time / 1000 FROM pg_stat_user_functions WHERE schemaname = :'place'
"""


@dataclass(frozen=True)
class Calls:
    """How often a function was called, and its seconds without the functions that it called."""

    number: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Server:
    """A server, and the programs that came with it.

    Attributes:
        url: A database on it.
        programs: The folder of ``psql`` and ``pgbench``.
        log: What it logs, if that can be read.
    """

    url: str
    programs: Path
    log: Path | None = None
    commits_in: str = field(default_factory=lambda: f"bench_{secrets.token_hex(6)}")
    profiled: bool = field(default_factory=lambda: os.environ.get("PROFILE", "") not in {"", "0"})
    schemas: set[str] = field(default_factory=set)
    """The databases that were made; dropped at the latest when the server is closed."""
    functions: dict[str, Calls] = field(default_factory=dict)
    """The time of the server's functions by name, if ``PROFILE`` is set."""

    def query(self, sql: str, **names: str) -> list[list[str]]:
        """Run SQL and return its rows as text; ``:"name"`` and ``:'name'`` in it stand for the named values."""
        variables = [f"--set={name}={value}" for name, value in {"ON_ERROR_STOP": "1", **names}.items()]
        command = [str(self.programs / "psql"), "-X", "-q", "-A", "-t", "-F", "\t", *variables, self.url]
        finished = subprocess.run(command, input=sql, capture_output=True, text=True, check=False)
        if finished.returncode != 0:
            raise RuntimeError(finished.stderr.strip())
        return [line.split("\t") for line in finished.stdout.splitlines() if line]

    @property
    def about(self) -> str:
        """Its release and the settings that its figures depend on."""
        names = ("server_version", "fsync", "synchronous_commit", "shared_buffers")
        values = {name: self.query(f"SHOW {name}")[0][0] for name in names}
        release = values.pop("server_version").split()[0]
        return f"PostgreSQL {release}, " + ", ".join(f"{name}={value}" for name, value in values.items())

    def prepare(self) -> None:
        """Make the table whose commits are counted, and find the server's first process if it is on this machine."""
        self.query('CREATE SCHEMA :"place"; CREATE TABLE :"place".commits (number int)', place=self.commits_in)
        if self.profiled:
            self.query("ALTER SYSTEM SET track_functions = 'pl'; SELECT pg_reload_conf()")
        file = Path(self.query("SHOW data_directory")[0][0]) / "postmaster.pid"
        number = file.read_text().split()[0] if file.exists() else ""
        if number and (PROC / number).exists():
            os.environ[POSTMASTER] = number

    def close(self) -> None:
        os.environ.pop(POSTMASTER, None)
        if self.profiled:
            self.query("ALTER SYSTEM RESET track_functions; SELECT pg_reload_conf()")
        for schema in [*self.schemas, self.commits_in]:
            self.drop(schema)

    def drop(self, schema: str) -> None:
        self.schemas.discard(schema)
        # This also removes the statistics of functions.
        for name, calls, seconds in self.query(FUNCTIONS, place=schema) if self.profiled else []:
            before = self.functions.get(name, Calls())
            self.functions[name] = Calls(before.number + int(calls), before.seconds + float(seconds))
        self.query('SET client_min_messages = warning; DROP SCHEMA IF EXISTS :"place" CASCADE', place=schema)

    def commits_per_second(self, connections: int) -> float:
        """How many rows a second this many connections commit, each a row at a time."""
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
            script.write(f"INSERT INTO {self.commits_in}.commits VALUES (1);\n")
            script.flush()
            threads = min(connections, os.cpu_count() or 1)
            options = ["-n", "-M", "prepared", "-c", connections, "-j", threads, "-t", ROWS_A_CONNECTION]
            command = [str(self.programs / "pgbench"), "-f", script.name, *map(str, options), self.url]
            finished = subprocess.run(command, capture_output=True, text=True, check=True)
        found = re.search(r"^tps = ([\d.]+)", finished.stdout, re.MULTILINE)
        if found is None:
            raise RuntimeError(f"pgbench printed no rate: {finished.stdout}")
        return float(found.group(1))

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of an empty database, for contenders that do not keep to a schema."""
        name = f"bench_{secrets.token_hex(6)}"
        self.query('CREATE DATABASE :"name"', name=name)
        try:
            yield urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))
        finally:
            self.query('DROP DATABASE IF EXISTS :"name" WITH (FORCE)', name=name)

    @property
    def profile(self) -> Iterator[str]:
        """A line for each function, the most expensive first."""
        for name, calls in sorted(self.functions.items(), key=lambda item: -item[1].seconds):
            yield f"{calls.seconds:9.2f} s {calls.number:9,} calls {1_000 * calls.seconds / calls.number:8.3f} ms  {name}"

    @contextmanager
    def logged(self) -> Iterator[None]:
        """Log every statement during the block."""
        self.query("ALTER SYSTEM SET log_statement = 'all'; SELECT pg_reload_conf()")
        try:
            yield
        finally:
            self.query("ALTER SYSTEM RESET log_statement; SELECT pg_reload_conf()")

    def statements(self, began: float, ended: float) -> int:
        """How many statements were logged between two moments, in seconds since 1970."""
        if self.log is None:
            raise RuntimeError("the log of this server cannot be read")
        moments = (found.group(1) for line in self.log.read_text().splitlines() if (found := STATEMENT.match(line)))
        times = (datetime.fromisoformat(moment).replace(tzinfo=timezone.utc).timestamp() for moment in moments)
        return sum(began <= moment <= ended for moment in times)


@contextmanager
def serve() -> Iterator[Server]:
    """A server as the tests use it, but with a synced disk; or the one that ``DATABASE_URL`` names."""
    # Other stores need neither import. The tests' server is in a folder that the Makefile puts on the path.
    import dotenv  # noqa: PLC0415

    from support.postgres_server import find_programs, start_server  # noqa: PLC0415

    programs = find_programs(Path(tempfile.gettempdir()), reachable_by_all=False)
    named = os.environ.get("DATABASE_URL") or dotenv.dotenv_values(".env").get("DATABASE_URL")
    if named:
        server = Server(named, programs)
    else:
        started = start_server(os.getpid(), fsync=True)
        server = Server(started.url, programs, Path(started.folder) / "log")
    server.prepare()
    try:
        yield server
    finally:
        server.close()
