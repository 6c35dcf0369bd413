"""The threads of activities: Python's own, so that one which is still at work when the process ends, ends with it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from duroxide._runtime.current_context import running_activity

if TYPE_CHECKING:
    from duroxide._native import PreparedActivity, Worker


def start(worker: Worker) -> None:
    """Start a thread that runs what ``worker`` hands out."""
    threading.Thread(target=_serve, args=(worker,), name="duroxide-activity", daemon=True).start()


def _serve(worker: Worker) -> None:
    # The call is made in a function of its own, so that an idle thread keeps nothing of the last one alive.
    while _run(worker.take()):
        pass


def _run(activity: PreparedActivity | None) -> bool:
    if activity is None:
        return False
    context, done = activity.context, activity.done
    running = running_activity.set(context)
    try:
        result = activity.function(context, activity.input)
    except BaseException as error:  # noqa: BLE001 - whatever ends an activity is its recorded failure
        done(None, error)
    else:
        done(result, None)
    finally:
        running_activity.reset(running)
    return True
