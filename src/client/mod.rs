//! The client: asks and tells the store, and waits for what runtimes do.
//!
//! Every operation is one `async fn` of [`View`], run to its end by [`bridge::block_on`]: `status` and `waits` read how an
//! instance stands, `bulk` starts and sends many at once, `records` answers those who run the system.

mod bulk;
mod records;
mod status;
mod waits;

use std::collections::BTreeMap;
use std::sync::Arc;

use duroxide::Client as EngineClient;
use duroxide::client::ClientError;
use duroxide::providers::{InstanceFilter, Provider, ProviderAdmin, ProviderError, PruneOptions};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::bridge::block_on;
use crate::errors::Error;
use crate::provider::NativeStore;
use crate::store::{IfExists, StartOutcome, StartRequest, Store, StoreError};

use bulk::{MessageTuple, StartTuple, event, queue_message};
use records::{EventTuple, ExecutionTuple, InstanceTuple, deleted, pruned};
use status::StatusTuple;

#[pyclass(frozen, name = "Client", module = "duroxide._native")]
pub(crate) struct NativeClient {
    store: Py<NativeStore>,
}

/// An open store for the time of one call.
struct View {
    store: Store,
    provider: Arc<dyn Provider>,
}

impl NativeClient {
    fn view(&self) -> PyResult<View> {
        let store = self.store.get().store()?;
        let provider = store.provider();
        Ok(View { store, provider })
    }
}

impl View {
    /// The engine's client, for the operations that are no more than its own.
    fn engine(&self) -> EngineClient {
        EngineClient::new(Arc::clone(&self.provider))
    }

    fn admin(&self) -> Result<&dyn ProviderAdmin, Error> {
        self.provider.as_management_capability().ok_or(Error::Engine(ClientError::ManagementNotAvailable))
    }

    async fn start(&self, request: StartRequest, attach: bool) -> Result<bool, Error> {
        let if_exists = if attach { IfExists::Attach } else { IfExists::Raise };
        Ok(self.store.start(request, if_exists).await? == StartOutcome::Started)
    }

    /// Refuses a message to nobody: the engine would drop it.
    async fn check_exists(&self, instance: &str) -> Result<(), Error> {
        if self.store.exists(instance).await? { Ok(()) } else { Err(Error::NotFound(instance.to_owned())) }
    }

    /// As [`Self::check_exists`], unless the store keeps what comes before its instance.
    async fn check_receiver(&self, instance: &str) -> Result<(), Error> {
        if self.store.keeps_early_messages() { Ok(()) } else { self.check_exists(instance).await }
    }

    async fn raise_event(&self, instance: &str, name: &str, data: &str) -> Result<(), Error> {
        self.check_receiver(instance).await?;
        self.engine().raise_event(instance, name, data).await.map_err(of_engine)
    }

    async fn enqueue_event(&self, instance: &str, queue: &str, data: &str) -> Result<(), Error> {
        self.check_receiver(instance).await?;
        self.engine().enqueue_event(instance, queue, data).await.map_err(of_engine)
    }

    async fn cancel(&self, instance: &str, reason: &str) -> Result<(), Error> {
        self.check_exists(instance).await?;
        self.engine().cancel_instance(instance, reason).await.map_err(of_engine)
    }

    async fn kv_value(&self, instance: &str, key: &str) -> Result<Option<String>, Error> {
        self.provider.get_kv_value(instance, key).await.map_err(of_store)
    }

    async fn kv_values(&self, instance: &str) -> Result<BTreeMap<String, String>, Error> {
        // In key order, since the store's own order differs from call to call.
        let values = self.provider.get_kv_all_values(instance).await.map_err(of_store)?;
        Ok(values.into_iter().collect())
    }
}

#[pymethods]
impl NativeClient {
    #[new]
    fn new(store: Py<NativeStore>) -> PyResult<Self> {
        store.get().store()?;
        Ok(Self { store })
    }

    fn start(
        &self,
        py: Python<'_>,
        instance: String,
        orchestration: String,
        input: String,
        version: Option<String>,
        attach: bool,
    ) -> PyResult<bool> {
        block_on(py, self.view()?.start(StartRequest { instance, orchestration, input, version }, attach))
    }

    fn raise_event(&self, py: Python<'_>, instance: &str, name: &str, data: &str) -> PyResult<()> {
        block_on(py, self.view()?.raise_event(instance, name, data))
    }

    fn enqueue_event(&self, py: Python<'_>, instance: &str, queue: &str, data: &str) -> PyResult<()> {
        block_on(py, self.view()?.enqueue_event(instance, queue, data))
    }

    fn start_all(&self, py: Python<'_>, requests: Vec<StartTuple>, attach: bool) -> PyResult<Vec<bool>> {
        block_on(py, self.view()?.start_all(requests, attach))
    }

    fn raise_events(&self, py: Python<'_>, events: Vec<MessageTuple>) -> PyResult<()> {
        block_on(py, self.view()?.send_all("events", events, event))
    }

    fn enqueue_events(&self, py: Python<'_>, messages: Vec<MessageTuple>) -> PyResult<()> {
        block_on(py, self.view()?.send_all("messages", messages, queue_message))
    }

    fn cancel(&self, py: Python<'_>, instance: &str, reason: &str) -> PyResult<()> {
        block_on(py, self.view()?.cancel(instance, reason))
    }

    fn status(&self, py: Python<'_>, instance: &str) -> PyResult<StatusTuple> {
        Ok(block_on(py, self.view()?.status(instance))?.into())
    }

    fn wait(&self, py: Python<'_>, instance: &str, timeout_ms: u64) -> PyResult<StatusTuple> {
        Ok(block_on(py, self.view()?.wait(instance, timeout_ms))?.into())
    }

    fn wait_for_status_change(
        &self,
        py: Python<'_>,
        instance: &str,
        last_seen_version: u64,
        poll_interval_ms: u64,
        timeout_ms: u64,
    ) -> PyResult<Option<StatusTuple>> {
        let view = self.view()?;
        let wait = view.wait_for_status_change(instance, last_seen_version, poll_interval_ms, timeout_ms);
        Ok(block_on(py, wait)?.map(StatusTuple::from))
    }

    fn kv_value(&self, py: Python<'_>, instance: &str, key: &str) -> PyResult<Option<String>> {
        block_on(py, self.view()?.kv_value(instance, key))
    }

    fn kv_values(&self, py: Python<'_>, instance: &str) -> PyResult<BTreeMap<String, String>> {
        block_on(py, self.view()?.kv_values(instance))
    }

    fn wait_for_kv_value(&self, py: Python<'_>, instance: &str, key: &str, timeout_ms: u64) -> PyResult<String> {
        block_on(py, self.view()?.wait_for_kv_value(instance, key, timeout_ms))
    }

    fn list_instances(&self, py: Python<'_>, status: Option<&str>) -> PyResult<Vec<String>> {
        block_on(py, self.view()?.list_instances(status))
    }

    fn instance_info(&self, py: Python<'_>, instance: &str) -> PyResult<InstanceTuple> {
        block_on(py, self.view()?.instance_info(instance))
    }

    fn execution_info(&self, py: Python<'_>, instance: &str, execution_id: u64) -> PyResult<ExecutionTuple> {
        block_on(py, self.view()?.execution_info(instance, execution_id))
    }

    fn list_executions(&self, py: Python<'_>, instance: &str) -> PyResult<Vec<u64>> {
        block_on(py, self.view()?.list_executions(instance))
    }

    fn history(&self, py: Python<'_>, instance: &str, execution_id: Option<u64>) -> PyResult<Vec<EventTuple>> {
        block_on(py, self.view()?.history(instance, execution_id))
    }

    fn stats<'py>(&self, py: Python<'py>, instance: &str) -> PyResult<Option<Bound<'py, PyDict>>> {
        block_on(py, self.view()?.stats(instance))?.map(|stats| records::stats(py, &stats)).transpose()
    }

    fn system_metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        records::system_metrics(py, &block_on(py, self.view()?.system_metrics())?)
    }

    fn queue_depths<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        records::queue_depths(py, &block_on(py, self.view()?.queue_depths())?)
    }

    fn tree(&self, py: Python<'_>, instance: &str) -> PyResult<(String, Vec<String>)> {
        block_on(py, self.view()?.tree(instance))
    }

    fn delete<'py>(&self, py: Python<'py>, instance: &str, force: bool) -> PyResult<Bound<'py, PyDict>> {
        deleted(py, &block_on(py, self.view()?.delete(instance, force))?)
    }

    fn delete_bulk<'py>(
        &self,
        py: Python<'py>,
        instance_ids: Option<Vec<String>>,
        completed_before: Option<u64>,
        limit: Option<u32>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let filter = InstanceFilter { instance_ids, completed_before, limit };
        deleted(py, &block_on(py, self.view()?.delete_bulk(filter))?)
    }

    fn prune<'py>(
        &self,
        py: Python<'py>,
        instance: &str,
        keep_last: Option<u32>,
        completed_before: Option<u64>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let options = PruneOptions { keep_last, completed_before };
        pruned(py, &block_on(py, self.view()?.prune(instance, options))?)
    }

    fn prune_bulk<'py>(
        &self,
        py: Python<'py>,
        instance_ids: Option<Vec<String>>,
        filter_completed_before: Option<u64>,
        limit: Option<u32>,
        keep_last: Option<u32>,
        completed_before: Option<u64>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let filter = InstanceFilter { instance_ids, completed_before: filter_completed_before, limit };
        let options = PruneOptions { keep_last, completed_before };
        pruned(py, &block_on(py, self.view()?.prune_bulk(filter, options))?)
    }
}

/// A store that is closed says so, whichever way the failure came.
fn of_store(error: ProviderError) -> Error {
    Error::Store(StoreError::from(error))
}

fn of_engine(error: ClientError) -> Error {
    match error {
        ClientError::Provider(error) => of_store(error),
        error => Error::Engine(error),
    }
}

/// A failure of an operation on `instance`. That there is none is only said in words by the engine's stores.
fn of_instance(instance: &str, error: ProviderError) -> Error {
    if !error.retryable && error.message.to_lowercase().contains("not found") {
        return Error::NotFound(instance.to_owned());
    }
    of_store(error)
}
