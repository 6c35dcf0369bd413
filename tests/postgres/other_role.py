"""A database of its own with two roles: the owner of a store, and another role that may create in ``public``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

MakeRole = Callable[[], tuple[str, str]]

STORE = "store"


@dataclass
class Database:
    """The URLs of one database, for each of its roles."""

    name: str
    administrator_url: str
    owner: str
    owner_url: str
    other: str
    other_url: str

    def administrator(self) -> psycopg.Connection:
        return psycopg.connect(self.administrator_url, autocommit=True)

    def as_owner(self) -> psycopg.Connection:
        return psycopg.connect(self.owner_url, autocommit=True)

    def as_other(self) -> psycopg.Connection:
        return psycopg.connect(self.other_url, autocommit=True)


@contextmanager
def make_database(url: str, name: str, make_role: MakeRole) -> Iterator[Database]:
    """Create the database and its roles, and drop the database at the end.

    The owner may create schemas. Both roles may create in ``public``, as up to PostgreSQL 14.
    """
    (owner, owner_password), (other, other_password) = make_role(), make_role()
    split = urlsplit(url)

    def url_of(user: str) -> str:
        return urlunsplit((split.scheme, f"{user}@{split.hostname}:{split.port}", f"/{name}", "", ""))

    administrator_url = urlunsplit(split._replace(path=f"/{name}"))
    database = Database(
        name,
        administrator_url,
        owner,
        url_of(f"{owner}:{owner_password}"),
        other,
        url_of(f"{other}:{other_password}"),
    )
    with psycopg.connect(url, autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            with database.administrator() as administrator:
                names = {"database": sql.Identifier(name), "owner": sql.Identifier(owner)}
                administrator.execute(sql.SQL("GRANT CREATE ON DATABASE {database} TO {owner}").format(**names))
                administrator.execute("GRANT CREATE, USAGE ON SCHEMA public TO PUBLIC")
            yield database
        finally:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
