"""External events of durabletask."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pytest

from durabletask_programs.conftest import Program
from duroxide.durabletask import task


@dataclass
class Approval:
    by: str


def test_names_are_compared_without_regard_to_case(program: Program) -> None:
    def main(ctx, _):
        return (yield ctx.wait_for_external_event("Approval_RECEIVED"))

    program.start(main)
    instance = program.client.schedule_new_orchestration(main)
    program.client.raise_orchestration_event(instance, "approval_Received", data={"ok": True})
    assert program.end_of(instance).get_output() == {"ok": True}


def test_an_event_that_comes_before_its_wait_is_kept(program: Program) -> None:
    def main(ctx, _):
        yield ctx.wait_for_external_event("second")
        return (yield ctx.wait_for_external_event("first", data_type=Approval)).by

    program.start(main)
    instance = program.client.schedule_new_orchestration(main)
    program.client.raise_orchestration_event(instance, "first", data=Approval("Ada"))
    program.client.raise_orchestration_event(instance, "second")
    assert program.end_of(instance).get_output() == "Ada"


def test_events_of_one_name_go_to_the_waits_in_order(program: Program) -> None:
    def main(ctx, _):
        waits = [ctx.wait_for_external_event("number") for _ in range(3)]
        return (yield task.when_all(waits))

    program.start(main)
    instance = program.client.schedule_new_orchestration(main)
    for number in range(3):
        program.client.raise_orchestration_event(instance, "number", data=number)
    assert program.end_of(instance).get_output() == [0, 1, 2]


def test_a_cancelled_wait_leaves_its_event_to_the_next(program: Program) -> None:
    def main(ctx, _):
        first = ctx.wait_for_external_event("go")
        winner = yield task.when_any([first, ctx.create_timer(timedelta(milliseconds=1))])
        first.cancel()
        ctx.set_custom_status("cancelled")
        second = yield ctx.wait_for_external_event("go")
        return [winner is first, second]

    program.start(main)
    instance = program.client.schedule_new_orchestration(main)
    program.wait_for_status(instance, '"cancelled"')
    program.client.raise_orchestration_event(instance, "go", data="second")
    assert program.end_of(instance).get_output() == [False, "second"]


def test_an_event_waits_for_the_next_execution(program: Program) -> None:
    def main(ctx, number):
        if number == 1:
            yield ctx.wait_for_external_event("next")
            ctx.continue_as_new(2, save_events=True)
            return None
        return (yield ctx.wait_for_external_event("kept"))

    program.start(main)
    instance = program.client.schedule_new_orchestration(main, input=1)
    program.client.raise_orchestration_event(instance, "kept", data="here")
    program.client.raise_orchestration_event(instance, "next")
    assert program.end_of(instance).get_output() == "here"


@pytest.mark.parametrize("store", ["memory"])
def test_an_event_for_no_instance_is_an_error(program: Program) -> None:
    with pytest.raises(Exception, match="does not exist") as raised:
        program.client.raise_orchestration_event("nothing", "go")
    assert raised.value.code().name == "NOT_FOUND"
    assert "nothing" in raised.value.details()
