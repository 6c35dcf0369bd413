"""Reads the URL of a PostgreSQL database, and combines its parameters with the options in the code."""

from __future__ import annotations

import logging
import os
from dataclasses import fields, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl, unquote, urlencode

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
_SEVERAL_HOSTS = (
    "the URL names several hosts, and this client connects to one; write the name that leads to the primary, such as that "
    "of a load balancer or of the cluster"
)


def read_url(url: object, options: PostgresOptions | None) -> tuple[str, PostgresOptions]:
    """Combine the options in a URL with those in the code.

    Returns:
        The URL for the native half, with the options of TLS and the program's name in it, and all options.

    Raises:
        TypeError: The URL is not a ``str``.
        ConfigurationError: The URL is not a PostgreSQL URL, or has a parameter that is unknown or has an invalid value.
    """
    if options is not None and not isinstance(cast("object", options), PostgresOptions):
        raise TypeError(f"options must be PostgresOptions, not {type(options).__name__}")
    base, place, said = _split(url)
    chosen = PostgresOptions() if options is None else options
    from_url = {name: value for name, value in said.items() if getattr(chosen, name) is None}
    _say_what_is_overruled(said, chosen)
    # Check all options together: one in the URL may contradict one in the code.
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
            f"the URL is not a PostgreSQL URL; write postgresql://user:password@host:5432/database{driver}"
        )
    base, _, query = url.partition("?")
    base, place = _without_empty_host(base)
    said: dict[str, Any] = {}
    for written, value in parse_qsl(query, keep_blank_values=True):
        name = written.replace("-", "_")
        if written in _PLACE or written.startswith("options["):
            if written in ("host", "hostaddr", "port") and "," in value:
                raise ConfigurationError(_SEVERAL_HOSTS)
            place.append((written, value))
        elif name in _URL_NAMES:
            said[_URL_NAMES[name]] = _read(_URL_NAMES[name], written, value)
        elif written in _WITHOUT_EFFECT:
            harmless = _WITHOUT_EFFECT[written]
            if harmless is not None and value.lower() not in harmless:
                raise ConfigurationError(
                    f"the URL asks for {written}, which this client does not support; take it out of the URL, or write "
                    f"{written}={harmless[0]}"
                )
        else:
            raise ConfigurationError(_unknown(written))
    return base, place, said


def _without_empty_host(base: str) -> tuple[str, list[tuple[str, str]]]:
    """Move the user before an empty host, as in the URL of a socket, to parameters: the client library needs a host there."""
    scheme, _, rest = base.partition("://")
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    if "," in host:
        raise ConfigurationError(_SEVERAL_HOSTS)
    if not at or host.partition(":")[0]:
        return base, []
    name, colon, password = user.partition(":")
    moved = [("user", unquote(name))]
    if colon:
        moved.append(("password", unquote(password)))
    if port := host.partition(":")[2]:
        moved.append(("port", port))
    return f"{scheme}://{slash}{path}", moved


def _unknown(parameter: str) -> str:
    if parameter == "schema":
        return "the URL has a parameter 'schema'; write PostgresProvider.connect_with_schema(url, schema)"
    if not parameter.isidentifier():
        # It may be a part of a password that has a question mark in it.
        return "the URL has a parameter that is not a name; write special characters of a password percent-encoded"
    return f"the URL has an unknown parameter '{parameter}'; {suggest(parameter, (*_PLACE, *_WITHOUT_EFFECT, *_URL_NAMES))}"


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


def _parameters(options: PostgresOptions) -> list[tuple[str, str]]:
    """Return the parameters that the client library itself reads from a URL."""
    parameters: list[tuple[str, str]] = []
    verified = options.ssl_root_cert is not None
    mode = options.sslmode
    if verified and mode in (None, "require"):
        mode = "verify-full" if mode is None else "verify-ca"
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
