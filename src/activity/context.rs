//! The context that an activity is called with.

use std::sync::Arc;

use duroxide::ActivityContext as EngineContext;
use pyo3::prelude::*;

use crate::logging::TraceText;
use engine_adapter::RunningActivity;

use crate::activity::call_key::CallKey;

/// The context of an activity: facts about it, and whether it was cancelled.
#[pyclass(frozen, module = "duroxide._native")]
pub(crate) struct ActivityContext {
    engine: EngineContext,
    running: Option<Arc<RunningActivity>>,
    /// Makes the client that `get_client` gives.
    client: Arc<Py<PyAny>>,
    key: CallKey,
}

impl ActivityContext {
    pub(crate) fn new(
        engine: EngineContext,
        running: Option<Arc<RunningActivity>>,
        client: Arc<Py<PyAny>>,
        key: CallKey,
    ) -> Self {
        Self { engine, running, client, key }
    }
}

#[pymethods]
impl ActivityContext {
    /// Instance of the orchestration that scheduled the activity.
    #[getter]
    fn instance_id(&self) -> &str {
        self.engine.instance_id()
    }

    /// Number of the execution that scheduled it, counted from 1.
    #[getter]
    fn execution_id(&self) -> u64 {
        self.engine.execution_id()
    }

    /// Name of that orchestration.
    #[getter]
    fn orchestration_name(&self) -> &str {
        self.engine.orchestration_name()
    }

    /// Version of that orchestration.
    #[getter]
    fn orchestration_version(&self) -> &str {
        self.engine.orchestration_version()
    }

    /// Name of the activity.
    #[getter]
    fn activity_name(&self) -> &str {
        self.engine.activity_name()
    }

    /// Key of this call, for another system that must not do the same work twice.
    ///
    /// All deliveries and retries of one call have the same key. Each other call has another one, also in the next
    /// execution of its instance, and in an instance that was deleted and started again. It is a UUID, as text. The first
    /// use asks the store.
    #[getter]
    fn idempotency_key(&self, py: Python<'_>) -> PyResult<String> {
        self.key.get(py, &self.engine, self.running.as_ref())
    }

    /// Number of the event that scheduled it. A retry is a new scheduling with a new number.
    ///
    /// ``None`` if the store did not give it.
    #[getter]
    fn activity_id(&self) -> Option<u64> {
        self.running.as_ref().map(|running| running.activity_id)
    }

    /// How often the store delivered this scheduling, counted from 1.
    ///
    /// Above 1 after a crash; a retry is a new scheduling.
    #[getter]
    fn attempt(&self) -> u32 {
        self.running.as_ref().map_or(1, |running| running.attempt)
    }

    /// The worker that runs it.
    #[getter]
    fn worker_id(&self) -> &str {
        self.engine.worker_id()
    }

    /// Its session, or ``None``.
    #[getter]
    fn session_id(&self) -> Option<&str> {
        self.engine.session_id()
    }

    /// Return its tag, or ``None``.
    fn tag(&self) -> Option<&str> {
        self.engine.tag()
    }

    /// Tell whether the activity was cancelled, so that its result has no receiver any more.
    fn is_cancelled(&self) -> bool {
        self.engine.is_cancelled() || self.running.as_ref().is_some_and(|running| running.is_cancelled())
    }

    /// Return a client of the store that scheduled the activity.
    fn get_client<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.client.bind(py).call0()
    }

    /// Log ``message``.
    fn trace_info(&self, message: TraceText) {
        self.engine.trace_info(message.0);
    }

    /// Log ``message`` as a warning.
    fn trace_warn(&self, message: TraceText) {
        self.engine.trace_warn(message.0);
    }

    /// Log ``message`` as an error.
    fn trace_error(&self, message: TraceText) {
        self.engine.trace_error(message.0);
    }

    /// Log ``message`` for debugging.
    fn trace_debug(&self, message: TraceText) {
        self.engine.trace_debug(message.0);
    }

    fn __repr__(&self) -> String {
        format!("<ActivityContext of '{}' in instance '{}'>", self.engine.activity_name(), self.engine.instance_id())
    }
}
