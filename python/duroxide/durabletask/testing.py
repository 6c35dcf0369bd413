"""A store in memory for tests, at the address of a port."""

from __future__ import annotations

import itertools
import threading

from duroxide.durabletask._store.opened import forget, register_backend, remove_backend

__all__ = ["InMemoryOrchestrationBackend", "create_test_backend"]

_numbers = itertools.count(1)


class InMemoryOrchestrationBackend:
    """A store in memory that workers and clients of this process find at ``localhost:PORT``. Nothing listens there.

    Args:
        port: The port; default 50051.
        max_history_size: Accepted for durabletask's programs, without effect: no history is too long. Default 10,000.
    """

    def __init__(self, port: int = 50051, max_history_size: int = 10_000) -> None:
        del max_history_size
        self._port = port
        self._name = f"test-backend-{port}-{next(_numbers)}"
        self._addresses = [f"{host}:{port}" for host in ("localhost", "127.0.0.1", "[::1]", "0.0.0.0")]  # noqa: S104
        self._lock = threading.Lock()
        self._is_running = False

    @property
    def port(self) -> int:
        """The port."""
        return self._port

    def start(self) -> str:
        """Let workers and clients find the store.

        Returns:
            The address, such as ``"localhost:50051"``.

        Raises:
            RuntimeError: A backend runs at this port already.
        """
        with self._lock:
            register_backend(self._addresses, self._name)
            self._is_running = True
        return self._addresses[0]

    def stop(self, grace: float | None = None) -> None:
        """Hide the store and drop what it holds. Stop its workers first.

        Args:
            grace: Accepted for durabletask's programs, without effect; default ``None``.
        """
        del grace
        with self._lock:
            if self._is_running:
                remove_backend(self._addresses)
                self._is_running = False
            forget(self._name)

    def reset(self) -> None:
        """Drop what the store holds. Workers and clients that are open keep the old store: stop them first."""
        forget(self._name)


def create_test_backend(port: int = 50051, max_history_size: int = 10_000) -> InMemoryOrchestrationBackend:
    """Make a store in memory and let workers and clients of this process find it at ``localhost:PORT``.

    Args:
        port: The port; default 50051.
        max_history_size: Accepted for durabletask's programs, without effect; default 10,000.

    Raises:
        RuntimeError: A backend runs at this port already.
    """
    backend = InMemoryOrchestrationBackend(port, max_history_size)
    backend.start()
    return backend
