"""What a client sends to an instance: ids, values and messages, as text that was checked."""

from __future__ import annotations

from duroxide._native import CANCELLATION_QUEUE, RawText
from duroxide.checks import check_name, check_text
from duroxide.codec import encode
from duroxide.exceptions import LimitExceeded
from duroxide.limits import MAX_PAYLOAD_BYTES
from duroxide.references import function_name
from duroxide.versions import check_version


def check_id(instance_id: object) -> str:
    """Return ``instance_id`` if it can be one."""
    return check_name(instance_id, "an instance id")


def encode_start(instance_id: object, name: object, input: object, version: object) -> tuple[str, str, str, str | None]:
    """Check what an instance is started with, and write its input."""
    return (
        check_id(instance_id),
        function_name(name, "orchestration"),
        encode_value(input, "the input"),
        None if version is None else check_version(version),
    )


def check_queue(queue: object) -> str:
    """Return ``queue`` if it can be the name of a queue.

    Raises:
        TypeError: It is not a ``str``.
        LimitExceeded: It is empty, too long or not valid UTF-8.
        ValueError: It is the queue on which orchestrations hear that they are to end.
    """
    name = check_name(queue, "the name of a queue")
    if name == CANCELLATION_QUEUE:
        raise ValueError(
            f"queue '{name}' is how a request for the end reaches an orchestration; call cancel_instance() instead"
        )
    return name


def encode_value(value: object, what: str) -> str:
    """Write ``value`` as JSON that is not too long to be recorded; what was written already is taken as it is."""
    return check_size(value.text if isinstance(value, RawText) else encode(value), what)


def encode_message(data: object) -> str:
    """Write a message of a queue: a ``str`` as it is, anything else as JSON."""
    if isinstance(data, str):
        return check_size(check_text(data, "the message"), "the message")
    return encode_value(data, "the message")


def check_size(text: str, what: str) -> str:
    """Return ``text`` if it is not too long to be recorded.

    Raises:
        LimitExceeded: It is.
    """
    size = len(text) if text.isascii() else len(text.encode("utf-8"))
    if size > MAX_PAYLOAD_BYTES:
        raise LimitExceeded(
            f"{what} has {size} bytes; at most {MAX_PAYLOAD_BYTES} are recorded, keep the data elsewhere and pass a reference"
        )
    return text
