"""Entra ID tokens, from a stand-in for the service that gives them to Azure machines.

The stand-in sets each token as the password of a role, so the server accepts only the newest one. The server is reached
by TLS, and its certificate is verified, as Azure requires.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Protocol
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from duroxide import (
    Client,
    ConfigurationError,
    PostgresEntraOptions,
    PostgresProvider,
    ProviderError,
    Runtime,
    RuntimeOptions,
)
from postgres.other_role import Database, MakeRole, make_database
from postgres.tls_proxy import Certificates, TlsProxy
from postgres.token_service import TokenService

# The adapter does not renew earlier than this after it got a token, and rejects tokens that end within five minutes.
FIRST_RENEWAL_SECONDS = 30
SHORTEST_LIFETIME_SECONDS = 315


class Connect(Protocol):
    """The type of the fixture ``connect``."""

    def __call__(self, options: PostgresEntraOptions | None = None, host: str = "localhost") -> PostgresProvider:
        """Connect with a token, by TLS."""


@pytest.fixture
def service(
    *,
    postgres_url: str,
    postgres_schema: str,
    postgres_connection: psycopg.Connection,
    make_role: MakeRole,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[TokenService]:
    """Gives tokens to a role that owns the test's schema."""
    role, _ = make_role()
    create = sql.SQL("CREATE SCHEMA {} AUTHORIZATION {}")
    postgres_connection.execute(create.format(sql.Identifier(postgres_schema), sql.Identifier(role)))
    with TokenService(postgres_url, role) as service:
        for name, value in service.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("PGSSLROOTCERT", str(certificates.root))
        yield service


@pytest.fixture
def connect(service: TokenService, postgres_url: str, postgres_schema: str, tls_proxy: TlsProxy) -> Connect:
    def connect(options: PostgresEntraOptions | None = None, host: str = "localhost") -> PostgresProvider:
        return PostgresProvider.connect_with_schema_and_entra(
            host=host,
            port=tls_proxy.port,
            database=urlsplit(postgres_url).path[1:],
            user=service.role,
            schema=postgres_schema,
            options=options,
        )

    return connect


def hello(ctx, name):  # type: ignore[no-untyped-def]
    return (yield ctx.schedule_activity("greet", name))


def greet(_: object, name: str) -> str:
    return f"Hello, {name}!"


def test_a_token_is_used_as_the_password(connect: Connect, service: TokenService) -> None:
    options = PostgresEntraOptions(application_name="with a token")
    with connect(options) as provider, Runtime(provider, functions=[hello, greet]):
        Client(provider).start_orchestration("one", "hello", "World")
        assert Client(provider).wait_for_orchestration("one", 20_000).result() == "Hello, World!"
    assert len(service.tokens) == 1
    assert service.audiences == ["https://ossrdbms-aad.database.windows.net"]


def test_a_token_comes_by_tls_from_a_service_that_the_system_trusts(
    connect: Connect, service: TokenService, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", service.speak_tls(certificates.context))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.root))
    connect().close()
    assert len(service.tokens) == 1


def test_another_cloud_has_another_audience(connect: Connect, service: TokenService) -> None:
    connect(PostgresEntraOptions(audience="https://ossrdbms-aad.database.usgovcloudapi.net/.default")).close()
    assert service.audiences == ["https://ossrdbms-aad.database.usgovcloudapi.net"]


@pytest.mark.slow
def test_a_renewed_token_lets_new_connections_in(
    connect: Connect, service: TokenService, postgres_connection: psycopg.Connection
) -> None:
    service.lifetime_seconds = SHORTEST_LIFETIME_SECONDS
    with connect() as provider, Runtime(provider, functions=[hello, greet]):
        client = Client(provider)
        client.start_orchestration("before", "hello", "World")
        assert client.wait_for_orchestration("before", 20_000).result() == "Hello, World!"
        service.wait_for_tokens(2, FIRST_RENEWAL_SECONDS + 30)
        # Open connections stay; those that the server closes reconnect with the new token, since the old one is
        # invalid.
        postgres_connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (service.role,)
        )
        client.start_orchestration("after", "hello", "World")
        assert client.wait_for_orchestration("after", 60_000).result() == "Hello, World!"


def test_no_error_and_no_log_shows_a_token(
    connect: Connect,
    service: TokenService,
    postgres_connection: psycopg.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []
    with connect() as provider:
        shown += [repr(provider), repr(vars(provider))]
        with Runtime(provider, RuntimeOptions(log_level="trace"), functions=[hello, greet]) as runtime:
            runtime.client.start_orchestration("one", "hello", "World")
            runtime.client.wait_for_orchestration("one", 20_000).result()
            postgres_connection.execute(
                sql.SQL("ALTER ROLE {} PASSWORD 'another'").format(sql.Identifier(service.role))
            )
            postgres_connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (service.role,)
            )
            with pytest.raises(ProviderError) as refused:
                runtime.client.list_all_instances()
            shown.append(repr(refused.value))
    shown += [f"{record.getMessage()} {record.__dict__}" for record in caplog.records]
    assert service.tokens
    assert [text for text in shown for token in service.tokens if token in text] == []


def test_the_error_about_a_missing_token_names_the_service(connect: Connect, service: TokenService) -> None:
    service.refuses = True
    with pytest.raises(ProviderError, match="no identity here|403|ManagedIdentity") as refused:
        connect()
    assert service.role in str(refused.value)


def test_a_token_that_ends_soon_is_refused(connect: Connect, service: TokenService) -> None:
    service.lifetime_seconds = 60
    with pytest.raises(ProviderError, match="token") as refused:
        connect()
    assert all(token not in str(refused.value) for token in service.tokens)


def test_the_certificate_of_the_server_is_verified(
    connect: Connect, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLROOTCERT", str(certificates.stranger))
    with pytest.raises(ProviderError, match="certificate verify failed"):
        connect()


def test_the_name_of_the_server_is_verified(connect: Connect) -> None:
    with pytest.raises(ProviderError, match="mismatch"):
        connect(host="127.0.0.1")


@pytest.fixture
def database(postgres_url: str, postgres_schema: str, make_role: MakeRole) -> Iterator[Database]:
    """A database whose owner of a store may create schemas."""
    with make_database(postgres_url, f"db_{postgres_schema}", make_role) as database:
        yield database


class ConnectWithoutSchema(Protocol):
    """The type of the fixture ``connect_without_schema``."""

    def __call__(self, options: PostgresEntraOptions | None = None) -> PostgresProvider:
        """Connect with a token, without a schema."""


@pytest.fixture
def connect_without_schema(
    *, database: Database, tls_proxy: TlsProxy, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ConnectWithoutSchema]:
    def connect(options: PostgresEntraOptions | None = None) -> PostgresProvider:
        return PostgresProvider.connect_with_entra(
            host="localhost", port=tls_proxy.port, database=database.name, user=database.owner, options=options
        )

    with TokenService(database.administrator_url, database.owner) as service:
        for name, value in service.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("PGSSLROOTCERT", str(certificates.root))
        yield connect


def test_a_new_store_with_a_token_has_a_schema_of_its_own(connect_without_schema: ConnectWithoutSchema) -> None:
    for _ in range(2):
        with connect_without_schema() as provider:
            assert "schema 'duroxide'" in repr(provider)


def test_a_store_in_public_is_opened_with_a_token(
    connect_without_schema: ConnectWithoutSchema, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    PostgresProvider.connect_with_schema(database.owner_url, "public").close()
    with connect_without_schema(PostgresEntraOptions(migrate="verify")) as provider:
        assert "schema 'public'" in repr(provider)
    assert "REVOKE CREATE ON SCHEMA public FROM PUBLIC" in caplog.text


def test_a_store_in_public_that_needs_a_migration_is_found_with_a_token(
    connect_without_schema: ConnectWithoutSchema, database: Database
) -> None:
    PostgresProvider.connect_with_schema(database.owner_url, "public").close()
    with database.as_owner() as owner:
        owner.execute("DELETE FROM public._duroxide_migrations WHERE version = 26")
    with pytest.raises(ProviderError, match=r"schema 'public' cannot be used: .*missing versions \[26\]"):
        connect_without_schema(PostgresEntraOptions(migrate="verify"))


def test_two_stores_are_refused_with_a_token(connect_without_schema: ConnectWithoutSchema, database: Database) -> None:
    for schema in ("duroxide", "public"):
        PostgresProvider.connect_with_schema(database.owner_url, schema).close()
    with pytest.raises(ConfigurationError, match="'public' and 'duroxide' .* have a store each"):
        connect_without_schema()
