"""A child process that executes requests: one JSON line in, one JSON line out."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
ANSWER_SECONDS = 90.0


class RequestFailed(Exception):
    """The process answered with an exception.

    Attributes:
        kind: Name of the exception's class.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


class ChildProcess:
    """A running script that answers requests with ``answer_requests``."""

    def __init__(
        self,
        script: Path,
        arguments: Sequence[str],
        before: Sequence[str] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        self.running = subprocess.Popen(
            [*before, sys.executable, str(script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(TESTS)} | (environment or {}),
        )

    def send(self, request: str, *arguments: Any, **options: Any) -> None:
        """Send a request without waiting for the answer."""
        assert self.running.stdin is not None
        self.running.stdin.write(json.dumps([request, arguments, options]) + "\n")
        self.running.stdin.flush()

    def answer(self, seconds: float = ANSWER_SECONDS) -> Any:
        """Wait for the answer to the oldest unanswered request.

        Raises:
            RequestFailed: The process raised.
        """
        assert self.running.stdout is not None
        ready, _, _ = select.select([self.running.stdout], [], [], seconds)
        assert ready, f"no answer within {seconds} s"
        line = self.running.stdout.readline()
        assert line, f"the process has ended: {self.running.wait()}"
        answer = json.loads(line)
        if "error" in answer:
            raise RequestFailed(answer["error"], answer["message"])
        return answer["value"]

    def ask(self, request: str, *arguments: Any, **options: Any) -> Any:
        """Send a request, and wait for the answer."""
        self.send(request, *arguments, **options)
        return self.answer()

    def is_alive(self) -> bool:
        return self.running.poll() is None

    def kill(self) -> None:
        """End it without warning, as a power failure does."""
        self.running.send_signal(signal.SIGKILL)
        self.running.wait()

    def leave(self) -> None:
        """Close its input, and wait until it has ended."""
        assert self.running.stdin is not None
        self.running.stdin.close()
        assert self.running.wait(30) == 0
        assert self.running.stdout is not None
        self.running.stdout.close()


def answer_requests(answerer: object, default: Callable[[Any], Any] | None = None) -> None:
    """Answer the requests on standard input with the methods of ``answerer``, until the input ends.

    Args:
        answerer: Its methods are the requests.
        default: Converts a value to JSON types; default ``None``, answers are JSON already.
    """
    for line in sys.stdin:
        request, positional, named = json.loads(line)
        try:
            answer = {"value": getattr(answerer, request)(*positional, **named)}
        except Exception as error:
            answer = {"error": type(error).__name__, "message": str(error)}
        print(json.dumps(answer, default=default), flush=True)
