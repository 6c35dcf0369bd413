"""Passwords and tokens appear in no error, no log and no description, whatever fails."""

from __future__ import annotations

import logging
import subprocess
import sys
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote, urlsplit

import psycopg
import pytest
from psycopg import sql

from duroxide import Client, PostgresOptions, PostgresProvider, Runtime, RuntimeOptions
from postgres.other_role import MakeRole
from postgres.tls_proxy import Certificates, TlsProxy
from postgres.transaction_pooler import TransactionPooler
from support.fake_servers import foreign_server, mute_server
from support.postgres_server import free_port

# With all characters that are special in a URL, so that a part of it shows if it is split wrongly.
PASSWORD = "pa?ss&wo=rd#@:/%41 secret"
PARTS = ("secret", "pa?ss", "wo=rd", "pa%3Fss", "ss%26wo", "%23%40", "rd#@")

IMPATIENT = PostgresOptions(connect_timeout=timedelta(milliseconds=500))


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG)
    return caplog


def check(text: str) -> None:
    shown = [part for part in PARTS if part in text]
    assert not shown, text


def url_of(server: str, user: str, *, host: str | None = None, port: int | None = None, rest: str = "") -> str:
    split = urlsplit(server)
    place = f"{host or split.hostname}:{port or split.port}"
    return f"postgresql://{user}:{quote(PASSWORD, safe='')}@{place}{rest or split.path}"


@pytest.fixture
def user(postgres_connection: psycopg.Connection, make_role: MakeRole) -> str:
    """A role with the password of this file."""
    role, _ = make_role()
    statement = sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(PASSWORD))
    postgres_connection.execute(statement)
    return role


def failure(connect: Callable[[], object]) -> BaseException:
    with pytest.raises(Exception) as failed:  # noqa: PT011  (which one it is, other tests say)
        connect()
    return failed.value


def test_no_error_while_connecting_shows_a_password(
    *,
    postgres_url: str,
    postgres_schema: str,
    user: str,
    tls_proxy: TlsProxy,
    certificates: Certificates,
    logged: pytest.LogCaptureFixture,
) -> None:
    def connect(url: str, options: PostgresOptions = IMPATIENT, schema: str = postgres_schema) -> BaseException:
        return failure(lambda: PostgresProvider.connect_with_schema(url, schema, options=options))

    own = PostgresOptions(ssl_root_cert=certificates.stranger)
    failures = [
        connect(url_of(postgres_url, "nobody_of_that_name")),
        connect(url_of(postgres_url, user, rest="/no_such_database")),
        connect(url_of(postgres_url, user, port=free_port())),
        connect(url_of(postgres_url, user, host="no-such-host.invalid")),
        connect(url_of(postgres_url, user)),  # the role may not create a schema
        connect(url_of(postgres_url, user), PostgresOptions(migrate="verify")),
        connect(url_of(postgres_url, user), schema="no schema"),
        connect(url_of(postgres_url, user), schema="select"),
        connect(url_of(postgres_url, user, rest="/postgres?sslmode=require")),
        connect(url_of(postgres_url, user, port=tls_proxy.port, host="localhost"), own),
        connect(url_of(postgres_url, user, rest="/postgres?sslmod=require")),
        connect(url_of(postgres_url, user, rest="/postgres?connect_timeout=soon")),
        connect(url_of(postgres_url, user, rest=f"/postgres?password={quote(PASSWORD, safe='')}&what=1")),
        connect(f"postgresql://{user}:{PASSWORD}@localhost/postgres"),  # not percent-encoded
        connect(f"postgres:{user}:{PASSWORD}@localhost/postgres"),
        connect(f"mysql://{user}:{PASSWORD}@localhost/postgres"),
        connect(url_of(postgres_url, user, rest="/postgres", port=5432).replace(":5432", ":no-port")),
    ]
    with mute_server() as port:
        failures.append(connect(url_of(postgres_url, user, port=port)))
    with foreign_server() as port:
        failures.append(connect(url_of(postgres_url, user, port=port)))
    with TransactionPooler(postgres_url, ignored=()) as pooler:
        failures.append(connect(url_of(postgres_url, user, port=pooler.port)))
    for each in failures:
        check("".join(traceback.TracebackException.from_exception(each).format_exception_only()))
        check(repr(each))
        assert each.__cause__ is None
        assert each.__context__ is None or each.__suppress_context__
    for record in logged.records:
        check(f"{record.getMessage()} {record.__dict__}")


@pytest.mark.parametrize(
    "form",
    [
        "postgresql://ada:{}@localhost:{}/db",
        "postgresql://localhost:{1}/db?user=ada&password={0}",
        "postgresql://:{}@localhost:{}/db",
    ],
    ids=["in the authority", "as a parameter", "without a user"],
)
@pytest.mark.parametrize("character", list("/?#[]@:%&=+ \\\"'<>;,^|~"))
def test_no_error_shows_a_part_of_a_password_that_is_not_percent_encoded(character: str, form: str) -> None:
    url = form.format(character.join(("12", "Secr3t", "sslmode", "0thers")), free_port())
    options = PostgresOptions(connect_timeout=timedelta(milliseconds=20))
    message = str(failure(lambda: PostgresProvider.connect(url, options=options)))
    assert "Secr3t" not in message
    assert "0thers" not in message


def test_no_error_while_working_shows_a_password(
    postgres_url: str,
    postgres_schema: str,
    user: str,
    postgres_connection: psycopg.Connection,
    logged: pytest.LogCaptureFixture,
) -> None:
    create = sql.SQL("CREATE SCHEMA {} AUTHORIZATION {}")
    postgres_connection.execute(create.format(sql.Identifier(postgres_schema), sql.Identifier(user)))
    provider = PostgresProvider.connect_with_schema(url_of(postgres_url, user), postgres_schema)
    check(repr(provider))
    check(repr(vars(provider)))
    client = Client(provider)
    with Runtime(provider, RuntimeOptions(log_level="trace")):
        # The role can no longer log in: every operation fails from now on.
        postgres_connection.execute(sql.SQL("ALTER ROLE {} PASSWORD 'another'").format(sql.Identifier(user)))
        postgres_connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (user,)
        )
        check(repr(failure(client.list_all_instances)))
        check(repr(failure(client.get_system_metrics)))
    provider.close()
    check(repr(failure(client.list_all_instances)))
    for record in logged.records:
        check(f"{record.getMessage()} {record.__dict__}")


def test_the_command_line_shows_no_password(postgres_url: str) -> None:
    for command in ("migrate", "tune"):
        url = url_of(postgres_url, "nobody_of_that_name")
        ended = subprocess.run(
            [sys.executable, "-m", "duroxide", command, url], check=False, capture_output=True, text=True
        )
        assert ended.returncode == 1
        assert "nobody_of_that_name" in ended.stderr
        check(ended.stdout + ended.stderr)


def test_a_file_of_passwords_that_others_may_read_is_not_used(
    make_role: MakeRole, postgres_url: str, postgres_schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, password = make_role()
    PostgresProvider.connect_with_schema(postgres_url, postgres_schema).close()
    passwords = tmp_path / "passwords"
    passwords.write_text(f"*:*:*:{user}:{password}\n")
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    split = urlsplit(postgres_url)
    url = f"postgresql://{user}@{split.hostname}:{split.port}{split.path}"

    def refusal() -> str:
        return str(failure(lambda: PostgresProvider.connect_with_schema(url, postgres_schema, options=IMPATIENT)))

    passwords.chmod(0o644)
    assert "password" in refusal()
    passwords.chmod(0o600)
    # The role may log in, and has no right on the store.
    assert "permission denied" in refusal()
