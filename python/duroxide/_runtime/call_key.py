"""The key of a call of an activity, which other systems compare in order to do its work once."""

from __future__ import annotations

import uuid

# Running activities have sent their keys to other systems, so neither this value nor the text below may change.
_NAMESPACE = uuid.UUID("8a3e1d52-6f0b-4c7e-9d84-2b5f7c90a1e6")


def call_key(instance_id: str, created: int, execution_id: int, scheduled: int) -> str:
    """Return the key of the call whose first attempt the event ``scheduled`` has scheduled.

    ``created`` tells the instance from an earlier one of the same id.
    """
    return str(uuid.uuid5(_NAMESPACE, f"{created}/{execution_id}/{scheduled}/{instance_id}"))
