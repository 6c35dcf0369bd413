//! The asyncio loop of an `async def` orchestration, as the driver and its tasks see it.
//!
//! The loop itself is Python (`duroxide.event_loop`): the standard library's tasks and futures run on it as they are. Here
//! is what ties it to the arena: an awaited task becomes a slot and a future, and a slot that has ended ends its future.

pub(crate) mod state;
pub(crate) mod steps;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::call::PyCallArgs;
use pyo3::intern;
use pyo3::prelude::*;
use serde_json::Value;

use crate::boundary;
use crate::boundary::codec::Decode;
use crate::boundary::errors::CancelledError;
use crate::boundary::python;
use crate::boundary::python::Member;
use crate::orchestration::arena::{Failure, Outcome, Waiting};
use crate::orchestration::awaited_task::AwaitedTask;
use crate::orchestration::coroutines::Runner;
use crate::orchestration::event_loop::state::{Cancellation, EventLoop};
use crate::orchestration::event_loop::steps::LoopSteps;
use crate::orchestration::execution::Execution;
use crate::orchestration::operation::{Node, Operation};
use crate::orchestration::values::value_of;
use engine_adapter::{CANCELLATION_QUEUE, CancelledEnd};

impl Execution {
    /// The loop that runs the orchestration, if it is a coroutine.
    pub(crate) fn event_loop<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.event_loop.lock().as_ref().map(|event_loop| event_loop.object.bind(py).clone())
    }

    /// The loop, while it is what runs: a generator may be a branch beside it.
    pub(crate) fn running_loop<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.loop_runs.load(Ordering::Relaxed).then(|| self.event_loop(py)).flatten()
    }

    /// Calls a method of the loop, which runs until nothing on it can; whether its main task has ended.
    fn run_loop<'py>(
        self: &Arc<Self>,
        event_loop: &Bound<'py, PyAny>,
        method: &'static Member,
        arguments: impl PyCallArgs<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.loop_runs.store(true, Ordering::Relaxed);
        let result = self.run(|| method.call(event_loop, arguments));
        self.loop_runs.store(false, Ordering::Relaxed);
        result
    }

    /// Begins a coroutine as the main task of a loop; whether it has ended at once.
    pub(crate) fn begin_loop(
        self: &Arc<Self>,
        py: Python<'_>,
        runner: Arc<Runner>,
        receives_cancellation: bool,
    ) -> PyResult<bool> {
        self.arena().begin(Arc::clone(&runner), Waiting::InLoop);
        let coroutine = runner.bind(py);
        let steps = Bound::new(py, LoopSteps::of(self))?;
        let made = python::ORCHESTRATION_LOOP.call(py, (steps,));
        let object = made.inspect_err(|_| drop(coroutine.call_method0(intern!(py, "close"))))?;
        let cancellation = if receives_cancellation { self.await_request() } else { Cancellation::Unheard };
        *self.event_loop.lock() = Some(EventLoop { object: object.clone().unbind(), cancellation });
        self.run_loop(&object, &python::LOOP_BEGIN, (coroutine, runner.variables.bind(py)))?.extract()
    }

    /// Lets the loop know that a slot has ended, and run; whether its main task has ended.
    pub(crate) fn deliver(self: &Arc<Self>, py: Python<'_>, slot: usize) -> PyResult<bool> {
        let Some(object) = self.event_loop(py) else { return Ok(false) };
        let outcome = self.arena().outcome(slot);
        match outcome {
            None => return Ok(false),
            // It was given up, at a moment that the code knows.
            Some((Outcome::Failed(Failure::Cancelled { .. }), _)) => {}
            Some((_, moment)) => self.consume(moment),
        }
        let (value, error) = match value_of(py, self, slot) {
            Ok(value) => (Some(value), None),
            Err(error) => (None, Some(error.into_value(py))),
        };
        self.run_loop(&object, &python::LOOP_DELIVER, (slot, value, error))?.extract()
    }

    /// Has the loop run the coroutine of a branch.
    pub(crate) fn begin_branch(self: &Arc<Self>, py: Python<'_>, branch: usize, runner: &Runner) -> PyResult<bool> {
        let Some(object) = self.event_loop(py) else { return Ok(false) };
        self.arena().branches[branch].waiting = Waiting::InLoop;
        self.run_loop(&object, &python::LOOP_BEGIN_BRANCH, (branch, runner.bind(py), runner.variables.bind(py)))?
            .extract()
    }

    /// Cancels a branch that the loop runs; `None` if it runs no such coroutine.
    pub(crate) fn cancel_branch(self: &Arc<Self>, runner: &Bound<'_, PyAny>) -> PyResult<Option<bool>> {
        let py = runner.py();
        let Some(object) = self.event_loop(py) else { return Ok(None) };
        self.run_loop(&object, &python::LOOP_CANCEL_BRANCH, (runner,))?.extract()
    }

    /// Hands a request for the end of the orchestration to its main task, and bounds what that does about it; whether the
    /// main task has ended, or its time has.
    pub(crate) fn notice_cancellation(self: &Arc<Self>) -> Option<PyResult<bool>> {
        let (awaited, bound) = match self.event_loop.lock().as_ref()?.cancellation {
            Cancellation::Unheard => return None,
            Cancellation::AwaitedTask(slot) => (Some(slot), None),
            Cancellation::Requested { bound, .. } => (None, bound),
        };
        match awaited {
            Some(slot) => self.hear_request(slot),
            None if self.withdraw_request() => None,
            None => self.end_of_time(bound?),
        }
    }

    fn hear_request(self: &Arc<Self>, slot: usize) -> Option<PyResult<bool>> {
        let (outcome, moment) = self.arena().outcome(slot)?;
        let Outcome::Text(reason) = outcome else { return None };
        self.consume(moment);
        self.set_requested(&reason, None);
        Some(boundary::enter(|py| {
            let Some(object) = self.event_loop(py) else { return Ok(false) };
            let ended: bool = self.run_loop(&object, &python::LOOP_CANCEL, (reason.as_ref(),))?.extract()?;
            if !ended && self.is_cancelling(py) {
                let node = self.describe(Operation::Timer(self.definitions.cleanup_timeout), Decode::Nothing, None);
                let bound = Some(self.arena().start(&node));
                self.set_requested(&reason, bound);
            }
            Ok(ended)
        }))
    }

    /// Waits for a further request if the code has refused this one; whether it has.
    fn withdraw_request(self: &Arc<Self>) -> bool {
        if boundary::enter(|py| self.is_cancelling(py)) {
            return false;
        }
        let Some(event_loop) = &mut *self.event_loop.lock() else { return false };
        let before = std::mem::replace(&mut event_loop.cancellation, Cancellation::Unheard);
        if let Cancellation::Requested { bound: Some(bound), .. } = before {
            self.arena().drop_all(Some(bound));
        }
        event_loop.cancellation = self.await_request();
        true
    }

    fn await_request(self: &Arc<Self>) -> Cancellation {
        let node = self.describe(Operation::Queue(CANCELLATION_QUEUE.to_owned()), Decode::Raw, None);
        Cancellation::AwaitedTask(self.arena().start(&node))
    }

    /// Whether the time for cleaning up is over.
    fn end_of_time(&self, bound: usize) -> Option<PyResult<bool>> {
        let outcome = {
            let mut arena = self.arena();
            if !arena.settle(bound) {
                return None;
            }
            arena.outcome(bound)
        };
        let (_, moment) = outcome?;
        self.consume(moment);
        if let Some(EventLoop { cancellation: Cancellation::Requested { is_given_up, .. }, .. }) =
            &mut *self.event_loop.lock()
        {
            *is_given_up = true;
        }
        tracing::warn!(
            target: "duroxide::orchestration",
            instance_id = %self.instance,
            "orchestration '{}' was cancelled and has not ended within {} ms; it ends now",
            self.orchestration_name,
            self.definitions.cleanup_timeout.as_millis()
        );
        Some(Ok(true))
    }

    /// Has the loop run what others than the loop have made ready; whether the main task has ended.
    pub(crate) fn run_ready(self: &Arc<Self>, py: Python<'_>) -> PyResult<bool> {
        let Some(object) = self.event_loop(py) else { return Ok(false) };
        self.run_loop(&object, &python::LOOP_RUN_READY, ())?.extract()
    }

    /// Stops a loop whose orchestration continues as new.
    pub(crate) fn halt_loop(&self, py: Python<'_>) {
        let Some(object) = self.event_loop(py) else { return };
        if let Err(error) = python::LOOP_HALT.call(&object, ()) {
            tracing::error!(target: "duroxide::orchestration", instance_id = %self.instance, "a loop did not halt: {error}");
        }
    }

    /// The main task has ended: what else runs on the loop is cancelled, and does nothing that is recorded.
    pub(crate) fn end_loop(self: &Arc<Self>, py: Python<'_>) {
        let Some(object) = self.event_loop(py) else { return };
        self.loop_ended.store(true, Ordering::Relaxed);
        if let Err(error) = self.run_loop(&object, &python::LOOP_END, ()) {
            tracing::error!(target: "duroxide::orchestration", instance_id = %self.instance, "a loop did not end: {error}");
        }
    }

    /// The tasks that have not ended on the loop, which goes no further; nothing of it is reported.
    pub(crate) fn abandon_loop<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyAny>> {
        let Some(object) = self.event_loop(py) else { return Vec::new() };
        python::LOOP_ABANDON.call(&object, ()).and_then(|tasks| tasks.extract()).unwrap_or_default()
    }

    /// Refuses a step after the end: it would be recorded, and never run.
    pub(crate) fn check_loop(&self) -> PyResult<()> {
        if self.loop_ended.load(Ordering::Relaxed) {
            return Err(CancelledError::new_err("the orchestration has ended"));
        }
        Ok(())
    }

    /// Whether its code was asked to end, and has not refused.
    pub(crate) fn is_cancelling(&self, py: Python<'_>) -> bool {
        self.event_loop(py).is_some_and(|object| {
            let is_cancelling = python::LOOP_IS_CANCELLING.call(&object, ());
            is_cancelling.is_ok_and(|is_cancelling| is_cancelling.is_truthy().unwrap_or(false))
        })
    }

    fn set_requested(&self, reason: &str, bound: Option<usize>) {
        if let Some(event_loop) = self.event_loop.lock().as_mut() {
            event_loop.cancellation = Cancellation::Requested { reason: reason.to_owned(), bound, is_given_up: false };
        }
    }

    /// How code has ended that was asked to, and has not refused. `end` is its recorded result or failure.
    pub(crate) fn cancelled_end(&self, end: &Result<String, String>) -> Option<CancelledEnd> {
        if !boundary::enter(|py| self.is_cancelling(py)) {
            return None;
        }
        let event_loop = self.event_loop.lock();
        let Cancellation::Requested { reason, is_given_up, .. } = &event_loop.as_ref()?.cancellation else {
            return None;
        };
        let cleanup_failure = match end {
            _ if *is_given_up => Some(self.given_up_cleanup()),
            Err(failure) if !is_cancelled_error(failure) => Some(failure.clone()),
            _ => None,
        };
        Some(CancelledEnd { reason: reason.clone(), cleanup_failure })
    }

    /// The recorded form of a clean-up that had no time left.
    fn given_up_cleanup(&self) -> String {
        let limit = self.definitions.cleanup_timeout.as_millis();
        format!(r#"{{"type": "TimeoutError", "message": "it did not end within {limit} ms, and was given up"}}"#)
    }

    /// Why the orchestration was asked to end, if it was.
    pub(crate) fn cancellation_reason(&self) -> Option<String> {
        match &self.event_loop.lock().as_ref()?.cancellation {
            Cancellation::Requested { reason, .. } => Some(reason.clone()),
            _ => None,
        }
    }

    /// Starts what a task describes, and gives its value, or the future that will have it.
    pub(crate) fn wait_in_loop<'py>(
        self: &Arc<Self>,
        event_loop: &Bound<'py, PyAny>,
        node: &Arc<Node>,
    ) -> PyResult<AwaitedTask<'py>> {
        let py = event_loop.py();
        self.check()?;
        if self.check_loop().is_err() {
            // It was not forgotten.
            node.set_replaced();
            return python::LOOP_REFUSE_STEP.call(event_loop, ()).map(AwaitedTask::Future);
        }
        if matches!(node.operation, Operation::ContinueAsNew { .. }) {
            // A request for the end is not carried over into an execution that knows nothing of it.
            python::LOOP_CHECK_NOT_CANCELLED.call(event_loop, ())?;
            if python::LOOP_RUNS_MAIN.call(event_loop, ())?.is_truthy()? {
                self.begin_continuation(py, node)?;
            }
        }
        let (slot, has_ended, continued) = {
            let mut arena = self.arena();
            let slot = arena.start(node);
            let has_ended = arena.settle(slot);
            if !has_ended {
                arena.watch(slot);
            }
            (slot, has_ended, arena.continued)
        };
        if has_ended {
            let outcome = self.arena().outcome(slot);
            if let Some((_, moment)) = outcome {
                self.consume(moment);
            }
            return value_of(py, self, slot).map(AwaitedTask::Value);
        }
        if continued {
            python::LOOP_HALT.call(event_loop, ())?;
        }
        python::LOOP_WAIT.call(event_loop, (slot,)).map(AwaitedTask::Future)
    }
}

/// Whether a recorded failure is the cancellation itself, which the code let pass.
fn is_cancelled_error(failure: &str) -> bool {
    serde_json::from_str::<Value>(failure).is_ok_and(|failure| failure["type"] == "CancelledError")
}
