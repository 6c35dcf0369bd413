"""Clocks of processes that the tests move."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("clock.c")


class Clock:
    """What the wall clock of some processes shows; right at first.

    Attributes:
        environment: What such a process is started with.
    """

    def __init__(self, file: Path, library: Path) -> None:
        self._file = file
        self._file.touch(0o644)
        self.environment = {"LD_PRELOAD": str(library), "DUROXIDE_TEST_CLOCK": str(file)}
        self.set(0)

    def set(self, seconds: int) -> None:
        """Let it show the right time and so many seconds more, or less, from now on."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("=q", seconds))


def compiler() -> str | None:
    """A compiler of C, if there is one."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def build_library(folder: Path) -> Path:
    """Build what moves the clock of a process."""
    library, program = folder / "clock.so", compiler()
    assert program is not None
    subprocess.run([program, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE)], check=True)
    return library
