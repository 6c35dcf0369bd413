"""Which store the address and the task hub of a program mean."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

STORE_VARIABLE = "DUROXIDE_DURABLETASK_STORE"
DEFAULT_ADDRESS = "localhost:4001"
DEFAULT_TASK_HUB = "default"

_POSTGRES = ("postgresql://", "postgres://")
_LONGEST_SCHEMA = 63


@dataclass(frozen=True)
class Location:
    """The place of a store.

    Attributes:
        kind: ``"memory"``, ``"sqlite"`` or ``"postgres"``.
        target: Name of the store in memory, path of the file, or URL of the database.
        schema: Schema of a PostgreSQL store; ``None`` for the one of ``PostgresProvider.connect``.
    """

    kind: str
    target: str
    schema: str | None = None


def locate(host_address: str | None, task_hub: str | None = None) -> Location:
    """Return the place of the store that an address and a task hub mean.

    Args:
        host_address: ``sqlite:///path``, ``postgresql://...``, ``memory:NAME``, or any address of durabletask; ``None``
            for its default one.
        task_hub: The task hub; ``None`` or ``"default"`` for the only one.

    Raises:
        ValueError: The address, or the environment variable ``DUROXIDE_DURABLETASK_STORE``, has none of these forms.
    """
    address = (host_address or DEFAULT_ADDRESS).strip()
    hub = None if task_hub in (None, DEFAULT_TASK_HUB) else task_hub
    named = _named(address, hub)
    if named is not None:
        return named
    chosen = os.environ.get(STORE_VARIABLE)
    if chosen:
        named = _named(chosen.strip(), hub)
        if named is None:
            raise ValueError(
                f"{STORE_VARIABLE} is {chosen!r}: write sqlite:///path, postgresql://user@host/database or memory:NAME"
            )
        return named
    return Location("sqlite", str(_default_folder() / f"{_file_name(bare_address(address))}.{hub_name(hub)}.db"))


def bare_address(address: str) -> str:
    """Return an address without its scheme and the slash at its end."""
    return re.sub(r"^[a-z]+://", "", address.strip().lower()).rstrip("/")


def hub_name(hub: str | None) -> str:
    """Return a task hub as part of the name of a file."""
    return DEFAULT_TASK_HUB if hub is None else _file_name(hub)


def _named(address: str, hub: str | None) -> Location | None:
    """Read an address that names a store; ``None`` for any other."""
    if address.startswith("memory:"):
        name = address.removeprefix("memory:").lstrip("/")
        return Location("memory", name if hub is None else f"{name}/{hub}")
    if address.startswith(_POSTGRES):
        return Location("postgres", address, None if hub is None else _schema(hub))
    if address.startswith("sqlite:"):
        return Location("sqlite", str(_with_hub(_path(address), hub)))
    return None


def _path(address: str) -> Path:
    rest = address.removeprefix("sqlite:")
    # As in the URLs of SQLAlchemy, three slashes begin a relative path and four an absolute one.
    text = unquote(rest.removeprefix("//")[1:] if rest.startswith("///") else rest)
    if not text or text == ":memory:":
        raise ValueError(
            f"{address!r} names no file: write sqlite:///path/of/file.db, or memory:NAME for a store in memory"
        )
    return Path(text).absolute()


def _with_hub(path: Path, hub: str | None) -> Path:
    return path if hub is None else path.with_name(f"{path.stem}.{_file_name(hub)}{path.suffix}")


def _schema(hub: str) -> str:
    plain = re.sub(r"[^a-z0-9_]", "_", hub.lower())
    name = f"durabletask_{plain}"
    # Two hubs must not share a schema.
    if plain == hub and len(name) <= _LONGEST_SCHEMA:
        return name
    return f"{name[: _LONGEST_SCHEMA - 9]}_{_digest(hub)}"


def _file_name(text: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", text)
    return plain if plain == text or re.fullmatch(r"[\w.-]+:\d+", text) else f"{plain}_{_digest(text)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _default_folder() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "duroxide" / "durabletask"
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "duroxide" / "durabletask"
