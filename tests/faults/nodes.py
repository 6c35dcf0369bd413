"""Nodes in separate processes, which the tests start, pause, kill and query, and the ledger that they write."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.child_process import ChildProcess

SCRIPT = Path(__file__).with_name("node_process.py")

# The length of all leases of activities, turns and sessions, unless a node is started with another.
LEASE_SECONDS = 2.0

AWAY = "does not answer"
BACK = "answers again"
# Warnings of the engine and of this package about failing programs; these programs fail on purpose.
OF_PROGRAMS = (
    "Orchestration failed (application error)",
    "Instance is terminal (completed/failed)",
    "orchestration of instance",
)


class Node(ChildProcess):
    """A running node.

    Attributes:
        name: Its name in sessions and in the ledger.
    """

    def __init__(self, name: str, arguments: list[str], environment: dict[str, str] | None) -> None:
        super().__init__(SCRIPT, [name, *arguments], environment=environment)
        self.name = name

    def pause(self) -> None:
        """Stop the process, as a suspended machine does."""
        self.running.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue after a pause."""
        self.running.send_signal(signal.SIGCONT)

    def shutdown(self, timeout_ms: int = 5_000) -> None:
        """Shut its runtime down."""
        self.ask("shutdown", timeout_ms)

    def count_logged(self, text: str) -> int:
        """How often a message with ``text`` in it was logged."""
        return sum(text in message for _, _, message in self.ask("records"))

    def complaints(self) -> list[str]:
        """Its warnings, without those about failing programs: the engine warns of every failure."""
        return [
            f"{logger}: {message}"
            for level, logger, message in self.ask("records")
            if level in ("WARNING", "ERROR", "CRITICAL") and not message.startswith(OF_PROGRAMS)
        ]


@dataclass(frozen=True)
class Line:
    """A line of the ledger."""

    moment: float
    node: str
    word: str
    instance: str
    execution: int
    place: int


@dataclass
class Nodes:
    """Starts nodes on one schema.

    Attributes:
        url: The URL of the server, unless a node is given another.
        folder: The folder of the ledger and of the files that block nodes.
    """

    url: str
    schema: str
    folder: Path
    started: list[Node] = field(default_factory=list[Node])

    def start(
        self,
        name: str,
        *,
        url: str | None = None,
        environment: dict[str, str] | None = None,
        versions: Iterable[str] = (),
        tags: Iterable[str] = (),
        **options: Any,
    ) -> Node:
        """Start a node; it serves when this returns."""
        node = self.prepare(name, url=url, environment=environment)
        node.ask("serve", list(versions), list(tags), **options)
        return node

    def prepare(self, name: str, *, url: str | None = None, environment: dict[str, str] | None = None) -> Node:
        """Start the process of a node that does not serve yet."""
        node = Node(name, [url or self.url, self.schema, str(self.folder)], environment)
        self.started.append(node)
        return node

    def block(self, what: str, *names: str) -> None:
        """Let nodes wait in their activity ``hold`` (``"hold"``), or in the code of ``slow_turn`` (``"turn"``)."""
        for name in names:
            (self.folder / f"{what}-{name}").touch()

    def unblock(self, what: str, *names: str) -> None:
        """Let blocked nodes continue."""
        for name in names:
            (self.folder / f"{what}-{name}").unlink()

    def ledger(self) -> list[Line]:
        """The lines that all nodes have written."""
        file = self.folder / "ledger"
        lines = file.read_text().splitlines() if file.exists() else []
        rows = [line.split() for line in lines]
        return [
            Line(float(moment), node, word, instance, int(execution), int(place))
            for moment, node, word, instance, execution, place in rows
        ]

    def begun(self, instance: str) -> list[str]:
        """The nodes on which the activities of an instance began, in that order."""
        return [line.node for line in self.ledger() if line.instance == instance and line.word == "begin"]

    def kill_all(self) -> None:
        """Kill the nodes that still run."""
        for node in self.started:
            if node.is_alive():
                node.kill()
            for stream in (node.running.stdin, node.running.stdout):
                if stream is not None:
                    # The other end may be gone.
                    with contextlib.suppress(BrokenPipeError):
                        stream.close()
