"""Makes files from the dumps in this folder, and reads files."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

FOLDER = Path(__file__).parent


def load(dump: str, file: Path) -> Path:
    """Make the file that was dumped, in the journal mode of the bundled provider."""
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript((FOLDER / dump).read_text(encoding="utf-8"))
        assert connection.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
    return file


def contents(file: Path) -> list[str]:
    """Everything in a sound SQLite file, as text; no store in this process may have it open."""
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return sorted(connection.iterdump())


def copies(file: Path) -> list[str]:
    """The names of the copies that upgrades have left beside a file."""
    return sorted(path.name for path in file.parent.iterdir() if path.name.startswith(f"{file.name}.before-upgrade"))
