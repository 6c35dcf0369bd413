"""Processes that are killed: their committed work is done once, and the rest is not done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from duroxide import Outbox, Provider
from support.waiting import wait_until
from transactions.application import open_store
from transactions.shop import WAIT_SECONDS
from transactions.test_outbox import LISTENERS, received, send_to_listeners, start_listeners, writing

PROGRAM = Path(__file__).with_name("application.py")
Application = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def application() -> Iterator[Application]:
    """Starts a process of the application."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(PROGRAM), *arguments]
        environment = {**os.environ, "PYTHONPATH": str(PROGRAM.parents[1])}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        started.append(subprocess.Popen(command, env=environment, text=True, **pipes))
        return started[-1]

    yield start
    for each in started:
        kill(each)


@dataclass
class Relayed:
    """An outbox, and the store that it is relayed to."""

    database: str
    place: tuple[str, str, str]
    application: Application
    opened: list[Provider] = field(default_factory=list)

    def elsewhere(self, how: str) -> subprocess.Popen[str]:
        """Relay in another process, which ``stops`` before it deletes, or ``goes`` on."""
        return self.application("relay", *self.place, self.database, how)

    def open(self) -> Provider:
        """The store in this process."""
        self.opened.append(open_store(*self.place))
        return self.opened[-1]


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        stream.close()


def wait_for(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == word:
            return
    raise AssertionError(f"the process ended without printing '{word}'")


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest) -> str:
    """The kind of a store that outlives its process."""
    kind: str = request.param
    return kind


@pytest.fixture
def relayed(store: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Relayed]:
    """The store for an outbox, used by processes that may be killed, and in the end by this one."""
    place = ("sqlite", str(tmp_path / "store.db"), "")
    if store == "postgres":
        place = ("postgres", request.getfixturevalue("postgres_url"), request.getfixturevalue("postgres_schema"))
    relayed = Relayed(request.getfixturevalue("database"), place, request.getfixturevalue("application"))
    yield relayed
    for each in relayed.opened:
        each.close()


def test_a_process_that_is_killed_before_its_commit_has_started_nothing(application, shop):
    process = application("postgres", shop.url, shop.schema, "before")
    wait_for(process, "ready")
    kill(process)

    assert shop.orders() == []
    assert shop.queued() == []


def test_a_process_that_is_killed_after_its_commit_has_started_its_order(application, shop, work):
    process = application("postgres", shop.url, shop.schema, "after")
    wait_for(process, "ready")
    kill(process)

    assert shop.orders() == [7]
    assert work(shop.provider).handle("order-7").result(WAIT_SECONDS) == "packed 7"


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_outbox_has_the_commits_of_a_killed_process(moment, application, database, rows):
    process = application("sqlite", database, moment)
    wait_for(process, "ready")
    kill(process)

    count = 1 if moment == "after" else 0
    assert rows("SELECT count(*) FROM orders") == [(count,)]
    assert rows("SELECT count(*) FROM duroxide_outbox") == [(count,)]


def test_a_relay_that_is_killed_before_it_deletes_delivers_no_message_twice(relayed, rows, work):
    with writing(relayed.database) as transaction:
        start_listeners(transaction, 4)
        send_to_listeners(transaction, 0)
        send_to_listeners(transaction, 1)
    pending = rows("SELECT count(*) FROM duroxide_outbox")
    process = relayed.elsewhere("stops")
    wait_for(process, "relayed")
    kill(process)
    assert rows("SELECT count(*) FROM duroxide_outbox") == pending

    with writing(relayed.database) as transaction:
        send_to_listeners(transaction, 2)
        send_to_listeners(transaction, 3)
    client = work(relayed.open(), outboxes=[Outbox(relayed.database)])
    assert received(client) == [[0, 1, 2, 3]] * LISTENERS


def test_relays_that_are_killed_repeatedly_deliver_every_message_once(relayed, rows, work):
    with writing(relayed.database) as transaction:
        start_listeners(transaction, 60)
    for life in range(6):
        process = relayed.elsewhere("goes")
        wait_for(process, "working")
        for number in range(10 * life, 10 * life + 10):
            with writing(relayed.database) as transaction:
                send_to_listeners(transaction, number)
        # Killed while it works, each time a little later.
        deadline = time.monotonic() + WAIT_SECONDS
        while rows("SELECT count(*) FROM duroxide_outbox")[0][0] > 20 * life and time.monotonic() < deadline:
            pass
        kill(process)

    client = work(relayed.open(), outboxes=[Outbox(relayed.database)])
    assert received(client) == [list(range(60))] * LISTENERS


@pytest.mark.parametrize("store", ["sqlite"])
def test_a_standby_relays_when_the_owner_is_gone(store, relayed, rows, work):
    owner = relayed.elsewhere("stops")
    wait_for(owner, "working")
    client = work(relayed.open(), outboxes=[Outbox(relayed.database)])
    with writing(relayed.database) as transaction:
        transaction.start_orchestration("order-7", "fulfil", 7)
    wait_for(owner, "relayed")
    assert rows("SELECT count(*) FROM duroxide_outbox") == [(1,)]

    kill(owner)

    assert client.handle("order-7").result(WAIT_SECONDS) == "packed 7"
    wait_until(lambda: rows("SELECT count(*) FROM duroxide_outbox") == [(0,)])
