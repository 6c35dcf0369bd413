"""PgBouncer in transaction mode works if it supports prepared statements, and is otherwise refused with the way out."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from duroxide import Client, OrchestrationContext, PostgresOptions, PostgresProvider, ProviderError, Runtime
from postgres.conftest import elsewhere
from postgres.transaction_pooler import TransactionPooler
from support.postgres_server import free_port


def double(_: Any, number: int) -> int:
    return 2 * number


def chain(ctx: OrchestrationContext, number: int) -> Generator[Any, Any, int]:
    for _ in range(3):
        number = yield ctx.schedule_activity("double", number)
        yield ctx.schedule_timer(1)
    return number


def test_orchestrations_run_behind_a_transaction_pooler(
    postgres_url: str, postgres_schema: str, pooler: TransactionPooler
) -> None:
    PostgresProvider.connect_with_schema(postgres_url, postgres_schema).close()
    url = elsewhere(postgres_url, pooler.port)
    with PostgresProvider.connect_with_schema(url, postgres_schema) as provider:
        client = Client(provider)
        with Runtime(provider, functions=[double, chain]):
            instances = [f"chain-{number}" for number in range(10)]
            for number, instance in enumerate(instances):
                client.start_orchestration(instance, "chain", number)
            for number, instance in enumerate(instances):
                assert client.wait_for_orchestration(instance, 30_000).result() == 8 * number
    assert pooler.transactions > 100


def test_nodes_with_and_without_the_pooler_share_the_work(
    postgres_url: str, postgres_schema: str, pooler: TransactionPooler
) -> None:
    with PostgresProvider.connect_with_schema(postgres_url, postgres_schema) as direct:
        url = elsewhere(postgres_url, pooler.port)
        behind = PostgresProvider.connect_with_schema(url, postgres_schema)
        with behind, Runtime(behind, functions=[double, chain]):
            client = Client(direct)
            client.start_orchestration("one", "chain", 5)
            assert client.wait_for_orchestration("one", 30_000).result() == 40


def test_a_pooler_without_prepared_statements_is_refused(postgres_url: str, postgres_schema: str) -> None:
    refused = pytest.raises(ProviderError, match=r"PgBouncer.*prepared statements.*max_prepared_statements = 200")
    with TransactionPooler(postgres_url, carries_statements=False) as pooler, refused:
        PostgresProvider.connect_with_schema(elsewhere(postgres_url, pooler.port), postgres_schema)


def test_the_error_about_a_pooler_that_refuses_parameters_names_the_setting(
    postgres_url: str, postgres_schema: str
) -> None:
    refused = pytest.raises(ProviderError, match="ignore_startup_parameters = extra_float_digits")
    with TransactionPooler(postgres_url, ignored=()) as pooler, refused:
        PostgresProvider.connect_with_schema(elsewhere(postgres_url, pooler.port), postgres_schema)


def test_tables_are_not_created_through_a_pooler(
    postgres_url: str, postgres_schema: str, pooler: TransactionPooler
) -> None:
    with pytest.raises(ProviderError, match=r"python -m duroxide migrate.*url of the server itself"):
        PostgresProvider.connect_with_schema(elsewhere(postgres_url, pooler.port), postgres_schema)


def test_a_pooler_with_one_connection_is_detected(postgres_url: str, postgres_schema: str) -> None:
    PostgresProvider.connect_with_schema(postgres_url, postgres_schema).close()
    with TransactionPooler(postgres_url, size=1) as pooler:
        url = elsewhere(postgres_url, pooler.port)
        with PostgresProvider.connect_with_schema(url, postgres_schema) as provider:
            assert Client(provider).list_all_instances() == []


def test_the_pooler_option_also_works_without_a_pooler(postgres_url: str, postgres_schema: str) -> None:
    PostgresProvider.connect_with_schema(postgres_url, postgres_schema).close()
    options = PostgresOptions(pgbouncer=True)
    with PostgresProvider.connect_with_schema(postgres_url, postgres_schema, options=options) as provider:
        assert Client(provider).list_all_instances() == []


@pytest.fixture
def pgbouncer(postgres_url: str, tmp_path: Path) -> Iterator[tuple[int, bool]]:
    """PgBouncer itself, in transaction mode: its port, and whether it supports prepared statements."""
    program = os.environ.get("PGBOUNCER") or shutil.which("pgbouncer")
    if program is None:
        pytest.skip("PgBouncer is not installed; only the stand-in is tested")
    split = urlsplit(postgres_url)
    version = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout.split()[1]
    carries = tuple(int(part) for part in version.split(".")[:2]) >= (1, 21)
    folder, port = Path(tempfile.mkdtemp(prefix="pgbouncer-")), free_port()
    account: dict[str, Any] = {}
    if os.geteuid() == 0:  # PgBouncer refuses to run as root
        nobody = pwd.getpwnam("nobody")
        account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    (folder / "users").write_text(f'"{split.username}" "{split.password}"\n')
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "trust",
        "auth_file": folder / "users",
        "pool_mode": "transaction",
        "ignore_startup_parameters": "extra_float_digits",
        **({"max_prepared_statements": 200} if carries else {}),
    }
    database = f"* = host={split.hostname} port={split.port}"
    lines = ["[databases]", database, "[pgbouncer]", *(f"{name} = {value}" for name, value in settings.items())]
    (folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, folder / "pgbouncer.ini"], stdout=log, stderr=log, cwd="/", **account)
    try:
        while b"process up" not in (folder / "log").read_bytes():
            assert process.poll() is None, (folder / "log").read_text()
        yield port, carries
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder)


def test_pgbouncer_itself_works_or_is_refused_with_the_way_out(
    postgres_url: str, postgres_schema: str, pgbouncer: tuple[int, bool]
) -> None:
    PostgresProvider.connect_with_schema(postgres_url, postgres_schema).close()
    port, carries = pgbouncer
    url = elsewhere(postgres_url, port)
    if not carries:
        with pytest.raises(ProviderError, match=r"PgBouncer.*max_prepared_statements = 200"):
            PostgresProvider.connect_with_schema(url, postgres_schema)
        return
    provider = PostgresProvider.connect_with_schema(url, postgres_schema)
    with provider, Runtime(provider, functions=[double, chain]):
        Client(provider).start_orchestration("one", "chain", 1)
        assert Client(provider).wait_for_orchestration("one", 30_000).result() == 8
