"""Load for the nodes, and a record of the acknowledged part of it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psycopg
import psycopg.sql

from duroxide import Client, OrchestrationCancelled, OrchestrationFailed, PostgresProvider, ProviderError, WaitTimedOut
from store.programs import STOP
from store.workload import CANCELLED, CONVERSATIONS, PROGRAMS, expected
from support.waiting import wait_until

T = TypeVar("T")

# Longer than an outage and all leases together.
SETTLING_SECONDS = 30.0
PAUSE_SECONDS = 0.02
THREADS = 4
# Instances that a thread starts before it waits for their ends.
AT_ONCE = 4


@dataclass
class Piece:
    """One instance.

    Attributes:
        sent: The acknowledged messages, in order.
        unsure: Messages that may have been sent: the call failed.
    """

    instance: str
    orchestration: str
    input: Any
    sent: list[str] = field(default_factory=list[str])
    unsure: list[str] = field(default_factory=list[str])


class Load:
    """Threads that start programs, send them messages and wait for them, through all faults of the store.

    Args:
        provider: The store, through the URL that the load uses.
        url: A direct URL of its server.
        schema: The schema of the store.
        seed: Chooses the programs.
        without: Programs to leave out.

    Attributes:
        ended: When instances ended, by the monotonic clock.
        wrong: Results that were lost, wrong, late or failed.
    """

    def __init__(
        self, provider: PostgresProvider, url: str, schema: str, *, seed: int = 1, without: Collection[str] = ()
    ) -> None:
        self.provider = provider
        self._url = url
        self._schema = schema
        self._client = Client(provider)
        self._seed = seed
        self._programs = [program for program in PROGRAMS if program not in without]
        self._stop = threading.Event()
        self._healed = threading.Event()
        self.ended: list[float] = []
        self.wrong: list[str] = []
        self.pieces: list[Piece] = []
        self._threads = [
            threading.Thread(target=self._guarded, args=(thread,), daemon=True) for thread in range(THREADS)
        ]

    def start(self) -> None:
        """Begin, and return when the first instances have ended."""
        for thread in self._threads:
            thread.start()
        wait_until(lambda: len(self.ended) >= 2 * len(self._threads) or self.wrong)

    def wait_for_progress(self, count: int = 10, seconds: float = 30.0) -> float:
        """Wait until this many more instances have ended; return how many seconds the first of them took."""
        began, before = time.monotonic(), len(self.ended)
        wait_until(lambda: len(self.ended) >= before + count or self.wrong, seconds=seconds)
        assert not self.wrong, self.wrong
        return self.ended[before] - began

    def finish(self, url: str | None = None) -> None:
        """Start nothing more, and return when everything has ended and the tables are empty; call it after the faults.

        Args:
            url: The server to check; default ``None``, the original one.

        Raises:
            AssertionError: A result was lost, wrong, late, failed, left over or recorded twice.
        """
        self._healed.set()
        self._stop.set()
        deadline = time.monotonic() + 2 * SETTLING_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        assert not self.wrong, self.wrong
        assert not any(thread.is_alive() for thread in self._threads), "the load does not end"
        check_at_rest(url or self._url, self._schema, self.pieces)

    def abandon(self) -> None:
        """Start nothing more, and ignore how the rest ends."""
        self._stop.set()

    def _guarded(self, thread: int) -> None:
        try:
            self._run(thread)
        except BaseException as error:
            self.wrong.append(f"{type(error).__name__}: {error}")

    def _run(self, thread: int) -> None:
        choice = random.Random(f"{self._seed} {thread}")
        number = 0
        while not self._stop.is_set() and not self.wrong:
            pieces: list[Piece] = []
            for _ in range(AT_ONCE):
                number += 1
                orchestration = choice.choice(self._programs)
                piece = Piece(f"{orchestration}-{thread}-{number}", orchestration, PROGRAMS[orchestration](choice))
                self._insist(self._client.start_orchestration, piece.instance, orchestration, piece.input)
                pieces.append(piece)
                self.pieces.append(piece)
            for piece in pieces:
                if piece.orchestration in CONVERSATIONS:
                    for message in range(choice.randint(0, 7)):
                        self._send(piece, str(message))
            for piece in pieces:
                self._settle(piece)

    def _insist(self, call: Callable[..., T], *arguments: Any) -> T:
        """Repeat the call until it succeeds."""
        deadline: float | None = None
        while True:
            try:
                return call(*arguments)
            except ProviderError:
                if self._stop.is_set() and not self._healed.is_set():
                    raise
                if self._healed.is_set():
                    deadline = deadline or time.monotonic() + SETTLING_SECONDS
                    if time.monotonic() > deadline:
                        raise
                self._healed.wait(PAUSE_SECONDS)

    def _say(self, piece: Piece) -> Callable[[str, str, str], Any]:
        return self._client.enqueue_event if piece.orchestration == "mailbox" else self._client.raise_event

    def _send(self, piece: Piece, message: str) -> None:
        try:
            self._say(piece)(piece.instance, "inbox", message)
        except ProviderError:
            piece.unsure.append(message)
        else:
            piece.sent.append(message)

    def _settle(self, piece: Piece) -> None:
        if piece.orchestration in CONVERSATIONS:
            self._insist(self._say(piece), piece.instance, "inbox", STOP)
        if piece.orchestration == "asleep":
            self._insist(self._client.cancel_instance, piece.instance, "over")
        try:
            result = self._await(piece)
        except OrchestrationCancelled:
            result = CANCELLED
        except OrchestrationFailed as failure:
            self.wrong.append(f"{piece.instance} failed: {failure}")
            return
        self.ended.append(time.monotonic())
        if not is_right(piece, result):
            self.wrong.append(f"{piece}: {result}")

    def _await(self, piece: Piece) -> Any:
        while True:
            # The faults may last; once they are over, everything ends within the bound.
            was_healed = self._healed.is_set()
            try:
                return self._insist(
                    self._client.wait_for_orchestration,
                    piece.instance,
                    int(SETTLING_SECONDS * 1_000) if was_healed else 2_000,
                ).result()
            except WaitTimedOut:
                if was_healed:
                    raise


def is_right(piece: Piece, result: Any) -> bool:
    """Whether an instance may have this result, given the messages that it was sent."""
    if piece.orchestration not in CONVERSATIONS:
        return bool(result == expected(piece.orchestration, piece.input))
    certain = [message for message in result if message not in piece.unsure]
    perhaps = [message for message in result if message in piece.unsure]
    return certain == piece.sent and len(perhaps) == len(set(perhaps))


def check_at_rest(url: str, schema: str, pieces: list[Piece]) -> None:
    """Check in the tables that everything has ended correctly, no row is left over, and every history is whole."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(psycopg.sql.SQL("SET search_path = {}").format(psycopg.sql.Identifier(schema)))

        def ask(question: str) -> list[Any]:
            return connection.execute(question.encode()).fetchall()

        ended = dict(
            ask(
                "SELECT i.instance_id, e.status FROM instances i LEFT JOIN executions e "
                "ON e.instance_id = i.instance_id AND e.execution_id = i.current_execution_id"
            )
        )
        for piece in pieces:
            status = "Failed" if piece.orchestration == "asleep" else "Completed"
            assert ended.get(piece.instance) == status, f"{piece} is {ended.get(piece.instance)}"

        def rest() -> list[Any]:
            return ask(
                "SELECT 'instance', i.instance_id, e.status FROM instances i LEFT JOIN executions e "
                "ON e.instance_id = i.instance_id AND e.execution_id = i.current_execution_id "
                "WHERE e.status IS NULL OR e.status = 'Running' "
                # Timers that are no longer awaited, and messages to children that were never started, disappear.
                "UNION ALL SELECT 'message', q.instance_id, q.work_item FROM orchestrator_queue q "
                "LEFT JOIN instances i ON i.instance_id = q.instance_id WHERE q.work_item NOT LIKE '{\"TimerFired\"%' "
                "AND (q.work_item NOT LIKE '{\"CancelInstance\"%' OR i.instance_id IS NOT NULL) "
                "UNION ALL SELECT 'activity', instance_id, work_item FROM worker_queue"
            )

        deadline = time.monotonic() + SETTLING_SECONDS
        while left := rest():
            assert time.monotonic() < deadline, f"left over: {left[:5]}, {len(left)} in all"
            threading.Event().wait(PAUSE_SECONDS)
        # In one execution, no two events have the same subject and kind.
        twice = ask(
            "SELECT instance_id, execution_id, event_data::json->>'source_event_id', count(*) FROM history "
            "WHERE event_data::json->>'source_event_id' IS NOT NULL AND event_type IN ('ActivityCompleted', "
            "'ActivityFailed', 'TimerFired', 'SubOrchestrationCompleted', 'SubOrchestrationFailed') "
            "GROUP BY 1, 2, 3 HAVING count(*) > 1"
        )
        assert twice == [], f"recorded twice: {twice[:5]}"
