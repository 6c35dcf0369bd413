//! The orchestration, as its asyncio loop sees it.

use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::boundary;
use crate::boundary::codec::Decode;
use crate::boundary::errors::LimitExceeded;
use crate::boundary::limits::MAX_DURATION_MS;
use crate::orchestration::arena::{Failure, Outcome};
use crate::orchestration::execution::Execution;
use crate::orchestration::operation::Operation;
use engine_adapter::end_request;

/// The requests of the loop to the orchestration that it runs.
#[pyclass(frozen, module = "duroxide._native")]
pub(crate) struct LoopSteps {
    execution: Arc<Execution>,
}

impl LoopSteps {
    pub(crate) fn of(execution: &Arc<Execution>) -> Self {
        Self { execution: Arc::clone(execution) }
    }
}

#[pymethods]
impl LoopSteps {
    /// Seconds since the execution started.
    fn time(&self) -> f64 {
        let elapsed = self.execution.now_ms().saturating_sub(self.execution.started_ms);
        Duration::from_millis(elapsed).as_secs_f64()
    }

    /// True while replaying, or while closing an abandoned orchestration.
    fn is_silent(&self) -> bool {
        self.execution.check().is_err() || self.execution.is_replaying()
    }

    #[getter]
    fn orchestration_name(&self) -> &str {
        &self.execution.orchestration_name
    }

    #[getter]
    fn instance_id(&self) -> &str {
        &self.execution.instance
    }

    /// Starts a durable timer of so many seconds; its slot.
    fn start_timer(&self, py: Python<'_>, seconds: f64) -> PyResult<usize> {
        self.execution.check()?;
        if seconds.is_nan() {
            return Err(PyValueError::new_err("a timer cannot wait for NaN seconds"));
        }
        let exact = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
        // Times are sums of floats, so an error below a microsecond must not cost another millisecond.
        let microseconds = exact.saturating_add(Duration::from_nanos(500)).as_micros();
        let Some(delay) = u64::try_from(microseconds.div_ceil(1000)).ok().filter(|delay| *delay <= MAX_DURATION_MS)
        else {
            return Err(LimitExceeded::new_err(format!(
                "a timer cannot wait for {seconds} s: at most {} s, which is ten years",
                MAX_DURATION_MS / 1000
            )));
        };
        let delay = Duration::from_millis(delay);
        let node = self.execution.describe(Operation::Timer(delay), Decode::Nothing, boundary::origin::caller(py));
        let mut arena = self.execution.arena();
        let slot = arena.start(&node);
        arena.watch(slot);
        Ok(slot)
    }

    /// Gives up what a slot waits for.
    fn give_up(&self, slot: usize) {
        // An orchestration that is closed between two turns gives up nothing: the next turn continues from the history.
        if self.execution.check().is_ok() {
            let mut arena = self.execution.arena();
            arena.unwatch(slot);
            arena.drop_all(Some(slot));
        }
    }

    /// Asks the activity that a slot waits for to end, if its call says so; the slot of the request. The end of the
    /// activity then ends the wait.
    fn ask_to_end(&self, slot: usize) -> Option<usize> {
        let execution = &self.execution;
        if execution.check().is_err() || execution.check_loop().is_err() {
            return None;
        }
        let key = execution.arena().end_of_attempts(slot)?;
        let request = execution.describe(Operation::Queue(end_request(key)), Decode::Raw, None);
        Some(execution.arena().start(&request))
    }

    /// Tells how the coroutine of a branch has ended.
    fn end_branch(&self, branch: usize, value: Option<Py<PyAny>>, error: Option<Py<PyAny>>, py: Python<'_>) {
        let outcome = match error {
            Some(error) => Outcome::Failed(Failure::Raised(Arc::new(error))),
            None => Outcome::Returned(Arc::new(value.unwrap_or_else(|| py.None()))),
        };
        let moment = self.execution.moment();
        self.execution.arena().end_branch(branch, outcome, moment);
    }

    fn __repr__(&self) -> String {
        format!("<LoopSteps of {}>", self.execution.instance)
    }
}
