"""The patterns that durabletask's documents teach, each as a program of ours, with `install()` in a process of its own.

Each program is what a reader of those documents would write. It may use only names that ``durabletask`` has.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

HEADER = """
import os
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from collections import namedtuple

from durabletask import task
from durabletask.client import OrchestrationStatus
from durabletask.task import RetryPolicy
from durabletask.azuremanaged.client import DurableTaskSchedulerClient
from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker


def connection():
    endpoint = os.getenv("ENDPOINT", "http://localhost:8080")
    is_local = endpoint == "http://localhost:8080"
    return {
        "host_address": endpoint,
        "taskhub": os.getenv("TASKHUB", "default"),
        "secure_channel": not is_local,
        "token_credential": None,
    }


def run(orchestrator, activities=(), children=(), input=None, during=None, instance_id=None):
    with DurableTaskSchedulerWorker(**connection()) as worker:
        for each in (orchestrator, *children):
            worker.add_orchestrator(each)
        for each in activities:
            worker.add_activity(each)
        worker.start()
        client = DurableTaskSchedulerClient(**connection())
        started = client.schedule_new_orchestration(orchestrator, input=input, instance_id=instance_id)
        if during is not None:
            during(client, started)
        state = client.wait_for_orchestration_completion(started, timeout=60)
        if state and state.runtime_status == OrchestrationStatus.COMPLETED:
            print(state.serialized_output)
        else:
            print(state.runtime_status.name, state.serialized_output)
        return state
"""

PATTERNS = {
    "steps that depend on each other": (
        """
        def peel(ctx: task.ActivityContext, fruit: str) -> str:
            return f"peeled {fruit}"

        def slice_(ctx: task.ActivityContext, fruit: str) -> str:
            return f"sliced {fruit}"

        def salad(ctx: task.OrchestrationContext, fruit: str):
            peeled = yield ctx.call_activity(peel, input=fruit)
            return (yield ctx.call_activity(slice_, input=peeled))

        run(salad, [peel, slice_], input="pear")
        """,
        '"sliced peeled pear"',
    ),
    "work side by side": (
        """
        def count(ctx: task.ActivityContext, word: str) -> int:
            return len(word)

        def longest(ctx: task.OrchestrationContext, words: list):
            lengths = yield task.when_all([ctx.call_activity(count, input=word) for word in sorted(words)])
            return max(lengths)

        run(longest, [count], input=["a", "abc", "ab"])
        """,
        "3",
    ),
    "an approval with a time limit": (
        """
        Decision = namedtuple("Decision", ["by", "granted"])

        def leave(ctx: task.OrchestrationContext, days: int):
            ctx.set_custom_status({"waits for": "approval"})
            decided = ctx.wait_for_external_event("decision_made")
            late = ctx.create_timer(ctx.current_utc_datetime + timedelta(days=3))
            winner = yield task.when_any([decided, late])
            if winner == late:
                return "too late"
            late.cancel()
            by, granted = decided.get_result()
            return f"{by}: {granted}"

        def during(client, started):
            client.raise_orchestration_event(started, "decision_made", data=Decision("Ada", True))

        run(leave, input=3, during=during)
        """,
        '"Ada: True"',
    ),
    "a child orchestration": (
        """
        def hire(ctx: task.OrchestrationContext, name: str):
            badge = yield ctx.call_sub_orchestrator(make_badge, input=name)
            other = yield ctx.call_sub_orchestrator("make_badge", input=name, instance_id=f"{ctx.instance_id}-2")
            return [badge, other]

        def make_badge(ctx: task.OrchestrationContext, name: str):
            yield ctx.create_timer(timedelta(milliseconds=5))
            return f"badge of {name} by {ctx.instance_id}"

        run(hire, children=[make_badge], input="Ada", instance_id="hire-1")
        """,
        '["badge of Ada by hire-1:0001", "badge of Ada by hire-1-2"]',
    ),
    "a counter that continues as new": (
        """
        def add(ctx: task.ActivityContext, number: int) -> int:
            return number + 1

        def counter(ctx: task.OrchestrationContext, number: int):
            number = yield ctx.call_activity(add, input=number)
            if number < 5:
                ctx.continue_as_new(number)
                return
            return number

        run(counter, [add], input=0)
        """,
        "5",
    ),
    "a monitor that polls": (
        """
        readings = []

        def read(ctx: task.ActivityContext, _) -> int:
            readings.append(0)
            return len(readings)

        def monitor(ctx: task.OrchestrationContext, config: dict):
            end = ctx.current_utc_datetime + timedelta(seconds=config["timeout"])
            while ctx.current_utc_datetime < end:
                reading = yield ctx.call_activity(read)
                if reading >= config["limit"]:
                    return {"reading": reading}
                yield ctx.create_timer(timedelta(seconds=config["interval"]))
            return {"reading": None}

        run(monitor, [read], input={"timeout": 60, "interval": 0.01, "limit": 3})
        """,
        '{"reading": 3}',
    ),
    "compensation after a failure": (
        """
        def book(ctx: task.ActivityContext, seat: str) -> str:
            raise ValueError(f"{seat} is taken")

        def refund(ctx: task.ActivityContext, seat: str) -> str:
            return "refunded"

        def travel(ctx: task.OrchestrationContext, seat: str):
            try:
                return (yield ctx.call_activity(book, input=seat))
            except task.TaskFailedError as error:
                ctx.set_custom_status({"error": str(error)})
                yield ctx.call_activity(refund, input=seat)
                return "Compensated"

        state = run(travel, [book, refund], input="12A", instance_id="trip-1")
        print(state.serialized_custom_status)
        """,
        '"Compensated"\n{"error": "trip-1: Activity task #1 failed: 12A is taken"}',
    ),
    "a retry policy with numbers": (
        """
        tries = []

        def unreliable(ctx: task.ActivityContext, data: str) -> str:
            tries.append(data)
            if len(tries) < 3:
                raise ConnectionError("try again")
            return data.upper()

        policy = RetryPolicy(
            first_retry_interval=0.01,
            max_number_of_attempts=3,
            backoff_coefficient=2.0,
            max_retry_interval=60,
            retry_timeout=300,
        )

        def fetch(ctx: task.OrchestrationContext, _):
            return (yield ctx.call_activity(unreliable, input="data", retry_policy=policy))

        run(fetch, [unreliable])
        """,
        '"DATA"',
    ),
    "types of the program": (
        """
        @dataclass
        class Parcel:
            to: str
            grams: int

        def weigh(ctx: task.ActivityContext, parcel: Parcel) -> str:
            return f"{parcel.grams} g to {parcel.to}"

        def send(ctx: task.OrchestrationContext, parcel: Parcel):
            parcel.grams += 10
            return (yield ctx.call_activity(weigh, input=parcel))

        state = run(send, [weigh], input=Parcel("Oslo", 90))
        print(state.get_input(Parcel))
        """,
        "\"100 g to Oslo\"\nParcel(to='Oslo', grams=90)",
    ),
    "time and ids that replay repeats": (
        """
        def stamp(ctx: task.ActivityContext, text: str) -> str:
            return text

        def order(ctx: task.OrchestrationContext, _):
            number, now = str(ctx.new_uuid()), ctx.current_utc_datetime
            same = yield ctx.call_activity(stamp, input=number)
            return [str(uuid.UUID(same)) == number, now.tzinfo is None, abs(datetime.utcnow() - now).days]

        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        run(order, [stamp])
        """,
        "[true, true, 0]",
    ),
    "termination": (
        """
        def endless(ctx: task.OrchestrationContext, _):
            yield ctx.wait_for_external_event("never")

        def during(client, started):
            client.wait_for_orchestration_start(started, timeout=60)
            client.terminate_orchestration(started, output="the user cancelled")

        run(endless, during=during)
        """,
        'TERMINATED "the user cancelled"',
    ),
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_runs_with_only_the_environment_changed(pattern: str, tmp_path: Path) -> None:
    code, printed = PATTERNS[pattern]
    (tmp_path / "program.py").write_text(HEADER + dedent(code))
    environment = {
        "HOME": str(tmp_path),
        "PATH": "",
        "DUROXIDE_DURABLETASK_STORE": f"sqlite:///{tmp_path / 'store.db'}",
    }
    done = subprocess.run(
        [sys.executable, "-m", "duroxide.durabletask", "program.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout.strip(), done.returncode) == (printed, 0), done.stderr
