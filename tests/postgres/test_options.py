"""Options in code and in the URL: their effects, which one wins, and errors about invalid ones."""

from __future__ import annotations

import logging
import re
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import psycopg
import pytest

from duroxide import Client, ConfigurationError, PostgresOptions, PostgresProvider, ProviderError, UnknownOption
from duroxide._store.postgres_options import program_name
from duroxide._store.postgres_url import read_url

PLACE = "postgresql://user:s3cret@host:5432/database"


def names_of_programs(connection: psycopg.Connection, schema: str) -> set[str]:
    """The application names of the connections to the schema."""
    rows = connection.execute(
        "SELECT application_name FROM pg_stat_activity WHERE query LIKE %s AND pid <> pg_backend_pid()",
        (f"%{schema}%",),
    )
    return {row[0] for row in rows}


def test_connections_carry_the_name_of_the_program(
    postgres_url: str, postgres_schema: str, postgres_connection: psycopg.Connection
) -> None:
    with PostgresProvider.connect_with_schema(postgres_url, postgres_schema) as provider:
        Client(provider).list_all_instances()
        assert names_of_programs(postgres_connection, postgres_schema) == {program_name()}


def test_the_code_names_the_program(
    postgres_url: str, postgres_schema: str, postgres_connection: psycopg.Connection
) -> None:
    options = PostgresOptions(application_name="orders worker")
    url = f"{postgres_url}?application_name=another"
    with PostgresProvider.connect_with_schema(url, postgres_schema, options=options) as provider:
        Client(provider).list_all_instances()
        assert names_of_programs(postgres_connection, postgres_schema) == {"orders worker"}


@pytest.mark.parametrize("way", ["code", "url"])
def test_the_server_ends_statements_that_take_too_long(
    way: str, postgres_url: str, postgres_schema: str, postgres_connection: psycopg.Connection
) -> None:
    options = PostgresOptions(statement_timeout=timedelta(milliseconds=300)) if way == "code" else None
    url = postgres_url if way == "code" else f"{postgres_url}?statement_timeout=0.3"
    PostgresProvider.connect_with_schema(postgres_url, postgres_schema).close()
    with PostgresProvider.connect_with_schema(url, postgres_schema, options=options) as provider:
        lock = psycopg.sql.SQL("LOCK TABLE {}.instances").format(psycopg.sql.Identifier(postgres_schema))
        with postgres_connection.transaction():
            postgres_connection.execute(lock)
            with pytest.raises(ProviderError, match="statement timeout"):
                Client(provider).list_all_instances()
        assert Client(provider).list_all_instances() == []


def test_the_error_about_a_full_server_comes_at_the_timeout(
    postgres_url: str, postgres_schema: str, postgres_connection: psycopg.Connection
) -> None:
    identifier = psycopg.sql.Identifier(postgres_schema)
    create = psycopg.sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'full' CONNECTION LIMIT 0").format(identifier)
    postgres_connection.execute(create)
    try:
        url = re.sub(r"//[^@]*@", f"//{postgres_schema}:full@", postgres_url)
        with pytest.raises(ProviderError, match="too many connections"):
            PostgresProvider.connect(url, options=PostgresOptions(connect_timeout=timedelta(milliseconds=300)))
    finally:
        postgres_connection.execute(psycopg.sql.SQL("DROP ROLE {}").format(identifier))


def test_parameters_of_the_url_are_read_as_options() -> None:
    parameters = "max_connections=7&acquire_timeout=2.5&connect_timeout=3&pgbouncer=true&migrate=verify&sslmode=require"
    servers, options = read_url(f"{PLACE}?{parameters}", None)
    assert options == PostgresOptions(
        max_connections=7,
        acquire_timeout=timedelta(seconds=2.5),
        connect_timeout=timedelta(seconds=3),
        pgbouncer=True,
        migrate="verify",
        sslmode="require",
    )
    [url] = servers.urls
    assert url.startswith(f"{PLACE}?sslmode=require&application_name=")


def test_options_in_code_win_and_the_log_shows_it(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "duroxide"):
        _, options = read_url(f"{PLACE}?sslmode=disable&max_connections=7", PostgresOptions(sslmode="require"))
    assert (options.sslmode, options.max_connections) == ("require", 7)
    assert caplog.messages == ["the URL and PostgresOptions differ in sslmode; PostgresOptions win"]


def test_the_same_value_in_code_and_url_is_not_a_contradiction(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "duroxide"):
        read_url(f"{PLACE}?sslmode=require", PostgresOptions(sslmode="require"))
    assert caplog.messages == []


def test_parameters_of_libpq_without_effect_are_accepted() -> None:
    servers, _ = read_url(f"{PLACE}?keepalives_idle=30&channel_binding=prefer&load_balance_hosts=disable", None)
    [url] = servers.urls
    assert "keepalives" not in url


def test_settings_of_the_session_are_passed_to_the_server() -> None:
    servers, _ = read_url(f"{PLACE}?options=-c%20lock_timeout%3D5s", None)
    [url] = servers.urls
    assert "options=-c+lock_timeout%3D5s" in url


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("sslmod=require", "unknown parameter 'sslmod'; did you mean 'sslmode'?"),
        ("sslmode=on", "sslmode 'on' is unknown"),
        ("channel_binding=require", "channel_binding=prefer"),
        ("target_session_attrs=read-only", "target_session_attrs=primary"),
        ("max_connections=many", "must be a whole number"),
        ("max_connections=4", "at least 5"),
        ("connect_timeout=soon", "number of seconds"),
        ("connect_timeout=inf", "number of seconds"),
        ("acquire_timeout=-1", "at least 1"),
        ("pgbouncer=perhaps", "true or false"),
        ("migrate=maybe", "known are apply, verify"),
        ("schema=app", "connect_with_schema"),
        ("sslrootcert=/no/such/file", "'/no/such/file' cannot be read: No such file or directory"),
        ("sslkey=%2Fetc%2Fhosts", "not a PEM file"),
        ("s3cret@host/database", "percent-encode"),
    ],
)
def test_an_invalid_parameter_is_refused(query: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        PostgresProvider.connect(f"{PLACE}?{query}")
    assert says in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_a_url_of_a_socket_may_have_a_user_and_no_host(tmp_path: Path) -> None:
    socket = quote(str(tmp_path), safe="")
    with pytest.raises(ProviderError, match=f"database 'orders' on {tmp_path} as 'ada m' cannot be reached"):
        PostgresProvider.connect(f"postgresql://ada%20m:s3cret%2F@/orders?host={socket}")


def test_the_error_about_a_url_of_sqlalchemy_says_to_remove_the_driver() -> None:
    with pytest.raises(ConfigurationError, match="without the name of a driver"):
        PostgresProvider.connect("postgresql+psycopg://user:s3cret@host/database")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_connections": 4}, "at least 5"),
        ({"max_connections": 1_000_000}, "at most 10000"),
        ({"max_connections": "ten"}, "must be an int"),
        ({"acquire_timeout": 5}, "write timedelta(seconds=10)"),
        ({"connect_timeout": timedelta(0)}, "at least 1"),
        ({"statement_timeout": timedelta(days=40_000)}, "at most"),
        ({"sslmode": "verify_full"}, "did you mean 'verify-full'?"),
        ({"sslmode": True}, "must be a str"),
        ({"ssl_root_cert": 5}, "a str or a path"),
        ({"ssl_root_cert": "/no/such/file"}, "cannot be read"),
        ({"application_name": ""}, "empty"),
        ({"application_name": "x" * 64}, "64 characters"),
        ({"application_name": "zwölf"}, "printable ASCII"),
        ({"pgbouncer": "yes"}, "True, False or None"),
        ({"migrate": "never"}, "known are apply, verify"),
        ({"pgbouncer": True, "statement_timeout": timedelta(seconds=1)}, "ALTER ROLE"),
    ],
)
def test_an_invalid_option_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        PostgresOptions(**options)
    assert says in str(refused.value)


def test_certificates_are_refused_when_tls_is_off(tmp_path: Path) -> None:
    root = tmp_path / "root.pem"
    root.write_text("-----BEGIN CERTIFICATE-----\n")
    with pytest.raises(ConfigurationError, match="use 'verify-full'"):
        PostgresOptions(ssl_root_cert=root, sslmode="prefer")
    with pytest.raises(ConfigurationError, match="ssl_client_key is missing"):
        PostgresOptions(ssl_client_cert=root)
    with pytest.raises(ConfigurationError, match="use 'verify-full'"):  # one in the code, one in the URL
        read_url(f"{PLACE}?sslmode=disable", PostgresOptions(ssl_root_cert=root))


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(UnknownOption, match="did you mean 'max_connections'"):
        PostgresOptions(max_connection=5)  # type: ignore[call-arg]


def test_options_of_another_kind_are_refused() -> None:
    with pytest.raises(TypeError, match="options must be PostgresOptions, not dict"):
        PostgresProvider.connect(PLACE, options={"max_connections": 5})  # type: ignore[arg-type]


def test_the_adapters_variable_sets_the_number_of_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    assert PostgresOptions().to_native()["max_connections"] == 10
    monkeypatch.setenv("DUROXIDE_PG_POOL_MAX", "25")
    assert PostgresOptions().to_native()["max_connections"] == 25
    assert PostgresOptions(max_connections=6).to_native()["max_connections"] == 6


@pytest.mark.parametrize("word", ["user", "order", "SELECT"])
def test_a_reserved_word_is_refused_as_schema(word: str, postgres_url: str) -> None:
    with pytest.raises(ConfigurationError, match="reserved word"):
        PostgresProvider.connect_with_schema(postgres_url, word)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PGREQUIREAUTH", "scram-sha-256"),
        ("PGCHANNELBINDING", "require"),
        ("PGGSSENCMODE", "require"),
        ("PGSSLMINPROTOCOLVERSION", "TLSv1.3"),
        ("PGSSLCERTMODE", "require"),
        ("PGSSLCRL", "revoked.pem"),
    ],
)
def test_a_variable_that_demands_more_than_this_client_can_do_is_refused(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=f"{variable}={value}, which this client does not support"):
        read_url(PLACE, None)


def test_a_variable_that_demands_no_more_than_this_client_does_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in (
        ("PGCHANNELBINDING", "prefer"),
        ("PGSSLMINPROTOCOLVERSION", "TLSv1.2"),
        ("PGREQUIREAUTH", ""),
    ):
        monkeypatch.setenv(variable, value)
    read_url(PLACE, None)


@pytest.mark.parametrize(
    "place",
    ["db.example.com/orders", "[2001:db8::7]:5432/orders", "10.0.0.7/orders", "localhost/orders?host=db.example.com"],
)
def test_a_server_on_another_machine_must_use_tls(place: str) -> None:
    assert sslmode_of(f"postgresql://user:s3cret@{place}") == "require"


@pytest.mark.parametrize(
    "place",
    [
        "localhost/orders",
        "127.0.0.1:5433/orders",
        "[::1]/orders",
        "%2Fvar%2Frun/orders",
        "/orders?host=/run/postgresql",
    ],
)
def test_a_server_on_this_machine_need_not_use_tls(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "db.example.com")
    assert sslmode_of(f"postgresql://user:s3cret@{place}") is None


@pytest.mark.parametrize("mode", ["disable", "prefer", "verify-full"])
def test_the_url_decides_about_tls_on_another_machine(mode: str) -> None:
    assert sslmode_of(f"postgresql://user:s3cret@db.example.com/orders?sslmode={mode}") == mode


def test_the_environment_decides_about_tls_on_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSSLMODE", "prefer")
    assert sslmode_of("postgresql://user:s3cret@db.example.com/orders") is None


def sslmode_of(url: str) -> str | None:
    """The ``sslmode`` that the native half reads."""
    servers, _ = read_url(url, None)
    [whole] = servers.urls
    return dict(parse_qsl(urlsplit(whole).query)).get("sslmode")
