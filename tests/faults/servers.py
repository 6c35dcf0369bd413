"""PostgreSQL servers for these tests only, which are stopped, crashed, filled up and replaced."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from support.child_process import ChildProcess

SCRIPT = Path(__file__).with_name("server_process.py")

# Settings for every start; the nodes' pools and the tests' connections fit.
SETTINGS: dict[str, object] = {"max_connections": 100, "fsync": "off", "log_min_messages": "fatal"}


@dataclass(frozen=True)
class ServerAtHand:
    """One server.

    Attributes:
        url: The same after every start.
    """

    servers: ChildProcess
    name: str
    url: str

    def start(self, environment: dict[str, str] | None = None, **settings: object) -> None:
        """Start it; it answers when this returns."""
        self.servers.ask("start", self.name, SETTINGS | settings, environment)

    def stop_fast(self) -> None:
        """Stop it as an administrator does: sessions get a message and end."""
        self.servers.ask("stop", self.name, "fast")

    def stop_immediately(self) -> None:
        """Stop it without writing anything more: the next start recovers."""
        self.servers.ask("stop", self.name, "immediately")

    def crash(self) -> None:
        """Kill its first process."""
        self.servers.ask("stop", self.name, "kill")

    def make_replica(self, name: str) -> ServerAtHand:
        """Make a replica of it, which is not started yet."""
        return make_server(self.servers, name, replica_of=self.name)

    def promote(self) -> None:
        """Make it a primary."""
        self.servers.ask("promote", self.name)

    def mount(self, megabytes: int) -> str:
        """Give it a small disk, and return its path."""
        disk: str = self.servers.ask("mount", self.name, megabytes)
        return disk

    def fill(self, disk: str) -> None:
        """Fill one of its disks completely."""
        self.servers.ask("fill", disk)

    def make_room(self, disk: str) -> None:
        """Remove the file that fills a disk."""
        self.servers.ask("make_room", disk)

    def connect(self, **options: Any) -> psycopg.Connection:
        """Connect as its superuser, beside the store."""
        return psycopg.connect(self.url, autocommit=True, **options)

    def sessions_of(self, connection: psycopg.Connection) -> list[int]:
        """The processes that serve other connections than ``connection``."""
        rows = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        ).fetchall()
        return [pid for (pid,) in rows]

    def terminate_all(self) -> int:
        """End the sessions of all other connections; return their number."""
        with self.connect() as connection:
            pids = self.sessions_of(connection)
            for pid in pids:
                connection.execute("SELECT pg_terminate_backend(%s)", [pid])
        return len(pids)


def keep_servers() -> ChildProcess:
    """Start the process that owns the servers."""
    # Disks are mounted in a separate namespace, and disappear with the last process in it.
    alone = ["unshare", "--mount"] if os.geteuid() == 0 and shutil.which("unshare") else []
    return ChildProcess(SCRIPT, [], before=alone)


def make_server(servers: ChildProcess, name: str, replica_of: str | None = None) -> ServerAtHand:
    """Make a server, which is not started yet."""
    return ServerAtHand(servers, name, servers.ask("make", name, replica_of))
