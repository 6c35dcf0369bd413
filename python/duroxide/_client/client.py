"""The client: starts orchestrations, communicates with them, and administers the store."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, ParamSpec, TypeVar, overload

from duroxide import _native
from duroxide._client import handles
from duroxide._client.bulk import BulkOperations
from duroxide._client.handles import Handle, result_type_of
from duroxide._client.listing import ListOperations
from duroxide._client.management import ManagementOperations
from duroxide._client.start import IfExists, StartOptions, describe_start
from duroxide._client.startable import Startable0, Startable1, Startable2, Startable3, Startable4, Startable5
from duroxide._client.termination import TerminationOperations
from duroxide._client.typed import TypedOperations
from duroxide._declare.declarations import Orchestration
from duroxide._store.providers import Provider

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")


class Client(TypedOperations, BulkOperations, ListOperations, TerminationOperations, ManagementOperations):
    """Access to the orchestrations of one store, from any thread.

    A call blocks until the store has answered; other threads run during the wait. Inside an orchestration every call
    raises ``NotAllowedInOrchestration``; make the call in an activity, with ``ctx.get_client()``.

    Times are in milliseconds, here and in ``AsyncClient``; the times of a handle are in seconds.

    Args:
        provider: The opened store; a runtime in this or another process does the work.

    Raises:
        TypeError: ``provider`` is not a provider.
        ProviderError: The store fails, in any operation.
    """

    def __init__(self, provider: Provider) -> None:
        check_provider(provider)
        self._provider = provider
        self._native = _native.Client(provider._store)

    @overload
    def start(self, orchestration: Orchestration[P, T], /, *arguments: P.args, **named: P.kwargs) -> Handle[T]: ...
    @overload
    def start(
        self,
        orchestration: Startable0[T],
        /,
        *,
        id: str | None = None,
        version: str | None = None,
        if_exists: IfExists | None = None,
        at: datetime | int | None = None,
        delay: timedelta | int | None = None,
    ) -> Handle[T]: ...
    @overload
    def start(
        self,
        orchestration: Startable1[A, T],
        a: A,
        /,
        *,
        id: str | None = None,
        version: str | None = None,
        if_exists: IfExists | None = None,
        at: datetime | int | None = None,
        delay: timedelta | int | None = None,
    ) -> Handle[T]: ...
    @overload
    def start(
        self,
        orchestration: Startable2[A, B, T],
        a: A,
        b: B,
        /,
        *,
        id: str | None = None,
        version: str | None = None,
        if_exists: IfExists | None = None,
        at: datetime | int | None = None,
        delay: timedelta | int | None = None,
    ) -> Handle[T]: ...
    @overload
    def start(
        self,
        orchestration: Startable3[A, B, C, T],
        a: A,
        b: B,
        c: C,
        /,
        *,
        id: str | None = None,
        version: str | None = None,
        if_exists: IfExists | None = None,
        at: datetime | int | None = None,
        delay: timedelta | int | None = None,
    ) -> Handle[T]: ...
    @overload
    def start(
        self,
        orchestration: Startable4[A, B, C, D, T],
        a: A,
        b: B,
        c: C,
        d: D,
        /,
        *,
        id: str | None = None,
        version: str | None = None,
        if_exists: IfExists | None = None,
        at: datetime | int | None = None,
        delay: timedelta | int | None = None,
    ) -> Handle[T]: ...
    @overload
    def start(
        self,
        orchestration: Startable5[A, B, C, D, E, T],
        a: A,
        b: B,
        c: C,
        d: D,
        e: E,
        /,
        *,
        id: str | None = None,
        version: str | None = None,
        if_exists: IfExists | None = None,
        at: datetime | int | None = None,
        delay: timedelta | int | None = None,
    ) -> Handle[T]: ...
    @overload
    def start(
        self,
        orchestration: str,
        input: object = None,
        /,
        *,
        id: str | None = None,
        version: str | None = None,
        if_exists: IfExists | None = None,
        at: datetime | int | None = None,
        delay: timedelta | int | None = None,
    ) -> Handle[Any]: ...
    def start(  # type: ignore[misc]  # the parameters of an orchestration may be called as the options are
        self,
        orchestration: Any,
        /,
        *arguments: Any,
        id: str | None = None,
        version: str | None = None,
        if_exists: IfExists | None = None,
        at: datetime | int | None = None,
        delay: timedelta | int | None = None,
        **named: Any,
    ) -> Any:
        """Start an orchestration with the arguments of a call; the start is recorded when the call ends.

        Type checkers check every argument if the call has no options, or if ``.options`` of the orchestration gives
        them. Beside options of this call they check up to five arguments by position, and refuse arguments by name: write
        ``client.start(fulfil.options(instance_id="order-7"), order=order)`` for those.

        Args:
            orchestration: A declared orchestration, or a name, which takes at most one argument, the input.
            arguments: The arguments.
            id: Id of the new instance, 1 to 1,024 bytes; default ``None``, a new random one.
            version: Version to start; default ``None``, the newest one that the executing runtime has.
            if_exists: What to do when an instance of the same orchestration has the id: ``"attach"``, the default,
                leaves that instance as it is and returns a handle of it; ``"raise"`` refuses; ``"restart"`` runs it again
                from the beginning if it has ended, and ``"restart_failed"`` only if it has failed or was cancelled.
            at: When the instance begins, an aware ``datetime`` or milliseconds since 1970; default ``None``, at once. The
                store keeps the events and messages that come before.
            delay: How long after the call it begins, a ``timedelta`` or milliseconds, in place of ``at``; default
                ``None``.
            named: Arguments by name. Give an argument by position if its parameter has the name of an option.

        Returns:
            A handle of the instance.

        Raises:
            TypeError: The arguments do not fit, ``orchestration`` is neither, or both ``at`` and ``delay`` are given.
            ValueError: ``at`` has no time zone.
            InstanceAlreadyExists: An instance of another orchestration has the id; with ``if_exists="raise"``, any
                instance.
            CodecError: An argument cannot be written as JSON.
            LimitExceeded: The id or the input is too long, or the delay is longer than ten years.
        """
        options = StartOptions(id, version, if_exists, at, delay)
        chosen, value, options = describe_start(orchestration, arguments, named, options)
        answer = self._start_and_compare(chosen, orchestration, value, options)
        handle = self.handle(chosen, orchestration)
        handle._start = answer
        return handle

    @overload
    def handle(self, id: str, orchestration: Orchestration[..., T]) -> Handle[T]: ...
    @overload
    def handle(self, id: str, orchestration: str | None = None) -> Handle[Any]: ...
    def handle(self, id: str, orchestration: Any = None) -> Any:
        """Return a handle of an instance, which need not exist yet; this call does not read the store.

        Args:
            id: The instance.
            orchestration: Its orchestration, whose annotation types and converts the result; default ``None``, the
                result is the JSON value.
        """
        handle: Handle[Any] = Handle(self, id, result_type_of(orchestration))
        return handle

    def __repr__(self) -> str:
        return f"<Client of {self._provider!r}>"


def check_provider(provider: object) -> None:
    """Refuse an object that is not a provider.

    Raises:
        TypeError: It is not.
    """
    if not isinstance(provider, Provider):
        raise TypeError(f"provider must be a SqliteProvider or PostgresProvider, not {type(provider).__name__}")


# Type hints of a handle name the client, which imports the handles.
setattr(handles, "Client", Client)  # noqa: B010  (for the type checkers the name is there)
