"""The threads of activities. Python starts them as daemons, so a thread that still works ends with the process."""

from __future__ import annotations

import contextvars
import threading
from typing import TYPE_CHECKING

from duroxide._runtime.current_context import running_activity

if TYPE_CHECKING:
    from duroxide._native import PreparedActivity, Worker


def start(worker: Worker) -> None:
    """Start a thread that runs the activities of ``worker``."""
    threading.Thread(target=_serve, args=(worker,), name="duroxide-activity", daemon=True).start()


def _serve(worker: Worker) -> None:
    # `_run` makes the call, so that an idle thread keeps no variable of the last call alive.
    while _run(worker.take()):
        pass


def _run(activity: PreparedActivity | None) -> bool:
    if activity is None:
        return False
    # The thread runs other activities later, which must not see the context variables of this one.
    contextvars.copy_context().run(_call, activity)
    return True


def _call(activity: PreparedActivity) -> None:
    context, done = activity.context, activity.done
    running_activity.set(context)
    try:
        result = activity.function(context, activity.input)
    except BaseException as error:  # noqa: BLE001 - every exception of an activity is its recorded failure
        done(None, error)
    else:
        done(result, None)
