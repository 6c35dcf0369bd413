"""Programs of the earlier SDK run unchanged where its documents and its surface leave something to be seen."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Generator
from typing import Any

import pytest

import duroxide
from duroxide import (
    ActivityContext,
    Client,
    ConfigurationError,
    DuroxideError,
    OrchestrationContext,
    OrchestrationResult,
    OrchestrationStatus,
    ProviderError,
    Runtime,
    RuntimeOptions,
    TagFilter,
)
from duroxide._store.providers import Provider
from duroxide._values.parameter_names import also_named

Steps = Generator[Any, Any, Any]


# Registrations and calls


def test_typed_registrations_work_as_decorators_and_as_calls(provider: Provider) -> None:
    runtime = Runtime(provider)

    @runtime.register_activity_typed("double")
    def double(ctx: ActivityContext, numbers: dict[str, int]) -> dict[str, int]:
        return {name: number * 2 for name, number in numbers.items()}

    def first(ctx: OrchestrationContext, numbers: dict[str, int]) -> Steps:
        return (yield ctx.schedule_activity_typed("double", numbers))

    @runtime.register_orchestration_versioned_typed("Work", "1.0.1")
    def second(ctx: OrchestrationContext, numbers: dict[str, int]) -> Steps:
        result = yield ctx.schedule_sub_orchestration_versioned("Work", "1.0.0", numbers)
        return [result]

    runtime.register_orchestration_typed("Work", first)

    with runtime:
        runtime.client.start_orchestration_typed("work", "Work", {"a": 1})
        assert runtime.client.wait_for_orchestration_typed("work", 10_000) == [{"a": 2}]


def test_calls_take_both_names_of_a_parameter(provider: Provider) -> None:
    runtime, client = Runtime(provider), Client(provider)

    def wait(ctx: OrchestrationContext, _: Any) -> Steps:
        event = yield ctx.wait_for_event("go")
        yield ctx.schedule_timer(delay_ms=1)
        yield ctx.schedule_timer(delay=1)  # type: ignore[call-arg]
        message = yield ctx.dequeue_event(queue_name="inbox")
        other = yield ctx.dequeue_event_typed(queue="inbox")  # type: ignore[call-arg]
        echoed = yield ctx.all(tasks=[ctx.schedule_activity("echo", 5, "session"), ctx.schedule_activity("echo")])
        return [event, message, other, [each["ok"] for each in echoed]]

    runtime.register_activity(name="echo", callback=lambda ctx, input: input)
    runtime.register_orchestration(name="Wait", fn=wait)

    with runtime:
        client.start_orchestration(instance_id="wait", orchestration_name="Wait", input=None)  # type: ignore[call-arg]
        client.raise_event(instance_id="wait", event_name="go")
        client.raise_event(instance_id="wait", name="unused")  # type: ignore[call-arg]
        client.enqueue_event(instance_id="wait", queue_name="inbox")
        client.enqueue_event(instance_id="wait", queue="inbox", data=7)  # type: ignore[call-arg]
        assert client.wait_for_orchestration("wait", 10_000).output == [None, "null", 7, [5, None]]


def test_a_parameter_that_is_given_under_both_names_is_refused() -> None:
    @also_named(queue="queue_name")
    def send(queue_name: str) -> str:
        return queue_name

    with pytest.raises(TypeError, match=r"send\(\) got 'queue_name' twice, the second time as 'queue'"):
        send(queue_name="a", queue="b")  # type: ignore[call-arg]


def test_options_of_the_earlier_sdk_take_none_for_their_default() -> None:
    none = RuntimeOptions(worker_concurrency=None, max_attempts=None, worker_tag_filter=None)  # type: ignore[arg-type]
    assert none == RuntimeOptions()


def test_shutdown_takes_none_for_its_default(provider: Provider) -> None:
    runtime = Runtime(provider)
    runtime.start()
    runtime.shutdown(None)
    runtime.shutdown(timeout_ms=None)


# Tag filters


def test_tag_filters_are_the_texts_of_the_earlier_sdk() -> None:
    assert [str(each) for each in (TagFilter.DEFAULT_ONLY, TagFilter.ANY, TagFilter.NONE)] == [
        "default_only",
        "any",
        "none",
    ]
    assert json.loads(TagFilter.tags(["gpu", "ü"])) == {"tags": ["gpu", "ü"]}
    assert TagFilter.default_and(["gpu"]) == '{"default_and": ["gpu"]}'
    assert isinstance(TagFilter.any(), str)


def test_tags_are_given_one_by_one_or_as_a_list() -> None:
    assert TagFilter.tags("gpu", "cpu") == TagFilter.tags(["gpu", "cpu"]) == TagFilter.tags(tags=["gpu", "cpu"])
    with pytest.raises(TypeError, match="tags must be a list"):
        TagFilter.tags(tags="gpu")


@pytest.mark.parametrize("made", [TagFilter.ANY, TagFilter.default_only(), TagFilter.tags("gpu", "cpu")], ids=str)
def test_a_tag_filter_is_read_from_its_text(made: TagFilter) -> None:
    read = RuntimeOptions(worker_tag_filter=str(made)).worker_tag_filter

    assert isinstance(read, TagFilter)
    assert (read.kind, read.names) == (made.kind, made.names)
    assert all((each.kind, each.names) == (made.kind, made.names) for each in (copy.copy(made), copy.deepcopy(made)))
    assert pickle.loads(pickle.dumps(made)).names == made.names


@pytest.mark.parametrize("text", ["gpu", "", "{", '{"tags": []}', '{"tags": ["a"], "any": []}', '{"other": ["a"]}'])
def test_another_text_is_no_tag_filter(text: str) -> None:
    with pytest.raises(ConfigurationError, match="worker_tag_filter"):
        RuntimeOptions(worker_tag_filter=text)


# Tasks and messages


def test_with_tag_takes_effect_on_the_task_itself(provider: Provider) -> None:
    def work(ctx: OrchestrationContext, _: Any) -> Steps:
        task = ctx.schedule_activity("tag", "here").with_tag("cpu")
        same = task.with_tag("gpu")
        return [same is task, (yield task)]

    runtime = Runtime(provider, RuntimeOptions(worker_tag_filter=TagFilter.tags("gpu")))
    runtime.register_activity("tag", lambda ctx, _: ctx.tag())
    runtime.register_orchestration("Work", work)
    with runtime:
        runtime.client.start_orchestration("work", "Work")
        assert runtime.client.wait_for_orchestration("work", 10_000).output == [True, "gpu"]


def test_a_task_reads_like_the_dict_that_it_was(provider: Provider) -> None:
    def work(ctx: OrchestrationContext, _: Any) -> Steps:
        plain = ctx.schedule_activity("greet", {"name": "Ada"})
        tagged = ctx.schedule_activity("greet").with_tag("gpu")
        seen = [
            ("tag" in plain, plain.get("tag"), plain.get("tag", "none"), plain.keys(), plain["input"]),
            ("tag" in tagged, tagged["tag"], dict(tagged)["tag"]),
        ]
        yield ctx.race(plain, tagged, ctx.schedule_timer(0))
        with pytest.raises(KeyError, match="tag"):
            plain["tag"]
        return seen

    runtime = Runtime(provider)
    runtime.register_orchestration("Work", work)
    with runtime:
        runtime.client.start_orchestration("work", "Work")
        assert runtime.client.wait_for_orchestration("work", 10_000).output == [
            [False, None, "none", ["type", "name", "input"], '{"name": "Ada"}'],
            [True, "gpu", "gpu"],
        ]


def test_a_task_has_the_fields_of_the_description_that_a_detached_context_gives(provider: Provider) -> None:
    compared: list[object] = []
    differ: list[object] = []

    def work(ctx: OrchestrationContext, _: Any) -> Steps:
        yield ctx.schedule_timer(0)
        for task, description in zip(every_step(ctx), every_step(OrchestrationContext({})), strict=True):
            seen = {name: field for name, field in dict(task).items() if name != "tasks"}
            seen |= {"tasks": [dict(each) for each in task["tasks"]]} if "tasks" in task else {}
            compared.append(description)
            if seen != dict(description):
                differ.append((seen, description))

    runtime = Runtime(provider)
    runtime.register_orchestration("Work", work)
    with runtime:
        runtime.client.start_orchestration("work", "Work")
        # A continue-as-new that is never awaited is an error.
        assert runtime.client.wait_for_orchestration("work", 10_000).status == "Failed"
    assert differ == []
    assert len(compared) == len(every_step(OrchestrationContext({})))


def every_step(ctx: OrchestrationContext) -> list[Any]:
    """Describe a step of each kind."""
    retry: Any = {"max_attempts": 2, "backoff": "fixed"}
    return [
        ctx.schedule_activity("greet", {"name": "Ada"}),
        ctx.schedule_activity("greet", 1, "s-1", tag="gpu"),
        ctx.schedule_activity_with_retry("greet", 1, retry),
        ctx.schedule_activity_with_retry_on_session("greet", 1, retry, "s-1"),
        ctx.schedule_sub_orchestration("Child", 1),
        ctx.schedule_sub_orchestration_with_id("Child", "child", 1),
        ctx.schedule_sub_orchestration_versioned("Child", "1.0.0", 1),
        ctx.schedule_sub_orchestration_versioned_with_id("Child", "1.0.0", "child", 1),
        ctx.start_orchestration("Child", "child", 1),
        ctx.start_orchestration_versioned("Child", "1.0.0", "child", 1),
        ctx.schedule_timer(5),
        ctx.wait_for_event("go"),
        ctx.dequeue_event("inbox"),
        ctx.utc_now(),
        ctx.new_guid(),
        ctx.continue_as_new(1),
        ctx.continue_as_new_versioned(1, "2.0.0"),
        ctx.race(ctx.schedule_timer(1), ctx.wait_for_event("go")),
        ctx.all([ctx.schedule_timer(1)]),
    ]


def test_a_message_is_a_value_in_all_and_race_and_text_alone(provider: Provider) -> None:
    def work(ctx: OrchestrationContext, _: Any) -> Steps:
        both = yield ctx.all([ctx.wait_for_event("go"), ctx.dequeue_event("inbox")])
        first = yield ctx.race(ctx.dequeue_event("inbox"), ctx.schedule_timer(60_000))
        values = yield ctx.all_typed([ctx.dequeue_event_typed("inbox")])
        alone = yield ctx.dequeue_event("inbox")
        return [both[0]["ok"], both[1]["ok"], first["value"], values, alone]

    runtime = Runtime(provider)
    runtime.register_orchestration("Work", work)
    with runtime:
        client = runtime.client
        client.start_orchestration("work", "Work")
        client.raise_event("work", "go", {"m": 1})
        for _ in range(4):
            client.enqueue_event("work", "inbox", {"m": 2})
        output = client.wait_for_orchestration("work", 10_000).output
    assert output == [{"m": 1}, {"m": 2}, {"m": 2}, [{"m": 2}], '{"m": 2}']


@pytest.mark.task_groups
def test_a_message_is_a_value_in_all_of_a_coroutine(provider: Provider) -> None:
    async def work(ctx: OrchestrationContext, _: Any) -> Any:
        both = await ctx.all([ctx.wait_for_event("go"), ctx.dequeue_event("inbox")])
        first = await ctx.race(ctx.dequeue_event("inbox"), ctx.schedule_timer(60_000))
        return [both[1]["ok"], first["value"], await ctx.dequeue_event("inbox")]

    runtime = Runtime(provider)
    runtime.register_orchestration("Work", work)
    with runtime:
        client = runtime.client
        client.start_orchestration("work", "Work")
        client.raise_event("work", "go")
        for text in ("one", "2", "2"):
            client.enqueue_event("work", "inbox", text)
        output = client.wait_for_orchestration("work", 10_000).output
    assert output == ["one", 2, "2"]


# Names and records


def test_contexts_and_task_are_imported_from_the_module_of_the_earlier_sdk() -> None:
    from duroxide.context import ActivityContext, OrchestrationContext, ScheduledTask  # type: ignore[import-not-found]

    assert (OrchestrationContext, ActivityContext) == (duroxide.OrchestrationContext, duroxide.ActivityContext)
    assert ScheduledTask is duroxide.ScheduledTask
    assert callable(duroxide.context)


def test_errors_are_runtime_errors() -> None:
    assert issubclass(DuroxideError, RuntimeError)
    with pytest.raises(RuntimeError):
        duroxide.SqliteProvider.open("/missing/folder/store.db")
    assert issubclass(ProviderError, RuntimeError)


def test_a_result_is_made_as_in_the_earlier_sdk() -> None:
    assert OrchestrationStatus is OrchestrationResult
    result = OrchestrationResult("Failed", None, "it broke", "half done", 3)
    assert (result.status, result["error"], result.custom_status, result.custom_status_version) == (
        "Failed",
        "it broke",
        "half done",
        3,
    )


def test_an_instance_tree_knows_its_size(provider: Provider) -> None:
    def parent(ctx: OrchestrationContext, _: Any) -> Steps:
        yield ctx.schedule_sub_orchestration("Child")
        yield ctx.schedule_sub_orchestration("Child")

    runtime = Runtime(provider)
    runtime.register_orchestration("Parent", parent)
    runtime.register_orchestration("Child", lambda ctx, input: None)
    with runtime:
        runtime.client.start("Parent", id="parent").result()
        tree = runtime.client.get_instance_tree("parent")
    assert (tree.size, tree["size"], len(tree.all_ids)) == (3, 3, 3)


def test_values_stand_as_values_in_the_data_of_events(provider: Provider) -> None:
    def work(ctx: OrchestrationContext, order: dict[str, int]) -> Steps:
        yield ctx.schedule_activity_typed("echo", "plain text")
        message = yield ctx.dequeue_event_typed("inbox")
        return {"got": message}

    runtime = Runtime(provider)
    runtime.register_activity("echo", lambda ctx, input: input)
    runtime.register_orchestration("Work", work)
    with runtime:
        client = runtime.client
        client.start_orchestration("work", "Work", {"order": 7})
        client.enqueue_event("work", "inbox", {"big": 2**70, "text": "ü"})
        client.wait_for_orchestration("work", 10_000).result()
        data = {event.kind: json.loads(event.data) for event in client.read_execution_history("work", 1)}
    message = {"big": 2**70, "text": "ü"}
    assert data["OrchestrationStarted"]["input"] == {"order": 7}
    assert data["ActivityScheduled"]["input"] == data["ActivityCompleted"]["result"] == "plain text"
    assert data["QueueEventDelivered"]["data"] == message
    assert data["OrchestrationCompleted"]["output"] == {"got": message}


# Contexts outside an engine


def test_code_of_an_orchestration_is_stepped_through_with_a_context_that_a_test_makes() -> None:
    def work(ctx: OrchestrationContext, name: str) -> Steps:
        ctx.set_custom_status(f"greeting in {ctx.instance_id}")
        greeting = yield ctx.schedule_activity("greet", {"name": name}).with_tag("gpu")
        yield from ctx.schedule_timer(5_000)
        first = yield ctx.race(ctx.wait_for_event("answer"), ctx.schedule_timer(1))
        return [greeting, first["index"]]

    ctx = OrchestrationContext({"instance_id": "work", "execution_id": 2})
    steps = work(ctx, "Ada")

    task = next(steps)
    assert task == {"type": "activity", "name": "greet", "input": '{"name": "Ada"}', "tag": "gpu"}
    assert ("tag" in task, task["tag"]) == (True, "gpu")
    assert steps.send("hello") == {"type": "timer", "delayMs": 5_000}
    assert [each["type"] for each in steps.send(None)["tasks"]] == ["waitEvent", "timer"]
    with pytest.raises(StopIteration) as ended:
        steps.send({"index": 1})
    assert ended.value.value == ["hello", 1]
    assert (ctx.get_custom_status(), ctx.execution_id) == ("greeting in work", 2)


def test_a_context_that_a_test_makes_has_every_method() -> None:
    ctx = OrchestrationContext({"instanceId": "work"})
    assert ctx.instance_id == "work"
    assert [name for name in dir(OrchestrationContext) if not hasattr(ctx, name)] == []
    for_activity = ActivityContext({"instance_id": "work", "activity_name": "greet", "tag": "gpu"})
    assert [name for name in dir(ActivityContext) if not hasattr(for_activity, name)] == []
    assert (for_activity.activity_name, for_activity.tag(), for_activity.is_cancelled()) == ("greet", "gpu", False)


def test_every_step_is_described_by_its_kind_and_its_arguments() -> None:
    ctx: Any = OrchestrationContext({})
    retry = {"max_attempts": 2, "backoff": "fixed", "timeout_ms": 5}
    described = {"maxAttempts": 2, "timeoutMs": 5, "totalTimeoutMs": None, "backoff": "fixed"}

    assert ctx.schedule_activity("a", 1, "s") == {
        "type": "activityWithSession",
        "name": "a",
        "input": "1",
        "sessionId": "s",
    }
    assert ctx.schedule_activity_with_retry_on_session_typed("a", "text", retry, "s") == {
        "type": "activityWithRetryOnSession",
        "name": "a",
        "input": "text",
        "retry": described,
        "sessionId": "s",
    }
    assert ctx.schedule_sub_orchestration_versioned_with_id("c", "1.0.0", "id", 1) == {
        "type": "subOrchestrationVersionedWithId",
        "name": "c",
        "version": "1.0.0",
        "instanceId": "id",
        "input": "1",
    }
    assert ctx.start_orchestration("c", "id") == {
        "type": "orchestration",
        "name": "c",
        "instanceId": "id",
        "input": "null",
    }
    assert ctx.all_typed([ctx.utc_now()]) == {"type": "join", "tasks": [{"type": "utcNow"}]}
    assert ctx.continue_as_new_versioned(1, "2.0.0")["type"] == "continueAsNewVersioned"
    with pytest.raises(TypeError, match="timer cannot be tagged"):
        ctx.schedule_timer(1).with_tag("gpu")
