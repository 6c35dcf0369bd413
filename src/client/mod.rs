//! The client: it reads and changes the store, and waits for the work of runtimes.
//!
//! Every operation is one `async fn` of [`OpenStore`], and a method that describes it as a [`Call`], which Python makes
//! blocking or awaits. `open_store` has the starts, messages and cancellations, `status` and `waits` read the state of an
//! instance, `bulk` starts and sends many at once, and `queries` has the calls of operation, whose answers are `records`. `describe`
//! says what an instance waits for, and `listing` finds instances.

pub(crate) mod bulk;
pub(crate) mod call;
mod describe;
pub(crate) mod listing;
mod open_store;
pub(crate) mod outbox;
pub(crate) mod queries;
pub(crate) mod records;
mod restart;
pub(crate) mod status;
pub(crate) mod waits;

use std::future::Future;

use duroxide::providers::{InstanceFilter, PruneOptions, WorkItem};
use pyo3::prelude::*;

use store::termination::Termination;

use crate::boundary::errors::Error;
use crate::native_store::NativeStore;

pub(crate) use crate::client::call::Call;
pub(crate) use crate::client::outbox::{NativeDatabaseWatcher, schema_without_name, stores_statement, write_message};

use crate::client::bulk::{EncodedMessage, EncodedStart, event, queue_message, read_if_exists};
use crate::client::listing::NativeQuery;
use crate::client::open_store::OpenStore;
use crate::client::outbox::{OutboxRow, RelayAnswer, relay};
use crate::client::records::{deleted, pruned, queue_depths, stats, system_metrics};

#[pyclass(frozen, name = "Client", module = "duroxide._native")]
pub(crate) struct NativeClient {
    store: Py<NativeStore>,
}

impl NativeClient {
    fn open_store(&self) -> PyResult<OpenStore> {
        Ok(OpenStore::of(self.store.get().adapter()?))
    }

    fn call<T, F>(&self, operation: impl FnOnce(OpenStore) -> F) -> PyResult<Call>
    where
        T: for<'py> IntoPyObject<'py> + Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        Ok(Call::new(operation(self.open_store()?)))
    }
}

#[pymethods]
impl NativeClient {
    #[new]
    fn new(store: Py<NativeStore>) -> PyResult<Self> {
        store.get().adapter()?;
        Ok(Self { store })
    }

    fn start(&self, request: EncodedStart, if_exists: &str) -> PyResult<Call> {
        let if_exists = read_if_exists(if_exists)?;
        self.call(|store| async move { store.start(request.into(), if_exists).await })
    }

    fn raise_event(&self, instance: String, name: String, data: String) -> PyResult<Call> {
        self.call(|store| async move { store.send(WorkItem::ExternalRaised { instance, name, data }).await })
    }

    fn enqueue_event(&self, instance: String, queue: String, data: String) -> PyResult<Call> {
        self.call(|store| async move { store.send(WorkItem::QueueMessage { instance, name: queue, data }).await })
    }

    fn start_all(&self, requests: Vec<EncodedStart>, if_exists: &str) -> PyResult<Call> {
        let if_exists = read_if_exists(if_exists)?;
        self.call(|store| async move { store.start_all(requests, if_exists).await })
    }

    fn raise_events(&self, events: Vec<EncodedMessage>) -> PyResult<Call> {
        self.call(|store| async move { store.send_all(events, event).await })
    }

    fn enqueue_events(&self, messages: Vec<EncodedMessage>) -> PyResult<Call> {
        self.call(|store| async move { store.send_all(messages, queue_message).await })
    }

    fn relayed(&self, outbox: String) -> PyResult<Call> {
        self.call(|store| async move { Ok(store.store.relayed(&outbox).await?) })
    }

    fn relay(&self, outbox: String, seen: Option<i64>, last: i64, rows: Vec<OutboxRow>) -> PyResult<Call> {
        let relay = relay(outbox, seen, last, rows)?;
        self.call(|store| async move { Ok(RelayAnswer::of(store.store.relay(relay).await?)) })
    }

    fn restart(
        &self,
        instance: String,
        new_instance: Option<String>,
        input: Option<String>,
        version: Option<String>,
    ) -> PyResult<Call> {
        self.call(|store| async move { store.restart(instance, new_instance, input, version).await })
    }

    fn cancel(&self, instance: String, reason: String) -> PyResult<Call> {
        self.call(|store| async move { store.cancel(instance, reason).await })
    }

    fn terminate(&self, instance: String, reason: String, output: Option<String>, recursive: bool) -> PyResult<Call> {
        let request = Termination { instance, reason, output, is_recursive: recursive };
        self.call(|store| async move { store.terminate(request).await })
    }

    fn status(&self, instance: String) -> PyResult<Call> {
        self.call(|store| async move { store.status(&instance).await })
    }

    fn wait(&self, instance: String, timeout_ms: u64) -> PyResult<Call> {
        self.call(|store| async move { store.wait(&instance, timeout_ms).await })
    }

    fn wait_for_status_change(
        &self,
        instance: String,
        last_seen_version: u64,
        poll_interval_ms: u64,
        timeout_ms: u64,
    ) -> PyResult<Call> {
        self.call(|store| async move {
            store.wait_for_status_change(&instance, last_seen_version, poll_interval_ms, timeout_ms).await
        })
    }

    fn kv_value(&self, instance: String, key: String) -> PyResult<Call> {
        self.call(|store| async move { store.kv_value(&instance, &key).await })
    }

    fn kv_values(&self, instance: String) -> PyResult<Call> {
        self.call(|store| async move { store.kv_values(&instance).await })
    }

    fn wait_for_kv_value(&self, instance: String, key: String, timeout_ms: u64) -> PyResult<Call> {
        self.call(|store| async move { store.wait_for_kv_value(&instance, &key, timeout_ms).await })
    }

    fn list_instances(&self, status: Option<String>) -> PyResult<Call> {
        self.call(|store| async move { store.list_instances(status.as_deref()).await })
    }

    fn instance_info(&self, instance: String) -> PyResult<Call> {
        self.call(|store| async move { store.instance_info(&instance).await })
    }

    fn describe(&self, instance: String) -> PyResult<Call> {
        self.call(|store| async move { store.describe(&instance).await })
    }

    fn page(
        &self,
        query: NativeQuery,
        is_oldest_first: bool,
        limit: u32,
        after: Option<(i64, String)>,
    ) -> PyResult<Call> {
        self.call(|store| async move { store.page(query, is_oldest_first, limit, after).await })
    }

    fn counts(&self, query: NativeQuery) -> PyResult<Call> {
        self.call(|store| async move { store.counts(query).await })
    }

    fn execution_info(&self, instance: String, execution_id: u64) -> PyResult<Call> {
        self.call(|store| async move { store.execution_info(&instance, execution_id).await })
    }

    fn list_executions(&self, instance: String) -> PyResult<Call> {
        self.call(|store| async move { store.list_executions(&instance).await })
    }

    fn history(&self, instance: String, execution_id: Option<u64>) -> PyResult<Call> {
        self.call(|store| async move { store.history(&instance, execution_id).await })
    }

    fn stats(&self, instance: String) -> PyResult<Call> {
        self.call(|store| async move { Ok(store.stats(&instance).await?.as_ref().map(stats)) })
    }

    fn system_metrics(&self) -> PyResult<Call> {
        self.call(|store| async move { Ok(system_metrics(&store.system_metrics().await?)) })
    }

    fn queue_depths(&self) -> PyResult<Call> {
        self.call(|store| async move { Ok(queue_depths(&store.queue_depths().await?)) })
    }

    fn tree(&self, instance: String) -> PyResult<Call> {
        self.call(|store| async move { store.tree(&instance).await })
    }

    fn delete(&self, instance: String, force: bool) -> PyResult<Call> {
        self.call(|store| async move { Ok(deleted(&store.delete(&instance, force).await?)) })
    }

    fn delete_bulk(
        &self,
        instance_ids: Option<Vec<String>>,
        completed_before: Option<u64>,
        limit: Option<u32>,
    ) -> PyResult<Call> {
        let filter = InstanceFilter { instance_ids, completed_before, limit };
        self.call(|store| async move { Ok(deleted(&store.delete_bulk(filter).await?)) })
    }

    fn prune(&self, instance: String, keep_last: Option<u32>, completed_before: Option<u64>) -> PyResult<Call> {
        let options = PruneOptions { keep_last, completed_before };
        self.call(|store| async move { Ok(pruned(&store.prune(&instance, options).await?)) })
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
        self.call(|store| async move { Ok(pruned(&store.prune_bulk(filter, options).await?)) })
    }
}
