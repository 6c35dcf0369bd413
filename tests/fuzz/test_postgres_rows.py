"""Strange rows in the tables of a PostgreSQL store stop no other work."""

from __future__ import annotations

from typing import Any

import psycopg
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql

from fuzz.conftest import Visitor
from fuzz.rows import item_texts, numbers, texts

WAIT_MS = 20_000

moments = st.sampled_from(["-infinity", "infinity", "epoch", "now", "4713-01-01 BC", "294276-01-01", "2000-01-01"])
small_numbers = st.sampled_from([0, 1, -1, 2**31 - 1, -(2**31)]) | st.integers(-9, 9)
names = texts | st.sampled_from(["honest-1", "waits", "x"])
queue_rows = st.fixed_dictionaries(
    {
        "instance_id": names,
        "work_item": item_texts,
        "visible_at": moments,
        "created_at": moments,
        "attempt_count": small_numbers,
        "lock_token": st.none() | texts,
        "locked_until": st.none() | numbers,
    }
)
activity_rows = st.builds(
    lambda row, more: row | more,
    queue_rows,
    st.fixed_dictionaries(
        {
            "execution_id": numbers,
            "activity_id": numbers,
            "session_id": st.none() | texts,
            "tag": st.none() | texts,
        }
    ),
)
lock_rows = st.fixed_dictionaries(
    {"instance_id": names, "lock_token": texts, "locked_until": numbers, "locked_at": numbers}
)
session_rows = st.fixed_dictionaries(
    {"session_id": texts, "worker_id": texts, "locked_until": numbers, "last_activity_at": numbers}
)
TABLES = {
    "orchestrator_queue": queue_rows,
    "worker_queue": activity_rows,
    "instance_locks": lock_rows,
    "sessions": session_rows,
}
rows = st.one_of([st.tuples(st.just(table), columns) for table, columns in TABLES.items()])


def insert(connection: psycopg.Connection, schema: str, table: str, row: dict[str, Any]) -> None:
    """Write a row as another program would; a row that the table refuses is no attack."""
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        sql.Identifier(schema, table),
        sql.SQL(", ").join(map(sql.Identifier, row)),
        sql.SQL(", ").join([sql.Placeholder()] * len(row)),
    )
    try:
        connection.execute(statement, list(row.values()))
    except (psycopg.DataError, psycopg.IntegrityError):
        return


def test_strange_rows_stop_no_other_work(
    visitor: Visitor, postgres_url: str, postgres_schema: str, postgres_connection: psycopg.Connection
) -> None:
    @given(st.lists(rows, min_size=1, max_size=8))
    def attack(strange: list[tuple[str, dict[str, Any]]]) -> None:
        # Rows of earlier examples could hide what these do.
        for table in TABLES:
            postgres_connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(postgres_schema, table)))
        for table, row in strange:
            # A lock of the very instance is a lease that another node holds.
            if not (table == "instance_locks" and row["instance_id"].startswith("honest")):
                insert(postgres_connection, postgres_schema, table, row)
        # It reads the history of an instance that this store does not have.
        assert visitor.ask("work_on_schema", postgres_url, postgres_schema, WAIT_MS)[0] == "works"

    visitor.ask("work_on_schema", postgres_url, postgres_schema, WAIT_MS)
    attack()
