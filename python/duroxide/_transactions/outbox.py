"""The outbox: a table of an application's SQLite database, from which a store takes over what committed there."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from duroxide._client.client import Client
from duroxide._transactions.client import OUTBOX
from duroxide._transactions.connections import blocking_connection
from duroxide._transactions.relay import Relay, WriteTransaction
from duroxide._transactions.statements import Statement
from duroxide._values.validation import check_integer
from duroxide.exceptions import ClientError, ConfigurationError, ProviderError

_STATEMENTS = (
    """CREATE TABLE IF NOT EXISTS duroxide_outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key INTEGER NOT NULL UNIQUE DEFAULT (random()),
    kind TEXT NOT NULL CHECK (kind IN ('start', 'event', 'message')),
    instance_id TEXT NOT NULL,
    name TEXT NOT NULL,
    data TEXT NOT NULL,
    version TEXT,
    error TEXT
)""",
    "CREATE TABLE IF NOT EXISTS duroxide_outbox_name (name TEXT NOT NULL)",
)
_COPY = """INSERT INTO duroxide_outbox (kind, instance_id, name, data, version)
SELECT kind, instance_id, name, data, version FROM duroxide_outbox WHERE id = ? AND error IS NOT NULL"""


@dataclass(frozen=True)
class SetAsideRow:
    """A row of an outbox that cannot be relayed.

    Attributes:
        id: Its number in the outbox.
        kind: ``"start"``, ``"event"`` or ``"message"``.
        instance_id: The instance that it is for.
        name: Name of the orchestration, event or queue.
        error: Why it cannot.
    """

    id: int
    kind: str
    instance_id: str
    name: str
    error: str


class Outbox:
    """What an application writes into its own SQLite database, in transactions of its own, for a store to take over.

    ``TransactionClient`` writes into it. Give it to the runtime, as in ``Runtime(provider, outboxes=[Outbox("app.db")])``:
    while the runtime works, each row that was committed is relayed into its store and deleted, in order, within moments.
    Each is taken over once, also when the process is killed in between: the store records which rows it has.

    A row that cannot be relayed, since it is malformed or since its id is taken by another orchestration, is set aside with
    the reason, and those behind it go on.

    Args:
        database: Path of the application's database, which must exist; or a function that opens a connection to it as
            ``sqlite3.connect`` does, for a thread of its own.

    Raises:
        TypeError: ``database`` is something else.
    """

    def __init__(self, database: str | os.PathLike[str] | Callable[[], sqlite3.Connection]) -> None:
        if not callable(database) and not isinstance(cast("object", database), (str, os.PathLike)):
            raise TypeError(f"database must be a path or a function that connects, not {type(database).__name__}")
        self._database = database

    @staticmethod
    def create(connection: Any) -> None:
        """Make the tables where they are missing; the transaction, if one is open, stays yours to commit.

        Args:
            connection: A connection to the application's database, as for ``TransactionClient``.

        Raises:
            TypeError: It is something else.
            ConfigurationError: It is not to SQLite.
        """
        known = blocking_connection(connection)
        if known.database != "sqlite":
            raise ConfigurationError(
                "an outbox is for SQLite; on PostgreSQL, TransactionClient writes into the store's own queue and needs none"
            )
        for text in _STATEMENTS:
            known.run(Statement(text, {}))

    @staticmethod
    def statements() -> Sequence[str]:
        """Return the SQL that makes the tables where they are missing, for a migration of yours."""
        return _STATEMENTS

    def relay(self, client: Client) -> int:
        """Relay what is there into a store now, and return when nothing is left.

        A runtime with ``outboxes=[...]`` does it all the time; this is for tests and for programs without one.

        Args:
            client: A client of the store.

        Returns:
            How many rows were taken over.

        Raises:
            ConfigurationError: The database cannot be opened or has no outbox.
            ClientError: The store is a file, and this process does not work on it: no runtime runs in it.
            ProviderError: The store or the database fails.
        """
        if not isinstance(client, Client):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"client must be a Client, not {type(client).__name__}")
        with closing(self.connect()) as connection:
            relay = Relay(connection, client._native)
            count = 0
            try:
                while True:
                    taken = relay.take_over()
                    if taken is None:
                        raise ClientError(
                            "the store is a file that this process does not work on; relay where its runtime runs, with "
                            "Runtime(provider, outboxes=[...])"
                        )
                    if not taken:
                        return count
                    count += taken.done
            except sqlite3.Error as error:
                raise ProviderError(f"the outbox {self._title} failed: {error}") from error

    def set_aside(self) -> list[SetAsideRow]:
        """Return the rows that could not be relayed, in order.

        Raises:
            ConfigurationError: The database cannot be opened or has no outbox.
        """
        select = "SELECT id, kind, instance_id, name, error FROM duroxide_outbox WHERE error IS NOT NULL ORDER BY id"
        with closing(self.connect()) as connection:
            return [SetAsideRow(*row) for row in connection.execute(select)]

    def retry(self, id: int) -> None:
        """Put a row that was set aside at the end, to be relayed again.

        Args:
            id: Its number.

        Raises:
            ConfigurationError: The database cannot be opened or has no outbox.
            ValueError: No such row was set aside.
        """
        check_integer(id, "id")
        with closing(self.connect()) as connection, WriteTransaction(connection):
            # A new row, with a new key: the store may have the old one's.
            if connection.execute(_COPY, [id]).rowcount == 0:
                raise ValueError(f"row {id} of the outbox {self._title} was not set aside; see set_aside()")
            connection.execute("DELETE FROM duroxide_outbox WHERE id = ?", [id])

    @property
    def _title(self) -> str:
        return "of your function" if callable(self._database) else f"'{os.fspath(self._database)}'"

    def connect(self) -> sqlite3.Connection:
        """Open a connection of your own to the database, for a look at the tables; every statement commits by itself.

        Raises:
            ConfigurationError: The database cannot be opened or has no outbox.
        """
        connection: sqlite3.Connection | None = None
        try:
            connection = self._open()
            tables = "SELECT count(*) FROM sqlite_master WHERE name IN ('duroxide_outbox', 'duroxide_outbox_name')"
            (found,) = connection.execute(tables).fetchone()
        except Exception as error:
            if connection is not None:
                connection.close()
            raise ConfigurationError(f"the outbox {self._title} cannot be opened: {error}") from error
        if found < len(_STATEMENTS):
            connection.close()
            raise ConfigurationError(
                f"the database {self._title} has no table {OUTBOX}; make it with Outbox.create(connection), or in a "
                "migration of yours"
            )
        return connection

    def _open(self) -> sqlite3.Connection:
        if callable(self._database):
            connection = self._database()
        else:
            # Not made where it is missing: the application's tables would be missing too.
            place = f"{Path(os.fspath(self._database)).absolute().as_uri()}?mode=rw"
            connection = sqlite3.connect(place, uri=True, timeout=30, check_same_thread=False)
        if hasattr(connection, "autocommit"):
            # From Python 3.12 on it goes before `isolation_level`, unless it is -1. True ends a transaction that False began.
            for mode in (True, -1):
                setattr(connection, "autocommit", mode)  # noqa: B010  (unknown to the types of older versions)
        connection.isolation_level = None
        connection.row_factory = None
        # What is no text must not stop those behind it.
        connection.text_factory = _as_it_is
        return connection

    def __repr__(self) -> str:
        return f"<Outbox {self._title}>"


def _as_it_is(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


def check_outboxes(outboxes: Iterable[Outbox]) -> list[Outbox]:
    """Return the outboxes of a runtime as a list.

    Raises:
        TypeError: Something else is among them.
    """
    if isinstance(cast("object", outboxes), (Outbox, str, os.PathLike)):
        raise TypeError('outboxes must be a list; write outboxes=[Outbox("app.db")]')
    found = list(outboxes)
    for each in found:
        if not isinstance(cast("object", each), Outbox):
            raise TypeError(f"outboxes=[...] holds a {type(each).__name__}; write Outbox(path)")
    return found
