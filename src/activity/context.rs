//! The context that an activity is called with.

use std::sync::Arc;

use duroxide::ActivityContext as EngineContext;
use pyo3::prelude::*;

use engine_adapter::Delivery;

/// The context of an activity: facts about it, and whether it was cancelled.
#[pyclass(frozen, module = "duroxide._native")]
pub(crate) struct ActivityContext {
    engine: EngineContext,
    delivery: Option<Arc<Delivery>>,
    /// Makes the client that `get_client` gives.
    client: Arc<Py<PyAny>>,
}

impl ActivityContext {
    pub(crate) fn new(engine: EngineContext, delivery: Option<Arc<Delivery>>, client: Arc<Py<PyAny>>) -> Self {
        Self { engine, delivery, client }
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
        self.delivery.as_ref().map(|delivery| delivery.activity_id)
    }

    #[getter]
    fn attempt(&self) -> u32 {
        self.delivery.as_ref().map_or(1, |delivery| delivery.attempt)
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
        self.engine.is_cancelled() || self.delivery.as_ref().is_some_and(|delivery| delivery.is_cancelled())
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
