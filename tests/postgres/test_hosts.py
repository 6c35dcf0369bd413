"""A URL that names several servers: which forms are read, which server is used, and what the errors say."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from duroxide import Client, ConfigurationError, PostgresOptions, PostgresProvider, ProviderError
from duroxide._store.postgres_url import Servers, read_url
from support.postgres_server import free_port

IMPATIENT = PostgresOptions(connect_timeout=timedelta(milliseconds=500))


@pytest.fixture(autouse=True)
def without_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests set the variables of libpq that they mean."""
    for variable in ("PGHOST", "PGHOSTADDR", "PGPORT", "PGSSLMODE", "PGTARGETSESSIONATTRS"):
        monkeypatch.delenv(variable, raising=False)


def servers_of(url: str) -> Servers:
    return read_url(url, None)[0]


def places(url: str) -> list[tuple[str, ...]]:
    """Host, address and port of each server of a URL, without those that the URL does not name."""
    found: list[tuple[str, ...]] = []
    for each in servers_of(url).urls:
        parameters = parse_qs(urlsplit(each).query)
        found.append(tuple(parameters[name][0] for name in ("host", "hostaddr", "port") if name in parameters))
    return found


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://db1:5433,db2:5434/orders", [("db1", "5433"), ("db2", "5434")]),
        ("postgresql://ada:s3cret@db1,db2/orders", [("db1", "5432"), ("db2", "5432")]),
        ("postgresql://db1,db2:5434/orders", [("db1", "5432"), ("db2", "5434")]),
        ("postgresql://[::1]:5433,[fe80::2]/orders", [("::1", "5433"), ("fe80::2", "5432")]),
        ("postgresql:///orders?host=db1,db2&port=5433,5434", [("db1", "5433"), ("db2", "5434")]),
        ("postgresql:///orders?host=db1,db2&port=6000", [("db1", "6000"), ("db2", "6000")]),
        ("postgresql:///orders?host=/run/one,db2&port=5433,", [("/run/one", "5433"), ("db2", "5432")]),
        ("postgresql://ada@/orders?host=/run/one,/run/two", [("/run/one", "5432"), ("/run/two", "5432")]),
        ("postgresql://%2Frun%2Fone,db2/orders", [("/run/one", "5432"), ("db2", "5432")]),
        ("postgresql://old/orders?host=db1,db2", [("db1", "5432"), ("db2", "5432")]),
        ("postgresql:///orders?hostaddr=10.0.0.1,10.0.0.2", [("10.0.0.1", "5432"), ("10.0.0.2", "5432")]),
        (
            "postgresql:///orders?host=db1,db2&hostaddr=10.0.0.1,10.0.0.2",
            [("db1", "10.0.0.1", "5432"), ("db2", "10.0.0.2", "5432")],
        ),
    ],
)
def test_a_url_names_its_servers_as_libpq_reads_it(url: str, expected: list[tuple[str, ...]]) -> None:
    assert places(url) == expected


def test_each_server_gets_the_user_the_password_the_database_and_the_options() -> None:
    url = "postgresql://ada%20m:s3cret%2F@db1,db2/orders?sslmode=require&options=-c%20lock_timeout%3D5s"
    for each in servers_of(url).urls:
        parameters = parse_qs(urlsplit(each).query)
        assert (parameters["user"], parameters["password"], urlsplit(each).path) == (["ada m"], ["s3cret/"], "/orders")
        assert (parameters["sslmode"], parameters["options"]) == (["require"], ["-c lock_timeout=5s"])


def test_only_a_server_on_this_machine_may_be_without_tls() -> None:
    modes = [
        parse_qs(urlsplit(each).query).get("sslmode") for each in servers_of("postgresql://localhost,db2/orders").urls
    ]
    assert modes == [None, ["require"]]


def test_variables_name_the_servers_of_a_url_without_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "db1,db2")
    monkeypatch.setenv("PGPORT", "5433,5434")
    monkeypatch.setenv("PGTARGETSESSIONATTRS", "primary")
    assert places("postgresql:///orders") == [("db1", "5433"), ("db2", "5434")]
    assert servers_of("postgresql:///orders").required == "primary"


def test_a_url_wins_over_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "db1,db2")
    monkeypatch.setenv("PGTARGETSESSIONATTRS", "standby")
    servers = servers_of("postgresql://db3:5432/orders?target_session_attrs=read-write")
    assert [urlsplit(url).netloc for url in servers.urls] == ["db3:5432"]
    assert servers.required == "read-write"


def test_one_of_several_servers_must_take_writes_and_a_single_one_need_not_be_asked() -> None:
    assert servers_of("postgresql://db1,db2/orders").required == "read-write"
    assert servers_of("postgresql://db1,db2/orders?target_session_attrs=any").required == "read-write"
    assert servers_of("postgresql://db1/orders").required == "any"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://ada:s3cret@db1,db2/orders?target_session_attrs=read-only", "the store writes"),
        ("postgresql://ada:s3cret@db1,db2/orders?target_session_attrs=standby", "target_session_attrs=primary"),
        ("postgresql://ada:s3cret@db1,db2/orders?target_session_attrs=prefer-standby", "the store writes"),
        ("postgresql://ada:s3cret@db1,db2/orders?target_session_attrs=primry", "did you mean 'primary'?"),
        ("postgresql://ada:s3cret@db1,db2/orders?load_balance_hosts=random", "load_balance_hosts=disable"),
        ("postgresql://ada:s3cret@db1,,db2/orders", "an empty host among several"),
        ("postgresql://ada:s3cret@/orders?host=db1,db2,db3&port=5432,5433", "3 hosts, and 2 entries of port"),
        ("postgresql://ada@db1,db2:s3cret/orders", "a port that is not a number"),
        ("postgresql://ada:s3cret@db1:5432,db2:70000/orders", "from 1 to 65535"),
    ],
)
def test_servers_that_the_store_cannot_use_are_refused_without_the_password(url: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        PostgresProvider.connect(url)
    assert says in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_the_error_about_a_variable_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGTARGETSESSIONATTRS", "standby")
    with pytest.raises(ConfigurationError, match="the variable PGTARGETSESSIONATTRS"):
        PostgresProvider.connect("postgresql://db1/orders")


def test_hosts_in_their_order_are_no_request_that_is_refused() -> None:
    assert len(servers_of("postgresql://db1,db2/orders?load_balance_hosts=disable").urls) == 2


def with_closed_port_first(url: str) -> str:
    """The URL of the same server behind one that is down."""
    split = urlsplit(url)
    user, _, place = split.netloc.rpartition("@")
    return f"postgresql://{user}@127.0.0.1:{free_port()},{place}{split.path}"


def test_the_first_server_that_answers_is_used(postgres_url: str, postgres_schema: str) -> None:
    with PostgresProvider.connect_with_schema(with_closed_port_first(postgres_url), postgres_schema) as provider:
        assert Client(provider).list_all_instances() == []


def test_the_error_about_servers_that_are_down_names_each_with_its_fact(postgres_url: str) -> None:
    split = urlsplit(with_closed_port_first(postgres_url))
    closed, answering = split.netloc.rpartition("@")[2].split(",")
    url = f"postgresql://ada:s3cret@{closed},{answering}/orders"
    with pytest.raises(ProviderError) as failed:
        PostgresProvider.connect(url, options=IMPATIENT)
    message = str(failed.value)
    assert f"database 'orders' on {closed}, {answering} as 'ada' cannot be reached" in message
    assert f"{closed}: " in message
    assert "Connection refused" in message
    assert f"{answering}: " in message
    assert "password authentication failed" in message
    assert "s3cret" not in message


def test_a_server_whose_transactions_are_read_only_does_not_take_writes(postgres_url: str) -> None:
    read_only = quote("-c default_transaction_read_only=on")
    url = f"{postgres_url}?target_session_attrs=read-write&options={read_only}"
    with pytest.raises(ProviderError, match="its transactions are read-only, and the store writes"):
        PostgresProvider.connect(url, options=IMPATIENT)


def test_a_primary_is_used_although_its_transactions_are_read_only_by_default(postgres_url: str) -> None:
    read_only = quote("-c default_transaction_read_only=on")
    url = f"{postgres_url}?target_session_attrs=primary&options={read_only}"
    with pytest.raises(ProviderError, match="cannot execute"):
        PostgresProvider.connect_with_schema(url, "never_created", options=IMPATIENT)
