"""A process that owns PostgreSQL servers, which tests start, break and start again: ``server_process.py``.

The servers end with it, and it ends with the process that sends the requests. When it is started in a separate mount
namespace, only it and its servers see the disks that it makes.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from support.child_process import answer_requests
from support.postgres_server import Cluster

HOW = {"fast": signal.SIGINT, "immediately": signal.SIGQUIT, "kill": signal.SIGKILL}


class Servers:
    """Its methods are the requests."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._clusters: dict[str, Cluster] = {}
        self._disks: list[Path] = []

    def make(self, name: str, replica_of: str | None = None) -> str:
        """Make a cluster, and return its URL."""
        folder = self._folder / name
        folder.mkdir()
        cluster = self._clusters[name] = Cluster(folder)
        if replica_of is None:
            cluster.initialize()
        else:
            cluster.copy(self._clusters[replica_of])
        return cluster.url

    def start(self, name: str, settings: dict[str, Any], environment: dict[str, str] | None = None) -> None:
        self._clusters[name].start(settings, environment)

    def stop(self, name: str, how: str) -> None:
        self._clusters[name].stop(HOW[how])

    def promote(self, name: str) -> None:
        self._clusters[name].promote()

    def mount(self, name: str, megabytes: int) -> str:
        """Make a small disk for a cluster, and return its path.

        Raises:
            PermissionError: This account may not mount disks.
        """
        disk = self._folder / name / f"disk-{len(self._disks)}"
        disk.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(disk)],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        if mounted.returncode != 0:
            raise PermissionError(mounted.stderr)
        self._disks.append(disk)
        self._clusters[name].hand_over(disk)
        return str(disk)

    def fill(self, disk: str) -> None:
        """Fill a disk completely."""
        file = os.open(Path(disk) / "filler", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    os.write(file, b"\0" * size)
            except OSError:
                continue
        os.close(file)

    def make_room(self, disk: str) -> None:
        (Path(disk) / "filler").unlink()

    def stop_all(self) -> None:
        """Stop the servers and remove everything."""
        for cluster in self._clusters.values():
            cluster.stop()
        for disk in self._disks:
            subprocess.run(["umount", "--lazy", str(disk)], check=False, capture_output=True)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGHUP):
        # Ctrl-C is meant for the tests; this process ends with them.
        signal.signal(number, signal.SIG_IGN)
    folder = Path(tempfile.mkdtemp(prefix="duroxide-servers-"))
    folder.chmod(0o711)
    servers = Servers(folder)
    try:
        answer_requests(servers)
    finally:
        servers.stop_all()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
