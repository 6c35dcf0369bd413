"""Clocks of processes that the tests move."""

from __future__ import annotations

import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("clock.c")


@dataclass(frozen=True)
class Clock:
    """What the wall clock of some processes shows.

    Attributes:
        environment: What such a process is started with.
    """

    file: Path
    library: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self.library), "DUROXIDE_TEST_CLOCK": str(self.file)}

    def set(self, seconds: int) -> None:
        """Let it show the right time and so many seconds more, or less, from now on."""
        with self.file.open("r+b") as file:
            file.write(struct.pack("=q", seconds))


def compiler() -> str | None:
    """A compiler of C, if there is one."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def make_clock(folder: Path) -> Clock:
    """Make a clock that is right; every account may read it."""
    library, file = folder / "clock.so", folder / "clock"
    if not library.exists():
        found = compiler()
        assert found is not None
        subprocess.run([found, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE)], check=True)
    file.write_bytes(struct.pack("=q", 0))
    file.chmod(0o644)
    return Clock(file, library)
