"""Fixtures of the tests that reach PostgreSQL through TLS, a pooler or another role."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

from postgres.other_role import Database, MakeRole, make_database
from postgres.tls_proxy import Certificates, TlsProxy
from postgres.transaction_pooler import TransactionPooler


def elsewhere(url: str, port: int, query: str = "", *, host: str = "127.0.0.1") -> str:
    """The URL of the same database through another port."""
    split = urlsplit(url)
    place = f"{split.username}:{split.password}@{host}:{port}"
    return urlunsplit((split.scheme, place, split.path, query, ""))


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority, a server's certificate and a client's, made for this run."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def tls_proxy(postgres_url: str, certificates: Certificates) -> Iterator[TlsProxy]:
    """The server, reachable by TLS only."""
    split = urlsplit(postgres_url)
    with TlsProxy(split.hostname or "localhost", split.port or 5432, certificates.context) as proxy:
        yield proxy


@pytest.fixture
def pooler(postgres_url: str) -> Iterator[TransactionPooler]:
    """The server behind a pooler that gives every transaction another connection."""
    with TransactionPooler(postgres_url) as pooler:
        yield pooler


@pytest.fixture
def make_role(postgres_connection: psycopg.Connection, postgres_schema: str) -> Iterator[MakeRole]:
    """Makes roles that may only log in; returns name and password."""
    made: list[str] = []

    def make() -> tuple[str, str]:
        name, password = f"role_{secrets.token_hex(6)}", secrets.token_hex(8)
        statement = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), sql.Literal(password))
        postgres_connection.execute(statement)
        made.append(name)
        return name, password

    yield make
    for name in made:
        postgres_connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(postgres_schema)))
        postgres_connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(name)))
        postgres_connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@pytest.fixture
def database(postgres_url: str, postgres_schema: str, make_role: MakeRole) -> Iterator[Database]:
    """A database with the owner of a store, and another role."""
    with make_database(postgres_url, f"db_{postgres_schema}", make_role) as database:
        yield database
