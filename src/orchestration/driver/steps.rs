//! One step of one branch: what is sent or thrown into it, and what becomes of what it yields, returns or raises.

use std::sync::Arc;

use pyo3::exceptions::PyStopIteration;
use pyo3::intern;
use pyo3::prelude::*;

use crate::boundary::codec;
use crate::boundary::enter;
use crate::boundary::errors::CancelledError;
use crate::boundary::python::{LOOP_RESULT, LOOP_STUCK};
use crate::orchestration::arena::{Failure, Outcome, Waiting};
use crate::orchestration::coroutines::is_coroutine;
use crate::orchestration::driver::{Driver, OrchestrationEnd};
use crate::orchestration::execution::Execution;
use crate::orchestration::task::{Task, as_node, not_a_task};
use crate::orchestration::values::value_of;

impl Driver {
    /// Ends the future of a slot that the event loop waits for, and lets the loop run.
    pub(super) fn deliver(&self, slot: usize) -> Option<OrchestrationEnd> {
        enter(|py| {
            let ended = self.execution.deliver(py, slot);
            self.end_of_loop(py, ended)
        })
    }

    /// The end of the orchestration, if the main task of its loop `has_ended`.
    pub(super) fn end_of_loop(&self, py: Python<'_>, has_ended: PyResult<bool>) -> Option<OrchestrationEnd> {
        match has_ended {
            Ok(false) => None,
            Ok(true) => {
                let result = LOOP_RESULT.call(&self.execution.event_loop(py)?, ());
                self.end(py, 0, result)
            }
            Err(error) => self.end(py, 0, Err(error)),
        }
    }

    /// Runs what a generator has made ready on the event loop beside it.
    pub(super) fn run_ready(&self, py: Python<'_>) -> Option<OrchestrationEnd> {
        let ended = self.execution.run_ready(py);
        self.end_of_loop(py, ended)
    }

    /// Nothing can move. If nothing can wake a loop any more, the loop gets an error instead of waiting for ever.
    pub(super) fn stuck(&self) -> Option<OrchestrationEnd> {
        if self.execution.event_loop.lock().is_none() {
            return None;
        }
        let mut arena = self.execution.arena();
        if arena.continued || arena.may_continue() {
            return None;
        }
        drop(arena);
        enter(|py| {
            let event_loop = self.execution.event_loop(py)?;
            let error = LOOP_STUCK.call(&event_loop, ()).map(PyErr::from_value);
            self.end(py, 0, Err(error.unwrap_or_else(|error| error)))
        })
    }

    /// Runs one branch to its next wait or its end.
    pub(super) fn resume(&mut self, py: Python<'_>, branch: usize, waiting: Waiting) -> Option<OrchestrationEnd> {
        let runner = Arc::clone(&self.execution.arena().branches[branch].runner);
        let runner = runner.bind(py);
        if waiting == Waiting::Begin && is_coroutine(runner) && self.execution.event_loop(py).is_some() {
            let ended = self.execution.begin_branch(branch, runner);
            return self.end_of_loop(py, ended);
        }
        let mut step = match waiting {
            Waiting::Begin | Waiting::InLoop | Waiting::Ended => self.send(runner, &py.None().into_bound(py)),
            Waiting::On(slot) => {
                let outcome = self.execution.arena().outcome(slot);
                if let Some((_, moment)) = outcome {
                    self.moment = moment;
                    self.execution.consume(moment);
                }
                match value_of(py, &self.execution, slot) {
                    Ok(value) => self.send(runner, &value),
                    Err(error) => self.throw(runner, error),
                }
            }
        };
        loop {
            match step {
                Ok(yielded) => match self.await_task(&yielded) {
                    Ok(slot) => {
                        let mut arena = self.execution.arena();
                        arena.branches[branch].waiting = Waiting::On(slot);
                        return None;
                    }
                    // Thrown where it was yielded, so that the traceback names the user's line.
                    Err(error) => step = self.throw(runner, error),
                },
                Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
                    let value = error.value(py).getattr(intern!(py, "value"));
                    return self.end(py, branch, value);
                }
                Err(error) => return self.end(py, branch, Err(error)),
            }
        }
    }

    fn send<'py>(&self, runner: &Bound<'py, PyAny>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.execution.run(|| runner.call_method1(intern!(runner.py(), "send"), (value,)))
    }

    fn throw<'py>(&self, runner: &Bound<'py, PyAny>, error: PyErr) -> PyResult<Bound<'py, PyAny>> {
        let py = runner.py();
        self.execution.run(|| runner.call_method1(intern!(py, "throw"), (error.into_value(py),)))
    }

    /// Starts what was yielded, unless it was started before.
    fn await_task(&self, yielded: &Bound<'_, PyAny>) -> PyResult<usize> {
        let Ok(task) = yielded.cast::<Task>() else {
            return Err(not_a_task(yielded));
        };
        let node = as_node(&self.execution, task)?;
        Ok(self.execution.arena().start(&node))
    }

    fn end(&self, py: Python<'_>, branch: usize, result: PyResult<Bound<'_, PyAny>>) -> Option<OrchestrationEnd> {
        if branch == 0 {
            self.execution.arena().branches[branch].waiting = Waiting::Ended;
            let end = result.and_then(|value| codec::encode(&value));
            return Some(end.map_err(|error| {
                if self.execution.cancellation_reason().is_none() || !error.is_instance_of::<CancelledError>(py) {
                    log_failure(py, &self.execution, &error);
                }
                codec::encode_failure(py, &error)
            }));
        }
        let outcome = match result {
            Ok(value) => Outcome::Returned(Arc::new(value.unbind())),
            Err(error) => Outcome::Failed(Failure::Raised(Arc::new(error.into_value(py).into_any()))),
        };
        self.execution.arena().end_branch(branch, outcome, self.moment);
        None
    }
}

/// The traceback goes to the log, never into history.
fn log_failure(py: Python<'_>, execution: &Execution, error: &PyErr) {
    if execution.is_replaying() {
        return;
    }
    let message = format!("orchestration of instance '{}' failed", execution.instance);
    crate::logging::log_exception(
        py,
        "duroxide.orchestration",
        &message,
        error,
        &[
            ("instance_id", &execution.instance),
            ("orchestration_name", &execution.orchestration_name),
            ("orchestration_version", &execution.orchestration_version),
        ],
    );
}
