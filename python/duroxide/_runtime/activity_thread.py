"""The threads of activities. Python starts them as daemons, so a thread that still works ends with the process."""

from __future__ import annotations

import contextvars
import os
from typing import TYPE_CHECKING

from duroxide._runtime.current_context import running_activity
from duroxide._runtime.forked_child import end_if_forked
from duroxide._values.green_threads import start_thread

if TYPE_CHECKING:
    from duroxide._native import PreparedActivity, Worker


def start(worker: Worker) -> None:
    """Start a thread that runs the activities of ``worker``."""
    start_thread(lambda: _serve(worker), "duroxide-activity")


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
    process = os.getpid()
    try:
        result = activity.function(context, activity.input)
    except BaseException as error:  # noqa: BLE001 - every exception of an activity is its recorded failure
        end_if_forked(process, error)
        done(None, error)
    else:
        end_if_forked(process)
        done(result, None)
