"""The outbox: a table in an application's SQLite database, whose committed rows a store takes over."""

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
# Reads nothing, and fails where the table is not an outbox.
_CHECK = "SELECT id, key, kind, instance_id, name, data, version, error FROM duroxide_outbox LIMIT 0"
_COPY = """INSERT INTO duroxide_outbox (kind, instance_id, name, data, version)
SELECT kind, instance_id, name, data, version FROM duroxide_outbox WHERE id = ? AND error IS NOT NULL"""


@dataclass(frozen=True)
class SetAsideRow:
    """A row of an outbox that cannot be relayed.

    Attributes:
        id: Its number in the outbox.
        kind: ``"start"``, ``"event"`` or ``"message"``.
        instance_id: The instance that receives it.
        name: Name of the orchestration, event or queue.
        error: Why it cannot be relayed.
    """

    id: int
    kind: str
    instance_id: str
    name: str
    error: str


class Outbox:
    """The starts, events and messages that an application commits into its SQLite database, for a store to take over.

    ``TransactionClient`` writes into it. Give it to the runtime, as in ``Runtime(provider,
    outboxes=[Outbox("app.db")])``: while the runtime works, it relays each committed row into its store and deletes it,
    in order, within moments. The store takes each row over once, even if the process is killed in between, because the
    store records which rows it has.

    A row cannot be relayed if it is malformed, or if an instance of another orchestration has its id. The runtime sets
    such a row aside with the reason, and relays the rows behind it.

    Args:
        database: Path of the application's database, which must exist; or a function that opens a connection to it as
            ``sqlite3.connect`` does. Another thread calls the function.

    Raises:
        TypeError: ``database`` is neither.
    """

    def __init__(self, database: str | os.PathLike[str] | Callable[[], sqlite3.Connection]) -> None:
        if not callable(database) and not isinstance(cast("object", database), (str, os.PathLike)):
            raise TypeError(f"database must be a path or a function that connects, not {type(database).__name__}")
        self._database = database

    @staticmethod
    def create(connection: Any) -> None:
        """Create the tables where they are missing. If a transaction is open, you commit it.

        Args:
            connection: A connection to the application's database, as for ``TransactionClient``.

        Raises:
            TypeError: ``connection`` is of another class.
            ConfigurationError: The database is not SQLite, or has another table of this name.
        """
        known = blocking_connection(connection)
        if known.database != "sqlite":
            raise ConfigurationError(
                "an outbox is for SQLite; on PostgreSQL, TransactionClient writes into the store's own queue and needs none"
            )
        for text in _STATEMENTS:
            known.run(Statement(text, {}))
        try:
            known.run(Statement(_CHECK, {}))
        except Exception as error:
            if _NO_COLUMN not in str(error):
                raise
            raise ConfigurationError(_other_table("of your connection", error)) from error

    @staticmethod
    def statements() -> Sequence[str]:
        """Return the SQL that creates the tables where they are missing, for your migrations."""
        return _STATEMENTS

    def relay(self, client: Client) -> int:
        """Relay all rows into a store now.

        A runtime with ``outboxes=[...]`` relays all the time; this call is for tests and for programs without a
        runtime.

        Args:
            client: A client of the store.

        Returns:
            How many rows the store took over.

        Raises:
            ConfigurationError: The database cannot be opened or has no outbox.
            ClientError: The store is a file on which this process does not work, because no runtime runs here.
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
        """Put a row that was set aside at the end of the outbox, to be relayed again.

        Args:
            id: Its number.

        Raises:
            ConfigurationError: The database cannot be opened or has no outbox.
            ValueError: No row with this number was set aside.
        """
        check_integer(id, "id")
        with closing(self.connect()) as connection, WriteTransaction(connection):
            # The copy has a new key: the store may have recorded the key of the old row.
            if connection.execute(_COPY, [id]).rowcount == 0:
                raise ValueError(f"row {id} of the outbox {self._title} was not set aside; see set_aside()")
            connection.execute("DELETE FROM duroxide_outbox WHERE id = ?", [id])

    @property
    def _title(self) -> str:
        return "of your function" if callable(self._database) else f"'{os.fspath(self._database)}'"

    def connect(self) -> sqlite3.Connection:
        """Open a connection to the database, for you to read the tables; every statement commits by itself.

        Raises:
            ConfigurationError: The database cannot be opened or has no outbox.
        """
        connection: sqlite3.Connection | None = None
        try:
            connection = self._open()
            tables = "SELECT count(*) FROM sqlite_master WHERE name IN ('duroxide_outbox', 'duroxide_outbox_name')"
            (found,) = connection.execute(tables).fetchone()
            if found == len(_STATEMENTS):
                connection.execute(_CHECK)
        except Exception as error:
            if connection is not None:
                connection.close()
            if _NO_COLUMN in str(error):
                raise ConfigurationError(_other_table(self._title, error)) from error
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
            # mode=rw does not create a missing file, which would lack the application's tables, too.
            place = f"{Path(os.fspath(self._database)).absolute().as_uri()}?mode=rw"
            connection = sqlite3.connect(place, uri=True, timeout=30, check_same_thread=False)
        if hasattr(connection, "autocommit"):
            # From Python 3.12 on, `autocommit` overrides `isolation_level` unless it is -1. Setting it to True first
            # ends a transaction that False began.
            for mode in (True, -1):
                setattr(connection, "autocommit", mode)  # noqa: B010  (unknown to the types of older versions)
        connection.isolation_level = None
        connection.row_factory = None
        # A row that is not valid UTF-8 must not stop the rows behind it.
        connection.text_factory = _as_it_is
        return connection

    def __repr__(self) -> str:
        return f"<Outbox {self._title}>"


# SQLite's words, which every library passes on.
_NO_COLUMN = "no such column"


def _other_table(database: str, error: Exception) -> str:
    return (
        f"the table {OUTBOX} of the database {database} is not an outbox ({error}): the application has a table of this "
        "name; rename that table, and make the outbox with Outbox.create(connection)"
    )


def _as_it_is(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


def check_outboxes(outboxes: Iterable[Outbox]) -> list[Outbox]:
    """Return the outboxes of a runtime as a list.

    Raises:
        TypeError: An item is not an ``Outbox``.
    """
    if isinstance(cast("object", outboxes), (Outbox, str, os.PathLike)):
        raise TypeError('outboxes must be a list; write outboxes=[Outbox("app.db")]')
    found = list(outboxes)
    for each in found:
        if not isinstance(cast("object", each), Outbox):
            raise TypeError(f"outboxes=[...] holds a {type(each).__name__}; write Outbox(path)")
    return found
