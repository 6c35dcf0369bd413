"""The stores that this process has opened: workers and clients of one place share one provider."""

from __future__ import annotations

import logging
import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path

from duroxide import PostgresProvider, Provider, SqliteProvider
from duroxide.durabletask._store.location import Location, bare_address, locate

_log = logging.getLogger("duroxide.durabletask")
_lock = threading.Lock()


@dataclass
class _Opened:
    provider: Provider
    users: int
    process: int


_stores: dict[Location, _Opened] = {}
# Addresses of test backends that run, with the names of their stores in memory.
_backends: dict[str, str] = {}
_reported: set[tuple[str | None, Location]] = set()


def place_of(host_address: str | None, task_hub: str | None) -> Location:
    """Return the place of the store of an address and a task hub, and log it once.

    Args:
        host_address: The address; ``None`` for the default one.
        task_hub: The task hub; ``None`` for the default one.
    """
    name = _backends.get(bare_address(host_address or ""))
    location = locate(host_address if name is None else f"memory:{name}", task_hub)
    with _lock:
        if (host_address, location) not in _reported:
            _reported.add((host_address, location))
            _log.info("the store of %s is %s", _address_in_log(host_address), _described(location))
    return location


def acquire(location: Location) -> Provider:
    """Return the provider of a place; it stays open until each user has released it."""
    with _lock:
        opened = _stores.get(location)
        if opened is None or opened.process != os.getpid():
            opened = _stores[location] = _Opened(_open(location), 0, os.getpid())
        opened.users += 1
        return opened.provider


def release(location: Location) -> None:
    """Close the provider of a place after its last user; a store in memory stays, with what it holds."""
    with _lock:
        opened = _stores.get(location)
        if opened is None:
            return
        opened.users -= 1
        if not opened.users and location.kind != "memory":
            del _stores[location]
            opened.provider.close()


def register_backend(addresses: list[str], name: str) -> None:
    """Let addresses mean the store in memory of that name.

    Raises:
        RuntimeError: A backend runs at one of them.
    """
    with _lock:
        if any(address in _backends for address in addresses):
            raise RuntimeError(f"a test backend runs at {addresses[0]} already: stop it first")
        _backends.update(dict.fromkeys(addresses, name))


def remove_backend(addresses: list[str]) -> None:
    """Let addresses mean again what they meant before."""
    with _lock:
        for address in addresses:
            _backends.pop(address, None)


def forget(name: str) -> None:
    """Drop a store in memory and those of its task hubs; its present users keep what they have."""
    with _lock:
        for location in [each for each in _stores if each.kind == "memory"]:
            if location.target == name or location.target.startswith(f"{name}/"):
                del _stores[location]


def _open(location: Location) -> Provider:
    if location.kind == "memory":
        return SqliteProvider.in_memory()
    if location.kind == "sqlite":
        path = Path(location.target)
        path.parent.mkdir(parents=True, exist_ok=True)
        return SqliteProvider.open(path)
    if location.schema is None:
        return PostgresProvider.connect(location.target)
    return PostgresProvider.connect_with_schema(location.target, location.schema)


def _address_in_log(host_address: str | None) -> str:
    if host_address is None:
        return "the default address"
    # The URL of a database may hold a password.
    return re.sub(r"//[^/@]*@", "//", host_address)


def _described(location: Location) -> str:
    if location.kind == "postgres":
        return f"a PostgreSQL database, schema {location.schema or 'duroxide'}"
    return f"in memory, as {location.target!r}" if location.kind == "memory" else f"the SQLite file {location.target}"
