"""The calls of a client on many instances. One transaction records such a call, all of it or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, TypeVar, cast

from duroxide import _native
from duroxide._client.calls import blocking
from duroxide._client.instances import check_if_exists
from duroxide._client.payloads import encode_message, encode_start, encode_value
from duroxide._client.start import IfExists, due_time
from duroxide._declare.names import OrchestrationName
from duroxide._native import Call, EncodedMessage, EncodedStart
from duroxide._values.limits import MAX_BULK_ITEMS
from duroxide._values.validation import check_id, check_name, check_queue
from duroxide.exceptions import CodecError, LimitExceeded

Item = TypeVar("Item", bound="StartRequest | EventToRaise | QueueMessage")
Encoded = TypeVar("Encoded", bound="EncodedStart | EncodedMessage")


@dataclass(frozen=True)
class StartRequest:
    """An orchestration to start, one of many.

    Attributes:
        instance_id: Id of the new instance.
        name: Name of the orchestration, or the declared orchestration itself.
        input: Its input, any value that can be written as JSON; default ``None``.
        version: Version to start; default ``None``, the newest one that the executing runtime has.
        at: When the instance begins, an aware ``datetime`` or milliseconds since 1970; default ``None``, at once.
        delay: How long after the call it begins, a ``timedelta`` or milliseconds, in place of ``at``; default ``None``.
    """

    instance_id: str
    name: OrchestrationName
    input: object = None
    version: str | None = None
    at: datetime | int | None = None
    delay: timedelta | int | None = None


@dataclass(frozen=True)
class EventToRaise:
    """An event to raise, one of many.

    Attributes:
        instance_id: The instance.
        name: Name of the event.
        data: Any value that can be written as JSON; default ``None``.
    """

    instance_id: str
    name: str
    data: object = None


@dataclass(frozen=True)
class QueueMessage:
    """A message for a queue of an instance, one of many.

    Attributes:
        instance_id: The instance.
        queue: Name of the queue.
        data: A ``str``, which the queue delivers as it is, or any other value, which it delivers as JSON text.
    """

    instance_id: str
    queue: str
    data: object


class BulkOperations:
    """The operations of ``Client`` on many instances."""

    _native: _native.Client

    @blocking
    def start_orchestrations(
        self, requests: Iterable[StartRequest], *, if_exists: IfExists = "attach"
    ) -> Call[list[bool]]:
        """Start many orchestrations: all of them or none, in one transaction, with one wait for the disk.

        The client checks all requests before it sends any. An error names the position and the id of its request.

        Args:
            requests: At most ``MAX_BULK_ITEMS`` requests.
            if_exists: As for ``start_orchestration``, for each request; ``"raise"`` also refuses an id that occurs
                twice.

        Returns:
            For each request, in order: True if the call started the instance or let it run again, False if it existed
            and stays as it is.

        Raises:
            InstanceAlreadyExists: An instance of another orchestration has one of the ids; with ``if_exists="raise"``,
                any instance.
            CodecError: An input cannot be written as JSON.
            LimitExceeded: An id, a name or an input is too long, or there are too many requests.
            TypeError: An item is not a ``StartRequest``.
        """
        encoded = _encode_all(requests, "requests", StartRequest, _encode_start)
        return self._native.start_all(encoded, check_if_exists(if_exists))

    @blocking
    def raise_events(self, events: Iterable[EventToRaise]) -> Call[list[bool]]:
        """Raise many events, of one instance or of several: all of them or none, in one transaction.

        Args:
            events: At most ``MAX_BULK_ITEMS`` events. The events of one instance arrive in order.

        Returns:
            For each event, in order: True if it was sent, False if its instance had ended.

        Raises:
            CodecError: The data of an event cannot be written as JSON.
            LimitExceeded: An id, a name or the data is too long, or there are too many events.
            TypeError: An item is not an ``EventToRaise``.
        """
        return self._native.raise_events(_encode_all(events, "events", EventToRaise, _encode_event))

    @blocking
    def enqueue_events(self, messages: Iterable[QueueMessage]) -> Call[list[bool]]:
        """Append many messages to queues, of one instance or of several: all of them or none, in one transaction.

        Args:
            messages: At most ``MAX_BULK_ITEMS`` messages. The messages of one instance arrive in order.

        Returns:
            For each message, in order: True if it was sent, False if its instance had ended.

        Raises:
            CodecError: The data of a message cannot be written as JSON.
            LimitExceeded: An id, a name or the data is too long, a ``str`` is not valid UTF-8, or there are too many
                messages.
            TypeError: An item is not a ``QueueMessage``.
        """
        return self._native.enqueue_events(_encode_all(messages, "messages", QueueMessage, _encode_message))


def _encode_all(
    items: Iterable[Item], what: str, kind: type[Item], encode_one: Callable[[Item], Encoded]
) -> list[Encoded]:
    """Check and encode every item; the error about an item that is refused names its position."""
    if isinstance(cast("Any", items), kind):
        raise TypeError(f"{what} must be a list; write [{kind.__name__}(...)]")
    # Take one more than is allowed: that shows that there are too many, even if the iterable never ends.
    taken = list(islice(items, MAX_BULK_ITEMS + 1))
    if len(taken) > MAX_BULK_ITEMS:
        raise LimitExceeded(f"{what} has more than {MAX_BULK_ITEMS} items; divide it among several calls")
    encoded: list[Encoded] = []
    for position, item in enumerate(taken):
        if not isinstance(cast("Any", item), kind):
            raise TypeError(f"{what}[{position}] must be a {kind.__name__}, not {type(item).__name__}")
        try:
            encoded.append(encode_one(item))
        except (TypeError, ValueError) as error:
            refusal = next(known for known in _REFUSALS if isinstance(error, known))
            instance = repr(item.instance_id)
            if len(instance) > _SHOWN:
                instance = f"{instance[:_SHOWN]}..."
            raise refusal(f"{what}[{position}], instance {instance}: {error}") from error
    return encoded


_REFUSALS: tuple[type[Exception], ...] = (CodecError, LimitExceeded, TypeError, ValueError)
_SHOWN = 80


def _encode_start(request: StartRequest) -> EncodedStart:
    due_ms = due_time(request.at, request.delay)
    return encode_start(request.instance_id, request.name, request.input, request.version, due_ms)


def _encode_event(event: EventToRaise) -> EncodedMessage:
    name = check_name(event.name, "the name of an event")
    return EncodedMessage(check_id(event.instance_id), name, encode_value(event.data, "the data"))


def _encode_message(message: QueueMessage) -> EncodedMessage:
    queue = check_queue(message.queue)
    return EncodedMessage(check_id(message.instance_id), queue, encode_message(message.data))
