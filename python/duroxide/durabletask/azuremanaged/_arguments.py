"""Arguments that the worker and the clients share."""

from __future__ import annotations


def check_task_hub(name: str) -> str:
    """Return the name of a task hub.

    Raises:
        ValueError: It is empty.
    """
    if not name:
        raise ValueError("taskhub is empty: give the task hub a name, such as 'default'")
    return name
