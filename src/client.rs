use pyo3::prelude::*;
use crate::bridge::block_on;
use crate::provider::NativeStore;
use crate::store::*;
use crate::errors::Error;
use std::time::Duration;
#[pyclass(frozen, name = "Client", module = "duroxide._native")]
pub(crate) struct NativeClient { store: Store, engine: duroxide::Client }
type Status = (String, Option<String>, Option<String>, Option<String>, u64, Option<String>, Option<String>);
#[pymethods]
impl NativeClient {
    #[new]
    fn new(store: &NativeStore) -> PyResult<Self> { let store = store.store()?; let engine = duroxide::Client::new(store.provider()); Ok(Self { store, engine }) }
    fn start(&self, py: Python<'_>, instance: String, orchestration: String, input: String, version: Option<String>, attach: bool) -> PyResult<bool> {
        let r = StartRequest { instance, orchestration, input, version };
        block_on(py, async { Ok(self.store.start(r, if attach { IfExists::Attach } else { IfExists::Raise }).await? == StartOutcome::Started) })
    }
    fn raise_event(&self, py: Python<'_>, instance: String, name: String, data: String) -> PyResult<()> { block_on(py, async { Ok(self.engine.raise_event(instance, name, data).await?) }) }
    fn enqueue_event(&self, py: Python<'_>, instance: String, name: String, data: String) -> PyResult<()> { block_on(py, async { Ok(self.engine.enqueue_event(instance, name, data).await?) }) }
    fn wait(&self, py: Python<'_>, instance: String, timeout_ms: u64) -> PyResult<Status> {
        use duroxide::OrchestrationStatus as S;
        block_on(py, async { Ok(match self.engine.wait_for_orchestration(&instance, Duration::from_millis(timeout_ms)).await? {
            S::Completed { output, custom_status, custom_status_version } => ("Completed".into(), Some(output), None, custom_status, custom_status_version, None, None),
            S::Failed { details, custom_status, custom_status_version } => ("Failed".into(), None, Some(details.display_message()), custom_status, custom_status_version, None, None),
            _ => return Err(Error::TimedOut("?".into())) }) })
    }
}
