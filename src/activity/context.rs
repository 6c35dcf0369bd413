//! The context that an activity is called with.

use std::sync::Arc;

use duroxide::ActivityContext as EngineContext;
use pyo3::prelude::*;

use engine_adapter::RunningActivity;

/// The context of an activity: facts about it, and whether it was cancelled.
#[pyclass(frozen, module = "duroxide._native")]
pub(crate) struct ActivityContext {
    engine: EngineContext,
    running: Option<Arc<RunningActivity>>,
    /// Makes the client that `get_client` gives.
    client: Arc<Py<PyAny>>,
}

impl ActivityContext {
    pub(crate) fn new(engine: EngineContext, running: Option<Arc<RunningActivity>>, client: Arc<Py<PyAny>>) -> Self {
        Self { engine, running, client }
    }
}

#[pymethods]
impl ActivityContext {
    #[getter]
    fn instance_id(&self) -> &str {
        self.engine.instance_id()
    }

    #[getter]
    fn execution_id(&self) -> u64 {
        self.engine.execution_id()
    }

    #[getter]
    fn orchestration_name(&self) -> &str {
        self.engine.orchestration_name()
    }

    #[getter]
    fn orchestration_version(&self) -> &str {
        self.engine.orchestration_version()
    }

    #[getter]
    fn activity_name(&self) -> &str {
        self.engine.activity_name()
    }

    #[getter]
    fn activity_id(&self) -> Option<u64> {
        self.running.as_ref().map(|running| running.activity_id)
    }

    #[getter]
    fn attempt(&self) -> u32 {
        self.running.as_ref().map_or(1, |running| running.attempt)
    }

    #[getter]
    fn worker_id(&self) -> &str {
        self.engine.worker_id()
    }

    #[getter]
    fn session_id(&self) -> Option<&str> {
        self.engine.session_id()
    }

    fn tag(&self) -> Option<&str> {
        self.engine.tag()
    }

    fn is_cancelled(&self) -> bool {
        self.engine.is_cancelled() || self.running.as_ref().is_some_and(|running| running.is_cancelled())
    }

    fn get_client<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.client.bind(py).call0()
    }

    fn trace_info(&self, message: String) {
        self.engine.trace_info(message);
    }

    fn trace_warn(&self, message: String) {
        self.engine.trace_warn(message);
    }

    fn trace_error(&self, message: String) {
        self.engine.trace_error(message);
    }

    fn trace_debug(&self, message: String) {
        self.engine.trace_debug(message);
    }

    fn __repr__(&self) -> String {
        format!("<ActivityContext of '{}' in instance '{}'>", self.engine.activity_name(), self.engine.instance_id())
    }
}
