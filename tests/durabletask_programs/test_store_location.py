"""Which store an address and a task hub of durabletask mean."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from duroxide import ProviderError
from duroxide.durabletask._store.location import STORE_VARIABLE, Location, locate
from duroxide.durabletask.azuremanaged.client import DurableTaskSchedulerClient
from duroxide.durabletask.client import TaskHubGrpcClient
from duroxide.durabletask.testing import create_test_backend
from duroxide.durabletask.worker import TaskHubGrpcWorker


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv(STORE_VARIABLE, raising=False)
    return tmp_path


def echo(ctx, value):
    return value


@pytest.mark.parametrize(
    ("address", "hub", "location"),
    [
        ("memory:a", None, Location("memory", "a")),
        ("memory:a", "default", Location("memory", "a")),
        ("memory:a", "b", Location("memory", "a/b")),
        ("sqlite:////tmp/a.db", None, Location("sqlite", "/tmp/a.db")),
        ("sqlite:////tmp/a.db", "b", Location("sqlite", "/tmp/a.b.db")),
        ("sqlite:////tmp/a%20b.db", None, Location("sqlite", "/tmp/a b.db")),
        ("postgresql://u@h/d", None, Location("postgres", "postgresql://u@h/d")),
        ("postgresql://u@h/d", "orders", Location("postgres", "postgresql://u@h/d", "durabletask_orders")),
    ],
)
def test_an_address_may_name_a_store(address: str, hub: str | None, location: Location) -> None:
    assert locate(address, hub) == location


def test_three_slashes_begin_a_relative_path() -> None:
    assert locate("sqlite:///a.db") == Location("sqlite", str(Path("a.db").absolute()))


def test_another_address_is_a_file_for_each_address_and_hub(folder: Path) -> None:
    addresses = ["http://localhost:8080", "localhost:8080", "LOCALHOST:8080/", "localhost:4001", None]
    files = [Path(locate(each).target) for each in addresses]
    assert len(set(files[:3])) == 1
    assert files[3] == files[4] != files[0]
    assert files[0] == folder / "duroxide" / "durabletask" / "localhost_8080.default.db"
    assert locate("http://localhost:8080", "orders") != locate("http://localhost:8080")


def test_the_environment_may_name_the_store_of_all_other_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STORE_VARIABLE, "memory:all")
    assert locate("http://localhost:8080") == Location("memory", "all")
    assert locate("https://x.durabletask.io", "orders") == Location("memory", "all/orders")
    assert locate("memory:own") == Location("memory", "own")


def test_a_wrong_store_in_the_environment_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STORE_VARIABLE, "mysql://x")
    with pytest.raises(ValueError, match=r"DUROXIDE_DURABLETASK_STORE.*sqlite:///path"):
        locate("http://localhost:8080")


@pytest.mark.parametrize("address", ["sqlite:", "sqlite:///", "sqlite:///:memory:"])
def test_an_address_without_a_file_is_an_error(address: str) -> None:
    with pytest.raises(ValueError, match="names no file"):
        locate(address)


@pytest.mark.parametrize(("one", "other"), [("a-b", "a_b"), ("A", "a"), ("x" * 80, "x" * 81), ("ä", "ö")])
def test_two_hubs_never_share_a_schema(one: str, other: str) -> None:
    schemas = [locate("postgresql://h/d", each).schema or "" for each in (one, other)]
    assert len(set(schemas)) == 2
    assert all(len(each) <= 63 for each in schemas)


@pytest.mark.parametrize(("one", "other"), [("a/b", "a_b"), ("a.b", "a_b")])
def test_two_hubs_never_share_a_file(one: str, other: str) -> None:
    assert locate("localhost:1", one) != locate("localhost:1", other)


def test_the_log_says_once_where_the_store_is(caplog: pytest.LogCaptureFixture, folder: Path) -> None:
    caplog.set_level(logging.INFO, logger="duroxide.durabletask")
    for _ in range(2):
        with TaskHubGrpcClient(host_address="http://localhost:8123") as client:
            client.get_orchestration_state("nothing")
    texts = [each.getMessage() for each in caplog.records if "the store of" in each.getMessage()]
    assert texts == [
        f"the store of http://localhost:8123 is the SQLite file {folder}/duroxide/durabletask/localhost_8123.default.db"
    ]


def test_a_password_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="duroxide.durabletask")
    client = TaskHubGrpcClient(host_address="postgresql://user:secret@127.0.0.1:1/db")
    with pytest.raises(ProviderError):
        client.get_orchestration_state("nothing")
    assert "PostgreSQL" in caplog.text
    assert "secret" not in caplog.text


def test_task_hubs_do_not_see_each_other() -> None:
    def client(hub: str) -> DurableTaskSchedulerClient:
        return DurableTaskSchedulerClient(host_address="http://localhost:8080", taskhub=hub, token_credential=None)

    with client("one") as one, client("two") as two:
        one.schedule_new_orchestration(echo, instance_id="x")
        assert one.get_orchestration_state("x") is not None
        assert two.get_orchestration_state("x") is None


def test_an_empty_task_hub_is_an_error() -> None:
    with pytest.raises(ValueError, match="taskhub"):
        DurableTaskSchedulerClient(host_address="memory:a", taskhub="", token_credential=None)


def test_a_test_backend_is_found_at_its_port() -> None:
    backend = create_test_backend(port=50871)
    try:
        with TaskHubGrpcWorker(host_address="localhost:50871") as worker:
            worker.add_orchestrator(echo)
            worker.start()
            client = TaskHubGrpcClient(host_address="http://127.0.0.1:50871")
            instance = client.schedule_new_orchestration(echo, input=1)
            assert client.wait_for_orchestration_completion(instance, timeout=30).get_output() == 1
        client.close()
        backend.reset()
        assert client.get_orchestration_state(instance) is None
        client.close()
        with pytest.raises(RuntimeError, match="50871"):
            create_test_backend(port=50871)
    finally:
        backend.stop()
    backend.start()
    backend.stop()
