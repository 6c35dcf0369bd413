"""Starts, events and messages that commit or roll back with an application's own data."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ParamSpec, TypeVar, overload

from duroxide._client.calls import Call, awaited, blocking
from duroxide._client.payloads import encode_message, encode_start, encode_value
from duroxide._client.start import StartOptions, describe_start
from duroxide._client.startable import Startable0, Startable1, Startable2, Startable3, Startable4, Startable5
from duroxide._declare.declarations import Orchestration
from duroxide._declare.names import OrchestrationName
from duroxide._native import current_context, schema_without_name, stores_statement, write_message
from duroxide._store.providers import PostgresProvider
from duroxide._transactions.connections import Connection, awaited_connection, blocking_connection, sql_state
from duroxide._transactions.statements import Statement
from duroxide._values.parameter_names import also_named
from duroxide._values.validation import check_id, check_name, check_queue
from duroxide.exceptions import ConfigurationError, NotAllowedInOrchestration

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")

OUTBOX = "duroxide_outbox"
"""The table in an application's SQLite database from which a relay moves rows into a store."""

_SEND = 'SELECT "{schema}".python_send(:instance, :item)'
"""The function runs with the rights of its owner, so the role of the application needs no right on a table."""

_STORES = Statement(stores_statement(), {})
"""Finds the stores of the application's database."""

_INSERT = (
    "INSERT INTO duroxide_outbox (kind, instance_id, name, data, version) "
    "VALUES (:kind, :instance, :name, :data, :version)"
)


class _Call:
    """The description of a call of a transaction client, to be run or awaited."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def run(self) -> None:
        self._make()

    def __await__(self) -> Generator[Any, Any, None]:
        yield from self._make().__await__()

    def abort(self) -> None:
        """Do nothing: no work continues beside the wait."""


def _describe(
    orchestration: Any, arguments: tuple[Any, ...], named: Mapping[str, Any], options: StartOptions
) -> tuple[str, object, str | None]:
    """Describe a start, and refuse the options that no start in a transaction has."""
    chosen, value, options = describe_start(orchestration, arguments, named, options)
    if useless := [option for option in ("if_exists", "at", "delay") if getattr(options, option) is not None]:
        raise TypeError(f"a start in a transaction has no option '{useless[0]}'; use client.start")
    return chosen, value, options.version


class TransactionOperations(ABC):
    """The common part of both transaction clients: the statements that they run.

    Args:
        connection: The application's connection.
        store: A provider, the name of a schema, or ``None`` for the store that the database has.
    """

    def __init__(self, connection: Connection, store: PostgresProvider | str | None) -> None:
        # `None` until the first write, which looks for the store.
        self._schema = _schema_of(store)
        self._database = connection.database

    @abstractmethod
    def _run(self, text: str, values: Mapping[str, str | None]) -> Any:
        """Run a statement in the transaction, with the schema of the store in place of ``{schema}``."""

    @abstractmethod
    def _tell(self) -> Any:
        """Notify the nodes, so that they look for committed work."""

    def _write(self, kind: str, instance: str, name: str, data: str, version: str | None = None) -> Call[None]:
        if current_context() is not None:
            raise NotAllowedInOrchestration(
                "an orchestration runs again when it is replayed, and would write again to your database; "
                "use the transaction in an activity"
            )
        if self._database == "sqlite":
            values = {"kind": kind, "instance": instance, "name": name, "data": data, "version": version}
            return _Call(partial(self._run, _INSERT, values))
        item = write_message(kind, instance, name, data, version)
        return _Call(partial(self._run, _SEND, {"instance": instance, "item": item}))

    def _needs_schema(self) -> bool:
        return self._schema is None and self._database == "postgresql"

    def _choose_schema(self, rows: Sequence[Sequence[Any]]) -> None:
        self._schema = schema_without_name([tuple(row) for row in rows])

    def _complete(self, text: str, values: Mapping[str, str | None]) -> Statement:
        return Statement(text.replace("{schema}", self._schema or ""), values)

    def _wake_up(self) -> Statement:
        # A notification without a payload makes the nodes look at all work. Before the first write the schema is not known,
        # and a query for it would open a transaction, so both schemas that it can be are notified.
        if self._schema is not None:
            return Statement("SELECT pg_notify(:channel, '')", {"channel": _channel(self._schema)})
        channels = {"first": _channel("duroxide"), "second": _channel("public")}
        return Statement("SELECT pg_notify(:first, ''), pg_notify(:second, '')", channels)

    @contextmanager
    def _explained(self) -> Generator[None]:
        """Explain an error about tables that are missing or that the role may not use; pass on every other error."""
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
            return (
                f"this database has no table {OUTBOX}; make it with Outbox.create(connection), or in a migration of "
                "yours"
            )
        state = sql_state(error)
        if state in _MISSING:
            return (
                f"schema '{self._schema}' of this database has no tables of duroxide, or those of an earlier version; pass "
                "the schema or the provider of your store, and open the store once so that it makes its tables"
            )
        if state == _DENIED:
            return (
                f"this connection's role may not write to schema '{self._schema}': {error}; grant it USAGE on the schema, "
                "and EXECUTE on the function python_send"
            )
        return None


# PostgreSQL's SQLSTATEs: the schema, table or function does not exist; the role has no right to use it.
_MISSING = ("3F000", "42P01", "42883")
_DENIED = "42501"
_LONGEST_NAME = 63
_SCHEMA = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


def _channel(schema: str) -> str:
    # PostgreSQL truncates the name in LISTEN, but not here.
    return f"duroxide_{schema}"[:_LONGEST_NAME]


def _schema_of(store: object) -> str | None:
    if store is None:
        return None
    if isinstance(store, PostgresProvider):
        return store._store.schema
    if not isinstance(store, str):
        raise TypeError(
            f"store must be a PostgresProvider, the name of its schema, or None, not {type(store).__name__}; "
            "on SQLite leave it out"
        )
    if not _SCHEMA.fullmatch(store):
        raise ConfigurationError(
            f"schema '{store}' is not usable; use at most 63 letters, digits and underscores, beginning with a letter"
        )
    # The store writes the name without quotes, so the server folds it to lower case.
    return store.lower()


class TransactionClient(TransactionOperations):
    """Starts orchestrations and sends to them inside your transaction, with which its writes commit or roll back.

    On PostgreSQL it writes into the queue of the store, which is in the same database. On SQLite it writes into an
    outbox, a table of your own database. A runtime relays each row of the outbox into its store once: see ``Outbox``.
    Nothing is sent before your commit, and nothing is lost after it.

    Starts always attach, because the client does not see other transactions and cannot know whether an id is taken. A
    start never raises ``InstanceAlreadyExists``. If an instance has the id when the start arrives, the instance stays
    as it is.

    Args:
        connection: Your connection of psycopg, SQLAlchemy, Django or ``sqlite3``, or a session of SQLAlchemy. The
            client runs statements on it, and never commits, rolls back or closes it.
        store: On PostgreSQL, the ``PostgresProvider``, or the name of its schema; default ``None``, the store that
            ``PostgresProvider.connect`` opens in this database. On SQLite, leave it out.

    Raises:
        TypeError: ``connection`` or ``store`` is of another class.
        ConfigurationError: The database is neither PostgreSQL nor SQLite, or the name of the schema is not usable; in
            any operation: no transaction is open and the statement would not open one, the tables are missing, your
            role may not use them, or the database has two stores and ``store`` names none.
        NotAllowedInOrchestration: An orchestration calls, in any operation.
    """

    def __init__(self, connection: Any, store: PostgresProvider | str | None = None) -> None:
        self._connection = blocking_connection(connection)
        super().__init__(self._connection, store)

    @overload
    def start(self, orchestration: Orchestration[P, T], /, *arguments: P.args, **named: P.kwargs) -> str: ...
    @overload
    def start(self, orchestration: Startable0[T], /, *, id: str | None = None, version: str | None = None) -> str: ...
    @overload
    def start(
        self, orchestration: Startable1[A, T], a: A, /, *, id: str | None = None, version: str | None = None
    ) -> str: ...
    @overload
    def start(
        self, orchestration: Startable2[A, B, T], a: A, b: B, /, *, id: str | None = None, version: str | None = None
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
            orchestration: A declared orchestration, or a name, which takes at most one argument, the input.
            arguments: The arguments.
            id: Id of the new instance, 1 to 1,024 bytes; default ``None``, a new random one. An instance that has the
                id by then stays as it is.
            version: Version to start; default ``None``, the newest one that the executing runtime has.
            named: Arguments by name. Give an argument by position if its parameter has the name of an option.

        Returns:
            The id, for ``client.handle``.

        Raises:
            TypeError: The arguments do not fit, or ``orchestration`` is neither.
            CodecError: An argument cannot be written as JSON.
            LimitExceeded: The id or the input is too long.
        """
        chosen, value, version = _describe(orchestration, arguments, named, StartOptions(id, version))
        self.start_orchestration(chosen, orchestration, value, version=version)
        return chosen

    @blocking
    def start_orchestration(
        self, instance_id: str, name: OrchestrationName, input: object = None, *, version: str | None = None
    ) -> Call[None]:
        """Start an orchestration by its name, when your transaction commits.

        Args:
            instance_id: Id of the new instance, 1 to 1,024 bytes. An instance that has the id by then stays as it is.
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
    @also_named(name="event_name")
    def raise_event(self, instance_id: str, event_name: str, data: object = None) -> Call[None]:
        """Raise an event, when your transaction commits; otherwise as ``Client.raise_event``.

        Args:
            instance_id: The instance, also one that the same transaction starts, or that starts soon.
            event_name: Name of the event.
            data: Any value that can be written as JSON, which the wait returns; default ``None``.

        Raises:
            CodecError: The data cannot be written as JSON.
            LimitExceeded: An id, a name or the data is too long.
        """
        checked = check_name(event_name, "the name of an event")
        return self._write("event", check_id(instance_id), checked, encode_value(data, "the data"))

    @blocking
    @also_named(queue="queue_name")
    def enqueue_event(self, instance_id: str, queue_name: str, data: object = None) -> Call[None]:
        """Append a message to a queue of an instance, when your transaction commits.

        Args:
            instance_id: The instance, also one that the same transaction starts, or that starts soon.
            queue_name: Name of the queue.
            data: A ``str``, which the queue delivers as it is, or any other value, which it delivers as JSON text; default
                ``None``, which is the text ``null``.

        Raises:
            CodecError: The data cannot be written as JSON.
            LimitExceeded: An id, a name or the data is too long, or a ``str`` is not valid UTF-8.
        """
        return self._write("message", check_id(instance_id), check_queue(queue_name), encode_message(data))

    @blocking
    def notify(self) -> Call[None]:
        """Notify the nodes of your commit, so that they look for its work at once; call it after the commit.

        Without the notification they find the work within half a second. It is a separate statement outside of any
        transaction, because a NOTIFY inside a transaction makes the commits of all connections wait for each other. On
        SQLite this call does nothing: the relay sees the commit without it.

        Raises:
            ConfigurationError: A transaction is open.
        """
        return _Call(self._tell)

    def _tell(self) -> None:
        if self._database == "postgresql":
            self._connection.run_alone(self._wake_up())

    def _run(self, text: str, values: Mapping[str, str | None]) -> None:
        self._connection.check_transaction()
        with self._explained():
            if self._needs_schema():
                self._choose_schema(self._connection.read(_STORES))
            self._connection.run(self._complete(text, values))


class AsyncTransactionClient(TransactionOperations):
    """Starts orchestrations and sends to them inside your transaction, with which its writes commit or roll back.

    On PostgreSQL it writes into the queue of the store, which is in the same database. On SQLite it writes into an
    outbox, a table of your own database. A runtime relays each row of the outbox into its store once: see ``Outbox``.
    Nothing is sent before your commit, and nothing is lost after it.

    Starts always attach, because the client does not see other transactions and cannot know whether an id is taken. A
    start never raises ``InstanceAlreadyExists``. If an instance has the id when the start arrives, the instance stays
    as it is.

    Args:
        connection: Your connection of psycopg, asyncpg, SQLAlchemy or ``aiosqlite``, or a session of SQLAlchemy. The
            client runs statements on it, and never commits, rolls back or closes it.
        store: On PostgreSQL, the ``PostgresProvider``, or the name of its schema; default ``None``, the store that
            ``PostgresProvider.connect`` opens in this database. On SQLite, leave it out.

    Raises:
        TypeError: ``connection`` or ``store`` is of another class.
        ConfigurationError: The database is neither PostgreSQL nor SQLite, or the name of the schema is not usable; in
            any operation: no transaction is open and the statement would not open one, the tables are missing, your
            role may not use them, or the database has two stores and ``store`` names none.
        NotAllowedInOrchestration: An orchestration calls, in any operation.
    """

    def __init__(self, connection: Any, store: PostgresProvider | str | None = None) -> None:
        self._connection = awaited_connection(connection)
        super().__init__(self._connection, store)

    @overload
    async def start(self, orchestration: Orchestration[P, T], /, *arguments: P.args, **named: P.kwargs) -> str: ...
    @overload
    async def start(
        self, orchestration: Startable0[T], /, *, id: str | None = None, version: str | None = None
    ) -> str: ...
    @overload
    async def start(
        self, orchestration: Startable1[A, T], a: A, /, *, id: str | None = None, version: str | None = None
    ) -> str: ...
    @overload
    async def start(
        self, orchestration: Startable2[A, B, T], a: A, b: B, /, *, id: str | None = None, version: str | None = None
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
            orchestration: A declared orchestration, or a name, which takes at most one argument, the input.
            arguments: The arguments.
            id: Id of the new instance, 1 to 1,024 bytes; default ``None``, a new random one. An instance that has the
                id by then stays as it is.
            version: Version to start; default ``None``, the newest one that the executing runtime has.
            named: Arguments by name. Give an argument by position if its parameter has the name of an option.

        Returns:
            The id, for ``client.handle``.

        Raises:
            TypeError: The arguments do not fit, or ``orchestration`` is neither.
            CodecError: An argument cannot be written as JSON.
            LimitExceeded: The id or the input is too long.
        """
        chosen, value, version = _describe(orchestration, arguments, named, StartOptions(id, version))
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

    async def _run(self, text: str, values: Mapping[str, str | None]) -> None:
        await self._connection.check_transaction()
        with self._explained():
            if self._needs_schema():
                self._choose_schema(await self._connection.read(_STORES))
            await self._connection.run(self._complete(text, values))
