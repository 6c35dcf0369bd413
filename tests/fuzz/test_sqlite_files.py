"""Files that another program has written into or damaged crash no process, and strange rows stop no other work."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.conftest import Visitor
from fuzz.rows import item_texts, numbers, texts

WAIT_MS = 20_000
ALL_WORKS = ["works", "works", "works"]

# SQLite stores any type in any column.
anything: st.SearchStrategy[Any] = st.none() | numbers | st.floats() | texts | st.binary(max_size=40) | item_texts
request_kinds = st.sampled_from(["start", "event", "queue", "cancel", "delete", "kv"])
inbox_rows = st.fixed_dictionaries({"kind": request_kinds | anything, "payload": anything, "waits": numbers | anything})
queue_rows = st.fixed_dictionaries(
    {"instance": numbers, "visible_ms": numbers, "attempts": numbers, "data": item_texts | st.binary(max_size=40)}
)
# Where, as a part of the size, and which bytes.
damages = st.lists(st.tuples(st.floats(0, 0.999), st.binary(min_size=1, max_size=64)), min_size=1, max_size=12)


@pytest.fixture
def file(tmp_path: Path, visitor: Visitor) -> Path:
    """A store with an instance that has ended and one that waits, and with an inbox."""
    file = tmp_path / "store.db"
    visitor.ask("fill", str(file))
    return file


def insert(file: Path, table: str, row: dict[str, Any]) -> None:
    """Write a row as another program would; a row that the table refuses is no attack."""
    columns, places = ", ".join(row), ", ".join("?" for _ in row)
    with closing(sqlite3.connect(file, timeout=30)) as connection, connection:
        try:
            connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({places})", list(row.values()))
        except sqlite3.IntegrityError:
            return


def test_strange_requests_stop_no_other_work(file: Path, visitor: Visitor) -> None:
    @given(st.lists(inbox_rows, min_size=1, max_size=20))
    def attack(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            insert(file.with_name(f"{file.name}-inbox"), "requests", row)
        assert visitor.ask("work_on_file", str(file), WAIT_MS) == ALL_WORKS

    attack()


def test_strange_rows_of_queues_stop_no_other_work(file: Path, visitor: Visitor) -> None:
    @given(st.lists(st.tuples(st.sampled_from(["messages", "activities"]), queue_rows), min_size=1, max_size=20))
    def attack(rows: list[tuple[str, dict[str, Any]]]) -> None:
        for table, row in rows:
            insert(file, table, row)
        assert visitor.ask("work_on_file", str(file), WAIT_MS) == ALL_WORKS

    attack()


def test_damaged_bytes_give_errors_of_this_package(file: Path, visitor: Visitor) -> None:
    whole = file.read_bytes()

    @given(damages, st.floats(0.1, 1))
    def damage(places: list[tuple[float, bytes]], kept: float) -> None:
        content = bytearray(whole)
        for place, replacement in places:
            start = int(place * len(content))
            content[start : start + len(replacement)] = replacement
        for path in file.parent.glob(f"{file.name}*"):
            path.unlink()
        file.write_bytes(content[: int(kept * len(content))])
        # What is not an error of this package is an error of the request.
        visitor.ask("work_on_file", str(file), 500)

    damage()
