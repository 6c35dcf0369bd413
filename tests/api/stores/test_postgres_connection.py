"""A server that is unreachable or refuses is named at once, with the reason and without the password."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

import pytest

from duroxide import ConfigurationError, PostgresProvider, ProviderError
from support.fake_servers import foreign_server
from support.postgres_server import free_port

SECRET = "s3cret-that-must-not-show"


def changed(url: str, **parts: str | int) -> str:
    """The URL with another user, password, host, port or database."""
    split = urlsplit(url)
    values: dict[str, object] = {
        "user": split.username,
        "password": split.password,
        "host": split.hostname,
        "port": split.port,
        "database": split.path[1:],
        **parts,
    }
    place = f"{values['user']}:{values['password']}@{values['host']}:{values['port']}"
    return urlunsplit((split.scheme, place, f"/{values['database']}", split.query, ""))


def refusal(url: str) -> str:
    """The message with which a connection is refused."""
    with pytest.raises(ProviderError) as refused:
        PostgresProvider.connect(url)
    return str(refused.value)


def test_a_wrong_password_is_refused_and_not_repeated(postgres_url: str) -> None:
    message = refusal(changed(postgres_url, password=SECRET))
    assert "password authentication failed" in message
    assert SECRET not in message


def test_a_database_that_does_not_exist_is_named(postgres_url: str) -> None:
    message = refusal(changed(postgres_url, database="no_such_database"))
    assert "no_such_database" in message
    assert "does not exist" in message


def test_a_port_without_a_server_is_named() -> None:
    port = free_port()
    message = refusal(f"postgresql://user:{SECRET}@127.0.0.1:{port}/database")
    assert f"127.0.0.1:{port}" in message
    assert "cannot be reached" in message
    assert SECRET not in message


def test_a_host_without_an_address_is_named() -> None:
    message = refusal(f"postgresql://user:{SECRET}@no-such-host.invalid:5432/database")
    assert "no-such-host.invalid" in message
    assert SECRET not in message


def test_a_server_that_is_not_postgres_is_refused() -> None:
    with foreign_server() as port:
        message = refusal(f"postgresql://user:{SECRET}@127.0.0.1:{port}/database")
    assert f"127.0.0.1:{port}" in message


@pytest.mark.parametrize("url", ["", "mysql://localhost/db", f"localhost:5432/{SECRET}"])
def test_a_url_of_another_scheme_is_refused_with_the_right_form(url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        PostgresProvider.connect(url)
    assert "postgresql://user:password@" in str(refused.value)
    assert SECRET not in str(refused.value)


def test_an_error_about_a_malformed_url_does_not_show_its_password() -> None:
    with pytest.raises(ConfigurationError) as refused:
        PostgresProvider.connect(f"postgresql://user:{SECRET}@host:not-a-port/database")
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("schema", ["", "1st", "two words", 'quo"te', "x" * 64, "ü"])
def test_a_schema_name_that_the_server_would_change_is_refused(schema: str, postgres_url: str) -> None:
    with pytest.raises(ValueError, match="schema"):
        PostgresProvider.connect_with_schema(postgres_url, schema)


def test_an_open_store_does_not_show_its_password(postgres_url: str, postgres_schema: str) -> None:
    password = urlsplit(postgres_url).password
    assert password is not None
    with PostgresProvider.connect_with_schema(postgres_url, postgres_schema) as provider:
        assert password not in repr(provider)
        assert postgres_schema in repr(provider)


def test_a_url_must_be_text() -> None:
    with pytest.raises(TypeError):
        PostgresProvider.connect(b"postgresql://localhost")  # type: ignore[arg-type]
