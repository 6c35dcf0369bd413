//! The store of a client process. It answers reads, sends what it is asked to send, and refuses to work on the store.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use duroxide::Event;
use duroxide::providers::{
    DeleteInstanceResult, ExecutionInfo, InstanceFilter, InstanceInfo, InstanceTree, PruneOptions, PruneResult,
    QueueDepths, SystemMetrics,
};
use rusqlite::Connection;

use crate::clock::after_ms;
use crate::error::{Result, StoreError, spawn_blocking};
use crate::failure::Failure;
use crate::forward::forward_engine_operations;
use crate::operations::{AdminOperations, operation_name};
use crate::sqlite::client::ClientStore;
use crate::sqlite::read;
use crate::sqlite::read::Page;
use crate::types::InstanceState;

/// The store for the clients of a process that does not work on it.
pub struct ClientProvider(pub Arc<ClientStore>);

impl ClientProvider {
    /// A read takes microseconds, and waits for no other process.
    fn read<T>(&self, operation: &'static str, query: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.0.readers().read(operation, query)
    }

    /// Which of these instances have ended.
    pub fn ended(&self, ids: &[String]) -> Result<HashSet<String>> {
        self.read("get_instance_info", |connection| read::ended(connection, ids))
    }

    pub fn instance_state(&self, id: &str) -> Result<Option<InstanceState>> {
        self.read("get_instance_info", |connection| read::instance_state(connection, id))
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
        let writing = spawn_blocking(move || write(&store)).map_err(|error| failure_of(operation, error))?;
        match writing.await {
            Ok(outcome) => outcome.map_err(|error| failure_of(operation, error)),
            Err(error) => Err(Failure::refused(operation, format!("it was broken off: {error}"))),
        }
    }
}

/// Never one that is tried again by itself: what was asked for may have been done.
fn failure_of(operation: &'static str, error: StoreError) -> Failure {
    match error {
        StoreError::Failed(failure) => failure,
        StoreError::Closed => Failure::closed(operation),
        other => Failure::refused(operation, other.to_string()),
    }
}

fn needs_the_owner<T>(operation: &'static str) -> Result<T> {
    Err(Failure::refused(operation, "this process is a client of the store and does not work on it"))
}

macro_rules! for_clients {
    ($self:ident, enqueue_for_orchestrator($item:ident, $delay:ident)) => {{
        let visible_ms = $delay.map_or(0, after_ms);
        $self.write("enqueue_for_orchestrator", move |store| store.send(vec![$item], visible_ms)).await
    }};
    ($self:ident, read($instance:ident)) => {
        $self.read("read", |connection| read::read(connection, $instance))
    };
    ($self:ident, read_with_execution($instance:ident, $execution_id:ident)) => {
        $self.read("read_with_execution", |connection| read::read_execution(connection, $instance, $execution_id))
    };
    ($self:ident, get_custom_status($instance:ident, $last_seen:ident)) => {
        $self.read("get_custom_status", |connection| read::custom_status(connection, $instance, $last_seen))
    };
    ($self:ident, get_kv_value($instance:ident, $key:ident)) => {
        $self.read("get_kv_value", |connection| read::kv_value(connection, $instance, $key))
    };
    ($self:ident, get_kv_all_values($instance:ident)) => {
        $self.read("get_kv_all_values", |connection| read::kv_all(connection, $instance))
    };
    ($self:ident, get_instance_stats($instance:ident)) => {
        $self.read("get_instance_stats", |connection| read::instance_stats(connection, $instance))
    };
    // All others work on the store.
    ($self:ident, $operation:ident($($argument:ident),*)) => {{
        $(let _ = $argument;)*
        needs_the_owner(operation_name!($operation))
    }};
}

forward_engine_operations!(ClientProvider, for_clients);

#[async_trait]
impl AdminOperations for ClientProvider {
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
