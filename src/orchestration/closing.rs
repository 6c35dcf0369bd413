//! Closing generators and coroutines that will not go on: what they still do is nobody's, and must make no noise.

use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;

use super::task::{Task, is_unbegun};
use super::turn::Turn;
use crate::errors::TurnClosed;

/// How often a generator that keeps yielding while it is closed is asked again.
const CLOSE_ATTEMPTS: usize = 8;

/// Closes everything that has not ended, and takes apart what Python and the turn hold of each other.
pub(super) fn end_turn(py: Python<'_>, turn: &Arc<Turn>) {
    let runners = turn.arena().unfinished();
    // Nothing that happens from here on is recorded, and nothing of it is logged again.
    turn.begin_closing();
    let coroutines = turn.abandon_loop(py).into_iter().map(Arc::new);
    for runner in runners.into_iter().chain(coroutines) {
        close_unbegun_locals(runner.bind(py));
        let closed = TurnClosed::new_err("the turn of this orchestration has ended; it goes on in a later one");
        close(turn, runner.bind(py), &closed);
    }
    for runner in turn.unbegun_branches() {
        close(turn, runner.bind(py), &TurnClosed::new_err("the turn of this orchestration has ended"));
    }
    turn.close();
    turn.clear();
}

/// Throws `exit` until the generator or coroutine ends; what it yields or raises meanwhile is nobody's.
pub(super) fn close(turn: &Arc<Turn>, runner: &Bound<'_, PyAny>, exit: &PyErr) {
    let py = runner.py();
    if is_unbegun(runner) {
        // It has no finally block to run, and thrown into, a coroutine would be said to be never awaited.
        runner.call_method0(intern!(py, "close")).ok();
        return;
    }
    for _ in 0..CLOSE_ATTEMPTS {
        let step = turn.run(|| runner.call_method1(intern!(py, "throw"), (exit.clone_ref(py).into_value(py),)));
        let Ok(yielded) = step else { return };
        if let Ok(task) = yielded.cast::<Task>() {
            task.get().node.set_replaced();
        }
    }
    // Its destructor would ask once more, and report on stderr that it refuses to end.
    std::mem::forget(runner.clone());
    let (instance, name) = (turn.instance.as_str(), turn.orchestration_name.as_str());
    tracing::warn!(
        target: "duroxide::orchestration",
        instance_id = instance,
        orchestration_name = name,
        "orchestration '{name}' does not let itself be closed between two turns, and its memory is lost: a bare \
         'except:' or 'except BaseException:' around a yield must raise again"
    );
}

/// Closes the coroutines that a suspended one has made and not begun yet: Python would warn of them.
fn close_unbegun_locals(runner: &Bound<'_, PyAny>) {
    let py = runner.py();
    let frame = runner.getattr(intern!(py, "gi_frame")).or_else(|_| runner.getattr(intern!(py, "cr_frame")));
    let Ok(locals) = frame.and_then(|frame| frame.getattr(intern!(py, "f_locals"))) else { return };
    let Ok(values) = locals.call_method0(intern!(py, "values")).and_then(|values| values.try_iter()) else { return };
    for value in values.flatten() {
        if value.hasattr(intern!(py, "cr_frame")).unwrap_or(false) && is_unbegun(&value) {
            value.call_method0(intern!(py, "close")).ok();
        }
    }
}
