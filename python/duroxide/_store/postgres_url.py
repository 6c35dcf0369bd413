"""Reads the URL of a PostgreSQL database, and combines its parameters with the options in the code."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl, unquote, urlencode

from duroxide._store.postgres_hosts import Place, read_hosts
from duroxide._store.postgres_options import FILES, TIMES, PostgresOptions, program_name
from duroxide._values.validation import check_milliseconds, suggest
from duroxide.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

_LOGGER = logging.getLogger("duroxide.store")

# The parameters of a URL that are options, under libpq's name or ours.
_URL_NAMES = {
    "sslrootcert": "ssl_root_cert",
    "sslcert": "ssl_client_cert",
    "sslkey": "ssl_client_key",
    **{field.name: field.name for field in fields(PostgresOptions)},
}
# The parameters of libpq that say where the database is; the native half reads them from the URL.
_PLACE = ("host", "hostaddr", "port", "dbname", "user", "password", "options")
# The parameters of libpq without an effect here: with any value (None), or only with these values.
_WITHOUT_EFFECT: dict[str, tuple[str, ...] | None] = {
    "channel_binding": ("prefer", "disable"),
    "client_encoding": ("utf8", "utf-8", "auto"),
    "fallback_application_name": None,
    "gssencmode": ("prefer", "disable"),
    "require_auth": ("",),
    "keepalives": None,
    "keepalives_count": None,
    "keepalives_idle": None,
    "keepalives_interval": None,
    "load_balance_hosts": ("disable",),
    "ssl_max_protocol_version": ("", "tlsv1.3"),
    "ssl_min_protocol_version": ("", "tlsv1", "tlsv1.1", "tlsv1.2"),
    "sslcertmode": ("", "allow"),
    "sslcompression": None,
    "sslcrl": ("",),
    "sslcrldir": ("",),
    "sslnegotiation": ("postgres",),
    "sslsni": None,
    "tcp_user_timeout": None,
}
# Which of several hosts a store uses.
_SESSION_ATTRIBUTES = "target_session_attrs"
# The variables of libpq that demand what a parameter demands. The native half obeys the others that concern it.
_DEMANDING_VARIABLES = {
    "PGCHANNELBINDING": "channel_binding",
    "PGCLIENTENCODING": "client_encoding",
    "PGGSSENCMODE": "gssencmode",
    "PGREQUIREAUTH": "require_auth",
    "PGSSLCERTMODE": "sslcertmode",
    "PGSSLCRL": "sslcrl",
    "PGSSLCRLDIR": "sslcrldir",
    "PGSSLMAXPROTOCOLVERSION": "ssl_max_protocol_version",
    "PGSSLMINPROTOCOLVERSION": "ssl_min_protocol_version",
    "PGSSLNEGOTIATION": "sslnegotiation",
}
_ENCODE = "percent-encode the special characters of user, password and database: urllib.parse.quote(password, safe='')"
_UNENCODED = "the URL has an unencoded '{0}', which may be a part of the password; " + _ENCODE
_UNREADABLE_PARAMETER = "the URL has a parameter that is unknown and may be a part of the password; " + _ENCODE


@dataclass(frozen=True)
class Servers:
    """The servers of a store, for the native half.

    Attributes:
        urls: The URL of each server, in the order of trying, with the options of TLS and the program's name.
        required: The demand on the server that is used: ``"any"``, ``"read-write"`` or ``"primary"``.
    """

    urls: list[str]
    required: str


def read_url(url: object, options: PostgresOptions | None) -> tuple[Servers, PostgresOptions]:
    """Combine the options in a URL with those in the code.

    Returns:
        The servers for the native half, and all options.

    Raises:
        TypeError: The URL is not a ``str``.
        ConfigurationError: The URL is not a PostgreSQL URL, or has a parameter that is unknown or has an invalid value.
    """
    if options is not None and not isinstance(cast("object", options), PostgresOptions):
        raise TypeError(f"options must be PostgresOptions, not {type(options).__name__}")
    place, said = _split(url)
    hosts = read_hosts(place)
    chosen = PostgresOptions() if options is None else options
    from_url = {name: value for name, value in said.items() if getattr(chosen, name) is None}
    _say_what_is_overruled(said, chosen)
    # Check all options together: one in the URL may contradict one in the code.
    whole = replace(chosen, **from_url)
    urls = [
        f"{base}?{urlencode(about_place + _parameters(whole, is_local=_is_local(base, about_place)))}"
        for base, about_place in hosts.bases
    ]
    return Servers(urls, hosts.required), whole


def _split(url: object) -> tuple[Place, dict[str, Any]]:
    if not isinstance(url, str):
        raise TypeError(f"url must be a str, not {type(url).__name__}")
    # The URL itself stays out of the messages: it may hold a password.
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in ("postgresql", "postgres"):
        driver = " without the name of a driver" if scheme.startswith(("postgresql+", "postgres+")) else ""
        raise ConfigurationError(
            f"the URL is not a PostgreSQL URL; write postgresql://user:password@host:5432/database{driver}"
        )
    _refuse_split_password(url)
    _refuse_demands_of_variables()
    base, _, query = url.partition("?")
    place: list[tuple[str, str]] = []
    session_attributes: str | None = None
    said: dict[str, Any] = {}
    for written, value in parse_qsl(query, keep_blank_values=True):
        name = written.replace("-", "_")
        if written in _PLACE or written.startswith("options["):
            place.append((written, value))
        elif written == _SESSION_ATTRIBUTES:
            session_attributes = value
        elif name in _URL_NAMES:
            said[_URL_NAMES[name]] = _read(_URL_NAMES[name], written, value)
        elif written in _WITHOUT_EFFECT:
            _check_demand(written, value, f"the URL asks for {written}", "take it out of the URL", f"{written}=")
        else:
            # The rest of a password that has an ampersand in it looks like another parameter.
            has_password = any(earlier == "password" for earlier, _ in place)
            raise ConfigurationError(_UNREADABLE_PARAMETER if has_password else _unknown(written))
    return Place(base, place, session_attributes), said


def _refuse_split_password(url: str) -> None:
    """Refuse a URL whose parts cannot be told apart, before anything reads and repeats a part of it."""
    _, _, rest = url.partition("://")
    authority_length = min(index for index in (rest.find("/"), rest.find("?"), len(rest)) if index >= 0)
    for character, place in (("@", rest[authority_length:]), ("#", rest)):
        if character in place:
            raise ConfigurationError(_UNENCODED.format(character))


def _refuse_demands_of_variables() -> None:
    """Refuse the variables of libpq that demand more than this client can do, as the same parameters are refused."""
    for variable, parameter in _DEMANDING_VARIABLES.items():
        value = os.environ.get(variable)
        if value is not None:
            _check_demand(
                parameter, value, f"the environment asks for {variable}={value}", f"unset {variable}", f"{variable}="
            )


def _check_demand(parameter: str, value: str, asked: str, way_out: str, assignment: str) -> None:
    harmless = _WITHOUT_EFFECT[parameter]
    if harmless is None or value.lower() in harmless:
        return
    alternative = f", or write {assignment}{harmless[0]}" if harmless[0] else ""
    raise ConfigurationError(f"{asked}, which this client does not support; {way_out}{alternative}")


def _unknown(parameter: str) -> str:
    if parameter == "schema":
        return "the URL has a parameter 'schema'; write PostgresProvider.connect_with_schema(url, schema)"
    if not parameter.isidentifier():
        return _UNREADABLE_PARAMETER
    return f"the URL has an unknown parameter '{parameter}'; {suggest(parameter, _known())}"


def _known() -> tuple[str, ...]:
    return (*_PLACE, _SESSION_ATTRIBUTES, *_WITHOUT_EFFECT, *_URL_NAMES)


def _read(name: str, written: str, value: str) -> object:
    """Read the value of one option in a URL."""
    if name == "max_connections":
        if not (value.isascii() and value.isdigit()):
            raise ConfigurationError(f"{written} in the URL must be a whole number")
        return int(value)
    if name in TIMES:
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


def _is_local(base: str, place: list[tuple[str, str]]) -> bool:
    """Tell whether the server is on this machine, where a password crosses no network."""
    authority = base.partition("://")[2].partition("/")[0]
    host = authority.rpartition("@")[2]
    host = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    given = dict(place)
    # The client library reads them in this order. Without any of them it takes a socket of this machine.
    places = (given.get("hostaddr"), given.get("host"), host, os.environ.get("PGHOSTADDR"), os.environ.get("PGHOST"))
    server = unquote(next((each for each in places if each), ""))
    if server in ("", "localhost") or server.startswith(("/", "@")):
        return True
    try:
        return ip_address(server).is_loopback
    except ValueError:
        return False


def _parameters(options: PostgresOptions, *, is_local: bool) -> list[tuple[str, str]]:
    """Return the parameters that the client library itself reads from a URL."""
    parameters: list[tuple[str, str]] = []
    verified = options.ssl_root_cert is not None
    mode = options.sslmode
    if verified and mode in (None, "require"):
        mode = "verify-full" if mode is None else "verify-ca"
    if mode is None and not is_local and "PGSSLMODE" not in os.environ:
        # A server in the place of the real one would ask for the password without TLS, and get it.
        mode = "require"
    if (mode or os.environ.get("PGSSLMODE")) == "require" and os.environ.get("PGSSLROOTCERT"):
        # As in libpq: a root is there to be used.
        mode = "verify-ca"
    if mode is not None:
        parameters.append(("sslmode", mode))
    files = {"sslrootcert": options.ssl_root_cert, "sslcert": options.ssl_client_cert, "sslkey": options.ssl_client_key}
    parameters += [(libpq, os.fspath(file)) for libpq, file in files.items() if file is not None]
    # The client library reads PGAPPNAME, libpq's variable, itself.
    name = options.application_name or (None if "PGAPPNAME" in os.environ else program_name())
    if name is not None:
        parameters.append(("application_name", name))
    if options.statement_timeout is not None:
        parameters.append(
            ("options[statement_timeout]", str(check_milliseconds(options.statement_timeout, "statement_timeout")))
        )
    return parameters


def _say_what_is_overruled(said: dict[str, Any], options: PostgresOptions) -> None:
    overruled = sorted(_differing(said, options))
    if overruled:
        _LOGGER.warning("the URL and PostgresOptions differ in %s; PostgresOptions win", ", ".join(overruled))


def _differing(said: dict[str, Any], options: PostgresOptions) -> Iterable[str]:
    for name, value in said.items():
        chosen = getattr(options, name)
        if chosen is not None and (str(chosen) if name in FILES else chosen) != value:
            yield name
