"""The stores that orchestrations are kept in."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, TypeVar, cast

from duroxide import _native
from duroxide._store.postgres_options import PostgresEntraOptions, PostgresOptions
from duroxide._store.postgres_url import read_url
from duroxide._values.validation import check_integer, check_name
from duroxide.exceptions import ConfigurationError

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
    def open(cls, path: str | os.PathLike[str], *, durability: Literal["full", "normal"] = "full") -> SqliteProvider:
        """Open the store in a file, which is created if it does not exist.

        Args:
            path: Path of the file; its directory must exist.
            durability: When something counts as recorded. ``"full"``, the default: when it is on the disk. ``"normal"``:
                when the operating system has it, which is faster; a power failure or a crash of the operating system may
                then lose the last moments before it. The end of the process, however it ends, loses nothing, and the
                file is never damaged. It is SQLite's ``synchronous=NORMAL``.

        Returns:
            The opened store.

        Raises:
            ConfigurationError: The file cannot be made, opened or written, is something else than a store, or is open in
                this process with another durability; or an argument makes no sense.
            ProviderError: The store failed while it was opened.
        """
        if durability not in ("full", "normal"):
            raise ConfigurationError(f"durability must be 'full' or 'normal', not {durability!r}")
        text = _check_path(path)
        if not text:
            raise ConfigurationError("path is empty; give the file a name, or write SqliteProvider.in_memory()")
        return cls._of(_native.Store.open_sqlite(text, durability))

    @classmethod
    def in_memory(cls) -> SqliteProvider:
        """Open a new store in memory, which ends with the process; for tests."""
        return cls._of(_native.Store.sqlite_in_memory())

    def backup(self, path: str | os.PathLike[str]) -> None:
        """Copy the store into a new file, as it is at one moment, while work goes on.

        What was acknowledged to this process before the call is in the copy. It opens like any other file, with all
        that was under way. After Ctrl-C the copying may go on in the background for a while.

        Args:
            path: Path of the new file; its directory must exist.

        Raises:
            ConfigurationError: The file exists, is that of the store itself, or its directory does not exist.
            ProviderError: The copy could not be written; nothing is left of it.
        """
        text = _check_path(path)
        if not text:
            raise ConfigurationError("path is empty; give the copy a name")
        self._store.back_up(text)


class PostgresProvider(Provider):
    """A store in a PostgreSQL database, which any number of processes may share."""

    _ways_in = "PostgresProvider.connect(url)"

    @classmethod
    def connect(cls, url: str, *, options: PostgresOptions | None = None) -> PostgresProvider:
        """Connect to a database and create the tables of the store if they do not exist.

        Args:
            url: ``postgresql://user:password@host:port/database``; what libpq takes behind a ``?`` is taken here too.
            options: How the database is reached and used; default ``None``, as the URL says, and the defaults of
                ``PostgresOptions``.

        Returns:
            The opened store.

        Raises:
            ProviderError: The server cannot be reached or refuses, or the schema is not as it should be.
            ConfigurationError: The URL is none of PostgreSQL, or at odds with the options.
        """
        return cls._connect(url, None, options)

    @classmethod
    def connect_with_schema(cls, url: str, schema: str, *, options: PostgresOptions | None = None) -> PostgresProvider:
        """Connect as ``connect`` does, with the tables in a schema of their own.

        Args:
            url: ``postgresql://user:password@host:port/database``; what libpq takes behind a ``?`` is taken here too.
            schema: Name of the schema, which is created if it does not exist.
            options: How the database is reached and used; default ``None``, as the URL says, and the defaults of
                ``PostgresOptions``.

        Raises:
            ProviderError: The server cannot be reached or refuses, or the schema is not as it should be.
            ConfigurationError: The URL is none of PostgreSQL, or at odds with the options.
        """
        return cls._connect(url, check_name(schema, "schema"), options)

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

    def tune(self) -> list[str]:
        """Add what helps when many instances are in the store: two indexes, and a vacuum that keeps up with the queues.

        Work goes on meanwhile. It needs the role that owns the tables, and takes as long as PostgreSQL reads them. What
        somebody else has set stays as it is. ``python -m duroxide tune`` does the same.

        Returns:
            What was missing and is there now, a line each; empty if nothing was.

        Raises:
            ProviderError: The server refuses, or fails.
        """
        return self._store.tune()

    @classmethod
    def _connect_entra(  # noqa: PLR0917  (private, called twice)
        cls, host: str, port: int, database: str, user: str, schema: str | None, options: PostgresEntraOptions | None
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
        whole, chosen = read_url(url, options)
        return cls._of(_native.Store.connect_postgres(whole, schema, chosen.to_native()))


def _check_path(path: object) -> str:
    text = os.fspath(cast("str", path))
    if not isinstance(cast("object", text), str):
        raise TypeError(f"path must be a str or a path of str, not {type(text).__name__}")
    return text
