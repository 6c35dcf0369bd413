"""Tags: which workers take which activities."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from conftest import Run, StartRuntime
from duroxide import (
    MAX_TAG_NAME_BYTES,
    ActivityContext,
    Client,
    ConfigurationError,
    OrchestrationContext,
    OrchestrationFailed,
    RuntimeOptions,
    TagFilter,
    WaitTimedOut,
)

Steps = Generator[Any, Any, Any]


def tag(ctx: ActivityContext, input: Any) -> str | None:
    return ctx.tag()


def with_filter(worker_tag_filter: TagFilter) -> RuntimeOptions:
    return RuntimeOptions(worker_tag_filter=worker_tag_filter)


def tagged(ctx: OrchestrationContext, input: str | None) -> Steps:
    return (yield ctx.schedule_activity("tag", tag=input))


@pytest.mark.parametrize(
    ("worker_tag_filter", "wanted"),
    [
        (TagFilter.default_only(), None),
        (TagFilter.tags("gpu"), "gpu"),
        (TagFilter.tags("gpu", "big"), "big"),
        (TagFilter.default_and("gpu"), "gpu"),
        (TagFilter.default_and("gpu"), None),
        (TagFilter.any(), "whatever"),
        (TagFilter.any(), None),
    ],
)
def test_worker_takes_the_tags_that_its_filter_includes(
    worker_tag_filter: TagFilter, wanted: str | None, run: Run
) -> None:
    assert run(tagged, wanted, activities={"tag": tag}, options=with_filter(worker_tag_filter)) == wanted


@pytest.mark.parametrize(
    ("worker_tag_filter", "unwanted"),
    [
        (TagFilter.default_only(), "gpu"),
        (TagFilter.tags("gpu"), None),
        (TagFilter.tags("gpu"), "big"),
        (TagFilter.default_and("gpu"), "big"),
        (TagFilter.none(), None),
        (TagFilter.none(), "gpu"),
    ],
)
def test_worker_leaves_the_tags_that_its_filter_excludes(
    worker_tag_filter: TagFilter, unwanted: str | None, run: Run
) -> None:
    with pytest.raises(WaitTimedOut):
        run(tagged, unwanted, activities={"tag": tag}, options=with_filter(worker_tag_filter), timeout_ms=500)


def test_tag_may_be_set_on_the_task(run: Run) -> None:
    def by_method(ctx: OrchestrationContext, input: Any) -> Steps:
        return (yield ctx.schedule_activity("tag").with_tag("gpu"))

    assert run(by_method, activities={"tag": tag}, options=with_filter(TagFilter.tags("gpu"))) == "gpu"


def test_setting_a_tag_on_a_task_warns_about_nothing(run: Run, recwarn: pytest.WarningsRecorder) -> None:
    def by_method(ctx: OrchestrationContext, input: Any) -> Steps:
        return (yield ctx.schedule_activity("tag").with_tag("gpu"))

    run(by_method, activities={"tag": tag}, options=with_filter(TagFilter.any()))

    assert [str(warning.message) for warning in recwarn] == []


def test_activities_go_to_the_runtimes_that_serve_their_tags(runtime_factory: StartRuntime, client: Client) -> None:
    def on(node: str) -> Any:
        def name(ctx: ActivityContext, input: Any) -> str:
            return node

        return name

    def route(ctx: OrchestrationContext, input: Any) -> Steps:
        return (
            yield ctx.gather(
                ctx.schedule_activity("node", tag="gpu"),
                ctx.schedule_activity("node", tag="big"),
                ctx.schedule_activity("node"),
            )
        )

    orchestrations = {"route": route}
    runtime_factory({"node": on("gpu node")}, orchestrations, with_filter(TagFilter.tags("gpu")))
    runtime_factory({"node": on("big node")}, orchestrations, with_filter(TagFilter.tags("big")))
    runtime_factory({"node": on("plain node")}, orchestrations, with_filter(TagFilter.default_only()))
    client.start_orchestration("routed", "route")

    assert client.wait_for_orchestration("routed").result() == ["gpu node", "big node", "plain node"]


def test_tagged_activity_waits_for_a_worker_that_serves_it(runtime_factory: StartRuntime, client: Client) -> None:
    runtime_factory({"tag": tag}, {"tagged": tagged})
    client.start_orchestration("patient", "tagged", "gpu")
    with pytest.raises(WaitTimedOut):
        client.wait_for_orchestration("patient", 300)

    runtime_factory({"tag": tag}, {"tagged": tagged}, with_filter(TagFilter.tags("gpu")))

    assert client.wait_for_orchestration("patient").result() == "gpu"


def test_longest_allowed_tag_is_accepted(run: Run) -> None:
    longest = "x" * MAX_TAG_NAME_BYTES

    assert run(tagged, longest, activities={"tag": tag}, options=with_filter(TagFilter.tags(longest))) == longest


@pytest.mark.parametrize("store", ["memory"])
@pytest.mark.parametrize("bad", ["", "x" * (MAX_TAG_NAME_BYTES + 1), "ü" * MAX_TAG_NAME_BYTES])
def test_invalid_tag_is_refused_at_the_call(bad: str, run: Run) -> None:
    with pytest.raises(OrchestrationFailed, match="tag"):
        run(tagged, bad, activities={"tag": tag})


@pytest.mark.parametrize("store", ["memory"])
def test_only_an_activity_can_be_tagged(run: Run) -> None:
    def timer(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.schedule_timer(0).with_tag("gpu")

    with pytest.raises(OrchestrationFailed, match="cannot be tagged"):
        run(timer)


def test_filter_of_six_tags_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="at most 5"):
        TagFilter.tags("1", "2", "3", "4", "5", "6")


def test_filter_without_tags_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="at least one"):
        TagFilter.tags()
