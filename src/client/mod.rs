//! The client: asks and tells the store, and waits for what runtimes do.
//!
//! Every operation is one `async fn` of [`OpenStore`], and a method that describes it as a [`Call`], which Python makes blocking
//! or awaits: `status` and `waits` read how an instance stands, `bulk` starts and sends many at once, `records` answers those
//! who run the system.

pub(crate) mod bulk;
pub(crate) mod call;
mod open_store;
pub(crate) mod outbox;
pub(crate) mod queries;
pub(crate) mod records;
pub(crate) mod status;
pub(crate) mod waits;

use std::future::Future;

use duroxide::providers::{InstanceFilter, PruneOptions, WorkItem};
use pyo3::prelude::*;

use crate::boundary::errors::Error;
use crate::native_store::NativeStore;

pub(crate) use crate::client::call::Call;
pub(crate) use crate::client::outbox::{NativeDatabaseWatcher, write_message};

use crate::client::bulk::{EncodedMessage, EncodedStart, event, queue_message};
use crate::client::open_store::OpenStore;
use crate::client::outbox::{OutboxRow, RelayAnswer, relay};
use crate::client::records::{deleted, pruned, queue_depths, stats, system_metrics};

#[pyclass(frozen, name = "Client", module = "duroxide._native")]
pub(crate) struct NativeClient {
    store: Py<NativeStore>,
}

impl NativeClient {
    fn view(&self) -> PyResult<OpenStore> {
        Ok(OpenStore::of(self.store.get().adapter()?))
    }

    fn call<T, F>(&self, operation: impl FnOnce(OpenStore) -> F) -> PyResult<Call>
    where
        T: for<'py> IntoPyObject<'py> + Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        Ok(Call::new(operation(self.view()?)))
    }

    /// An operation that answers nothing.
    fn order<F>(&self, operation: impl FnOnce(OpenStore) -> F) -> PyResult<Call>
    where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let work = operation(self.view()?);
        Ok(Call::new(async { work.await.map(|()| None::<bool>) }))
    }
}

#[pymethods]
impl NativeClient {
    #[new]
    fn new(store: Py<NativeStore>) -> PyResult<Self> {
        store.get().adapter()?;
        Ok(Self { store })
    }

    fn start(&self, request: EncodedStart, attach: bool) -> PyResult<Call> {
        self.call(|view| async move { view.start(request.into(), attach).await })
    }

    fn raise_event(&self, instance: String, name: String, data: String) -> PyResult<Call> {
        self.order(|view| async move { view.send(WorkItem::ExternalRaised { instance, name, data }).await })
    }

    fn enqueue_event(&self, instance: String, queue: String, data: String) -> PyResult<Call> {
        self.order(|view| async move { view.send(WorkItem::QueueMessage { instance, name: queue, data }).await })
    }

    fn start_all(&self, requests: Vec<EncodedStart>, attach: bool) -> PyResult<Call> {
        self.call(|view| async move { view.start_all(requests, attach).await })
    }

    fn raise_events(&self, events: Vec<EncodedMessage>) -> PyResult<Call> {
        self.order(|view| async move { view.send_all(events, event).await })
    }

    fn enqueue_events(&self, messages: Vec<EncodedMessage>) -> PyResult<Call> {
        self.order(|view| async move { view.send_all(messages, queue_message).await })
    }

    fn relayed(&self, outbox: String) -> PyResult<Call> {
        self.call(|view| async move { Ok(view.store.relayed(&outbox).await?) })
    }

    fn relay(&self, outbox: String, seen: Option<i64>, last: i64, rows: Vec<OutboxRow>) -> PyResult<Call> {
        let relay = relay(outbox, seen, last, rows)?;
        self.call(|view| async move { Ok(RelayAnswer::of(view.store.relay(relay).await?)) })
    }

    fn cancel(&self, instance: String, reason: String) -> PyResult<Call> {
        self.order(|view| async move { view.cancel(instance, reason).await })
    }

    fn status(&self, instance: String) -> PyResult<Call> {
        self.call(|view| async move { view.status(&instance).await })
    }

    fn wait(&self, instance: String, timeout_ms: u64) -> PyResult<Call> {
        self.call(|view| async move { view.wait(&instance, timeout_ms).await })
    }

    fn wait_for_status_change(
        &self,
        instance: String,
        last_seen_version: u64,
        poll_interval_ms: u64,
        timeout_ms: u64,
    ) -> PyResult<Call> {
        self.call(|view| async move {
            view.wait_for_status_change(&instance, last_seen_version, poll_interval_ms, timeout_ms).await
        })
    }

    fn kv_value(&self, instance: String, key: String) -> PyResult<Call> {
        self.call(|view| async move { view.kv_value(&instance, &key).await })
    }

    fn kv_values(&self, instance: String) -> PyResult<Call> {
        self.call(|view| async move { view.kv_values(&instance).await })
    }

    fn wait_for_kv_value(&self, instance: String, key: String, timeout_ms: u64) -> PyResult<Call> {
        self.call(|view| async move { view.wait_for_kv_value(&instance, &key, timeout_ms).await })
    }

    fn list_instances(&self, status: Option<String>) -> PyResult<Call> {
        self.call(|view| async move { view.list_instances(status.as_deref()).await })
    }

    fn instance_info(&self, instance: String) -> PyResult<Call> {
        self.call(|view| async move { view.instance_info(&instance).await })
    }

    fn execution_info(&self, instance: String, execution_id: u64) -> PyResult<Call> {
        self.call(|view| async move { view.execution_info(&instance, execution_id).await })
    }

    fn list_executions(&self, instance: String) -> PyResult<Call> {
        self.call(|view| async move { view.list_executions(&instance).await })
    }

    fn history(&self, instance: String, execution_id: Option<u64>) -> PyResult<Call> {
        self.call(|view| async move { view.history(&instance, execution_id).await })
    }

    fn stats(&self, instance: String) -> PyResult<Call> {
        self.call(|view| async move { Ok(view.stats(&instance).await?.as_ref().map(stats)) })
    }

    fn system_metrics(&self) -> PyResult<Call> {
        self.call(|view| async move { Ok(system_metrics(&view.system_metrics().await?)) })
    }

    fn queue_depths(&self) -> PyResult<Call> {
        self.call(|view| async move { Ok(queue_depths(&view.queue_depths().await?)) })
    }

    fn tree(&self, instance: String) -> PyResult<Call> {
        self.call(|view| async move { view.tree(&instance).await })
    }

    fn delete(&self, instance: String, force: bool) -> PyResult<Call> {
        self.call(|view| async move { Ok(deleted(&view.delete(&instance, force).await?)) })
    }

    fn delete_bulk(
        &self,
        instance_ids: Option<Vec<String>>,
        completed_before: Option<u64>,
        limit: Option<u32>,
    ) -> PyResult<Call> {
        let filter = InstanceFilter { instance_ids, completed_before, limit };
        self.call(|view| async move { Ok(deleted(&view.delete_bulk(filter).await?)) })
    }

    fn prune(&self, instance: String, keep_last: Option<u32>, completed_before: Option<u64>) -> PyResult<Call> {
        let options = PruneOptions { keep_last, completed_before };
        self.call(|view| async move { Ok(pruned(&view.prune(&instance, options).await?)) })
    }

    fn prune_bulk(
        &self,
        instance_ids: Option<Vec<String>>,
        filter_completed_before: Option<u64>,
        limit: Option<u32>,
        keep_last: Option<u32>,
        completed_before: Option<u64>,
    ) -> PyResult<Call> {
        let filter = InstanceFilter { instance_ids, completed_before: filter_completed_before, limit };
        let options = PruneOptions { keep_last, completed_before };
        self.call(|view| async move { Ok(pruned(&view.prune_bulk(filter, options).await?)) })
    }
}
