//! Closes generators and coroutines that will not continue. Their last steps are ignored, and log nothing.

use std::sync::Arc;

use pyo3::exceptions::PyBaseException;
use pyo3::intern;
use pyo3::prelude::*;

use crate::boundary::errors::TurnClosed;
use crate::boundary::python::{LOOP_THROW, TASK_GET_CORO, UNBEGUN_COROUTINES};
use crate::orchestration::coroutines::is_unbegun;
use crate::orchestration::execution::Execution;
use crate::orchestration::task::Task;

/// How often this module closes a generator that yields while it is closed, or a loop on which new tasks appear.
const CLOSE_ATTEMPTS: usize = 8;

/// Closes everything that has not ended, and takes apart what Python and the turn hold of each other.
pub(super) fn close_execution(py: Python<'_>, execution: &Arc<Execution>) {
    let runners = execution.arena().unfinished();
    // Nothing that happens from here on is recorded, and nothing of it is logged again.
    execution.begin_closing();
    let exit = TurnClosed::new_err("the turn of this orchestration has ended; it goes on in a later one");
    for runner in runners {
        close(execution, runner.bind(py), &exit);
    }
    close_loop(py, execution, &exit);
    for runner in execution.unbegun_branches() {
        close(execution, runner.bind(py), &exit);
    }
    execution.close();
    execution.clear();
}

/// Closes the tasks that have not ended on the loop of a coroutine, and those that are made while it is closed.
pub(super) fn close_loop(py: Python<'_>, execution: &Arc<Execution>, exit: &PyErr) {
    let Some(event_loop) = execution.event_loop(py) else { return };
    for _ in 0..CLOSE_ATTEMPTS {
        let tasks = execution.abandon_loop(py);
        if tasks.is_empty() {
            return;
        }
        for task in tasks {
            let Ok(coroutine) = TASK_GET_CORO.call(&task, ()) else { continue };
            if let Ok(step) = coroutine.cast::<Task>() {
                // It was not forgotten, and has nothing to close.
                step.get().node.set_replaced();
                continue;
            }
            close_by(execution, &coroutine, exit, |exit| LOOP_THROW.call(&event_loop, (&task, exit)));
        }
    }
}

/// Throws `exit` until the generator or coroutine ends; anything it yields or raises then is ignored.
pub(super) fn close(execution: &Arc<Execution>, runner: &Bound<'_, PyAny>, exit: &PyErr) {
    close_by(execution, runner, exit, |exit| runner.call_method1(intern!(runner.py(), "throw"), (exit,)));
}

/// Closes it by a `throw` that is given the exception.
fn close_by<'py>(
    execution: &Arc<Execution>,
    runner: &Bound<'py, PyAny>,
    exit: &PyErr,
    throw: impl Fn(Py<PyBaseException>) -> PyResult<Bound<'py, PyAny>>,
) {
    let py = runner.py();
    let has_begun = !is_unbegun(runner);
    close_unbegun(runner);
    if !has_begun {
        // It has no finally block to run.
        runner.call_method0(intern!(py, "close")).ok();
        return;
    }
    for _ in 0..CLOSE_ATTEMPTS {
        let step = execution.run(|| throw(exit.clone_ref(py).into_value(py)));
        let Ok(yielded) = step else { return };
        if let Ok(task) = yielded.cast::<Task>() {
            task.get().node.set_replaced();
        }
        close_unbegun(runner);
    }
    // Its destructor would ask once more, and report on stderr that it refuses to end.
    std::mem::forget(runner.clone());
    let (instance, name) = (execution.instance.as_str(), execution.orchestration_name.as_str());
    tracing::warn!(
        target: "duroxide::orchestration",
        instance_id = instance,
        orchestration_name = name,
        "orchestration '{name}' does not let itself be closed between two turns, and its memory is lost: a bare \
         'except:' or 'except BaseException:' around a yield must raise again"
    );
}

/// Closes the coroutines that `runner` has made and not begun, and itself if it is one: Python would warn of them.
fn close_unbegun(runner: &Bound<'_, PyAny>) {
    let py = runner.py();
    let unbegun = UNBEGUN_COROUTINES.call(py, (runner,));
    let Ok(unbegun) = unbegun.and_then(|unbegun| unbegun.extract::<Vec<Bound<'_, PyAny>>>()) else { return };
    for coroutine in unbegun {
        coroutine.call_method0(intern!(py, "close")).ok();
    }
}
