"""The stores that keep orchestrations."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Literal, TypeVar, cast, overload

from duroxide import _native
from duroxide._store.postgres_options import PostgresEntraOptions, PostgresOptions
from duroxide._store.postgres_url import read_url
from duroxide._values.parameter_names import also_named
from duroxide._values.validation import check_integer, check_name
from duroxide.exceptions import ConfigurationError

AnyProvider = TypeVar("AnyProvider", bound="Provider")


class Provider:
    """An opened store; the class methods of ``SqliteProvider`` and ``PostgresProvider`` open it.

    The clients and runtimes of one process share it. ``with`` closes it at the end.

    Raises:
        TypeError: The constructor is called directly.
    """

    _store: _native.Store
    _ways_in = "SqliteProvider.open(path) or PostgresProvider.connect(url)"

    def __init__(self, *arguments: object, **options: object) -> None:
        raise TypeError(f"a {type(self).__name__} is not made directly; write {self._ways_in}")

    @classmethod
    def _of(cls: type[AnyProvider], store: _native.Store) -> AnyProvider:
        provider = cls.__new__(cls)
        provider._store = store
        return provider

    @property
    def kind(self) -> str:
        """The kind of the store: ``"memory"``, ``"sqlite"`` or ``"postgres"``."""
        return self._store.kind

    def close(self) -> None:
        """Close the store; clients and runtimes on it fail from then on. May be called twice."""
        self._store.close()

    def __enter__(self: AnyProvider) -> AnyProvider:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._store.description}>"


# What SQLite takes for a database in memory. A file of this name would be made without a word.
_IN_MEMORY = (":memory:", "file::memory:", "file::memory:?cache=shared")


class SqliteProvider(Provider):
    """A store in a SQLite file, or in memory."""

    _ways_in = "SqliteProvider.open(path) or SqliteProvider.in_memory()"

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, durability: Literal["full", "normal"] = "full") -> SqliteProvider:
        """Open the store in a file, which is created if it does not exist.

        Args:
            path: Path of the file; its directory must exist.
            durability: When the store counts a write as recorded. ``"full"``, the default: when it is on the disk.
                ``"normal"``, SQLite's ``synchronous=NORMAL``: when the operating system has it, which is faster; a
                power failure or a crash of the operating system may then lose the writes of the last moments. In both
                cases the end of the process loses nothing, even if it is killed, and the file is never damaged.

        Returns:
            The opened store.

        Raises:
            ConfigurationError: The file cannot be created, opened or written, is not a store, or is open in this
                process with another durability; or an argument has an invalid value.
            ProviderError: The store failed while it was opened.
        """
        if durability not in ("full", "normal"):
            raise ConfigurationError(f"durability must be 'full' or 'normal', not {durability!r}")
        text = _check_path(path)
        if not text:
            raise ConfigurationError("path is empty; give the file a name, or write SqliteProvider.in_memory()")
        if text in _IN_MEMORY:
            raise ConfigurationError(
                f"{text!r} is SQLite's name of a database in memory, and not a path; write SqliteProvider.in_memory()"
            )
        return cls._of(_native.Store.open_sqlite(text, durability))

    @classmethod
    def in_memory(cls) -> SqliteProvider:
        """Open a new store in memory, for tests; it ends with the process."""
        return cls._of(_native.Store.sqlite_in_memory())

    def backup(self, path: str | os.PathLike[str]) -> None:
        """Copy the state of the store at one moment into a new file, while work continues.

        The copy has every write that the store acknowledged to this process before the call. It opens like any other
        store file, and its instances continue there. After Ctrl-C the copying may continue in the background for a
        while.

        Args:
            path: Path of the new file; its directory must exist.

        Raises:
            ConfigurationError: The file exists, is the file of the store itself, or its directory does not exist.
            ProviderError: The copy could not be written; no part of it is left.
        """
        text = _check_path(path)
        if not text:
            raise ConfigurationError("path is empty; give the copy a name")
        if text in _IN_MEMORY:
            raise ConfigurationError(f"{text!r} is not the path of a file; give the copy a name")
        self._store.back_up(text)


class PostgresProvider(Provider):
    """A store in a PostgreSQL database, which any number of processes may share."""

    _ways_in = "PostgresProvider.connect(url)"

    @classmethod
    @also_named(url="database_url")
    def connect(cls, database_url: str, *, options: PostgresOptions | None = None) -> PostgresProvider:
        """Connect to a database and create the tables of the store if they do not exist.

        A new store is in the schema ``duroxide``. If an earlier version made the store of this database in the schema
        ``public``, that one is opened, and the log says why to name the schema then (``connect_with_schema``).

        Args:
            database_url: ``postgresql://user:password@host:port/database``, with the parameters of libpq after a ``?``.
                It may name several hosts, ``host1:port1,host2:port2``, and ``target_session_attrs``: the store uses the
                first that answers and takes writes, and another one after a fail-over.
            options: Options of the connection; default ``None``: those in the URL, then the defaults of
                ``PostgresOptions``.

        Returns:
            The opened store.

        Raises:
            ProviderError: The server cannot be reached or refuses the connection, or the schema is not the one that the
                store expects.
            ConfigurationError: The URL is not a PostgreSQL URL, or contradicts the options; or both schemas have a store.
        """
        return cls._connect(database_url, None, options)

    @classmethod
    @also_named(url="database_url")
    def connect_with_schema(
        cls, database_url: str, schema: str, *, options: PostgresOptions | None = None
    ) -> PostgresProvider:
        """Connect as ``connect`` does, with the tables in a separate schema.

        Args:
            database_url: ``postgresql://user:password@host:port/database``, with the parameters of libpq after a ``?``.
                It may name several hosts, ``host1:port1,host2:port2``, and ``target_session_attrs``: the store uses the
                first that answers and takes writes, and another one after a fail-over.
            schema: Name of the schema, which is created if it does not exist.
            options: Options of the connection; default ``None``: those in the URL, then the defaults of
                ``PostgresOptions``.

        Raises:
            ProviderError: The server cannot be reached or refuses the connection, or the schema is not the one that the
                store expects.
            ConfigurationError: The URL is not a PostgreSQL URL, or contradicts the options.
        """
        return cls._connect(database_url, check_name(schema, "schema"), options)

    @overload
    @classmethod
    def connect_with_entra(
        cls, host: str, port: int, database: str, user: str, options: PostgresEntraOptions | None = None
    ) -> PostgresProvider: ...
    @overload
    @classmethod
    def connect_with_entra(
        cls, *, host: str, database: str, user: str, options: PostgresEntraOptions | None = None
    ) -> PostgresProvider: ...
    @classmethod
    def connect_with_entra(
        cls,
        host: str,
        port: int = 5432,
        database: str | None = None,
        user: str | None = None,
        options: PostgresEntraOptions | None = None,
    ) -> PostgresProvider:
        """Connect to Azure Database for PostgreSQL with a token of Microsoft Entra ID in place of a password.

        The store is in the same schema as with ``connect``.

        Args:
            host: Name of the server.
            port: Port of the server; default 5432.
            database: Name of the database.
            user: Name of the Entra identity in the database.
            options: Options of tokens and connections; default ``None``, the defaults of ``PostgresEntraOptions``.

        Raises:
            ProviderError: Entra ID gives no token, or the server cannot be reached or refuses the connection.
            ConfigurationError: Both schemas have a store.
        """
        return cls._connect_entra(host, port, database, user, None, options)

    @overload
    @classmethod
    def connect_with_schema_and_entra(
        cls, host: str, port: int, database: str, user: str, schema: str, options: PostgresEntraOptions | None = None
    ) -> PostgresProvider: ...
    @overload
    @classmethod
    def connect_with_schema_and_entra(
        cls, *, host: str, database: str, user: str, schema: str, options: PostgresEntraOptions | None = None
    ) -> PostgresProvider: ...
    @classmethod
    def connect_with_schema_and_entra(  # noqa: PLR0917  (as in the earlier SDK)
        cls,
        host: str,
        port: int = 5432,
        database: str | None = None,
        user: str | None = None,
        schema: str | None = None,
        options: PostgresEntraOptions | None = None,
    ) -> PostgresProvider:
        """Connect as ``connect_with_entra`` does, with the tables in a separate schema.

        Args:
            host: Name of the server.
            port: Port of the server; default 5432.
            database: Name of the database.
            user: Name of the Entra identity in the database.
            schema: Name of the schema, which is created if it does not exist.
            options: Options of tokens and connections; default ``None``, the defaults of ``PostgresEntraOptions``.

        Raises:
            ProviderError: Entra ID gives no token, or the server cannot be reached or refuses the connection.
        """
        return cls._connect_entra(host, port, database, user, check_name(schema, "schema"), options)

    def tune(self) -> list[str]:
        """Prepare a store for many instances: add indexes, and vacuum settings that keep up with the queues.

        Other work continues during the call. The role must own the tables. The call takes as long as PostgreSQL needs
        to read them. Settings that you have made stay as they are. ``python -m duroxide tune`` does the same.

        Returns:
            The changes, one line each; empty if nothing was missing.

        Raises:
            ProviderError: The server refuses the change, or fails.
        """
        return self._store.tune()

    @classmethod
    def _connect_entra(  # noqa: PLR0917  (private, called twice)
        cls,
        host: str,
        port: int,
        database: str | None,
        user: str | None,
        schema: str | None,
        options: PostgresEntraOptions | None,
    ) -> PostgresProvider:
        chosen = PostgresEntraOptions() if options is None else options
        place: dict[str, object] = {
            "host": check_name(host, "host"),
            "port": check_integer(port, "port", least=1, most=65_535),
            "database": check_name(database, "database"),
            "user": check_name(user, "user"),
            "audience": chosen.audience,
            "refresh_interval_ms": chosen.refresh_interval_ms,
        }
        return cls._of(_native.Store.connect_postgres_entra(place, schema, chosen.to_native()))

    @classmethod
    def _connect(cls, url: str, schema: str | None, options: PostgresOptions | None) -> PostgresProvider:
        servers, chosen = read_url(url, options)
        return cls._of(_native.Store.connect_postgres(servers.urls, servers.required, schema, chosen.to_native()))


def _check_path(path: object) -> str:
    text = os.fspath(cast("str", path))
    if not isinstance(cast("object", text), str):
        raise TypeError(f"path must be a str or a path of str, not {type(text).__name__}")
    return text
