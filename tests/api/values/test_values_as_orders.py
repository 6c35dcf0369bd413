"""A sender who controls values, ids and names gets data recorded, and nothing else done."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from conftest import StartRuntime
from duroxide import Client, OrchestrationContext

# What other formats and libraries read as an order to build an object, import a module or call a function.
ORDERS: list[Any] = [
    {"__class__": "subprocess.Popen", "args": ["true"]},
    {"__module__": "antigravity", "__qualname__": "geohash"},
    {"__reduce__": ["os.system", ["true"]]},
    {"py/object": "subprocess.Popen", "args": ["true"]},
    {"py/reduce": [{"py/function": "os.system"}, {"py/tuple": ["true"]}]},
    {"$type": "antigravity.Anything", "type": "antigravity", "class": "os.system"},
    {"type": "os.system", "message": "true", "retryable": False},
    "!!python/object/apply:os.system ['true']",
    "cos\nsystem\n(S'true'\ntR.",
    "gASVHQAAAAAAAACMBXBvc2l4lIwGc3lzdGVtlJOUjAR0cnVllIWUUpQu",
    "{{ ''.__class__.__mro__ }} ${7*7} {0.__class__} %(x)s",
]

# An audit hook sees each import, compilation, call of a shell and unpickled name of the process.
READER = """
import json, sys
from dataclasses import dataclass
from typing import Any
from duroxide import OrchestrationContext, Runtime, SqliteProvider, activity, orchestration

@dataclass
class Order:
    number: int

@activity
def returns(value: Any) -> Any:
    return value

@activity
def fails(value: Any) -> Any:
    raise ValueError(json.dumps(value))

@orchestration
def untyped(ctx: OrchestrationContext, value):
    yield ctx.schedule_wait("go")
    return (yield returns(value))

@orchestration
def typed(ctx: OrchestrationContext, value: Order | dict[str, Any] | str) -> Any:
    yield ctx.schedule_wait("go")
    yield fails(value)

armed, seen = False, []
def look(event, arguments):
    watched = ("import", "compile", "exec", "marshal.loads", "pickle.find_class", "subprocess.Popen", "os.system")
    if armed and event in watched:
        seen.append([event, str(arguments[0])])
sys.addaudithook(look)

def play(orders):
    for order in orders:
        for function in (untyped, typed):
            handle = runtime.client.start(function, order)
            handle.raise_event("go", order)
            ended = handle.wait()
            seen.append(["ended", ended.status])

with SqliteProvider.in_memory() as provider, Runtime(provider, functions=[returns, fails, untyped, typed]) as runtime:
    # The first run imports what any run imports.
    play([{"harmless": 1}, "harmless"])
    seen.clear()
    armed = True
    play(json.loads(sys.argv[1]))
    armed = False
print(json.dumps(seen))
"""


def test_reading_a_value_imports_compiles_and_calls_nothing() -> None:
    reader = subprocess.run(
        [sys.executable, "-c", READER, json.dumps(ORDERS)], check=True, capture_output=True, text=True
    )
    seen = json.loads(reader.stdout)
    assert [kind for kind, _ in seen if kind != "ended"] == [], seen
    assert seen.count(["ended", "Completed"]) == len(ORDERS)
    assert seen.count(["ended", "Failed"]) == len(ORDERS)


STATEMENTS = [
    "'; DROP TABLE instances; --",
    '"; DELETE FROM history; --',
    "x' OR '1'='1",
    "%",
    "_",
    "\\' || pg_sleep(60) || '",
    "$$; ROLLBACK; $$",
    "?1 :id @id $1 {schema}",
]


@pytest.mark.parametrize("text", STATEMENTS)
def test_a_statement_of_sql_is_an_id_or_a_name_like_others(
    text: str, runtime_factory: StartRuntime, client: Client
) -> None:
    def keeps(ctx: OrchestrationContext, value: Any) -> Any:
        ctx.set_kv_value(text, text)
        ctx.set_custom_status(text)
        event = yield ctx.schedule_wait(text)
        message = yield ctx.dequeue_event(text)
        return [value, event, message]

    runtime_factory({}, {text: keeps, "keeps": keeps})
    client.start_orchestration("bystander", "keeps", 1)
    client.start_orchestration(text, text, text)
    client.raise_event(text, text, text)
    client.enqueue_event(text, text, text)
    assert client.wait_for_orchestration(text, 20_000).result() == [text, text, text]
    assert client.get_kv_value(text, text) == text
    assert client.get_instance_info(text).orchestration_name == text
    client.delete_instance(text)
    assert client.list_all_instances() == ["bystander"]
    client.raise_event("bystander", text, 1)
    client.enqueue_event("bystander", text, "1")
    assert client.wait_for_orchestration("bystander", 20_000).result() == [1, 1, "1"]
