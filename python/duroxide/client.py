"""The client: starts orchestrations, talks to them, and looks after the store."""

from __future__ import annotations

from duroxide import _native
from duroxide.bulk import BulkOperations
from duroxide.management import ManagementOperations
from duroxide.providers import Provider
from duroxide.typed import TypedOperations


class Client(TypedOperations, BulkOperations, ManagementOperations):
    """Access to the orchestrations of one store, from any thread.

    Calls block until the store has answered, and let other threads run meanwhile. Inside an orchestration they raise
    ``NotAllowedInOrchestration``; make them in an activity, with ``ctx.get_client()``.

    Args:
        provider: The opened store; a runtime in this or another process does the work.

    Raises:
        TypeError: ``provider`` is something else.
        ProviderError: The store fails, in any operation.
    """

    def __init__(self, provider: Provider) -> None:
        check_provider(provider)
        self._provider = provider
        self._native = _native.Client(provider._store)

    def __repr__(self) -> str:
        return f"<Client of {self._provider!r}>"


def check_provider(provider: object) -> None:
    """Refuse what is no provider.

    Raises:
        TypeError: It is none.
    """
    if not isinstance(provider, Provider):
        raise TypeError(f"provider must be a SqliteProvider or PostgresProvider, not {type(provider).__name__}")
