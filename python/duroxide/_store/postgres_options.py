"""How PostgreSQL is reached and used, as frozen dataclasses that check themselves."""

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
# One that writes, one that looks for work, one that listens, one for reading, one for what is rare.
_FEWEST_CONNECTIONS = 5
_MOST_CONNECTIONS = 10_000
_DEFAULT_CONNECTIONS = 10
_DEFAULT_ACQUIRE_MS = 30_000
_DEFAULT_CONNECT_MS = 10_000
# What the server cuts names to.
_MOST_NAME_BYTES = 63
# The adapter's own variable for the number of its connections.
_CONNECTIONS_VARIABLE = "DUROXIDE_PG_POOL_MAX"


@keyword_options
@dataclass(frozen=True, kw_only=True)
class PostgresOptions:
    """How a PostgreSQL database is reached and used. What is left out is taken from the URL, then from the default.

    In the URL, an option is written as libpq does (``sslmode``, ``sslrootcert``, ``sslcert``, ``sslkey``,
    ``application_name``, ``connect_timeout``), and as here where libpq has none; times are seconds. Where both say
    something, the code wins, and the log says so.

    Attributes:
        max_connections: Connections that one process opens at most; default ``None``: 10, or what the environment variable
            ``DUROXIDE_PG_POOL_MAX`` says. At least 5.
        acquire_timeout: Longest wait for one of them when all are in use; default ``None``, 30 seconds.
        connect_timeout: Longest wait for the server to let in a new one; default ``None``, 10 seconds.
        statement_timeout: How long the server works on one statement before it ends it; default ``None``, as the server is
            configured.
        sslmode: ``"disable"``, ``"allow"``, ``"prefer"``, ``"require"`` (encrypted, whoever answers), ``"verify-ca"`` (by a
            server with a certificate of ours) or ``"verify-full"`` (by the server of that name); default ``None``:
            ``"verify-full"`` with ``ssl_root_cert``, else ``"prefer"``. As with libpq, ``"require"`` with
            ``ssl_root_cert`` is ``"verify-ca"``.
        ssl_root_cert: File with the certificates, as PEM, that sign the server's; default ``None``, those of the system.
        ssl_client_cert: File with the certificate, as PEM, that this process shows; default ``None``, none.
        ssl_client_key: File with its key, as unencrypted PKCS#8 PEM; default ``None``.
        application_name: Name of this program in ``pg_stat_activity``; default ``None``, that of the program that runs.
        pgbouncer: Whether PgBouncer in transaction mode stands before the server; default ``None``, that is found out. Work
            of other nodes is then seen by looking, not by being told.
        migrate: What becomes of missing tables and functions. ``"apply"``, the default: they are made. ``"verify"``:
            nothing is changed, and the error says what to run; for a role that may not create.

    Raises:
        UnknownOption: There is no option of that name.
        ConfigurationError: A value is of the wrong type, out of its range, or at odds with another one.
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
                "statement_timeout is a setting of a session, which PgBouncer does not keep; set it for the role: "
                "ALTER ROLE … SET statement_timeout = '30s'"
            )
        self._check_tls()

    def _check_tls(self) -> None:
        given = [name for name in FILES if getattr(self, name) is not None]
        if given and self.sslmode in ("disable", "allow", "prefer"):
            raise ConfigurationError(
                f"{given[0]} is given, but sslmode '{self.sslmode}' may do without TLS; use 'verify-full', or leave "
                "sslmode out"
            )
        if (self.ssl_client_cert is None) != (self.ssl_client_key is None):
            missing = "ssl_client_key" if self.ssl_client_key is None else "ssl_client_cert"
            raise ConfigurationError(f"{missing} is missing; a client shows a certificate and has its key, or neither")

    def to_native(self) -> dict[str, object]:
        """Give what the native half reads beside the URL, with defaults filled in; times are milliseconds."""
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
    """How a store on Azure Database for PostgreSQL gets its access tokens from Microsoft Entra ID, and is used.

    Connections are always encrypted, and the server's certificate is verified (``verify-full``) with the certificates of
    the system, or with those in the file that the environment variable ``PGSSLROOTCERT`` names.

    Attributes:
        audience: Scope that tokens are asked for; default ``None``, that of Azure's public cloud.
        max_connections: Connections that one process opens at most; default ``None``: 10, or what the environment variable
            ``DUROXIDE_PG_POOL_MAX`` says. Fewer than 5
            count as 5.
        acquire_timeout_ms: Longest wait for one of them when all are in use; default ``None``, 30,000.
        connect_timeout_ms: Longest wait for the server to let in a new one; default ``None``, 10,000.
        refresh_interval_ms: Longest time between two renewals of the token; default ``None``: 20 minutes, and in any case
            five minutes before it ends. Less than 30,000 counts as 30,000.
        application_name: Name of this program in ``pg_stat_activity``; default ``None``, that of the program that runs.
        pgbouncer: Whether PgBouncer in transaction mode stands before the server; default ``None``, that is found out.
        migrate: ``"apply"``, the default: missing tables and functions are made. ``"verify"``: nothing is changed, and the
            error says what to run.

    Raises:
        UnknownOption: There is no option of that name.
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
        """Give what the native half reads, with defaults filled in."""
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
        raise ConfigurationError(f"application_name {text!r} must be printable ASCII; the server shows nothing else")
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
        raise ConfigurationError(f"{name} '{path}' is no PEM file; it must have a line that starts with '-----BEGIN'")
    if name == "ssl_client_key" and b"-----BEGIN PRIVATE KEY-----" not in text:
        raise ConfigurationError(
            f"ssl_client_key '{path}' is not an unencrypted PKCS#8 key; convert it: "
            f"openssl pkcs8 -topk8 -nocrypt -in {path} -out client.pk8"
        )


def _milliseconds(value: timedelta | None, default: int) -> int:
    return default if value is None else check_milliseconds(value, "a timeout")


def default_connections() -> int:
    """How many connections a process opens that says nothing of them."""
    given = os.environ.get(_CONNECTIONS_VARIABLE, "")
    # What it says is for the adapter, which takes any number; fewer than we need are not enough.
    return max(int(given), _FEWEST_CONNECTIONS) if given.isascii() and given.isdigit() else _DEFAULT_CONNECTIONS


def program_name() -> str:
    """Name this program as ``pg_stat_activity`` shows it, such as ``duroxide: worker.py``."""
    path = Path(sys.argv[0] if getattr(sys, "argv", None) else "")
    name = path.parent.name if path.name == "__main__.py" else path.name
    printable = "".join(character for character in name if character.isascii() and character.isprintable())
    return f"duroxide: {printable}"[:_MOST_NAME_BYTES] if printable not in ("", "-c", "-m") else "duroxide"
