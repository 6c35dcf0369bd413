"""A program of declared functions is killed while it runs, and continues where it was."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import OpenProvider
from crash.shop import ORDER, Approval, Parcel
from duroxide import Client
from support.waiting import wait_for_event_kind, wait_until

pytestmark = [
    pytest.mark.parametrize("store", ["sqlite", "postgres"]),
]

Life = Callable[[], "subprocess.Popen[str]"]


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
def begin_life(store: str, ledger: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Life]:
    """Starts the program on the store of the test."""
    if store == "sqlite":
        address = ["sqlite", str(tmp_path / "store.db")]
    else:
        address = ["postgres", request.getfixturevalue("postgres_url"), request.getfixturevalue("postgres_schema")]
    lives: list[subprocess.Popen[str]] = []

    def begin() -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "crash.shop", json.dumps(address), str(ledger)]
        lives.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]))
        return lives[-1]

    yield begin
    for life in lives:
        life.kill()
        life.communicate()


def test_a_program_that_is_killed_twice_repeats_no_recorded_step(
    begin_life: Life, ledger: Path, client: Client, open_store: OpenProvider
) -> None:
    def shipped() -> list[str]:
        lines = ledger.read_text().splitlines() if ledger.exists() else []
        return [line for line in lines if line.startswith("shipped")]

    first = begin_life()
    wait_for_event_kind(client, ORDER.id, "ExternalSubscribed")
    first.kill()
    first.wait()
    client.raise_event(ORDER.id, "approval", Approval("Ada"))
    second = begin_life()
    wait_until(lambda: len(shipped()) >= 4, "the second batch of parcels")
    second.kill()
    second.wait()
    last = begin_life()
    output, _ = last.communicate(timeout=60)

    assert output.strip() == repr(Parcel(ORDER.lines, ORDER.total, "Ada"))
    written = ledger.read_text().splitlines()
    assert written.count(f"charged {ORDER.id}") == 1
    # A step that was running when the program was killed may run again; no other step may.
    assert set(shipped()) == {f"shipped {part.id}" for part in ORDER.split()}
    assert len(shipped()) <= len(ORDER.lines) + 3
