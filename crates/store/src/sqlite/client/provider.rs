//! The store of a client process as the engine knows stores. Working on it is refused.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use duroxide::providers::{
    DeleteInstanceResult, DispatcherCapabilityFilter, ExecutionInfo, ExecutionMetadata, InstanceFilter, InstanceInfo,
    InstanceTree, OrchestrationItem, Provider, ProviderAdmin, ProviderError, PruneOptions, PruneResult, QueueDepths,
    ScheduledActivityIdentifier, SessionFetchConfig, SystemMetrics, TagFilter, WorkItem,
};
use duroxide::{Event, SystemStats};
use rusqlite::Connection;

use crate::clock::after_ms;
use crate::error::Result;
use crate::error::{CLOSED, StoreError};
use crate::sqlite::client::ClientStore;
use crate::sqlite::read;
use crate::sqlite::read::Page;
use crate::types::InstanceState;

/// A [`Provider`] for the clients of a process that does not work on the store.
pub struct ClientProvider(pub Arc<ClientStore>);

impl ClientProvider {
    /// A read takes microseconds, and waits for nobody.
    fn read<T>(&self, operation: &'static str, look: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.0.readers().read(operation, look)
    }

    pub fn standing(&self, id: &str) -> Result<Option<InstanceState>> {
        self.read("get_instance_info", |connection| read::standing(connection, id))
    }

    pub fn mismatch(&self, id: &str) -> Result<Option<String>> {
        self.read("get_instance_info", |connection| read::mismatch(connection, id))
    }

    pub fn back_up(&self, target: &Path) -> Result<()> {
        self.read("backup", |connection| read::back_up(connection, target))
    }

    /// Everything else waits for the disk, and may wait for another process.
    async fn write<T: Send + 'static>(
        &self,
        operation: &'static str,
        write: impl FnOnce(&ClientStore) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T> {
        let store = Arc::clone(&self.0);
        match tokio::task::spawn_blocking(move || write(&store)).await {
            Ok(outcome) => outcome.map_err(|error| as_provider_error(operation, error)),
            Err(error) => Err(ProviderError::permanent(operation, format!("it was broken off: {error}"))),
        }
    }
}

/// Never one that is tried again by itself: what was asked for may have been done.
fn as_provider_error(operation: &'static str, error: StoreError) -> ProviderError {
    match error {
        StoreError::Provider(error) => error,
        StoreError::Closed => ProviderError::permanent(operation, CLOSED),
        other => ProviderError::permanent(operation, other.to_string()),
    }
}

fn not_here<T>(operation: &'static str) -> Result<T> {
    Err(ProviderError::permanent(operation, "this process is a client of the store and does not work on it"))
}

#[async_trait]
impl Provider for ClientProvider {
    fn name(&self) -> &'static str {
        "duroxide-python sqlite client"
    }

    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    async fn enqueue_for_orchestrator(&self, item: WorkItem, delay: Option<Duration>) -> Result<()> {
        let visible_ms = delay.map_or(0, after_ms);
        self.write("enqueue_for_orchestrator", move |store| store.send(vec![item], visible_ms)).await
    }

    async fn read(&self, instance: &str) -> Result<Vec<Event>> {
        self.read("read", |connection| read::read(connection, instance))
    }

    async fn read_with_execution(&self, instance: &str, execution_id: u64) -> Result<Vec<Event>> {
        self.read("read_with_execution", |connection| read::read_execution(connection, instance, execution_id))
    }

    async fn get_custom_status(&self, instance: &str, last_seen: u64) -> Result<Option<(Option<String>, u64)>> {
        self.read("get_custom_status", |connection| read::custom_status(connection, instance, last_seen))
    }

    async fn get_kv_value(&self, instance: &str, key: &str) -> Result<Option<String>> {
        self.read("get_kv_value", |connection| read::kv_value(connection, instance, key))
    }

    async fn get_kv_all_values(&self, instance: &str) -> Result<HashMap<String, String>> {
        self.read("get_kv_all_values", |connection| read::kv_all(connection, instance))
    }

    async fn get_instance_stats(&self, instance: &str) -> Result<Option<SystemStats>> {
        self.read("get_instance_stats", |connection| read::instance_stats(connection, instance))
    }

    fn as_management_capability(&self) -> Option<&dyn ProviderAdmin> {
        Some(self)
    }

    async fn fetch_orchestration_item(
        &self,
        _lock_timeout: Duration,
        _poll_timeout: Duration,
        _filter: Option<&DispatcherCapabilityFilter>,
    ) -> Result<Option<(OrchestrationItem, String, u32)>> {
        not_here("fetch_orchestration_item")
    }

    async fn ack_orchestration_item(
        &self,
        _lock_token: &str,
        _execution_id: u64,
        _history_delta: Vec<Event>,
        _worker_items: Vec<WorkItem>,
        _orchestrator_items: Vec<WorkItem>,
        _metadata: ExecutionMetadata,
        _cancelled_activities: Vec<ScheduledActivityIdentifier>,
    ) -> Result<()> {
        not_here("ack_orchestration_item")
    }

    async fn abandon_orchestration_item(&self, _token: &str, _delay: Option<Duration>, _ignore: bool) -> Result<()> {
        not_here("abandon_orchestration_item")
    }

    async fn renew_orchestration_item_lock(&self, _token: &str, _extend_for: Duration) -> Result<()> {
        not_here("renew_orchestration_item_lock")
    }

    async fn fetch_work_item(
        &self,
        _lock_timeout: Duration,
        _poll_timeout: Duration,
        _session: Option<&SessionFetchConfig>,
        _tag_filter: &TagFilter,
    ) -> Result<Option<(WorkItem, String, u32)>> {
        not_here("fetch_work_item")
    }

    async fn ack_work_item(&self, _token: &str, _completion: Option<WorkItem>) -> Result<()> {
        not_here("ack_work_item")
    }

    async fn abandon_work_item(&self, _token: &str, _delay: Option<Duration>, _ignore: bool) -> Result<()> {
        not_here("abandon_work_item")
    }

    async fn renew_work_item_lock(&self, _token: &str, _extend_for: Duration) -> Result<()> {
        not_here("renew_work_item_lock")
    }

    async fn renew_session_lock(&self, _owners: &[&str], _extend_for: Duration, _idle: Duration) -> Result<usize> {
        not_here("renew_session_lock")
    }

    async fn cleanup_orphaned_sessions(&self, _idle: Duration) -> Result<usize> {
        not_here("cleanup_orphaned_sessions")
    }

    async fn enqueue_for_worker(&self, _item: WorkItem) -> Result<()> {
        not_here("enqueue_for_worker")
    }

    async fn append_with_execution(&self, _instance: &str, _execution_id: u64, _events: Vec<Event>) -> Result<()> {
        not_here("append_with_execution")
    }
}

#[async_trait]
impl ProviderAdmin for ClientProvider {
    async fn list_instances(&self) -> Result<Vec<String>> {
        self.read("list_instances", |connection| read::list(connection, Page::default()))
    }

    async fn list_instances_by_status(&self, status: &str) -> Result<Vec<String>> {
        self.read("list_instances_by_status", |connection| read::list_by_status(connection, status, Page::default()))
    }

    async fn list_executions(&self, instance: &str) -> Result<Vec<u64>> {
        self.read("list_executions", |connection| read::executions(connection, instance))
    }

    async fn read_history_with_execution_id(&self, instance: &str, execution_id: u64) -> Result<Vec<Event>> {
        self.read("read_history_with_execution_id", |connection| {
            read::read_execution(connection, instance, execution_id)
        })
    }

    async fn read_history(&self, instance: &str) -> Result<Vec<Event>> {
        self.read("read_history", |connection| read::read(connection, instance))
    }

    async fn latest_execution_id(&self, instance: &str) -> Result<u64> {
        self.read("latest_execution_id", |connection| read::latest_execution(connection, instance))
    }

    async fn get_instance_info(&self, instance: &str) -> Result<InstanceInfo> {
        self.read("get_instance_info", |connection| read::instance_info(connection, instance))
    }

    async fn get_execution_info(&self, instance: &str, execution_id: u64) -> Result<ExecutionInfo> {
        self.read("get_execution_info", |connection| read::execution_info(connection, instance, execution_id))
    }

    async fn get_system_metrics(&self) -> Result<SystemMetrics> {
        self.read("get_system_metrics", read::system_metrics)
    }

    async fn get_queue_depths(&self) -> Result<QueueDepths> {
        let mut depths = self.read("get_queue_depths", read::queue_depths)?;
        depths.orchestrator_queue += self.write("get_queue_depths", ClientStore::waiting_messages).await?;
        Ok(depths)
    }

    async fn list_children(&self, instance_id: &str) -> Result<Vec<String>> {
        self.read("list_children", |connection| read::children(connection, instance_id))
    }

    async fn get_parent_id(&self, instance_id: &str) -> Result<Option<String>> {
        self.read("get_parent_id", |connection| read::parent(connection, instance_id))
    }

    async fn get_instance_tree(&self, instance_id: &str) -> Result<InstanceTree> {
        self.read("get_instance_tree", |connection| read::tree(connection, instance_id))
    }

    async fn delete_instances_atomic(&self, ids: &[String], force: bool) -> Result<DeleteInstanceResult> {
        let ids = ids.to_vec();
        self.write("delete_instances_atomic", move |store| store.delete(&ids, force)).await
    }

    async fn delete_instance_bulk(&self, filter: InstanceFilter) -> Result<DeleteInstanceResult> {
        self.write("delete_instance_bulk", move |store| store.delete_bulk(filter)).await
    }

    async fn prune_executions(&self, instance_id: &str, options: PruneOptions) -> Result<PruneResult> {
        let id = instance_id.to_owned();
        self.write("prune_executions", move |store| store.prune(&id, options)).await
    }

    async fn prune_executions_bulk(&self, filter: InstanceFilter, options: PruneOptions) -> Result<PruneResult> {
        self.write("prune_executions_bulk", move |store| store.prune_bulk(filter, options)).await
    }
}
