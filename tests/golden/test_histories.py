"""The events that each operation records are frozen: running instances replay them with future code."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Generator
from typing import Any

import pytest

from duroxide import OrchestrationContext, SqliteProvider, Task
from golden.conftest import Compare
from replay.playback import Player
from replay.programs import PROGRAMS, Event, Message, Program, Worker, child

Steps = Generator[Task[Any], Any, Any]


def activity_typed(ctx: Any, _: Any) -> Steps:
    return [
        (yield ctx.schedule_activity_typed("echo", "raw text")),
        (yield ctx.schedule_activity_typed("echo", '{"json": "text"}')),
        (yield ctx.schedule_activity_typed("echo", {"a": "value"})),
        (yield ctx.schedule_activity("echo", "plain text")),
    ]


def activity_on_session_typed(ctx: Any, _: Any) -> Steps:
    return (yield ctx.schedule_activity_on_session_typed("echo", "raw text", "session-1"))


def activity_with_retry_typed(ctx: Any, _: Any) -> Steps:
    first = yield ctx.schedule_activity_with_retry_typed("echo", "raw text", {"max_attempts": 2})
    second = yield ctx.schedule_activity_with_retry_on_session_typed(
        "echo", "raw text", {"max_attempts": 2}, "session-1"
    )
    return [first, second]


def sub_orchestration_typed(ctx: Any, _: Any) -> Steps:
    name = f"{ctx.instance_id}-child"
    return [
        (yield ctx.schedule_sub_orchestration_typed("child", "raw text")),
        (yield ctx.schedule_sub_orchestration_with_id_typed("child", name, "raw text")),
        (yield ctx.schedule_sub_orchestration_versioned_typed("child", "1.0.0", "raw text")),
        (yield ctx.schedule_sub_orchestration_versioned_with_id_typed("child", "1.0.0", f"{name}-2", "raw text")),
    ]


def detached_typed(ctx: Any, _: Any) -> Steps:
    yield ctx.start_orchestration_typed("child", f"{ctx.instance_id}-1", "raw text")
    yield ctx.start_orchestration_versioned_typed("child", "1.0.0", f"{ctx.instance_id}-2", "raw text")


def continue_as_new_typed(ctx: Any, input: Any) -> Steps:
    if input == "raw text":
        return ctx.execution_id
    return (yield ctx.continue_as_new_typed("raw text"))


def event_typed(ctx: Any, _: Any) -> Steps:
    return (yield ctx.wait_for_event_typed("go"))


def queue_typed(ctx: Any, _: Any) -> Steps:
    decoded = yield ctx.dequeue_event_typed("inbox")
    plain = yield ctx.dequeue_event("inbox")
    return [decoded, plain]


def key_values_typed(ctx: Any, _: Any) -> Steps:
    ctx.set_kv_value_typed("text", "value")
    ctx.set_kv_value_typed("object", {"a": [1, None]})
    ctx.set_kv_value("plain", "value")
    values = [ctx.get_kv_value_typed("text"), ctx.get_kv_value_typed("object"), ctx.get_kv_value_typed("missing")]
    yield ctx.wait_for_event("go")
    return values


def all_typed(ctx: Any, _: Any) -> Steps:
    values = yield ctx.all_typed([ctx.schedule_activity("echo", 1), ctx.wait_for_event("go")])
    try:
        yield ctx.all_typed([ctx.schedule_activity("fail", "first failure")])
    except Exception as error:
        return [values, str(error)]
    return "not reached"


def race_typed(ctx: Any, _: Any) -> Steps:
    return (yield ctx.race_typed(ctx.wait_for_event("go"), ctx.wait_for_event("never")))


async def waited_cancellation(ctx: OrchestrationContext, _: Any) -> bool:
    call = asyncio.ensure_future(ctx.schedule_activity("echo", 1, cancellation="wait").with_tag("late"))
    await ctx.wait_for_event("go")
    call.cancel()
    await asyncio.wait([call])
    return call.cancelled()


TYPED_PROGRAMS = (
    Program(activity_typed),
    Program(activity_on_session_typed),
    Program(activity_with_retry_typed),
    Program(sub_orchestration_typed, children={"child": child}),
    Program(detached_typed, children={"child": child}),
    Program(continue_as_new_typed, input="first"),
    Program(event_typed, (Event("go", {"a": 1}),)),
    Program(queue_typed, (Message("inbox", '{"a": 1}'), Message("inbox", '{"a": 1}'))),
    Program(key_values_typed, (Event("go"),)),
    Program(all_typed, (Event("go", "event"),)),
    Program(race_typed, (Event("go", "event"),)),
)


# It needs asyncio's loop, which orchestrations have from Python 3.11 on.
LOOP_PROGRAMS = (
    pytest.param(Program(waited_cancellation, (Event("go"), Worker("late"))), marks=pytest.mark.task_groups),
)


def record(program: Program, *, sticky: bool) -> str:
    """Play ``program`` and write its history, one event a line, and the client's view of its end."""
    player = Player(SqliteProvider.in_memory, program, reopens=False, sticky=sticky)
    try:
        playback = player.play(f"golden-{program.name}", lambda _events: False)
    finally:
        player.close()
    lines = [json.dumps([execution, kind, data], ensure_ascii=False) for execution, kind, data in playback.history]
    end: dict[str, Any] = {
        "status": playback.status,
        "output": playback.output,
        "custom_status": playback.custom_status,
    }
    end["key_values"] = dict(sorted(playback.key_values.items()))
    return "\n".join([*lines, json.dumps(end, ensure_ascii=False), ""])


@pytest.mark.parametrize("sticky", [True, False], ids=["awake", "replayed"])
@pytest.mark.parametrize("program", (*PROGRAMS, *TYPED_PROGRAMS, *LOOP_PROGRAMS), ids=lambda program: program.name)
def test_the_recorded_history_has_not_changed(program: Program, sticky: bool, compare: Compare) -> None:
    compare(f"histories/{program.name}.jsonl", record(program, sticky=sticky))


def test_every_typed_name_of_the_context_has_a_golden_history() -> None:
    source = {name for program in TYPED_PROGRAMS for name in program.main.__code__.co_names}
    names = {name for name in dir(OrchestrationContext) if name.endswith("_typed")}
    # An older name of the same method, and one that reads the same as its plain form.
    names -= {"schedule_wait_typed", "get_kv_value_from_instance_typed"}
    assert names <= source
