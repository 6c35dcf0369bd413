"""Connections of an application to its own database: recognises their library, and runs statements on them.

This module recognises a library by the names of its classes, so none of them has to be installed. It never begins,
commits or rolls back the application's transaction.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypeVar

from duroxide.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from duroxide._transactions.statements import Statement

AnyConnection = TypeVar("AnyConnection", bound="Connection")
Rows: TypeAlias = "Sequence[Sequence[Any]]"


class Connection(ABC):
    """A connection of the application, or a session on one.

    Args:
        target: The object of the application's library.

    Attributes:
        database: ``"postgresql"`` or ``"sqlite"``.
    """

    way_in: ClassVar[str]
    """How the application begins a transaction, for errors."""

    def __init__(self, target: Any) -> None:
        self.target = target
        self.database = self._database()

    @abstractmethod
    def _database(self) -> str:
        """Name the kind of database."""

    def refuse(self, is_in_transaction: bool) -> None:
        """Raise unless a transaction is open.

        Raises:
            ConfigurationError: No transaction is open.
        """
        if not is_in_transaction:
            raise ConfigurationError(
                "the connection commits every statement by itself and no transaction is open, so nothing could be rolled "
                f"back with your data; {self.way_in}"
            )

    def refuse_to_notify(self, is_in_transaction: bool) -> None:
        """Raise if a transaction is open.

        Raises:
            ConfigurationError: A transaction is open.
        """
        if is_in_transaction:
            raise ConfigurationError(
                "notify() was called while a transaction is open, where it would notify nothing before the commit and "
                "make the commits of all connections wait for each other; call it after the commit"
            )


class BlockingConnection(Connection):
    """A connection whose calls block."""

    @abstractmethod
    def check_transaction(self) -> None:
        """Refuse a connection that has no transaction open and would not open one.

        Raises:
            ConfigurationError: The connection is of this kind.
        """

    @abstractmethod
    def run(self, statement: Statement) -> None:
        """Run a statement in the application's transaction."""

    @abstractmethod
    def read(self, statement: Statement) -> Rows:
        """Run a query in the application's transaction."""

    @abstractmethod
    def run_alone(self, statement: Statement) -> None:
        """Run a statement outside of any transaction.

        Raises:
            ConfigurationError: A transaction is open.
        """


class AwaitedConnection(Connection):
    """A connection whose calls are awaited."""

    @abstractmethod
    async def check_transaction(self) -> None:
        """The same as in ``BlockingConnection``."""

    @abstractmethod
    async def run(self, statement: Statement) -> None:
        """The same as in ``BlockingConnection``."""

    @abstractmethod
    async def read(self, statement: Statement) -> Rows:
        """The same as in ``BlockingConnection``."""

    @abstractmethod
    async def run_alone(self, statement: Statement) -> None:
        """The same as in ``BlockingConnection``."""


def _percent(_: int) -> str:
    return "%s"


def _question_mark(_: int) -> str:
    return "?"


def _dollar(position: int) -> str:
    return f"${position}"


class _Psycopg:
    """The common part of psycopg's two kinds of connections."""

    target: Any

    def _database(self) -> str:
        return "postgresql"

    @property
    def _is_idle(self) -> bool:
        return bool(self.target.info.transaction_status == 0)

    @property
    def _is_in_transaction(self) -> bool:
        return not self.target.autocommit or not self._is_idle

    def _cursor(self, kind: str) -> Any:
        # The application may have configured `connection.cursor()` with other placeholders and rows.
        psycopg = sys.modules["psycopg"]
        return getattr(psycopg, kind)(self.target, row_factory=psycopg.rows.tuple_row)


class _PsycopgConnection(_Psycopg, BlockingConnection):
    """``psycopg.Connection``."""

    way_in = "write `with connection.transaction():`, or connect without autocommit"

    def check_transaction(self) -> None:
        self.refuse(self._is_in_transaction)

    def run(self, statement: Statement) -> None:
        with self._cursor("Cursor") as cursor:
            cursor.execute(*statement.positional(_percent))

    def read(self, statement: Statement) -> Rows:
        with self._cursor("Cursor") as cursor:
            rows: Rows = cursor.execute(*statement.positional(_percent)).fetchall()
            return rows

    def run_alone(self, statement: Statement) -> None:
        self.refuse_to_notify(not self._is_idle)
        with self.target.transaction():
            self.run(statement)


class _AsyncPsycopgConnection(_Psycopg, AwaitedConnection):
    """``psycopg.AsyncConnection``."""

    way_in = "write `async with connection.transaction():`, or connect without autocommit"

    async def check_transaction(self) -> None:
        self.refuse(self._is_in_transaction)

    async def run(self, statement: Statement) -> None:
        async with self._cursor("AsyncCursor") as cursor:
            await cursor.execute(*statement.positional(_percent))

    async def read(self, statement: Statement) -> Rows:
        async with self._cursor("AsyncCursor") as cursor:
            await cursor.execute(*statement.positional(_percent))
            rows: Rows = await cursor.fetchall()
            return rows

    async def run_alone(self, statement: Statement) -> None:
        self.refuse_to_notify(not self._is_idle)
        async with self.target.transaction():
            await self.run(statement)


class _AsyncpgConnection(AwaitedConnection):
    """A connection of asyncpg, also one from its pool."""

    way_in = "write `async with connection.transaction():`"

    def _database(self) -> str:
        return "postgresql"

    async def check_transaction(self) -> None:
        self.refuse(self.target.is_in_transaction())

    async def run(self, statement: Statement) -> None:
        text, values = statement.positional(_dollar)
        await self.target.execute(text, *values)

    async def read(self, statement: Statement) -> Rows:
        text, values = statement.positional(_dollar)
        rows: Rows = await self.target.fetch(text, *values)
        return rows

    async def run_alone(self, statement: Statement) -> None:
        self.refuse_to_notify(self.target.is_in_transaction())
        await self.run(statement)


class _SqlAlchemy:
    """The common part of SQLAlchemy's connections and sessions."""

    way_in = "leave out isolation_level='AUTOCOMMIT'"
    target: Any

    def _database(self) -> str:
        bind = self.target.get_bind() if hasattr(self.target, "get_bind") else self.target
        return str(bind.dialect.name)

    def _text(self, statement: Statement) -> Any:
        return sys.modules["sqlalchemy"].text(statement.text)


def _has_transaction(connection: Any, database: str) -> bool:
    """Tell whether a statement on a connection of SQLAlchemy would be part of a transaction."""
    pooled = connection.connection
    if database == "sqlite":
        return _sqlite_has_transaction(pooled.driver_connection)
    return not getattr(pooled.dbapi_connection, "autocommit", False)


def _sqlite_has_transaction(connection: Any) -> bool:
    """Tell whether a statement that writes would be part of a transaction, or begin one."""
    if connection.in_transaction:
        return True
    # Python 3.12 has added `autocommit`. Where it is missing, or -1, `isolation_level` decides.
    autocommit = getattr(connection, "autocommit", -1)
    return autocommit is False or (autocommit == -1 and connection.isolation_level is not None)


class _SqlAlchemyConnection(_SqlAlchemy, BlockingConnection):
    """``sqlalchemy.Connection``, or a session."""

    def check_transaction(self) -> None:
        is_session = hasattr(self.target, "get_bind")
        self.refuse(_has_transaction(self.target.connection() if is_session else self.target, self.database))

    def run(self, statement: Statement) -> None:
        self.target.execute(self._text(statement), dict(statement.values)).close()

    def read(self, statement: Statement) -> Rows:
        rows: Rows = self.target.execute(self._text(statement), dict(statement.values)).all()
        return rows

    def run_alone(self, statement: Statement) -> None:
        self.refuse_to_notify(self.target.in_transaction())
        with self.target.begin():
            self.run(statement)


class _AsyncSqlAlchemyConnection(_SqlAlchemy, AwaitedConnection):
    """``sqlalchemy.ext.asyncio.AsyncConnection``, or a session."""

    async def check_transaction(self) -> None:
        is_session = hasattr(self.target, "get_bind")
        connection = await self.target.connection() if is_session else self.target
        self.refuse(_has_transaction(connection.sync_connection, self.database))

    async def run(self, statement: Statement) -> None:
        await self.target.execute(self._text(statement), dict(statement.values))

    async def read(self, statement: Statement) -> Rows:
        rows: Rows = (await self.target.execute(self._text(statement), dict(statement.values))).all()
        return rows

    async def run_alone(self, statement: Statement) -> None:
        self.refuse_to_notify(self.target.in_transaction())
        async with self.target.begin():
            await self.run(statement)


class _DjangoConnection(BlockingConnection):
    """``django.db.connection``, or one of ``django.db.connections``."""

    way_in = "write `with transaction.atomic():`"

    def _database(self) -> str:
        return str(self.target.vendor)

    @property
    def _is_in_transaction(self) -> bool:
        return bool(self.target.in_atomic_block or not self.target.get_autocommit())

    def check_transaction(self) -> None:
        self.refuse(self._is_in_transaction)

    def run(self, statement: Statement) -> None:
        with self.target.cursor() as cursor:
            cursor.execute(*statement.positional(_percent))

    def read(self, statement: Statement) -> Rows:
        with self.target.cursor() as cursor:
            cursor.execute(*statement.positional(_percent))
            rows: Rows = cursor.fetchall()
            return rows

    def run_alone(self, statement: Statement) -> None:
        self.refuse_to_notify(self._is_in_transaction)
        self.run(statement)


class _SqliteConnection(BlockingConnection):
    """``sqlite3.Connection``."""

    way_in = 'execute "BEGIN" first, or connect without isolation_level=None and autocommit=True'

    def _database(self) -> str:
        return "sqlite"

    def check_transaction(self) -> None:
        self.refuse(_sqlite_has_transaction(self.target))

    def run(self, statement: Statement) -> None:
        self.target.execute(*statement.positional(_question_mark)).close()

    def read(self, statement: Statement) -> Rows:
        rows: Rows = self.target.execute(*statement.positional(_question_mark)).fetchall()
        return rows

    def run_alone(self, statement: Statement) -> None:
        self.refuse_to_notify(self.target.in_transaction)
        self.run(statement)


class _AiosqliteConnection(AwaitedConnection):
    """``aiosqlite.Connection``."""

    way_in = _SqliteConnection.way_in

    def _database(self) -> str:
        return "sqlite"

    async def check_transaction(self) -> None:
        self.refuse(_sqlite_has_transaction(self.target))

    async def run(self, statement: Statement) -> None:
        await (await self.target.execute(*statement.positional(_question_mark))).close()

    async def read(self, statement: Statement) -> Rows:
        async with self.target.execute(*statement.positional(_question_mark)) as cursor:
            rows: Rows = await cursor.fetchall()
            return rows

    async def run_alone(self, statement: Statement) -> None:
        self.refuse_to_notify(self.target.in_transaction)
        await self.run(statement)


_BLOCKING: Mapping[tuple[str, str], type[BlockingConnection]] = {
    ("psycopg", "Connection"): _PsycopgConnection,
    ("sqlalchemy.engine.base", "Connection"): _SqlAlchemyConnection,
    ("sqlalchemy.orm.session", "Session"): _SqlAlchemyConnection,
    ("sqlalchemy.orm.scoping", "scoped_session"): _SqlAlchemyConnection,
    ("django.db.backends.base.base", "BaseDatabaseWrapper"): _DjangoConnection,
    ("django.utils.connection", "ConnectionProxy"): _DjangoConnection,
    ("sqlite3", "Connection"): _SqliteConnection,
}
_AWAITED: Mapping[tuple[str, str], type[AwaitedConnection]] = {
    ("psycopg", "AsyncConnection"): _AsyncPsycopgConnection,
    ("asyncpg.connection", "Connection"): _AsyncpgConnection,
    ("asyncpg.pool", "PoolConnectionProxy"): _AsyncpgConnection,
    ("aiosqlite.core", "Connection"): _AiosqliteConnection,
    ("sqlalchemy.ext.asyncio.engine", "AsyncConnection"): _AsyncSqlAlchemyConnection,
    ("sqlalchemy.ext.asyncio.session", "AsyncSession"): _AsyncSqlAlchemyConnection,
    ("sqlalchemy.ext.asyncio.scoping", "async_scoped_session"): _AsyncSqlAlchemyConnection,
}
_BLOCKING_NAMES = (
    "psycopg.Connection, sqlalchemy.Connection, sqlalchemy.orm.Session, django.db.connection or sqlite3.Connection"
)
_AWAITED_NAMES = (
    "psycopg.AsyncConnection, asyncpg.Connection, sqlalchemy.ext.asyncio.AsyncConnection, "
    "sqlalchemy.ext.asyncio.AsyncSession or aiosqlite.Connection"
)
_DATABASES = ("postgresql", "sqlite")


def _class_in(classes: Mapping[tuple[str, str], Any], connection: object) -> Any:
    for each in type(connection).__mro__:
        found = classes.get((each.__module__, each.__qualname__))
        if found is not None:
            return found
    return None


def blocking_connection(connection: object) -> BlockingConnection:
    """Recognise a connection whose calls block.

    Raises:
        TypeError: Its class is unknown, or its calls are awaited.
        ConfigurationError: Its database is neither PostgreSQL nor SQLite.
    """
    found = _class_in(_BLOCKING, connection)
    if found is None:
        hint = ""
        if _class_in(_AWAITED, connection) is not None:
            hint = "; the calls of this one are awaited: use AsyncTransactionClient"
        raise TypeError(f"connection must be a {_BLOCKING_NAMES}, not {_title(connection)}{hint}")
    recognised: BlockingConnection = found(connection)
    return _of_known_database(recognised)


def awaited_connection(connection: object) -> AwaitedConnection:
    """Recognise a connection whose calls are awaited.

    Raises:
        TypeError: Its class is unknown, or its calls block.
        ConfigurationError: Its database is neither PostgreSQL nor SQLite.
    """
    found = _class_in(_AWAITED, connection)
    if found is None:
        hint = ""
        if _class_in(_BLOCKING, connection) is not None:
            hint = "; the calls of this one block: use TransactionClient"
        raise TypeError(f"connection must be a {_AWAITED_NAMES}, not {_title(connection)}{hint}")
    recognised: AwaitedConnection = found(connection)
    return _of_known_database(recognised)


def _of_known_database(connection: AnyConnection) -> AnyConnection:
    if connection.database not in _DATABASES:
        raise ConfigurationError(
            f"the connection is to {connection.database}; transactions of PostgreSQL and of SQLite can be used"
        )
    return connection


def _title(connection: object) -> str:
    kind = type(connection)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def sql_state(error: BaseException) -> str | None:
    """Return the SQLSTATE of an error of PostgreSQL, also from inside a library's own exception."""
    for each in (error, getattr(error, "orig", None), error.__cause__):
        for attribute in ("sqlstate", "pgcode"):
            state = getattr(each, attribute, None)
            if isinstance(state, str):
                return state
    return None
