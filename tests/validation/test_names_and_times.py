"""Invalid names, ids and times are refused at the call, with the thing, the fact and the way out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from datetime import timedelta
from typing import Any

import pytest

from duroxide import Client, LimitExceeded, OrchestrationContext, PostgresProvider, Runtime, SqliteProvider
from validation.conftest import Play

Steps = Generator[Any, Any, Any]
Provider = SqliteProvider | PostgresProvider
Call = Callable[[Any, Any], Any]

MEGABYTE = "x" * 1_000_000

in_memory = pytest.mark.parametrize("store", ["memory"])

NAMES_IN_AN_ORCHESTRATION: dict[str, Call] = {
    "activity": lambda ctx, name: ctx.schedule_activity(name, None),
    "session": lambda ctx, name: ctx.schedule_activity_on_session("echo", None, name),
    "sub-orchestration": lambda ctx, name: ctx.schedule_sub_orchestration(name, None),
    "sub-orchestration id": lambda ctx, name: ctx.schedule_sub_orchestration_with_id("healthy", name, None),
    "detached": lambda ctx, name: ctx.start_orchestration(name, "id", None),
    "detached id": lambda ctx, name: ctx.start_orchestration("healthy", name, None),
    "event": lambda ctx, name: ctx.wait_for_event(name),
    "queue": lambda ctx, name: ctx.dequeue_event(name),
    "key": lambda ctx, name: ctx.set_kv_value(name, "value"),
    "key of an instance": lambda ctx, name: ctx.get_kv_value_from_instance("id", name),
    "instance of a key": lambda ctx, name: ctx.get_kv_value_from_instance(name, "key"),
}


def refused_in_orchestration(call: Call, bad: Any, play: Play) -> tuple[str, str]:
    """The type and the text of the error of a refused call; the orchestration continues after it."""

    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        try:
            call(ctx, bad)
        except Exception as error:
            return [type(error).__name__, str(error), (yield ctx.schedule_activity("echo", "continues"))]
        return ["nothing", "", "continues"]

    name, message, value = play(orchestration).result()
    assert value == "continues"
    return name, message


@in_memory
@pytest.mark.parametrize("what", NAMES_IN_AN_ORCHESTRATION)
def test_an_empty_name_is_refused_in_an_orchestration(what: str, play: Play) -> None:
    name, message = refused_in_orchestration(NAMES_IN_AN_ORCHESTRATION[what], "", play)
    assert name == "LimitExceeded"
    assert "empty" in message


@in_memory
@pytest.mark.parametrize("what", NAMES_IN_AN_ORCHESTRATION)
def test_a_name_of_a_megabyte_is_refused_in_an_orchestration(what: str, play: Play) -> None:
    name, message = refused_in_orchestration(NAMES_IN_AN_ORCHESTRATION[what], MEGABYTE, play)
    assert name == "LimitExceeded"
    assert "1000000" in message
    assert "1024" in message
    assert len(message) < 500


@in_memory
@pytest.mark.parametrize("bad", [17, None, b"bytes", ["list"]])
@pytest.mark.parametrize("what", NAMES_IN_AN_ORCHESTRATION)
def test_a_name_that_is_not_text_is_refused_in_an_orchestration(what: str, bad: Any, play: Play) -> None:
    assert refused_in_orchestration(NAMES_IN_AN_ORCHESTRATION[what], bad, play)[0] == "TypeError"


@in_memory
@pytest.mark.parametrize("what", NAMES_IN_AN_ORCHESTRATION)
def test_a_name_that_is_not_utf_8_is_refused_in_an_orchestration(what: str, play: Play) -> None:
    name, message = refused_in_orchestration(NAMES_IN_AN_ORCHESTRATION[what], "lone \ud800", play)
    assert name in ("LimitExceeded", "UnicodeEncodeError")
    assert "surrogates" in message


@in_memory
@pytest.mark.parametrize("name", ["sub::1", "parent::sub::1"])
def test_an_id_that_the_engine_reserves_is_refused(name: str, play: Play) -> None:
    for what in ("sub-orchestration id", "detached id"):
        error, message = refused_in_orchestration(NAMES_IN_AN_ORCHESTRATION[what], name, play)
        assert error in ("ValueError", "LimitExceeded")
        assert "choose another id" in message


@pytest.mark.parametrize("delay_ms", [10**12, 2**53, 2**63 - 1, 2**63, 2**64])
def test_a_timer_of_any_length_is_refused_or_recorded(delay_ms: int, play: Play) -> None:
    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        try:
            timer = ctx.schedule_timer(delay_ms)
        except (ValueError, OverflowError) as error:
            return [type(error).__name__, (yield ctx.schedule_activity("echo", "continues"))]
        winner = yield ctx.race(timer, ctx.schedule_activity("echo", "continues"))
        return ["recorded", winner["value"]]

    outcome, continued = play(orchestration).result()
    assert outcome in ("recorded", "LimitExceeded", "ValueError")
    assert continued == "continues"


CLIENT_NAMES: dict[str, Call] = {
    "start": lambda client, name: client.start_orchestration(name, "healthy"),
    "start by name": lambda client, name: client.start_orchestration("id", name),
    "raise_event": lambda client, name: client.raise_event(name, "event"),
    "name of an event": lambda client, name: client.raise_event("id", name),
    "enqueue_event": lambda client, name: client.enqueue_event(name, "queue", "message"),
    "name of a queue": lambda client, name: client.enqueue_event("id", name, "message"),
    "cancel": lambda client, name: client.cancel_instance(name),
    "status": lambda client, name: client.get_status(name),
    "wait": lambda client, name: client.wait_for_orchestration(name, 0),
    "wait_for_status_change": lambda client, name: client.wait_for_status_change(name, 0, 1, 0),
    "key": lambda client, name: client.get_kv_value("id", name),
    "instance of a key": lambda client, name: client.get_kv_value(name, "key"),
    "info": lambda client, name: client.get_instance_info(name),
    "history": lambda client, name: client.read_execution_history(name),
    "delete": lambda client, name: client.delete_instance(name),
    "tree": lambda client, name: client.get_instance_tree(name),
}


@in_memory
@pytest.mark.parametrize("what", CLIENT_NAMES)
def test_the_client_refuses_invalid_names(what: str, client: Client) -> None:
    with pytest.raises(LimitExceeded, match="empty"):
        CLIENT_NAMES[what](client, "")
    with pytest.raises(LimitExceeded, match="1000000 bytes"):
        CLIENT_NAMES[what](client, MEGABYTE)
    with pytest.raises(LimitExceeded, match="surrogates"):
        CLIENT_NAMES[what](client, "lone \ud800")
    for bad in (17, None, b"bytes"):
        with pytest.raises(TypeError):
            CLIENT_NAMES[what](client, bad)


@pytest.mark.parametrize(
    "name", ["a b", "ünï/cödé", "🎉", "x" * 1024, "'; DROP TABLE history; --", "%s", "../x", "a\nb"]
)
def test_every_other_name_works_in_every_place(name: str, play: Play) -> None:
    def activity(ctx: Any, input: Any) -> Any:
        return input

    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        ctx.set_kv_value(name, name)
        value = yield ctx.schedule_activity(name, name, session_id=name)
        child = yield ctx.schedule_sub_orchestration_with_id("healthy", name, value)
        return [child, ctx.get_kv_value(name)]

    assert play(orchestration, activities={name: activity}).result() == [name, name]


def refused_or_works(call: Callable[[], Any], expected: Any) -> None:
    """Either an error of a limit at the call, or a value that comes back whole."""
    with contextlib.suppress(LimitExceeded):
        assert call() == expected


def test_a_null_character_in_an_id_is_refused_or_works(client: Client, runtime: Runtime) -> None:
    runtime.register_orchestration("hello", lambda ctx, name: name)
    with runtime:

        def hello() -> Any:
            client.start_orchestration("id\0with null", "hello", "World")
            return client.wait_for_orchestration("id\0with null", 10_000).result()

        refused_or_works(hello, "World")


@pytest.mark.parametrize(
    "write",
    [
        lambda ctx: ctx.set_kv_value("key", "a\0b"),
        lambda ctx: ctx.set_kv_value("k\0y", "value"),
        lambda ctx: ctx.set_custom_status("a\0b"),
        lambda ctx: ctx.spawn(ctx.schedule_activity("echo", 1, session_id="a\0b")),
        lambda ctx: ctx.spawn(ctx.schedule_activity("echo", 1, tag="a\0b")),
    ],
    ids=["value", "key", "status", "session", "tag"],
)
def test_a_null_character_in_raw_text_does_not_fail_the_orchestration(write: Any, play: Play) -> None:
    def orchestration(ctx: OrchestrationContext, _: Any) -> Steps:
        with contextlib.suppress(ValueError):
            write(ctx)
        return (yield ctx.schedule_activity("echo", "continues"))

    assert play(orchestration).result() == "continues"


def test_a_null_character_in_a_message_is_refused_or_arrives(client: Client, runtime: Runtime) -> None:
    def mailbox(ctx: OrchestrationContext, _: Any) -> Steps:
        return (yield ctx.dequeue_event("inbox"))

    runtime.register_orchestration("mailbox", mailbox)
    with runtime:
        client.start_orchestration("mailbox", "mailbox")

        def send() -> Any:
            client.enqueue_event("mailbox", "inbox", "a\0b")
            return client.wait_for_orchestration("mailbox", 10_000).result()

        refused_or_works(send, "a\0b")


@pytest.mark.parametrize("text", ["null \0 character", "lone \ud800 surrogate", "🎉", "\u2028"])
def test_any_text_in_json_arrives_whole(text: str, play: Play) -> None:
    def orchestration(ctx: OrchestrationContext, input: Any) -> Steps:
        return (yield ctx.schedule_activity("echo", input))

    assert play(orchestration, text).result() == text


BAD_DELAYS: dict[str, tuple[Any, str, str]] = {
    "negative": (-1, "ValueError", "negative"),
    "negative timedelta": (timedelta(seconds=-1), "ValueError", "negative"),
    "huge": (2**40, "LimitExceeded", "ten years"),
    "beyond 64 bits": (2**70, "LimitExceeded", "ten years"),
    "huge timedelta": (timedelta.max, "LimitExceeded", "ten years"),
    "text": ("5000", "TypeError", "timedelta"),
    "float": (1.5, "TypeError", "timedelta"),
    "not a number": (float("nan"), "TypeError", "timedelta"),
    "bool": (True, "TypeError", "bool"),
    "none": (None, "TypeError", "timedelta"),
}


@in_memory
@pytest.mark.parametrize("delay", BAD_DELAYS)
def test_an_invalid_delay_is_refused_at_the_call(delay: str, play: Play) -> None:
    bad, expected_name, expected_words = BAD_DELAYS[delay]
    name, message = refused_in_orchestration(lambda ctx, delay: ctx.schedule_timer(delay), bad, play)
    assert name == expected_name
    assert expected_words in message


@in_memory
def test_an_invalid_wait_timeout_is_refused(client: Client) -> None:
    waits: dict[str, Callable[[Any], Any]] = {
        "orchestration": lambda time: client.wait_for_orchestration("id", time),
        "key": lambda time: client.wait_for_kv_value("id", "key", time),
        "status": lambda time: client.wait_for_status_change("id", 0, 10, time),
        "interval": lambda time: client.wait_for_status_change("id", 0, time, 10),
    }
    for wait in waits.values():
        for bad in (-1, timedelta(seconds=-1), 2**60, 2**70):
            with pytest.raises(ValueError, match="must be at"):
                wait(bad)
        for wrong in ("5000", 1.5, None, True):
            with pytest.raises(TypeError, match="milliseconds"):
                wait(wrong)


@in_memory
def test_an_invalid_shutdown_timeout_is_refused(runtime: Runtime) -> None:
    for bad in (-1, 2**60):
        with pytest.raises(ValueError, match="timeout_ms"):
            runtime.shutdown(bad)
    with pytest.raises(TypeError, match="timeout_ms"):
        runtime.shutdown("soon")  # type: ignore[arg-type]


@in_memory
def test_a_wait_with_timeout_zero_returns_at_once(client: Client) -> None:
    with pytest.raises(TimeoutError):
        client.wait_for_orchestration("unknown", 0)
    assert client.wait_for_status_change("unknown", 0, 10, 0) is None
