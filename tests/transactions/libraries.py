"""The libraries by which applications reach their databases, each as one function: a transaction on a new connection.

It commits at the end of its block, and rolls back when the block raises. It gives the argument for
``TransactionClient``, and a function that runs SQL on it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from typing import Any

import aiosqlite
import asyncpg
import psycopg
import sqlalchemy
from sqlalchemy.ext import asyncio as sqlalchemy_asyncio
from sqlalchemy.orm import Session, scoped_session, sessionmaker

Begun = tuple[Any, Callable[[str], Any]]
AwaitedBegun = tuple[Any, Callable[[str], Awaitable[Any]]]


@contextmanager
def psycopg_connection(url: str) -> Iterator[Begun]:
    with psycopg.connect(url) as connection:
        yield connection, connection.execute


@contextmanager
def psycopg_autocommit(url: str) -> Iterator[Begun]:
    with psycopg.connect(url, autocommit=True) as connection, connection.transaction():
        yield connection, connection.execute


@contextmanager
def psycopg_with_other_cursors(url: str) -> Iterator[Begun]:
    rows, cursors = psycopg.rows.dict_row, psycopg.RawCursor
    with psycopg.connect(url, row_factory=rows, cursor_factory=cursors) as connection:  # type: ignore[arg-type]
        yield connection, connection.execute


@contextmanager
def engine_of(url: str) -> Iterator[sqlalchemy.Engine]:
    """SQLAlchemy's engine on PostgreSQL, through psycopg, or on the file at a path."""
    where = url.replace("postgresql://", "postgresql+psycopg://") if "://" in url else f"sqlite:///{url}"
    engine = sqlalchemy.create_engine(where)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def sqlalchemy_connection(url: str) -> Iterator[Begun]:
    with engine_of(url) as engine, engine.begin() as connection:
        yield connection, lambda sql: connection.execute(sqlalchemy.text(sql))


@contextmanager
def sqlalchemy_session(url: str) -> Iterator[Begun]:
    with engine_of(url) as engine, Session(engine) as session, session.begin():
        yield session, lambda sql: session.execute(sqlalchemy.text(sql))


@contextmanager
def sqlalchemy_scoped_session(url: str) -> Iterator[Begun]:
    with engine_of(url) as engine:
        session = scoped_session(sessionmaker(engine))
        try:
            with session.begin():
                yield session, lambda sql: session.execute(sqlalchemy.text(sql))
        finally:
            session.remove()


def django_database(url: str) -> str:
    """Points Django's default database to PostgreSQL or to the file at a path."""
    import django
    from django.conf import settings
    from django.db import connections

    if not settings.configured:
        settings.configure(DATABASES={"default": {}})
        django.setup()
    connections.close_all()
    if "://" in url:
        parts = psycopg.conninfo.conninfo_to_dict(url)
        found = {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": parts["dbname"],
            "USER": parts["user"],
            "PASSWORD": parts["password"],
            "HOST": parts["host"],
            "PORT": parts["port"],
        }
    else:
        found = {"ENGINE": "django.db.backends.sqlite3", "NAME": url}
    settings.DATABASES["default"] = found
    connections.__dict__["settings"] = connections.configure_settings({"default": found})
    if hasattr(connections._connections, "default"):
        delattr(connections._connections, "default")
    return "default"


@contextmanager
def django_connection(url: str) -> Iterator[Begun]:
    django_database(url)
    from django.db import connection, transaction

    def run(sql: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(sql)

    try:
        with transaction.atomic():
            yield connection, run
    finally:
        connection.close()


@contextmanager
def sqlite3_connection(path: str) -> Iterator[Begun]:
    with closing(sqlite3.connect(path)) as connection, connection:
        yield connection, connection.execute


@contextmanager
def sqlite3_autocommit(path: str) -> Iterator[Begun]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        with connection:
            yield connection, connection.execute


@asynccontextmanager
async def psycopg_awaited(url: str) -> AsyncIterator[AwaitedBegun]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        yield connection, connection.execute


@asynccontextmanager
async def asyncpg_connection(url: str) -> AsyncIterator[AwaitedBegun]:
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            yield connection, connection.execute
    finally:
        await connection.close()


@asynccontextmanager
async def asyncpg_pool(url: str) -> AsyncIterator[AwaitedBegun]:
    async with (
        asyncpg.create_pool(url, min_size=1, max_size=1) as pool,
        pool.acquire() as connection,
        connection.transaction(),
    ):
        yield connection, connection.execute


@asynccontextmanager
async def awaited_engine_of(url: str, driver: str) -> AsyncIterator[sqlalchemy_asyncio.AsyncEngine]:
    where = url.replace("postgresql://", f"postgresql+{driver}://") if "://" in url else f"sqlite+{driver}:///{url}"
    engine = sqlalchemy_asyncio.create_async_engine(where)
    try:
        yield engine
    finally:
        await engine.dispose()


def sqlalchemy_awaited_connection(driver: str) -> Callable[[str], Any]:
    @asynccontextmanager
    async def begin(url: str) -> AsyncIterator[AwaitedBegun]:
        async with awaited_engine_of(url, driver) as engine, engine.begin() as connection:
            yield connection, lambda sql: connection.execute(sqlalchemy.text(sql))

    return begin


def sqlalchemy_awaited_session(driver: str) -> Callable[[str], Any]:
    @asynccontextmanager
    async def begin(url: str) -> AsyncIterator[AwaitedBegun]:
        async with (
            awaited_engine_of(url, driver) as engine,
            sqlalchemy_asyncio.AsyncSession(engine) as session,
            session.begin(),
        ):
            yield session, lambda sql: session.execute(sqlalchemy.text(sql))

    return begin


@asynccontextmanager
async def aiosqlite_connection(path: str) -> AsyncIterator[AwaitedBegun]:
    async with aiosqlite.connect(path) as connection:
        yield connection, connection.execute
        await connection.commit()


ON_POSTGRES = {
    "psycopg": psycopg_connection,
    "psycopg autocommit": psycopg_autocommit,
    "psycopg with other cursors": psycopg_with_other_cursors,
    "sqlalchemy connection": sqlalchemy_connection,
    "sqlalchemy session": sqlalchemy_session,
    "sqlalchemy scoped session": sqlalchemy_scoped_session,
    "django": django_connection,
}
ON_SQLITE = {
    "sqlite3": sqlite3_connection,
    "sqlite3 autocommit": sqlite3_autocommit,
    "sqlalchemy connection": sqlalchemy_connection,
    "sqlalchemy session": sqlalchemy_session,
    "django": django_connection,
}
AWAITED_ON_POSTGRES = {
    "psycopg": psycopg_awaited,
    "asyncpg": asyncpg_connection,
    "asyncpg pool": asyncpg_pool,
    "sqlalchemy connection": sqlalchemy_awaited_connection("asyncpg"),
    "sqlalchemy session": sqlalchemy_awaited_session("asyncpg"),
    "sqlalchemy session by psycopg": sqlalchemy_awaited_session("psycopg"),
}
AWAITED_ON_SQLITE = {"aiosqlite": aiosqlite_connection, "sqlalchemy session": sqlalchemy_awaited_session("aiosqlite")}
