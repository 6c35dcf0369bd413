"""The options of PostgreSQL stores, as frozen dataclasses that check themselves."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Literal, cast

from duroxide._values.validation import check_integer, check_milliseconds, check_name, keyword_options, suggest
from duroxide.exceptions import ConfigurationError

SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]

_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_MIGRATE = ("apply", "verify")
FILES = ("ssl_root_cert", "ssl_client_cert", "ssl_client_key")
TIMES = ("acquire_timeout", "connect_timeout", "statement_timeout")
# One connection writes, one polls, one listens, one reads, and one serves the base provider.
_FEWEST_CONNECTIONS = 5
_MOST_CONNECTIONS = 10_000
_DEFAULT_CONNECTIONS = 10
_DEFAULT_ACQUIRE_MS = 30_000
_DEFAULT_CONNECT_MS = 10_000
# The server truncates names to this length.
_MOST_NAME_BYTES = 63
# The environment variable of duroxide-pg, the base provider, for the number of its connections.
_CONNECTIONS_VARIABLE = "DUROXIDE_PG_POOL_MAX"


@keyword_options
@dataclass(frozen=True, kw_only=True)
class PostgresOptions:
    """The options of a PostgreSQL store. An option that is left out comes from the URL, then from its default.

    The URL writes an option under its name in libpq (``sslmode``, ``sslrootcert``, ``sslcert``, ``sslkey``,
    ``application_name``, ``connect_timeout``), or under its name here if libpq does not have it; times in the URL are
    seconds. If the code and the URL give the same option, the code wins, and a warning in the log names the option.

    Attributes:
        max_connections: The largest number of connections of one process, at least 5; default ``None``: the value of
            the environment variable ``DUROXIDE_PG_POOL_MAX``, or 10.
        acquire_timeout: Longest wait for a connection when all are in use, a ``timedelta``; default ``None``, 30
            seconds.
        connect_timeout: Longest wait for the server to accept a connection, a ``timedelta``; default ``None``, 10
            seconds.
        statement_timeout: Time after which the server ends a statement, a ``timedelta``; default ``None``, as the
            server is configured.
        sslmode: ``"disable"``, ``"allow"``, ``"prefer"``, ``"require"`` (encrypted, without a check of the server),
            ``"verify-ca"`` (the server has a certificate of ours) or ``"verify-full"`` (and its name is in it); default
            ``None``: ``"verify-full"`` with ``ssl_root_cert``, else ``"prefer"`` for a server on this machine and
            ``"require"`` for another one. As in libpq, ``"require"`` with ``ssl_root_cert`` is ``"verify-ca"``.
        ssl_root_cert: PEM file with the certificates that sign the server's certificate, or with that certificate
            itself. No other certificates are trusted, as in libpq. Default ``None``: the file that the environment
            variable ``PGSSLROOTCERT`` names, else the certificates of the system.
        ssl_client_cert: PEM file with the certificate of this process; default ``None``, none.
        ssl_client_key: PEM file with its key, not encrypted; default ``None``.
        application_name: Name of this program in ``pg_stat_activity``; default ``None``, the name of the running
            program.
        pgbouncer: Whether PgBouncer in transaction mode stands before the server; default ``None``, the store finds
            out. Behind PgBouncer the store polls for the work of other nodes, because it cannot listen for
            notifications.
        migrate: How to treat missing tables and functions. ``"apply"``, the default, creates them. ``"verify"`` changes
            nothing, for a role that may not create; the error says what to run.

    Raises:
        UnknownOption: An option has an unknown name.
        ConfigurationError: A value is of the wrong type, out of its range, or contradicts another option.
    """

    max_connections: int | None = None
    acquire_timeout: timedelta | None = None
    connect_timeout: timedelta | None = None
    statement_timeout: timedelta | None = None
    sslmode: SslMode | None = None
    ssl_root_cert: str | os.PathLike[str] | None = None
    ssl_client_cert: str | os.PathLike[str] | None = None
    ssl_client_key: str | os.PathLike[str] | None = None
    application_name: str | None = None
    pgbouncer: bool | None = None
    migrate: Literal["apply", "verify"] | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                _check(field.name, value)
        if self.pgbouncer and self.statement_timeout is not None:
            raise ConfigurationError(
                "statement_timeout is a setting of a session, and PgBouncer does not keep sessions; set it for the "
                "role: ALTER ROLE … SET statement_timeout = '30s'"
            )
        self._check_tls()

    def _check_tls(self) -> None:
        given = [name for name in FILES if getattr(self, name) is not None]
        if given and self.sslmode in ("disable", "allow", "prefer"):
            raise ConfigurationError(
                f"{given[0]} is given, but sslmode '{self.sslmode}' may connect without TLS; use 'verify-full', or "
                "leave sslmode out"
            )
        if (self.ssl_client_cert is None) != (self.ssl_client_key is None):
            missing = "ssl_client_key" if self.ssl_client_key is None else "ssl_client_cert"
            raise ConfigurationError(f"{missing} is missing; give both a client certificate and its key, or neither")

    def to_native(self) -> dict[str, object]:
        """Return the options that the native half reads beside the URL, with defaults; times are milliseconds."""
        return {
            "max_connections": self.max_connections or default_connections(),
            "acquire_timeout_ms": _milliseconds(self.acquire_timeout, _DEFAULT_ACQUIRE_MS),
            "connect_timeout_ms": _milliseconds(self.connect_timeout, _DEFAULT_CONNECT_MS),
            "pgbouncer": self.pgbouncer,
            "migrate": self.migrate or "apply",
            "application_name": None,
        }


@keyword_options
@dataclass(frozen=True, kw_only=True)
class PostgresEntraOptions:
    """The options of a store on Azure Database for PostgreSQL, with access tokens from Microsoft Entra ID.

    Connections are always encrypted. The client verifies the server's certificate (``verify-full``) with the
    certificates of the system, or with those alone that are in the file that the environment variable ``PGSSLROOTCERT``
    names.

    Attributes:
        audience: Scope of the tokens; default ``None``, the scope of Azure's public cloud.
        max_connections: The largest number of connections of one process; default ``None``: the value of the
            environment variable ``DUROXIDE_PG_POOL_MAX``, or 10. Fewer than 5 count as 5.
        acquire_timeout_ms: Longest wait for a connection when all are in use, in milliseconds; default ``None``,
            30,000.
        connect_timeout_ms: Longest wait for the server to accept a connection, in milliseconds; default ``None``,
            10,000.
        refresh_interval_ms: Longest time between two renewals of the token, in milliseconds; default ``None``,
            1,200,000 (20 minutes). The store renews the token five minutes before its end in any case. Less than 30,000
            counts as 30,000.
        application_name: Name of this program in ``pg_stat_activity``; default ``None``, the name of the running
            program.
        pgbouncer: Whether PgBouncer in transaction mode stands before the server; default ``None``, the store finds
            out.
        migrate: ``"apply"``, the default, creates missing tables and functions. ``"verify"`` changes nothing; the error
            says what to run.

    Raises:
        UnknownOption: An option has an unknown name.
        ConfigurationError: A value is of the wrong type or out of its range.
    """

    audience: str | None = None
    max_connections: int | None = None
    acquire_timeout_ms: int | None = None
    connect_timeout_ms: int | None = None
    refresh_interval_ms: int | None = None
    application_name: str | None = None
    pgbouncer: bool | None = None
    migrate: Literal["apply", "verify"] | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            if field.name == "audience":
                check_name(value, field.name)
            elif field.name.endswith("_ms"):
                check_milliseconds(check_integer(value, field.name), field.name, least=1)
            elif field.name == "max_connections":
                check_integer(value, field.name, least=1, most=_MOST_CONNECTIONS)
            else:
                _check(field.name, value)

    def to_native(self) -> dict[str, object]:
        """Return the options that the native half reads, with defaults."""
        return {
            "max_connections": max(self.max_connections or default_connections(), _FEWEST_CONNECTIONS),
            "acquire_timeout_ms": self.acquire_timeout_ms or _DEFAULT_ACQUIRE_MS,
            "connect_timeout_ms": self.connect_timeout_ms or _DEFAULT_CONNECT_MS,
            "pgbouncer": self.pgbouncer,
            "migrate": self.migrate or "apply",
            "application_name": self.application_name or program_name(),
        }


def _check(name: str, value: object) -> None:
    if name == "max_connections":
        check_integer(value, name, least=_FEWEST_CONNECTIONS, most=_MOST_CONNECTIONS)
    elif name in TIMES:
        if not isinstance(value, timedelta):
            raise TypeError(f"{name} must be a timedelta, not {type(value).__name__}; write timedelta(seconds=10)")
        check_milliseconds(value, name, least=1)
    elif name in FILES:
        _check_file(name, value)
    elif name == "application_name":
        _check_application_name(value)
    elif name == "pgbouncer":
        if not isinstance(value, bool):
            raise TypeError(f"{name} must be True, False or None, not {type(value).__name__}")
    else:
        known = _SSL_MODES if name == "sslmode" else _MIGRATE
        check_name(value, name)
        if value not in known:
            raise ConfigurationError(f"{name} '{value}' is unknown; {suggest(str(value), known)}")


def _check_application_name(value: object) -> None:
    text = check_name(value, "application_name")
    if not (text.isascii() and text.isprintable()):
        raise ConfigurationError(
            f"application_name {text!r} must be printable ASCII; the server shows no other characters"
        )
    if len(text) > _MOST_NAME_BYTES:
        raise ConfigurationError(
            f"application_name has {len(text)} characters; the server keeps {_MOST_NAME_BYTES}, shorten it"
        )


def _check_file(name: str, value: object) -> None:
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name} must be a str or a path, not {type(value).__name__}")
    path = os.fspath(cast("str", value))
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{name} '{path}' cannot be read: {error.strerror}") from None
    if b"-----BEGIN " not in text:
        raise ConfigurationError(
            f"{name} '{path}' is not a PEM file; it must have a line that starts with '-----BEGIN'"
        )
    if name == "ssl_client_key" and (b"PRIVATE KEY-----" not in text or b"ENCRYPTED" in text):
        raise ConfigurationError(
            f"ssl_client_key '{path}' is not an unencrypted key; decrypt it: openssl pkey -in {path} -out client.key"
        )


def _milliseconds(value: timedelta | None, default: int) -> int:
    return default if value is None else check_milliseconds(value, "a timeout")


def default_connections() -> int:
    """Return the number of connections of a process that does not give ``max_connections``."""
    given = os.environ.get(_CONNECTIONS_VARIABLE, "")
    # duroxide-pg takes any number from the variable, but this package needs a minimum.
    return max(int(given), _FEWEST_CONNECTIONS) if given.isascii() and given.isdigit() else _DEFAULT_CONNECTIONS


def program_name() -> str:
    """Return the name of this program for ``pg_stat_activity``, such as ``duroxide: worker.py``."""
    path = Path(sys.argv[0] if getattr(sys, "argv", None) else "")
    name = path.parent.name if path.name == "__main__.py" else path.name
    printable = "".join(character for character in name if character.isascii() and character.isprintable())
    return f"duroxide: {printable}"[:_MOST_NAME_BYTES] if printable not in ("", "-c", "-m") else "duroxide"
