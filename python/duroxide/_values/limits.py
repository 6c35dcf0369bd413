"""The limits of names, payloads, durations and counts."""

from __future__ import annotations

from typing import Final

from duroxide._native import (
    MAX_DURATION_MS,
    MAX_KV_KEYS,
    MAX_KV_VALUE_BYTES,
    MAX_NAME_BYTES,
    MAX_PAYLOAD_BYTES,
    MAX_TAG_NAME_BYTES,
    MAX_WORKER_TAGS,
)

__all__ = [
    "MAX_BULK_ITEMS",
    "MAX_DURATION_MS",
    "MAX_KV_KEYS",
    "MAX_KV_VALUE_BYTES",
    "MAX_NAME_BYTES",
    "MAX_PAYLOAD_BYTES",
    "MAX_TAG_NAME_BYTES",
    "MAX_WORKER_TAGS",
]

MAX_BULK_ITEMS: Final = 10_000
"""The largest number of orchestrations, events or messages in one call."""
