"""Versions of orchestrations: new instances take the newest, running ones keep theirs."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from conftest import StartRuntime
from duroxide import Client, OrchestrationContext, RegistrationError, Runtime
from support.waiting import wait_for_event_kind

Steps = Generator[Any, Any, Any]


def version(ctx: OrchestrationContext, input: Any) -> str:
    return ctx.orchestration_version


def named(name: str) -> Any:
    def answer(ctx: OrchestrationContext, input: Any) -> list[str]:
        return [name, ctx.orchestration_version]

    return answer


@pytest.fixture
def versioned(runtime: Runtime) -> Runtime:
    """A started runtime with three versions of one orchestration."""
    runtime.register_orchestration("flow", named("first"))
    runtime.register_orchestration_versioned("flow", "1.10.0", named("third"))
    runtime.register_orchestration_versioned("flow", "1.9.0", named("second"))
    runtime.register_orchestration("parent", parent)
    runtime.start()
    return runtime


def parent(ctx: OrchestrationContext, input: Any) -> Steps:
    newest = yield ctx.schedule_sub_orchestration("flow")
    older = yield ctx.schedule_sub_orchestration_versioned("flow", "1.9.0")
    oldest = yield ctx.schedule_sub_orchestration("flow", version="1.0.0")
    with_id = yield ctx.schedule_sub_orchestration_versioned_with_id("flow", "1.9.0", f"{ctx.instance_id}-child")
    return [newest, older, oldest, with_id]


def test_start_takes_the_newest_version(versioned: Runtime, client: Client) -> None:
    client.start_orchestration("newest", "flow")

    assert client.wait_for_orchestration("newest").result() == ["third", "1.10.0"]


@pytest.mark.parametrize(("wanted", "name"), [("1.0.0", "first"), ("1.9.0", "second"), ("1.10.0", "third")])
def test_versioned_start_takes_exactly_that_version(wanted: str, name: str, versioned: Runtime, client: Client) -> None:
    client.start_orchestration_versioned("exact", "flow", None, wanted)

    assert client.wait_for_orchestration("exact").result() == [name, wanted]


def test_version_is_an_argument_of_the_start_too(versioned: Runtime, client: Client) -> None:
    client.start_orchestration("keyword", "flow", version="1.9.0")

    assert client.wait_for_orchestration("keyword").result() == ["second", "1.9.0"]


def test_children_take_the_newest_version_or_the_requested_one(versioned: Runtime, client: Client) -> None:
    client.start_orchestration("family", "parent")

    assert client.wait_for_orchestration("family").result() == [
        ["third", "1.10.0"],
        ["second", "1.9.0"],
        ["first", "1.0.0"],
        ["second", "1.9.0"],
    ]


def test_detached_start_takes_the_requested_version(
    versioned: Runtime, client: Client, runtime_factory: StartRuntime
) -> None:
    def detach(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.start_orchestration("flow", "detached-1", version="1.9.0")
        yield ctx.start_orchestration_versioned("flow", "1.0.0", "detached-2")

    versioned.shutdown()
    versioned.register_orchestration("detach", detach)
    versioned.start()
    client.start_orchestration("detaching", "detach")
    client.wait_for_orchestration("detaching").result()

    assert client.wait_for_orchestration("detached-1").result() == ["second", "1.9.0"]
    assert client.wait_for_orchestration("detached-2").result() == ["first", "1.0.0"]


def test_running_instance_stays_on_its_version(provider: Any, client: Client) -> None:
    def old(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.wait_for_event("go")
        return ["old", ctx.orchestration_version]

    def new(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.schedule_timer(0)
        return ["new", ctx.orchestration_version]

    before = Runtime(provider)
    before.register_orchestration("flow", old)
    with before:
        client.start_orchestration("running", "flow")
        wait_for_event_kind(client, "running", "ExternalSubscribed")
    after = Runtime(provider)
    after.register_orchestration("flow", old)
    after.register_orchestration_versioned("flow", "2.0.0", new)
    with after:
        client.raise_event("running", "go")

        assert client.wait_for_orchestration("running").result() == ["old", "1.0.0"]


def test_continue_as_new_moves_to_the_newest_version(provider: Any, client: Client) -> None:
    def old(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.wait_for_event("go")
        yield ctx.continue_as_new(input)

    before = Runtime(provider)
    before.register_orchestration("flow", old)
    with before:
        client.start_orchestration("upgrade", "flow", "kept")
        wait_for_event_kind(client, "upgrade", "ExternalSubscribed")
    after = Runtime(provider)
    after.register_orchestration("flow", old)
    after.register_orchestration_versioned("flow", "2.0.0", lambda ctx, input: [input, ctx.orchestration_version])
    with after:
        client.raise_event("upgrade", "go")

        assert client.wait_for_orchestration("upgrade").result() == ["kept", "2.0.0"]


def test_continue_as_new_takes_the_requested_version(runtime: Runtime, client: Client) -> None:
    def first(ctx: OrchestrationContext, input: Any) -> Steps:
        yield ctx.continue_as_new("by keyword", version="1.5.0")

    def middle(ctx: OrchestrationContext, input: Any) -> Steps:
        if input == "by keyword":
            yield ctx.continue_as_new_versioned("by name", "1.5.0")
        return [input, ctx.orchestration_version, ctx.execution_id]

    runtime.register_orchestration("flow", first)
    runtime.register_orchestration_versioned("flow", "1.5.0", middle)
    runtime.register_orchestration_versioned("flow", "2.0.0", lambda ctx, input: "the newest")
    runtime.start()
    client.start_orchestration("pinned", "flow", version="1.0.0")

    assert client.wait_for_orchestration("pinned").result() == ["by name", "1.5.0", 3]


def test_versions_are_compared_by_number_and_prerelease(runtime: Runtime, client: Client) -> None:
    for each in ("2.0.0-rc.1", "1.2.0", "1.12.0", "2.0.0-rc.2"):
        runtime.register_orchestration_versioned("flow", each, version)
    runtime.start()
    client.start_orchestration("prerelease", "flow")

    assert client.wait_for_orchestration("prerelease").result() == "2.0.0-rc.2"


def test_version_shows_in_the_instance_info(versioned: Runtime, client: Client) -> None:
    client.start_orchestration("shown", "flow", version="1.9.0")
    client.wait_for_orchestration("shown")

    assert client.get_instance_info("shown").orchestration_version == "1.9.0"


@pytest.mark.parametrize("store", ["memory"])
@pytest.mark.parametrize("malformed", ["1", "1.0", "v1.0.0", "1.0.0.0", "", "0.0.0", "01.0.0"])
def test_malformed_version_is_refused(malformed: str, runtime: Runtime, client: Client) -> None:
    with pytest.raises(RegistrationError, match="version"):
        runtime.register_orchestration_versioned("flow", malformed, version)
    with pytest.raises(ValueError, match="version"):
        client.start_orchestration("malformed", "flow", version=malformed)
