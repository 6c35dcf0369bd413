"""Reads which servers a URL of PostgreSQL names: one, or several of which the store uses the one that takes writes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from duroxide._values.validation import suggest
from duroxide.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

_DEFAULT_PORT = "5432"
_HIGHEST_PORT = 65_535

# The values of target_session_attrs that a store can use, and those of servers that take no writes.
_WRITABLE = ("any", "read-write", "primary")
_READ_ONLY = ("read-only", "standby", "prefer-standby")

Parameters = list[tuple[str, str]]


@dataclass(frozen=True)
class Place:
    """The place of the database in a URL.

    Attributes:
        base: The URL up to its ``?``.
        parameters: The parameters about the place, by libpq's names, in their order.
        session_attributes: The value of ``target_session_attrs``, or ``None`` if the URL has none.
    """

    base: str
    parameters: Parameters
    session_attributes: str | None


@dataclass(frozen=True)
class Hosts:
    """The servers of a store.

    Attributes:
        bases: The URL of each server up to its ``?``, in the order of trying, with the parameters about the place.
        required: The demand on the server that is used: ``"any"``, ``"read-write"`` or ``"primary"``.
    """

    bases: tuple[tuple[str, Parameters], ...]
    required: str


def read_hosts(place: Place) -> Hosts:
    """Read the servers that a URL names, or the variables ``PGHOST`` and ``PGPORT`` if it names none.

    Raises:
        ConfigurationError: A list has an empty or an invalid entry, or ``target_session_attrs`` asks for a server that
            takes no writes.
    """
    required = _required(place.session_attributes)
    scheme, _, rest = place.base.partition("://")
    authority, slash, path = rest.partition("/")
    user, at, servers = authority.rpartition("@")
    named = _named(servers, place.parameters)
    if not any("," in value for value in named.values()):
        if not at or servers.partition(":")[0]:
            return Hosts(((place.base, place.parameters),), required)
        # The URL of a socket: the client library needs a host behind a user.
        moved = _user(user) + _port_of(servers)
        return Hosts(((f"{scheme}://{slash}{path}", moved + place.parameters),), required)
    others = [(name, value) for name, value in place.parameters if name not in ("host", "hostaddr", "port")]
    base, moved = f"{scheme}://{slash}{path}", _user(user) if at else []
    bases = tuple((base, moved + others + each) for each in _spread(named))
    # The store writes, so a replica that answers first is not the one.
    return Hosts(bases, "read-write" if required == "any" else required)


def _required(said: str | None) -> str:
    """Check the value of ``target_session_attrs``: the one in the URL, or the one of libpq's variable."""
    source = "the URL" if said is not None else "the variable PGTARGETSESSIONATTRS"
    value = said if said is not None else os.environ.get("PGTARGETSESSIONATTRS") or "any"
    if value in _WRITABLE:
        return value
    if value in _READ_ONLY:
        raise ConfigurationError(
            f"{source} asks for a server that may refuse writes (target_session_attrs={value}), and the store writes; "
            "write target_session_attrs=primary"
        )
    raise ConfigurationError(f"{source} has an unknown target_session_attrs; {suggest(value, _WRITABLE)}")


def _user(user: str) -> Parameters:
    name, colon, password = user.partition(":")
    return [("user", unquote(name))] + ([("password", unquote(password))] if colon else [])


def _port_of(server: str) -> Parameters:
    port = server.partition(":")[2]
    return [("port", port)] if port else []


def _named(servers: str, parameters: Parameters) -> dict[str, str]:
    """Return the lists of hosts, addresses and ports, each as one text. A parameter wins over the part before ``?``."""
    named: dict[str, str] = {}
    if servers:
        split = [_split_server(server) for server in servers.split(",")]
        named["host"] = ",".join(unquote(host) for host, _ in split)
        if any(port for _, port in split):
            named["port"] = ",".join(port for _, port in split)
        elif len(split) > 1:
            named["port"] = _DEFAULT_PORT
    named.update((name, value) for name, value in parameters if name in ("host", "hostaddr", "port"))
    if not named.get("host") and "hostaddr" not in named:
        named.update(_of_environment({"hostaddr": "PGHOSTADDR", "host": "PGHOST"}))
    if "port" not in named:
        named.update(_of_environment({"port": "PGPORT"}))
    return named


def _of_environment(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: os.environ[variable] for name, variable in variables.items() if os.environ.get(variable)}


def _split_server(server: str) -> tuple[str, str]:
    """Split ``host:port``; an IPv6 address stands in brackets."""
    if server.startswith("["):
        host, _, port = server[1:].partition("]")
        return host, port.removeprefix(":")
    host, _, port = server.partition(":")
    return host, port


def _spread(named: Mapping[str, str]) -> list[Parameters]:
    """Return the parameters of each server."""
    names = [name for name in ("host", "hostaddr") if named.get(name)]
    lists = {name: named[name].split(",") for name in names}
    count = max((len(entries) for entries in lists.values()), default=1)
    ports = named.get("port", _DEFAULT_PORT).split(",")
    if len(ports) == 1:
        ports *= count
    for name, entries in (*lists.items(), ("port", ports)):
        if len(entries) != count:
            raise ConfigurationError(
                f"the URL names {count} hosts, and {len(entries)} entries of {name}; write one {name} for each host"
            )
    if not all(all(entries) for entries in lists.values()):
        raise ConfigurationError(
            "the URL names an empty host among several; write a name, an address or the path of a socket"
        )
    ports = [_check_port(port or _DEFAULT_PORT) for port in ports]
    return [
        [*((name, entries[place]) for name, entries in lists.items()), ("port", port)]
        for place, port in enumerate(ports)
    ]


def _check_port(port: str) -> str:
    if not (port.isascii() and port.isdigit() and 0 < int(port) <= _HIGHEST_PORT):
        # The text itself stays out of the message: it may be a part of a password.
        raise ConfigurationError(
            "the URL names a port that is not a number from 1 to 65535; write host:port,host:port, and special characters "
            "of a password percent-encoded"
        )
    return port
