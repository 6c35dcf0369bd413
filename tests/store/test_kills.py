"""A process that is killed at random moments under load loses no acknowledged work, and repeats no recorded step.

``DUROXIDE_KILLS=1000 pytest -s tests/store/test_kills.py`` is the long form, and ``DUROXIDE_SEED`` sets other moments.
"""

from __future__ import annotations

import json
import os
import random
import select
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from duroxide import Client, SqliteProvider
from store.processes import check_integrity
from store.programs import STOP
from store.workload import CONVERSATIONS, expected
from support.child_process import TESTS

WORKLOAD = Path(__file__).with_name("workload.py")
SHORT_FORM = 10
KILLS = int(os.environ.get("DUROXIDE_KILLS", SHORT_FORM))
SEED = int(os.environ.get("DUROXIDE_SEED", "1"))
SETTLING_SECONDS = 90

pytestmark = [pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(120 + 3 * KILLS)]


@dataclass
class Instance:
    """The acknowledged facts about one instance."""

    orchestration: str
    input: Any = None
    sent: list[str] = field(default_factory=list[str])
    result: Any = None
    ended_in: int | None = None
    deletion: str = ""


@dataclass
class Lives:
    """The lives of the workload on one file, and what was acknowledged in them."""

    folder: Path
    instances: dict[str, Instance] = field(default_factory=dict[str, Instance])
    lives: int = 0

    @property
    def file(self) -> Path:
        return self.folder / "store.db"

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger"

    def live(self, kill_after: float | None) -> int:
        """Run the workload until it is killed or, without a load, to its end.

        Args:
            kill_after: Seconds from its beginning, or ``None``.

        Returns:
            The number of acknowledgements.
        """
        life = self.lives
        self.lives += 1
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, str(WORKLOAD), str(self.file), str(self.ledger), str(SEED), str(life)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(TESTS)},
        )
        assert process.stdin is not None
        assert process.stdout is not None
        open_instances = [(name, each.orchestration) for name, each in self.instances.items() if each.ended_in is None]
        # Open instances are settled with less new load beside them.
        threads = 0 if kill_after is None else 4 if len(open_instances) < 300 else 1
        process.stdin.write(f"{json.dumps(open_instances)}\n{threads}\n".encode())
        process.stdin.close()

        end = began + (SETTLING_SECONDS if kill_after is None else kill_after)
        received = b""
        while select.select([process.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
            chunk = os.read(process.stdout.fileno(), 1 << 16)
            received += chunk
            if not chunk:
                break
        if kill_after is None:
            assert process.wait(SETTLING_SECONDS) == 0, "the last life did not settle what was open"
        process.kill()
        process.wait()
        received += process.stdout.read()
        process.stdout.close()
        assert process.returncode == (0 if kill_after is None else -9), "the workload failed by itself"

        lines = received.decode().splitlines()
        for line in lines:
            self.take(life, *json.loads(line))
        return len(lines)

    def take(self, life: int, word: str, name: str, *facts: Any) -> None:
        """Record one acknowledgement; fail if it contradicts an earlier one."""
        match word:
            case "start":
                assert name not in self.instances
                self.instances[name] = Instance(*facts)
            case "send":
                self.instances[name].sent.append(facts[0])
            case "result":
                instance = self.instances[name]
                assert instance.ended_in is None
                instance.result, instance.ended_in = facts[0], life
                check_result(name, instance)
            case "deleting" | "delete":
                self.instances[name].deletion = word
            case _:
                assert word == "ready", word


def check_result(name: str, instance: Instance) -> None:
    if instance.orchestration not in CONVERSATIONS:
        assert instance.result == expected(instance.orchestration, instance.input), name
        return
    sent = [message for message in instance.sent if message != STOP]
    # The last message may have been taken without its acknowledgement being read; it has the next number.
    assert instance.result in (sent, [*sent, str(len(sent))]), f"{name} was sent {sent}"


def check_ledger(lives: Lives) -> None:
    """Check that no activity ran twice in a life, nor after its successor was seen to have begun."""
    lives_of: dict[tuple[str, int, int], set[int]] = {}
    last_of: dict[str, tuple[int, int]] = {}
    for line in lives.ledger.read_text().splitlines():
        life_text, instance, *numbers = line.split()
        life, place = int(life_text), (int(numbers[0]), int(numbers[1]))
        key = (instance, *place)
        assert life not in lives_of.setdefault(key, set()), f"{key} began twice in life {life}"
        lives_of[key].add(life)
        known = lives.instances.get(instance)
        if known is not None and known.ended_in is not None:
            assert life <= known.ended_in, f"{key} began in life {life}, after the end of its orchestration"
        if instance.startswith(("chain", "rounds", "events")):
            # One step after the other: a step begins only when the one before is on disk.
            assert place >= last_of.get(instance, place), f"{key} ran again after a later step"
            last_of[instance] = place


def check_final_state(lives: Lives) -> None:
    """Check that every later process reads the same of an instance that has ended."""
    with SqliteProvider.open(lives.file) as provider:
        client = Client(provider)
        for name, instance in lives.instances.items():
            status = client.get_status(name)
            if instance.deletion:
                assert status.status == "NotFound" or instance.deletion == "deleting", name
            elif instance.orchestration == "asleep":
                assert status.status == "Failed", name
            else:
                assert (status.status, status.output) == ("Completed", instance.result), name


@pytest.fixture
def lives(tmp_path: Path) -> Lives:
    return Lives(tmp_path)


def test_kills_under_load_lose_no_work_and_repeat_no_recorded_step(
    lives: Lives, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moments = random.Random(SEED)
    acknowledged, began = 0, time.monotonic()
    for number in range(KILLS):
        # From the first steps of the start to the middle of the work.
        acknowledged += lives.live(kill_after=moments.uniform(0.1, 1.2))
        if lives.file.exists():
            check_integrity(lives.file, tmp_path / "scratch")
        if KILLS > SHORT_FORM and number % 20 == 19:
            with capsys.disabled():
                spent = time.monotonic() - began
                print(f"{number + 1} kills, {acknowledged} acknowledgements, {spent:.0f} s", flush=True)
    acknowledged += lives.live(kill_after=None)

    open_instances = [name for name, each in lives.instances.items() if each.ended_in is None]
    assert open_instances == []
    assert acknowledged > KILLS, "the kills came before any work"
    check_ledger(lives)
    check_final_state(lives)
    check_integrity(lives.file, tmp_path / "scratch")
