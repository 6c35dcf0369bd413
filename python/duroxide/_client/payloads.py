"""The texts that a client sends to an instance: checked ids, and encoded values and messages."""

from __future__ import annotations

from duroxide._declare.names import function_name
from duroxide._native import MAX_NESTING, EncodedStart, RawText, nesting
from duroxide._values.codec import encode
from duroxide._values.validation import check_id, check_size, check_text
from duroxide._values.versions import check_version
from duroxide.exceptions import LimitExceeded


def encode_start(
    instance_id: object, name: object, input: object, version: object, due_ms: int | None = None
) -> EncodedStart:
    """Check the arguments of a start, and encode the input."""
    return EncodedStart(
        check_id(instance_id),
        function_name(name, "orchestration"),
        encode_value(input, "the input"),
        None if version is None else check_version(version),
        due_ms,
    )


def encode_value(value: object, what: str) -> str:
    """Write ``value`` as JSON that is not too long to be recorded; a ``RawText`` is JSON already."""
    text = check_size(value.text if isinstance(value, RawText) else encode(value), what)
    # A shorter text cannot nest too deep.
    if len(text) > 2 * MAX_NESTING and nesting(text) > MAX_NESTING:
        raise LimitExceeded(f"{what} nests lists and objects more than {MAX_NESTING} levels deep; flatten it")
    return text


def encode_message(data: object) -> str:
    """Write a message of a queue: a ``str`` as it is, any other value as JSON."""
    if isinstance(data, str):
        return check_size(check_text(data, "the message"), "the message")
    return encode_value(data, "the message")
