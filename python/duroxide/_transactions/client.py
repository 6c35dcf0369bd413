"""Starts, events and messages that commit or roll back with an application's own data."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from duroxide._client.calls import awaited, blocking
from duroxide._client.payloads import encode_message, encode_start, encode_value
from duroxide._client.start import describe_start
from duroxide._native import current_context, write_message
from duroxide._store.providers import PostgresProvider
from duroxide._transactions.connections import awaited_connection, blocking_connection, sql_state
from duroxide._transactions.statements import Statement
from duroxide._values.validation import check_id, check_name, check_queue
from duroxide.exceptions import ConfigurationError, NotAllowedInOrchestration

if TYPE_CHECKING:
    from duroxide._client.calls import Call
    from duroxide._client.startable import Startable0, Startable1, Startable2, Startable3, Startable4, Startable5
    from duroxide._declare.declarations import Orchestration
    from duroxide._declare.names import OrchestrationName
    from duroxide._transactions.connections import Connection

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")

OUTBOX = "duroxide_outbox"
"""The table of an application's SQLite database from which rows are relayed into a store."""

_INSERT = "INSERT INTO duroxide_outbox (kind, instance_id, name, data, version) VALUES (:kind, :instance, :name, :data, :version)"


class _Call:
    """A call that a client of transactions has described: it is run, or awaited."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def run(self) -> None:
        self._make()

    def __await__(self) -> Generator[Any, Any, None]:
        yield from self._make().__await__()

    def abort(self) -> None:
        """Nothing goes on beside the wait."""


class TransactionOperations(ABC):
    """What both clients of transactions have in common: the statements that they run.

    Args:
        connection: The application's connection.
        store: A provider, the name of a schema, or ``None`` for ``public``.
    """

    def __init__(self, connection: Connection, store: PostgresProvider | str | None) -> None:
        self._schema = _schema_of(store)
        self._database = connection.database

    @abstractmethod
    def _run(self, statement: Statement) -> Any:
        """Run a statement in the transaction."""

    @abstractmethod
    def _tell(self) -> Any:
        """Have the nodes look for what was committed."""

    def _write(self, kind: str, instance: str, name: str, data: str, version: str | None = None) -> Call[None]:
        return _Call(partial(self._run, self._statement(kind, instance, name, data, version)))

    def _statement(self, kind: str, instance: str, name: str, data: str, version: str | None) -> Statement:
        if current_context() is not None:
            raise NotAllowedInOrchestration(
                "an orchestration runs again when it is replayed, and would write again to your database; "
                "use the transaction in an activity"
            )
        if self._database == "sqlite":
            values = {"kind": kind, "instance": instance, "name": name, "data": data, "version": version}
            return Statement(_INSERT, values)
        # As duroxide-pg's own nodes enqueue. The transaction's time has come on every node, whatever its clock says.
        text = f'SELECT "{self._schema}".enqueue_orchestrator_work(:instance, :item, now())'
        return Statement(text, {"instance": instance, "item": write_message(kind, instance, name, data, version)})

    def _wake_up(self) -> Statement:
        # Without a payload: the nodes look everywhere. The server cuts the name for those who listen, and not here.
        return Statement("SELECT pg_notify(:channel, '')", {"channel": f"duroxide_{self._schema}"[:_LONGEST_NAME]})

    @contextmanager
    def _explained(self) -> Generator[None]:
        """Say what to do about tables that are missing or closed to the application; other errors are its own."""
        try:
            yield
        except Exception as error:
            explanation = self._explain(error)
            if explanation is None:
                raise
            raise ConfigurationError(explanation) from error

    def _explain(self, error: Exception) -> str | None:
        if self._database == "sqlite":
            if f"no such table: {OUTBOX}" not in str(error):
                return None
            return f"this database has no table {OUTBOX}; make it with Outbox.create(connection), or in a migration of yours"
        state = sql_state(error)
        if state in _MISSING:
            return (
                f"schema '{self._schema}' of this database has no tables of duroxide; pass the schema or the provider of "
                "your store, and open the store once so that it makes its tables"
            )
        if state == _DENIED:
            return (
                f"this connection's role may not write to schema '{self._schema}': {error}; grant it USAGE on the schema, "
                "INSERT on orchestrator_queue, and USAGE on orchestrator_queue_id_seq"
            )
        return None


# PostgreSQL's codes: no such schema, table or function; and no right to use it.
_MISSING = ("3F000", "42P01", "42883")
_DENIED = "42501"
_LONGEST_NAME = 63
_SCHEMA = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


def _schema_of(store: object) -> str:
    if store is None:
        return "public"
    if isinstance(store, PostgresProvider):
        return store._store.schema or "public"
    if not isinstance(store, str):
        raise TypeError(
            f"store must be a PostgresProvider, the name of its schema, or None, not {type(store).__name__}; "
            "on SQLite leave it out"
        )
    if not _SCHEMA.fullmatch(store):
        raise ConfigurationError(
            f"schema '{store}' is not usable; use at most 63 letters, digits and underscores, beginning with a letter"
        )
    # As the store writes it, without quotes: the server folds it.
    return store.lower()


class TransactionClient(TransactionOperations):
    """Starts orchestrations and sends to them inside a transaction of yours: what it wrote commits or rolls back with it.

    On PostgreSQL it writes into the queue of the store, which is in the same database. On SQLite it writes into an outbox, a
    table of your own database, from which a runtime relays into its store, once: see ``Outbox``. Nothing is sent before your
    commit, and nothing is lost after it.

    Whether an id is taken is not decided here, since other transactions are not seen: starts attach. They never raise
    ``InstanceAlreadyExists``; when an instance with that id exists by then, it stays as it is.

    Args:
        connection: Your connection: of psycopg, SQLAlchemy, Django or ``sqlite3``; a session of SQLAlchemy too. It is used, and never committed, rolled back or closed.
        store: On PostgreSQL, the ``PostgresProvider``, or the name of its schema. Default ``None``, the schema ``public``. On
            SQLite it is not needed.

    Raises:
        TypeError: ``connection`` or ``store`` is something else.
        ConfigurationError: The database is neither of the two, or the schema cannot be one; in any operation: no transaction
            is open and none would be opened, or the tables are missing or closed to your role.
        NotAllowedInOrchestration: It is used inside an orchestration, in any operation.
    """

    def __init__(self, connection: Any, store: PostgresProvider | str | None = None) -> None:
        self._connection = blocking_connection(connection)
        super().__init__(self._connection, store)

    @overload
    def start(self, orchestration: Orchestration[P, T], /, *arguments: P.args, **named: P.kwargs) -> str: ...
    @overload
    def start(
        self,
        orchestration: Startable0[T],
        /,
        *,
        id: str | None = None,
        version: str | None = None,
    ) -> str: ...
    @overload
    def start(
        self,
        orchestration: Startable1[A, T],
        a: A,
        /,
        *,
        id: str | None = None,
        version: str | None = None,
    ) -> str: ...
    @overload
    def start(
        self,
        orchestration: Startable2[A, B, T],
        a: A,
        b: B,
        /,
        *,
        id: str | None = None,
        version: str | None = None,
    ) -> str: ...
    @overload
    def start(
        self,
        orchestration: Startable3[A, B, C, T],
        a: A,
        b: B,
        c: C,
        /,
        *,
        id: str | None = None,
        version: str | None = None,
    ) -> str: ...
    @overload
    def start(
        self,
        orchestration: Startable4[A, B, C, D, T],
        a: A,
        b: B,
        c: C,
        d: D,
        /,
        *,
        id: str | None = None,
        version: str | None = None,
    ) -> str: ...
    @overload
    def start(
        self,
        orchestration: Startable5[A, B, C, D, E, T],
        a: A,
        b: B,
        c: C,
        d: D,
        e: E,
        /,
        *,
        id: str | None = None,
        version: str | None = None,
    ) -> str: ...
    @overload
    def start(
        self, orchestration: Orchestration[..., T], /, *, id: str, version: str | None = None, **named: Any
    ) -> str: ...
    @overload
    def start(
        self, orchestration: str, input: object = None, /, *, id: str | None = None, version: str | None = None
    ) -> str: ...
    def start(  # type: ignore[misc]  # the parameters of an orchestration may be called as the options are
        self,
        orchestration: Any,
        /,
        *arguments: Any,
        id: str | None = None,
        version: str | None = None,
        **named: Any,
    ) -> str:
        """Start an orchestration with the arguments of a call, when your transaction commits.

        Args:
            orchestration: What ``@orchestration`` made, or a name, which takes at most one argument, the input.
            arguments: The arguments.
            id: Id of the new instance, 1 to 1,024 bytes; default ``None``, a new one that is made up. Where the id is taken by
                then, the instance stays as it is.
            version: Version to start; default ``None``, the newest one that the executing runtime has.
            named: Arguments by name. A parameter that is called as one of the options is to be given by position.

        Returns:
            The id, for ``client.handle``.

        Raises:
            TypeError: The arguments do not fit, or this is no orchestration.
            CodecError: An argument cannot be written as JSON.
            LimitExceeded: The id or the input is too long.
        """
        chosen, value, version = describe_start(orchestration, arguments, named, id, version)
        self.start_orchestration(chosen, orchestration, value, version=version)
        return chosen

    @blocking
    def start_orchestration(
        self, instance_id: str, name: OrchestrationName, input: object = None, *, version: str | None = None
    ) -> Call[None]:
        """Start an orchestration by its name, when your transaction commits.

        Args:
            instance_id: Id of the new instance, 1 to 1,024 bytes. Where it is taken by then, the instance stays as it is.
            name: Name of the orchestration, or the declared orchestration itself.
            input: Its input, any value that can be written as JSON; default ``None``.
            version: Version to start; default ``None``, the newest one that the executing runtime has.

        Raises:
            CodecError: The input cannot be written as JSON.
            LimitExceeded: An id, a name or the input is too long.
        """
        start = encode_start(instance_id, name, input, version)
        return self._write("start", start.instance, start.orchestration, start.input, start.version)

    @blocking
    def raise_event(self, instance_id: str, name: str, data: object = None) -> Call[None]:
        """Raise an event, when your transaction commits; it is delivered as those of ``Client.raise_event``.

        Args:
            instance_id: The instance, which may be one that the same transaction starts, or that is started soon.
            name: Name of the event.
            data: Any value that can be written as JSON; the wait returns it. Default ``None``.

        Raises:
            CodecError: The data cannot be written as JSON.
            LimitExceeded: An id, a name or the data is too long.
        """
        checked = check_name(name, "the name of an event")
        return self._write("event", check_id(instance_id), checked, encode_value(data, "the data"))

    @blocking
    def enqueue_event(self, instance_id: str, queue: str, data: object) -> Call[None]:
        """Append a message to a queue of an instance, when your transaction commits.

        Args:
            instance_id: The instance, which may be one that the same transaction starts, or that is started soon.
            queue: Name of the queue.
            data: A ``str`` is delivered as it is; any other value is delivered as its JSON text.

        Raises:
            CodecError: The data cannot be written as JSON.
            LimitExceeded: An id, a name or the data is too long, or a ``str`` is not valid UTF-8.
        """
        return self._write("message", check_id(instance_id), check_queue(queue), encode_message(data))

    @blocking
    def notify(self) -> Call[None]:
        """Have the nodes look for what you committed at once; call it after the commit.

        Without it they find it within half a second. It is a statement of its own, outside of any transaction, since a
        PostgreSQL that notifies inside of one makes the commits of all connections wait for each other. On SQLite it does
        nothing: the relay sees the commit by itself.

        Raises:
            ConfigurationError: A transaction is open.
        """
        return _Call(self._tell)

    def _tell(self) -> None:
        if self._database == "postgresql":
            self._connection.run_alone(self._wake_up())

    def _run(self, statement: Statement) -> None:
        self._connection.check_transaction()
        with self._explained():
            self._connection.run(statement)


class AsyncTransactionClient(TransactionOperations):
    """Starts orchestrations and sends to them inside a transaction of yours: what it wrote commits or rolls back with it.

    On PostgreSQL it writes into the queue of the store, which is in the same database. On SQLite it writes into an outbox, a
    table of your own database, from which a runtime relays into its store, once: see ``Outbox``. Nothing is sent before your
    commit, and nothing is lost after it.

    Whether an id is taken is not decided here, since other transactions are not seen: starts attach. They never raise
    ``InstanceAlreadyExists``; when an instance with that id exists by then, it stays as it is.

    Args:
        connection: Your connection: of psycopg, asyncpg, SQLAlchemy or ``aiosqlite``; a session of SQLAlchemy too. It is used, and never committed, rolled back or closed.
        store: On PostgreSQL, the ``PostgresProvider``, or the name of its schema. Default ``None``, the schema ``public``. On
            SQLite it is not needed.

    Raises:
        TypeError: ``connection`` or ``store`` is something else.
        ConfigurationError: The database is neither of the two, or the schema cannot be one; in any operation: no transaction
            is open and none would be opened, or the tables are missing or closed to your role.
        NotAllowedInOrchestration: It is used inside an orchestration, in any operation.
    """

    def __init__(self, connection: Any, store: PostgresProvider | str | None = None) -> None:
        self._connection = awaited_connection(connection)
        super().__init__(self._connection, store)

    @overload
    async def start(self, orchestration: Orchestration[P, T], /, *arguments: P.args, **named: P.kwargs) -> str: ...
    @overload
    async def start(
        self,
        orchestration: Startable0[T],
        /,
        *,
        id: str | None = None,
        version: str | None = None,
    ) -> str: ...
    @overload
    async def start(
        self,
        orchestration: Startable1[A, T],
        a: A,
        /,
        *,
        id: str | None = None,
        version: str | None = None,
    ) -> str: ...
    @overload
    async def start(
        self,
        orchestration: Startable2[A, B, T],
        a: A,
        b: B,
        /,
        *,
        id: str | None = None,
        version: str | None = None,
    ) -> str: ...
    @overload
    async def start(
        self,
        orchestration: Startable3[A, B, C, T],
        a: A,
        b: B,
        c: C,
        /,
        *,
        id: str | None = None,
        version: str | None = None,
    ) -> str: ...
    @overload
    async def start(
        self,
        orchestration: Startable4[A, B, C, D, T],
        a: A,
        b: B,
        c: C,
        d: D,
        /,
        *,
        id: str | None = None,
        version: str | None = None,
    ) -> str: ...
    @overload
    async def start(
        self,
        orchestration: Startable5[A, B, C, D, E, T],
        a: A,
        b: B,
        c: C,
        d: D,
        e: E,
        /,
        *,
        id: str | None = None,
        version: str | None = None,
    ) -> str: ...
    @overload
    async def start(
        self, orchestration: Orchestration[..., T], /, *, id: str, version: str | None = None, **named: Any
    ) -> str: ...
    @overload
    async def start(
        self, orchestration: str, input: object = None, /, *, id: str | None = None, version: str | None = None
    ) -> str: ...
    async def start(  # type: ignore[misc]  # the parameters of an orchestration may be called as the options are
        self,
        orchestration: Any,
        /,
        *arguments: Any,
        id: str | None = None,
        version: str | None = None,
        **named: Any,
    ) -> str:
        """Start an orchestration with the arguments of a call, when your transaction commits.

        Args:
            orchestration: What ``@orchestration`` made, or a name, which takes at most one argument, the input.
            arguments: The arguments.
            id: Id of the new instance, 1 to 1,024 bytes; default ``None``, a new one that is made up. Where the id is taken by
                then, the instance stays as it is.
            version: Version to start; default ``None``, the newest one that the executing runtime has.
            named: Arguments by name. A parameter that is called as one of the options is to be given by position.

        Returns:
            The id, for ``client.handle``.

        Raises:
            TypeError: The arguments do not fit, or this is no orchestration.
            CodecError: An argument cannot be written as JSON.
            LimitExceeded: The id or the input is too long.
        """
        chosen, value, version = describe_start(orchestration, arguments, named, id, version)
        await self.start_orchestration(chosen, orchestration, value, version=version)
        return chosen

    start_orchestration = awaited(TransactionClient.start_orchestration)
    raise_event = awaited(TransactionClient.raise_event)
    enqueue_event = awaited(TransactionClient.enqueue_event)
    notify = awaited(TransactionClient.notify)

    def _begin(self, call: _Call) -> _Call:
        return call

    async def _tell(self) -> None:
        if self._database == "postgresql":
            await self._connection.run_alone(self._wake_up())

    async def _run(self, statement: Statement) -> None:
        await self._connection.check_transaction()
        with self._explained():
            await self._connection.run(statement)
