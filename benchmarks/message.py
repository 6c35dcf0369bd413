"""W5: a message to an orchestration that waits on a queue, and its answer as custom status."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from typing import Any

from benchmarks.bench import WAIT_MS, Bench, Figure, percentile, timed
from duroxide import Client, OrchestrationContext

MESSAGES = 60
SECONDS = 6.0
POLL_MS = 50


def echo(ctx: OrchestrationContext, _: None) -> Generator[Any, Any, None]:
    ctx.set_custom_status("ready")
    while True:
        message = yield ctx.dequeue_event("inbox")
        if message == "bye":
            return
        ctx.set_custom_status(message)


class Talk:
    """One conversation with the orchestration."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._version = 0
        client.start_orchestration("echo", "echo", None)
        self._await("ready")

    def ask(self, message: str) -> None:
        self._client.enqueue_event("echo", "inbox", message)
        self._await(message)

    def end(self) -> None:
        self._client.enqueue_event("echo", "inbox", "bye")
        self._client.wait_for_orchestration("echo", WAIT_MS)

    def _await(self, answer: str) -> None:
        status = self._client.wait_for_status_change("echo", self._version, POLL_MS, WAIT_MS)
        assert status is not None
        assert status.custom_status == answer
        self._version = status.custom_status_version


def measure(bench: Bench) -> Iterator[Figure]:
    def own(store: str) -> list[float]:
        with bench.session({}, {"echo": echo}, store=store) as session:
            talk = Talk(session.client)
            samples: list[float] = []
            deadline = time.perf_counter() + SECONDS
            while len(samples) < MESSAGES and time.perf_counter() < deadline:
                samples.append(timed(talk.ask, f"message {len(samples)}"))
            talk.end()
            return samples

    rounds = bench.compare("message", MESSAGES, own)
    what = f"a message and its answer, p50 of {rounds.fewest}"
    yield rounds.figure("W5", what, "ms", lambda measured: 1_000 * percentile(measured, 50))
