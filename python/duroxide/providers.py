"""The stores that orchestrations are kept in."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar, cast

from duroxide import _native
from duroxide.checks import check_integer, check_name
from duroxide.exceptions import ConfigurationError
from duroxide.options import PostgresEntraOptions

if TYPE_CHECKING:
    from types import TracebackType

AnyProvider = TypeVar("AnyProvider", bound="Provider")


class Provider:
    """An opened store; made by the class methods of ``SqliteProvider`` and ``PostgresProvider``.

    Clients and runtimes of one process share it. ``with`` closes it at the end.

    Raises:
        TypeError: It is made directly.
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
        """What the store is: ``"memory"``, ``"sqlite"`` or ``"postgres"``."""
        return self._store.kind

    def close(self) -> None:
        """Close the store; clients and runtimes on it fail from then on. Closing twice does no harm."""
        self._store.close()

    def __enter__(self: AnyProvider) -> AnyProvider:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._store.description}>"


class SqliteProvider(Provider):
    """A store in a SQLite file, or in memory."""

    _ways_in = "SqliteProvider.open(path) or SqliteProvider.in_memory()"

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> SqliteProvider:
        """Open the store in a file, which is created if it does not exist.

        Args:
            path: Path of the file; its directory must exist.

        Returns:
            The opened store.

        Raises:
            ConfigurationError: The file cannot be made, opened or written, or is something else than a store.
            ProviderError: The store failed while it was opened.
            ConfigurationError: The path is empty.
        """
        text = os.fspath(path)
        if not isinstance(cast("object", text), str):
            raise TypeError(f"path must be a str or a path of str, not {type(text).__name__}")
        if not text:
            raise ConfigurationError("path is empty; give the file a name, or write SqliteProvider.in_memory()")
        return cls._of(_native.Store.open_sqlite(text))

    @classmethod
    def in_memory(cls) -> SqliteProvider:
        """Open a new store in memory, which ends with the process; for tests."""
        return cls._of(_native.Store.sqlite_in_memory())


class PostgresProvider(Provider):
    """A store in a PostgreSQL database, which any number of processes may share."""

    _ways_in = "PostgresProvider.connect(url)"

    @classmethod
    def connect(cls, url: str) -> PostgresProvider:
        """Connect to a database and create the tables of the store if they do not exist.

        Args:
            url: ``postgresql://user:password@host:port/database``.

        Returns:
            The opened store.

        Raises:
            ProviderError: The server cannot be reached or refuses.
            ConfigurationError: The URL is none of PostgreSQL.
        """
        return cls._of(_native.Store.connect_postgres(_check_url(url), None))

    @classmethod
    def connect_with_schema(cls, url: str, schema: str) -> PostgresProvider:
        """Connect as ``connect`` does, with the tables in a schema of their own.

        Args:
            url: ``postgresql://user:password@host:port/database``.
            schema: Name of the schema, which is created if it does not exist.

        Raises:
            ProviderError: The server cannot be reached or refuses.
            ConfigurationError: The URL is none of PostgreSQL.
        """
        return cls._of(_native.Store.connect_postgres(_check_url(url), check_name(schema, "schema")))

    @classmethod
    def connect_with_entra(
        cls, *, host: str, port: int = 5432, database: str, user: str, options: PostgresEntraOptions | None = None
    ) -> PostgresProvider:
        """Connect to Azure Database for PostgreSQL with a token of Microsoft Entra ID in place of a password.

        Args:
            host: Name of the server.
            port: Port of the server; default 5432.
            database: Name of the database.
            user: Name of the Entra identity in the database.
            options: How tokens and connections are handled; default ``None``, the defaults of ``PostgresEntraOptions``.

        Raises:
            ProviderError: No token can be had, or the server cannot be reached or refuses.
        """
        return cls._connect_entra(host, port, database, user, None, options)

    @classmethod
    def connect_with_schema_and_entra(
        cls,
        *,
        host: str,
        port: int = 5432,
        database: str,
        user: str,
        schema: str,
        options: PostgresEntraOptions | None = None,
    ) -> PostgresProvider:
        """Connect as ``connect_with_entra`` does, with the tables in a schema of their own.

        Args:
            host: Name of the server.
            port: Port of the server; default 5432.
            database: Name of the database.
            user: Name of the Entra identity in the database.
            schema: Name of the schema, which is created if it does not exist.
            options: How tokens and connections are handled; default ``None``, the defaults of ``PostgresEntraOptions``.

        Raises:
            ProviderError: No token can be had, or the server cannot be reached or refuses.
        """
        return cls._connect_entra(host, port, database, user, check_name(schema, "schema"), options)

    @classmethod
    def _connect_entra(  # noqa: PLR0917  (private, called twice)
        cls, host: str, port: int, database: str, user: str, schema: str | None, options: PostgresEntraOptions | None
    ) -> PostgresProvider:
        chosen = PostgresEntraOptions() if options is None else options
        store = _native.Store.connect_postgres_entra(
            check_name(host, "host"),
            check_integer(port, "port", least=1, most=65_535),
            check_name(database, "database"),
            check_name(user, "user"),
            schema,
            chosen.audience,
            chosen.max_connections,
            chosen.acquire_timeout_ms,
            chosen.refresh_interval_ms,
        )
        return cls._of(store)


def _check_url(url: object) -> str:
    if not isinstance(url, str):
        raise TypeError(f"url must be a str, not {type(url).__name__}")
    # The URL itself stays out of the message: it may hold a password.
    if not url.startswith(("postgresql://", "postgres://")):
        raise ConfigurationError("the URL is none of PostgreSQL; write postgresql://user:password@host:5432/database")
    return url
