"""Stopping after event n and continuing in a new runtime, for every n, gives the same result and history."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from replay.playback import Player
from replay.programs import PROGRAMS, Program

programs = pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)


@pytest.fixture
def player(program: Program, store: str, open_store: Callable[[], Any]) -> Iterator[Player]:
    # The file is opened again at each stop, as by a new process; a store in memory is lost when it is closed, and
    # connecting to PostgreSQL so often would take minutes and show no more.
    player = Player(open_store, program, reopens=store == "sqlite")
    yield player
    player.close()


def never(_events: int) -> bool:
    return False


def always(_events: int) -> bool:
    return True


def once_after(stop: int) -> Callable[[int], bool]:
    """Stop at the first opportunity after event number ``stop``."""
    stopped = False

    def stop_now(events: int) -> bool:
        nonlocal stopped
        stopped, before = stopped or events >= stop, stopped
        return stopped and not before

    return stop_now


def new_instance(program: Program) -> str:
    # Ids of equal length, since the bytes of the histories are compared.
    return f"{program.name}-{secrets.token_hex(4)}"


@programs
def test_result_and_history_are_the_same_awake_and_replayed(program: Program, player: Player) -> None:
    awake = player.play(new_instance(program), never)
    player.sticky = False
    assert player.play(new_instance(program), never) == awake


@programs
@pytest.mark.parametrize("sticky", [True, False], ids=["awake", "replayed"])
def test_result_and_history_do_not_depend_on_where_the_runtime_was_stopped(
    program: Program, player: Player, sticky: bool
) -> None:
    player.sticky = sticky
    whole = player.play(new_instance(program), never)
    for stop in range(1, len(whole.history)):
        resumed = player.play(new_instance(program), once_after(stop))
        assert resumed == whole, f"stopped after event {stop}"


@programs
def test_a_program_that_is_stopped_at_every_event_has_the_same_end(program: Program, player: Player) -> None:
    whole = player.play(new_instance(program), never)
    assert player.play(new_instance(program), always) == whole


@programs
def test_no_activity_runs_again_after_a_stop(program: Program, player: Player) -> None:
    player.play(new_instance(program), always)
    assert player.calls.repeated() == []
