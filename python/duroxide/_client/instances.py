"""The calls of a client on one instance: they start it, send to it, wait for it and read it."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import cast, get_args

from duroxide import _native
from duroxide._client.calls import blocking, completed_by
from duroxide._client.failure_causes import with_causes
from duroxide._client.payloads import encode_message, encode_start, encode_value
from duroxide._client.records import OrchestrationResult, read_status
from duroxide._client.start import IfExists, StartOptions, due_time
from duroxide._declare.names import OrchestrationName
from duroxide._native import Call, EncodedStart
from duroxide._values.parameter_names import also_named
from duroxide._values.validation import (
    check_id,
    check_integer,
    check_milliseconds,
    check_name,
    check_queue,
    check_size,
    check_text,
)
from duroxide._values.versions import check_version

_log = logging.getLogger("duroxide.client")

DEFAULT_WAIT_MS = 30_000
"""How long a wait lasts when no time is given, in milliseconds."""


class InstanceOperations:
    """The operations of ``Client`` on one instance."""

    _native: _native.Client

    @blocking
    @also_named(orchestration_name="name")
    def start_orchestration(
        self,
        instance_id: str,
        name: OrchestrationName,
        input: object = None,
        *,
        version: str | None = None,
        if_exists: IfExists = "attach",
        at: datetime | int | None = None,
        delay: timedelta | int | None = None,
    ) -> Call[bool]:
        """Start an orchestration; the start is recorded when the call returns.

        Args:
            instance_id: Id of the new instance, 1 to 1,024 bytes.
            name: Name of the orchestration, or the declared orchestration itself.
            input: Its input, any value that can be written as JSON; default ``None``.
            version: Version to start; default ``None``, the newest one that the executing runtime has.
            if_exists: What to do when an instance of the same orchestration has the id: ``"attach"``, the default,
                leaves the instance as it is, so that a killed program can run again; ``"raise"`` refuses;
                ``"restart"`` runs it again from the beginning if it has ended, and ``"restart_failed"`` only if it has
                failed or was cancelled. A warning is logged if the call attaches to an instance that was started with
                another input and has begun.
            at: When the instance begins, an aware ``datetime`` or milliseconds since 1970; default ``None``, at once. The
                store keeps the events and messages that come before.
            delay: How long after the call it begins, a ``timedelta`` or milliseconds, in place of ``at``; default
                ``None``.

        Returns:
            True if the call started the instance or let it run again, False if it existed and stays as it is.

        Raises:
            InstanceAlreadyExists: An instance of another orchestration has the id; with ``if_exists="raise"``, any
                instance.
            CodecError: The input cannot be written as JSON.
            LimitExceeded: An id, a name or the input is too long, or the delay is longer than ten years.
            TypeError: ``at`` or ``delay`` has another type, or both are given.
            ValueError: ``at`` has no time zone.
        """
        start = encode_start(instance_id, name, input, version, due_time(at, delay))
        return start_call(self._native, instance_id, start, if_exists).then(is_started)

    @blocking
    @also_named(orchestration_name="name")
    def start_orchestration_versioned(
        self,
        instance_id: str,
        name: OrchestrationName,
        input: object,
        version: str,
        *,
        if_exists: IfExists = "attach",
    ) -> Call[bool]:
        """Start exactly ``version`` of an orchestration; otherwise as ``start_orchestration``."""
        return start_call(
            self._native, instance_id, encode_start(instance_id, name, input, check_version(version)), if_exists
        ).then(is_started)

    @blocking
    def _start_and_compare(
        self, instance_id: str, name: OrchestrationName, input: object, options: StartOptions
    ) -> Call[tuple[bool, bool]]:
        """Start an orchestration, and return whether it was started, and whether an existing one has another input."""
        start = encode_start(instance_id, name, input, options.version, due_time(options.at, options.delay))
        return start_call(self._native, instance_id, start, options.if_exists or "attach")

    @blocking
    def restart(
        self,
        instance_id: str,
        *,
        new_id: str | None = None,
        input: object = ...,
        version: str | None = None,
    ) -> Call[bool]:
        """Run an instance that has ended from the beginning again, or start another one as it was started.

        Under its own id the instance begins a new execution. Its history, status and output of before stay readable by
        the number of their execution; its values and its custom status are cleared. A parent does not get the result.

        Args:
            instance_id: The instance.
            new_id: Id of a new instance that runs in place of this one, which stays as it is and may still run; default
                ``None``, the instance itself runs again.
            input: Another input, any value that can be written as JSON; without it, the input of the run.
            version: Version to run; default ``None``, the newest one that the executing runtime has.

        Returns:
            True if the call began a run. False if the instance has not ended, or ``new_id`` existed.

        Raises:
            InstanceNotFound: The instance does not exist.
            InstanceAlreadyExists: An instance of another orchestration has ``new_id``.
            ClientError: The history with its input was pruned, and no input is given.
            CodecError: The input cannot be written as JSON.
            LimitExceeded: An id or the input is too long.
        """
        return self._native.restart(
            check_id(instance_id),
            None if new_id is None else check_id(new_id),
            None if input is ... else encode_value(input, "the input"),
            None if version is None else check_version(version),
        )

    start_orchestration_typed = start_orchestration
    start_orchestration_versioned_typed = start_orchestration_versioned

    @blocking
    @also_named(name="event_name")
    def raise_event(self, instance_id: str, event_name: str, data: object = None) -> Call[bool]:
        """Raise an event for the orchestration that waits for it with ``ctx.wait_for_event``.

        The store keeps an event that comes before its wait, also across ``ctx.continue_as_new``. It keeps an event that
        comes before its instance for ten minutes. If the instance has not started by then, the store drops the event
        and logs a warning.

        Args:
            instance_id: The instance.
            event_name: Name of the event.
            data: Any value that can be written as JSON, which the wait returns; default ``None``.

        Returns:
            True if the event was sent, False if the instance had ended, which makes the event useless.

        Raises:
            CodecError: The data cannot be written as JSON.
            LimitExceeded: An id, a name or the data is too long.
        """
        return self._native.raise_event(
            check_id(instance_id), check_name(event_name, "the name of an event"), encode_value(data, "the data")
        )

    raise_event_typed = raise_event

    @blocking
    @also_named(queue="queue_name")
    def enqueue_event(self, instance_id: str, queue_name: str, data: object = None) -> Call[bool]:
        """Append a message to a queue of an instance, which reads it with ``ctx.dequeue_event``.

        Messages wait in the queue, in order. The store keeps a message that comes before its instance for ten minutes.
        If the instance has not started by then, the store drops the message and logs a warning.

        Args:
            instance_id: The instance.
            queue_name: Name of the queue.
            data: A ``str``, which the queue delivers as it is, or any other value, which it delivers as JSON text; default
                ``None``, which is the text ``null``.

        Returns:
            True if the message was sent, False if the instance had ended, which makes the message useless.

        Raises:
            CodecError: The data cannot be written as JSON.
            LimitExceeded: An id, a name or the data is too long, or a ``str`` is not valid UTF-8.
        """
        return enqueue(self._native, instance_id, queue_name, encode_message(data))

    @blocking
    def cancel_instance(self, instance_id: str, reason: str | None = None) -> Call[bool]:
        """Request the cancellation of an instance and its sub-orchestrations; it fails with ``canceled: reason``.

        Args:
            instance_id: The instance.
            reason: Why it is cancelled; default ``None``, no reason.

        Returns:
            True if the cancellation was requested, False if the instance had ended and stays as it is.

        Raises:
            InstanceNotFound: The instance was never started, or was deleted.
        """
        return self._native.cancel(
            check_id(instance_id), check_size(check_text("" if reason is None else reason, "the reason"), "the reason")
        )

    @blocking
    @completed_by(with_causes)
    def get_status(self, instance_id: str) -> Call[OrchestrationResult]:
        """Read the status of an instance, without waiting.

        Args:
            instance_id: The instance.

        Returns:
            Its status, which is ``"NotFound"`` if the store does not have the instance.
        """
        checked = check_id(instance_id)
        return self._native.status(checked).then(lambda status: read_status(checked, status))

    get_orchestration_status = get_status

    @blocking
    @completed_by(with_causes)
    def wait_for_orchestration(
        self, instance_id: str, timeout_ms: int | timedelta = DEFAULT_WAIT_MS
    ) -> Call[OrchestrationResult]:
        """Wait until an instance has completed or failed.

        Args:
            instance_id: The instance; it need not exist yet.
            timeout_ms: Longest time to wait, in milliseconds or as a ``timedelta``; default 30,000.

        Returns:
            Its status, ``"Completed"`` or ``"Failed"``; ``result()`` of it returns the output or raises the exception.

        Raises:
            WaitTimedOut: The instance did not end within ``timeout_ms``.
            InstanceNotFound: The instance was deleted during the wait.
        """
        return wait_for_end(self._native, instance_id, timeout_ms)

    @blocking
    @completed_by(with_causes)
    def wait_for_status_change(
        self,
        instance_id: str,
        last_seen_version: int = 0,
        poll_interval_ms: int | timedelta = 100,
        timeout_ms: int | timedelta = DEFAULT_WAIT_MS,
    ) -> Call[OrchestrationResult | None]:
        """Wait until the custom status of an instance is newer than the last one that the caller saw.

        Args:
            instance_id: The instance.
            last_seen_version: ``custom_status_version`` of the last status that the caller saw; default 0, none.
            poll_interval_ms: Time between two reads of the store, in milliseconds or as a ``timedelta``, for changes
                that other processes make; a change by this process ends the wait at once. Default 100.
            timeout_ms: Longest time to wait, in milliseconds or as a ``timedelta``; default 30,000.

        Returns:
            The status, or ``None`` if ``timeout_ms`` passed first, or if the orchestration ended without a newer
            status.

        Raises:
            InstanceNotFound: The instance was deleted during the wait.
        """
        checked = check_id(instance_id)
        change = self._native.wait_for_status_change(
            checked,
            check_integer(last_seen_version, "last_seen_version"),
            check_milliseconds(poll_interval_ms, "poll_interval_ms"),
            check_milliseconds(timeout_ms, "timeout_ms"),
        )
        return change.then(lambda status: None if status is None else read_status(checked, status))

    @blocking
    def get_kv_value(self, instance_id: str, key: str) -> Call[str | None]:
        """Read one value of an instance's key-value store.

        Args:
            instance_id: The instance.
            key: The key.

        Returns:
            The text, or ``None`` if the instance does not have the key or does not exist.
        """
        return kv_value(self._native, instance_id, key)

    @blocking
    def get_kv_all_values(self, instance_id: str) -> Call[dict[str, str]]:
        """Read the key-value store of ``instance_id``; empty if the instance does not exist."""
        return self._native.kv_values(check_id(instance_id))

    @blocking
    def wait_for_kv_value(self, instance_id: str, key: str, timeout_ms: int | timedelta = DEFAULT_WAIT_MS) -> Call[str]:
        """Wait until an instance has set a key.

        Args:
            instance_id: The instance; it need not exist yet.
            key: The key.
            timeout_ms: Longest time to wait, in milliseconds or as a ``timedelta``; default 30,000.

        Returns:
            The text of the value.

        Raises:
            WaitTimedOut: The instance did not set the key within ``timeout_ms``.
            InstanceNotFound: The instance was deleted during the wait.
        """
        return wait_for_kv(self._native, instance_id, key, timeout_ms)


def enqueue(native: _native.Client, instance_id: str, queue: str, text: str) -> Call[bool]:
    """Describe the call that appends a message to a queue."""
    return native.enqueue_event(check_id(instance_id), check_queue(queue), text)


def wait_for_end(native: _native.Client, instance_id: str, timeout_ms: int | timedelta) -> Call[OrchestrationResult]:
    """Describe the call that waits for the end of an instance."""
    checked = check_id(instance_id)
    wait = native.wait(checked, check_milliseconds(timeout_ms, "timeout_ms"))
    return wait.then(lambda status: read_status(checked, status))


def kv_value(native: _native.Client, instance_id: str, key: str) -> Call[str | None]:
    """Describe the call that reads one value."""
    return native.kv_value(check_id(instance_id), check_name(key, "a key"))


def wait_for_kv(native: _native.Client, instance_id: str, key: str, timeout_ms: int | timedelta) -> Call[str]:
    """Describe the call that waits for one value."""
    timeout = check_milliseconds(timeout_ms, "timeout_ms")
    return native.wait_for_kv_value(check_id(instance_id), check_name(key, "a key"), timeout)


def start_call(
    native: _native.Client, instance_id: str, request: EncodedStart, if_exists: object
) -> Call[tuple[bool, bool]]:
    """Describe a start, whose answer says whether it started the instance, and whether an existing one has another input."""

    def warn(answer: tuple[bool, bool]) -> tuple[bool, bool]:
        if answer[1]:
            _log.warning(
                "instance %r was started with another input, and this start has attached to it: its result is not that "
                "of the input given now; choose another id, or refuse an existing one with if_exists='raise'",
                instance_id,
            )
        return answer

    return native.start(request, check_if_exists(if_exists)).then(warn)


def is_started(answer: tuple[bool, bool]) -> bool:
    """Return the first half of the answer to a start."""
    return answer[0]


def check_if_exists(if_exists: object) -> IfExists:
    """Return ``if_exists``.

    Raises:
        ValueError: It is not one of the policies.
    """
    if if_exists not in get_args(IfExists):
        raise ValueError(f"if_exists must be {', '.join(map(repr, get_args(IfExists)))}, not {if_exists!r}")
    return cast("IfExists", if_exists)
