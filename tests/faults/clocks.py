"""Clocks of processes that the tests move."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("clock.c")


class Clock:
    """The wall clock of some processes; correct at first.

    Attributes:
        environment: Environment variables for such a process.
    """

    def __init__(self, file: Path, library: Path) -> None:
        self._file = file
        self._file.touch(0o644)
        self.environment = {"LD_PRELOAD": str(library), "DUROXIDE_TEST_CLOCK": str(file)}
        self.set(0)

    def set(self, seconds: int) -> None:
        """Show the correct time plus this many seconds from now on; the number may be negative."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("=q", seconds))


def compiler() -> str | None:
    """A C compiler, or ``None``."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def build_library(folder: Path) -> Path:
    """Build the library that moves the clock of a process."""
    library, program = folder / "clock.so", compiler()
    assert program is not None
    subprocess.run([program, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE)], check=True)
    return library
