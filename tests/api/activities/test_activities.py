"""Activities: what their context gives, how they run, and that a task is lazy."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Generator
from typing import Any

import pytest

from conftest import Run, StartRuntime
from duroxide import ActivityContext, Client, OrchestrationContext, OrchestrationFailed, RetryPolicy, Task

Steps = Generator[Any, Any, Any]


def call(ctx: OrchestrationContext, input: Any) -> Steps:
    return (yield ctx.schedule_activity("activity", input))


def test_activity_gets_its_input_and_gives_its_result(run: Run) -> None:
    def shout(ctx: ActivityContext, input: Any) -> str:
        return f"{input}!"

    assert run(call, "hello", activities={"activity": shout}) == "hello!"


def test_activity_without_input_gets_none(run: Run) -> None:
    def receive(ctx: ActivityContext, input: Any) -> bool:
        return input is None

    def no_input(ctx: OrchestrationContext, input: Any) -> Steps:
        return (yield ctx.schedule_activity("receive"))

    assert run(no_input, activities={"receive": receive}) is True


def test_context_names_the_instance_the_orchestration_and_the_activity(run: Run) -> None:
    def describe(ctx: ActivityContext, input: Any) -> list[Any]:
        return [
            ctx.instance_id,
            ctx.execution_id,
            ctx.orchestration_name,
            ctx.orchestration_version,
            ctx.activity_name,
        ]

    described = run(call, activities={"activity": describe}, instance="described")

    assert described == ["described", 1, "call", "1.0.0", "activity"]


def test_context_names_the_execution_after_continue_as_new(run: Run) -> None:
    def again(ctx: OrchestrationContext, input: int) -> Steps:
        execution = yield ctx.schedule_activity("execution")
        if input < 2:
            yield ctx.continue_as_new(input + 1)
        return [execution, ctx.execution_id]

    def execution(ctx: ActivityContext, input: Any) -> int:
        return ctx.execution_id

    assert run(again, 0, activities={"execution": execution}) == [3, 3]


def test_context_of_a_plain_activity_has_neither_session_nor_tag(run: Run) -> None:
    def describe(ctx: ActivityContext, input: Any) -> list[Any]:
        return [ctx.session_id, ctx.tag()]

    assert run(call, activities={"activity": describe}) == [None, None]


def test_context_has_a_worker(run: Run) -> None:
    def worker(ctx: ActivityContext, input: Any) -> str:
        return ctx.worker_id

    assert run(call, activities={"activity": worker})


def test_first_delivery_is_attempt_one(run: Run) -> None:
    def attempt(ctx: ActivityContext, input: Any) -> int:
        return ctx.attempt

    assert run(call, activities={"activity": attempt}) == 1


def test_activity_id_is_the_number_of_the_event_that_scheduled_it(run: Run, client: Client) -> None:
    def number(ctx: ActivityContext, input: Any) -> int | None:
        return ctx.activity_id

    def twice(ctx: OrchestrationContext, input: Any) -> Steps:
        return [(yield ctx.schedule_activity("number")), (yield ctx.schedule_activity("number"))]

    numbers = run(twice, activities={"number": number}, instance="numbered")

    events = client.read_execution_history("numbered")
    assert numbers == [event.event_id for event in events if event.kind == "ActivityScheduled"]


def test_activity_is_not_cancelled_while_its_result_is_awaited(run: Run) -> None:
    def look(ctx: ActivityContext, input: Any) -> bool:
        return ctx.is_cancelled()

    assert run(call, activities={"activity": look}) is False


def test_client_of_an_activity_starts_and_waits_for_orchestrations(run: Run) -> None:
    def start_and_wait(ctx: ActivityContext, input: Any) -> Any:
        client = ctx.get_client()
        client.start_orchestration(f"{ctx.instance_id}-other", "other", input)
        return client.wait_for_orchestration(f"{ctx.instance_id}-other", 20_000).output

    output = run(
        call, 20, activities={"activity": start_and_wait}, orchestrations={"other": lambda ctx, input: input + 1}
    )

    assert output == 21


def test_async_activity_runs_on_a_loop(run: Run) -> None:
    async def nap(ctx: ActivityContext, input: Any) -> str:
        await asyncio.sleep(0)
        return type(asyncio.get_running_loop()).__name__

    assert "Loop" in run(call, activities={"activity": nap})


def test_async_activities_wait_for_each_other(run: Run) -> None:
    here = asyncio.Event()

    async def wait(ctx: ActivityContext, input: Any) -> str:
        await asyncio.wait_for(here.wait(), 20)
        return "waited"

    async def answer(ctx: ActivityContext, input: Any) -> str:
        here.set()
        return "answered"

    def both(ctx: OrchestrationContext, input: Any) -> Steps:
        return (yield ctx.gather(ctx.schedule_activity("wait"), ctx.schedule_activity("answer")))

    assert run(both, activities={"wait": wait, "answer": answer}) == ["waited", "answered"]


def test_async_activity_fails_with_its_type(run: Run) -> None:
    async def fail(ctx: ActivityContext, input: Any) -> None:
        raise KeyError("missing")

    with pytest.raises(OrchestrationFailed) as caught:
        run(call, activities={"activity": fail})

    assert caught.value.error_type == "KeyError"


def test_sync_activity_may_run_an_event_loop(run: Run) -> None:
    async def inner() -> str:
        return "ran"

    def outer(ctx: ActivityContext, input: Any) -> str:
        return asyncio.run(inner())

    assert run(call, activities={"activity": outer}) == "ran"


def test_task_that_is_never_yielded_does_not_run_and_is_reported(run: Run) -> None:
    ran: list[str] = []

    def work(ctx: ActivityContext, input: str) -> None:
        ran.append(input)

    def forgetful(ctx: OrchestrationContext, input: Any) -> Steps:
        ctx.schedule_activity("work", "forgotten")
        yield ctx.schedule_activity("work", "yielded")

    with pytest.warns(RuntimeWarning, match="never yielded it"):
        run(forgetful, activities={"work": work})

    assert ran == ["yielded"]


def test_the_warning_of_a_task_that_is_never_yielded_has_its_control_characters_escaped(run: Run) -> None:
    def forgetful(ctx: OrchestrationContext, input: Any) -> Steps:
        ctx.wait_for_event("go\nERROR forged\x1b[2J")
        yield ctx.schedule_timer(0)

    with pytest.warns(RuntimeWarning, match="never yielded it") as seen:
        run(forgetful)

    assert r"go\nERROR forged\u{1b}[2J" in str(seen[0].message)


def test_task_may_be_run_by_yield_from(run: Run) -> None:
    def delegate(ctx: OrchestrationContext, input: Any) -> Steps:
        return (yield from ctx.schedule_activity("activity", input))

    assert run(delegate, 1, activities={"activity": lambda ctx, input: input + 1}) == 2


def test_steps_may_be_split_into_generators(run: Run) -> None:
    def both(ctx: OrchestrationContext, input: int) -> Steps:
        first = yield ctx.schedule_activity("activity", input)
        second = yield ctx.schedule_activity("activity", first)
        return second

    def delegate(ctx: OrchestrationContext, input: int) -> Steps:
        middle = yield from both(ctx, input)
        return (yield from both(ctx, middle))

    assert run(delegate, 0, activities={"activity": lambda ctx, input: input + 1}) == 4


def test_task_that_is_yielded_twice_runs_once(run: Run, client: Client) -> None:
    def twice(ctx: OrchestrationContext, input: Any) -> Steps:
        task = ctx.schedule_activity("activity", input)
        first = yield task
        second = yield task
        return [first, second]

    assert run(twice, 1, activities={"activity": lambda ctx, input: input}, instance="twice") == [1, 1]
    kinds = [event.kind for event in client.read_execution_history("twice")]
    assert kinds.count("ActivityScheduled") == 1


def test_recorded_activity_does_not_run_again_at_replay(run: Run) -> None:
    ran: list[int] = []

    def count(ctx: ActivityContext, input: int) -> int:
        ran.append(input)
        return input

    def chain(ctx: OrchestrationContext, input: int) -> Steps:
        for step in range(input):
            yield ctx.schedule_activity("count", step)

    run(chain, 6, activities={"count": count})

    assert ran == [0, 1, 2, 3, 4, 5]


def test_two_runtimes_share_the_activities(runtime_factory: StartRuntime, client: Client) -> None:
    workers: set[int] = set()
    both = threading.Barrier(2)

    def meet_as(number: int) -> Any:
        def meet(ctx: ActivityContext, input: Any) -> None:
            workers.add(number)
            both.wait(20)

        return meet

    def fan(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.gather(ctx.schedule_activity("meet"), ctx.schedule_activity("meet"))

    from duroxide import RuntimeOptions

    one_at_a_time = RuntimeOptions(worker_concurrency=1)
    runtime_factory({"meet": meet_as(1)}, {"fan": fan}, one_at_a_time)
    runtime_factory({"meet": meet_as(2)}, {"fan": fan}, one_at_a_time)
    client.start_orchestration("shared", "fan")

    client.wait_for_orchestration("shared").result()
    assert workers == {1, 2}


def test_typed_names_record_text_unchanged(run: Run, client: Client) -> None:
    def both(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.schedule_activity("activity", "7")
        yield ctx.schedule_activity_typed("activity", "7")

    run(both, activities={"activity": lambda ctx, input: input}, instance="typed")

    events = [event.data for event in client.read_execution_history("typed") if event.kind == "ActivityScheduled"]
    # The data of an event shows recorded JSON as a value: the plain name recorded a string, the typed one the text 7.
    assert [json.loads(event)["input"] for event in events] == ["7", 7]


def test_repr_of_a_task_describes_it(run: Run) -> None:
    def show(ctx: OrchestrationContext, input: Any) -> Steps:
        task: Task[Any] = ctx.schedule_activity("activity", 1)
        before = repr(task)
        yield task
        return [before, repr(task)]

    before, after = run(show, activities={"activity": lambda ctx, input: input})

    assert "activity 'activity'" in before
    assert "started" in after


@pytest.mark.parametrize("store", ["memory"])
@pytest.mark.parametrize(
    "schedule",
    [
        lambda ctx: ctx.schedule_activity(""),
        lambda ctx: ctx.schedule_activity("x" * 2000),
        lambda ctx: ctx.schedule_activity(7),
        lambda ctx: ctx.schedule_activity("activity", object()),
        lambda ctx: ctx.schedule_activity("activity", "x" * 100_000_000),
        lambda ctx: ctx.schedule_activity("activity", session_id=""),
        lambda ctx: ctx.schedule_activity("activity", tag="x" * 300),
        lambda ctx: ctx.schedule_activity("activity", retry={"max_attempt": 3}),
        lambda ctx: ctx.schedule_activity("activity", retry=RetryPolicy),
        lambda ctx: ctx.schedule_timer(-1),
        lambda ctx: ctx.schedule_timer(10**18),
        lambda ctx: ctx.schedule_timer("1 hour"),
        lambda ctx: ctx.race(),
        lambda ctx: ctx.all([1, 2]),
    ],
)
def test_bad_argument_is_refused_at_the_call(schedule: Any, run: Run) -> None:
    def careful(ctx: OrchestrationContext, input: Any) -> str:
        try:
            schedule(ctx)
        except (TypeError, ValueError):
            return "refused"
        return "taken"

    assert run(careful) == "refused"
