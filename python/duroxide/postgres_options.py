"""How PostgreSQL is reached: options in the code, and what a URL says of them."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl, urlencode

from duroxide.checks import check_integer, check_milliseconds, check_name, keyword_options, suggest
from duroxide.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]

_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_MIGRATE = ("apply", "verify")
_FILES = ("ssl_root_cert", "ssl_client_cert", "ssl_client_key")
_TIMES = ("acquire_timeout", "connect_timeout", "statement_timeout")
# One for what is rare, one that listens, one for all the rest.
_FEWEST_CONNECTIONS = 3
_MOST_CONNECTIONS = 10_000
_DEFAULT_CONNECTIONS = 10
_DEFAULT_ACQUIRE_MS = 30_000
_DEFAULT_CONNECT_MS = 10_000
# What the server cuts names to.
_MOST_NAME_BYTES = 63
# The adapter's own variable for the number of its connections.
_CONNECTIONS_VARIABLE = "DUROXIDE_PG_POOL_MAX"

_LOGGER = logging.getLogger("duroxide.store")


@keyword_options
@dataclass(frozen=True, kw_only=True)
class PostgresOptions:
    """How a PostgreSQL database is reached and used. What is left out is taken from the URL, then from the default.

    In the URL, an option is written as libpq does (``sslmode``, ``sslrootcert``, ``sslcert``, ``sslkey``,
    ``application_name``, ``connect_timeout``), and as here where libpq has none; times are seconds. Where both say
    something, the code wins, and the log says so.

    Attributes:
        max_connections: Connections that one process opens at most; default ``None``: 10, or what the environment variable
            ``DUROXIDE_PG_POOL_MAX`` says. At least 3.
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
        given = [name for name in _FILES if getattr(self, name) is not None]
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
            ``DUROXIDE_PG_POOL_MAX`` says. At least 3.
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
            else:
                _check(field.name, value)

    def to_native(self) -> dict[str, object]:
        """Give what the native half reads, with defaults filled in."""
        return {
            "max_connections": self.max_connections or default_connections(),
            "acquire_timeout_ms": self.acquire_timeout_ms or _DEFAULT_ACQUIRE_MS,
            "connect_timeout_ms": self.connect_timeout_ms or _DEFAULT_CONNECT_MS,
            "pgbouncer": self.pgbouncer,
            "migrate": self.migrate or "apply",
            "application_name": self.application_name or program_name(),
        }


def _check(name: str, value: object) -> None:
    if name == "max_connections":
        check_integer(value, name, least=_FEWEST_CONNECTIONS, most=_MOST_CONNECTIONS)
    elif name in _TIMES:
        if not isinstance(value, timedelta):
            raise TypeError(f"{name} must be a timedelta, not {type(value).__name__}; write timedelta(seconds=10)")
        check_milliseconds(value, name, least=1)
    elif name in _FILES:
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
    path = os.fspath(value)
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


# What a URL may say of the options: libpq's name or ours.
_URL_NAMES = {
    "sslrootcert": "ssl_root_cert",
    "sslcert": "ssl_client_cert",
    "sslkey": "ssl_client_key",
    **{field.name: field.name for field in fields(PostgresOptions)},
}
# What a URL says of the place, as libpq has it; handed on.
_PLACE = ("host", "hostaddr", "port", "dbname", "user", "password", "options")
# What libpq knows, and what changes nothing here whatever it says, or when it says just that.
_WITHOUT_EFFECT: dict[str, tuple[str, ...] | None] = {
    "channel_binding": ("prefer", "disable"),
    "client_encoding": ("utf8", "utf-8", "auto"),
    "fallback_application_name": None,
    "gssencmode": ("prefer", "disable"),
    "keepalives": None,
    "keepalives_count": None,
    "keepalives_idle": None,
    "keepalives_interval": None,
    "sslcompression": None,
    "sslnegotiation": ("postgres",),
    "sslsni": None,
    "target_session_attrs": ("any",),
    "tcp_user_timeout": None,
}


def read_url(url: object, options: PostgresOptions | None) -> tuple[str, PostgresOptions]:
    """Put what a URL and the code say together.

    Returns:
        The URL as the native half wants it, with TLS and the program's name in it, and all options.

    Raises:
        TypeError: The URL is no ``str``.
        ConfigurationError: The URL is none of PostgreSQL, or has a parameter that is unknown or makes no sense.
    """
    if options is not None and not isinstance(options, PostgresOptions):
        raise TypeError(f"options must be PostgresOptions, not {type(options).__name__}")
    base, place, said = _split(url)
    chosen = PostgresOptions() if options is None else options
    from_url = {name: value for name, value in said.items() if getattr(chosen, name) is None}
    _say_what_is_overruled(said, chosen)
    # Checked together: what the URL says may be at odds with what the code says.
    whole = replace(chosen, **from_url)
    return f"{base}?{urlencode(place + _parameters(whole))}", whole


def _split(url: object) -> tuple[str, list[tuple[str, str]], dict[str, Any]]:
    if not isinstance(url, str):
        raise TypeError(f"url must be a str, not {type(url).__name__}")
    # The URL itself stays out of the messages: it may hold a password.
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in ("postgresql", "postgres"):
        driver = " without the name of a driver" if scheme.startswith(("postgresql+", "postgres+")) else ""
        raise ConfigurationError(
            f"the URL is none of PostgreSQL; write postgresql://user:password@host:5432/database{driver}"
        )
    base, _, query = url.partition("?")
    place: list[tuple[str, str]] = []
    said: dict[str, Any] = {}
    for written, value in parse_qsl(query, keep_blank_values=True):
        name = written.replace("-", "_")
        if written in _PLACE or written.startswith("options["):
            place.append((written, value))
        elif name in _URL_NAMES:
            said[_URL_NAMES[name]] = _read(_URL_NAMES[name], written, value)
        elif written in _WITHOUT_EFFECT:
            harmless = _WITHOUT_EFFECT[written]
            if harmless is not None and value.lower() not in harmless:
                raise ConfigurationError(
                    f"the URL asks for {written}, which this client does not have; take it out of the URL, or write "
                    f"{written}={harmless[0]}"
                )
        else:
            raise ConfigurationError(_unknown(written))
    return base, place, said


def _unknown(parameter: str) -> str:
    if parameter == "schema":
        return "the URL has a parameter 'schema'; write PostgresProvider.connect_with_schema(url, schema)"
    if not parameter.isidentifier():
        # Perhaps a part of a password with a question mark in it.
        return "the URL has a parameter that is no name; write special characters of a password percent-encoded"
    return f"the URL has an unknown parameter '{parameter}'; {suggest(parameter, (*_PLACE, *_WITHOUT_EFFECT, *_URL_NAMES))}"


def _read(name: str, written: str, value: str) -> object:
    """One option as a URL writes it."""
    if name == "max_connections":
        if not (value.isascii() and value.isdigit()):
            raise ConfigurationError(f"{written} in the URL must be a whole number")
        return int(value)
    if name in _TIMES:
        try:
            return timedelta(seconds=float(value))
        except (ValueError, OverflowError):
            raise ConfigurationError(f"{written} in the URL must be a number of seconds") from None
    if name == "pgbouncer":
        known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if value.lower() not in known:
            raise ConfigurationError(f"{written} in the URL must be true or false")
        return known[value.lower()]
    return value


def _parameters(options: PostgresOptions) -> list[tuple[str, str]]:
    """What the client library itself reads from a URL."""
    parameters: list[tuple[str, str]] = []
    verified = options.ssl_root_cert is not None
    mode = options.sslmode
    if verified and mode in (None, "require"):
        mode = "verify-full" if mode is None else "verify-ca"
    if mode is not None:
        parameters.append(("sslmode", mode))
    for libpq, name in (("sslrootcert", _FILES[0]), ("sslcert", _FILES[1]), ("sslkey", _FILES[2])):
        file = getattr(options, name)
        if file is not None:
            parameters.append((libpq, os.fspath(file)))
    # libpq's own variable is read by the client library.
    name = options.application_name or (None if "PGAPPNAME" in os.environ else program_name())
    if name is not None:
        parameters.append(("application_name", name))
    if options.statement_timeout is not None:
        parameters.append(("options[statement_timeout]", str(_milliseconds(options.statement_timeout, 0))))
    return parameters


def _say_what_is_overruled(said: dict[str, Any], options: PostgresOptions) -> None:
    overruled = sorted(_differing(said, options))
    if overruled:
        _LOGGER.warning("the URL and PostgresOptions differ in %s; PostgresOptions win", ", ".join(overruled))


def _differing(said: dict[str, Any], options: PostgresOptions) -> Iterable[str]:
    for name, value in said.items():
        chosen = getattr(options, name)
        if chosen is not None and (os.fspath(chosen) if isinstance(chosen, os.PathLike) else chosen) != value:
            yield name
