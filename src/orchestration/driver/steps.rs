//! One step of one branch: what is sent or thrown into it, and what becomes of what it yields, returns or raises.

use std::sync::Arc;

use pyo3::exceptions::{PyBaseException, PyRuntimeError, PyStopIteration};
use pyo3::intern;
use pyo3::prelude::*;

use crate::boundary::codec;
use crate::boundary::enter;
use crate::boundary::errors::{CancelledError, NotAllowedInOrchestration};
use crate::boundary::python::{IS_MADE_OF, LOOP_RESULT, LOOP_STUCK};
use crate::orchestration::arena::{Failure, Outcome, Waiting};
use crate::orchestration::coroutines::{Runner, is_coroutine};
use crate::orchestration::driver::endings::log_failure;
use crate::orchestration::driver::{Driver, OrchestrationEnd};
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

    /// Nothing can move. Code that nothing can wake any more ends with an error, instead of waiting for ever.
    pub(super) fn stuck(&self) -> Option<OrchestrationEnd> {
        let awaited = {
            let mut arena = self.execution.arena();
            if arena.continued || arena.may_continue() {
                return None;
            }
            arena.awaited_by_branches()
        };
        enter(|py| {
            let error = match self.execution.event_loop(py) {
                Some(event_loop) => LOOP_STUCK.call(&event_loop, ()).map_or_else(|error| error, PyErr::from_value),
                None => self.stuck_branches(py, &awaited),
            };
            self.end(py, 0, Err(error))
        })
    }

    /// Runs one branch to its next wait or its end.
    pub(super) fn resume(&mut self, py: Python<'_>, branch: usize, waiting: Waiting) -> Option<OrchestrationEnd> {
        let runner = Arc::clone(&self.execution.arena().branches[branch].runner);
        if waiting == Waiting::Begin && self.execution.event_loop(py).is_some() && is_coroutine(runner.bind(py)) {
            let ended = self.execution.begin_branch(py, branch, &runner);
            return self.end_of_loop(py, ended);
        }
        let mut step = match waiting {
            Waiting::Begin | Waiting::InLoop | Waiting::Ended => self.send(&runner, &py.None().into_bound(py)),
            Waiting::On(slot) => {
                let outcome = self.execution.arena().outcome(slot);
                if let Some((_, moment)) = outcome {
                    self.moment = moment;
                    self.execution.consume(moment);
                }
                match value_of(py, &self.execution, slot) {
                    Ok(value) => self.send(&runner, &value),
                    Err(error) => self.throw(py, &runner, error),
                }
            }
        };
        loop {
            match step {
                Ok(yielded) => match self.await_task(branch, &yielded) {
                    Ok(slot) => {
                        let mut arena = self.execution.arena();
                        arena.branches[branch].waiting = Waiting::On(slot);
                        return None;
                    }
                    // Thrown where it was yielded, so that the traceback names the user's line.
                    Err(error) => step = self.throw(py, &runner, error),
                },
                Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
                    let value = error.value(py).getattr(intern!(py, "value"));
                    return self.end(py, branch, value);
                }
                Err(error) => return self.end(py, branch, Err(self.name_cure_of_asyncio(py, error))),
            }
        }
    }

    fn send<'py>(&self, runner: &Runner, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.execution.run(|| runner.send(value))
    }

    fn throw<'py>(&self, py: Python<'py>, runner: &Runner, error: PyErr) -> PyResult<Bound<'py, PyAny>> {
        self.execution.run(|| runner.throw(py, error.into_value(py)))
    }

    /// Starts what was yielded, unless it was started before.
    fn await_task(&self, branch: usize, yielded: &Bound<'_, PyAny>) -> PyResult<usize> {
        let Ok(task) = yielded.cast::<Task>() else {
            return Err(not_a_task(yielded));
        };
        let node = as_node(&self.execution, task)?;
        if branch == 0 {
            self.execution.begin_continuation(yielded.py(), &node)?;
        }
        Ok(self.execution.arena().start(&node))
    }

    /// Continues as new, once the code that has asked for it has left its blocks; otherwise the result is given back.
    fn continue_as_new<'py>(
        &self,
        py: Python<'py>,
        result: PyResult<Bound<'py, PyAny>>,
    ) -> Option<PyResult<Bound<'py, PyAny>>> {
        let Some((node, exit)) = self.execution.take_continuation() else { return Some(result) };
        match result {
            // An exit of the code has failed, or its cancellation has reached it.
            Err(error) if !is_made_of(py, &error, &exit) => Some(Err(error)),
            _ => {
                self.execution.arena().start(&node);
                self.execution.halt_loop(py);
                None
            }
        }
    }

    /// Says what to write in place of asyncio, which has no loop in a generator.
    fn name_cure_of_asyncio(&self, py: Python<'_>, error: PyErr) -> PyErr {
        let lacks_loop = error.is_instance_of::<PyRuntimeError>(py)
            && ["no running event loop", "no current event loop"].iter().any(|text| error.to_string().contains(text));
        if self.is_coroutine(py) || !lacks_loop {
            return error;
        }
        let named = NotAllowedInOrchestration::new_err(format!(
            "orchestration '{}' is a generator, and asyncio works only in an 'async def' orchestration: declare it with \
             'async def', or use ctx.schedule_timer(...) for asyncio.sleep, ctx.gather(...) for asyncio.gather and \
             ctx.race(...) for asyncio.timeout",
            self.definition.name
        ));
        named.set_cause(py, Some(error));
        named
    }

    fn end(&self, py: Python<'_>, branch: usize, result: PyResult<Bound<'_, PyAny>>) -> Option<OrchestrationEnd> {
        if branch == 0 {
            self.execution.arena().branches[branch].waiting = Waiting::Ended;
            let result = self.continue_as_new(py, result)?;
            let end = result.and_then(|value| self.encode_result(&value));
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

/// Whether an exception is `exit` itself, or a group of nothing else, as a task group makes of it.
fn is_made_of(py: Python<'_>, error: &PyErr, exit: &Py<PyBaseException>) -> bool {
    IS_MADE_OF.call(py, (error.value(py), exit)).is_ok_and(|answer| answer.is_truthy().unwrap_or(false))
}
