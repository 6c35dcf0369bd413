//! One opened file, or one store in memory, as the rest of the process uses it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use duroxide::providers::{
    DeleteInstanceResult, DispatcherCapabilityFilter, ExecutionInfo, ExecutionMetadata, InstanceFilter, InstanceInfo,
    OrchestrationItem, Provider, ProviderAdmin, ProviderError, PruneOptions, PruneResult, QueueDepths,
    ScheduledActivityIdentifier, SessionFetchConfig, SystemMetrics, TagFilter, WorkItem,
};
use duroxide::{Event, SystemStats};
use parking_lot::RwLock;

use super::connection;
use super::owner::{Opening, Owner};
use crate::store::error::{CLOSED, StoreError};
use crate::store::{Durability, IfExists, Standing, StartOutcome, StartRequest};

type Outcome<T> = Result<T, ProviderError>;

pub(in crate::store) struct SqliteStore {
    file: Option<PathBuf>,
    role: RwLock<Role>,
}

enum Role {
    Owner(Arc<Owner>),
    Closed,
}

impl SqliteStore {
    pub fn open(path: &Path, durability: Durability) -> Result<Self, StoreError> {
        let connection = connection::open(path, durability)?;
        let owner = Owner::open(Opening {
            description: format!("SQLite file '{}'", path.display()),
            connection,
            file: Some(path.to_owned()),
            is_bare: false,
        })?;
        Ok(Self { file: Some(path.to_owned()), role: RwLock::new(Role::Owner(owner)) })
    }

    pub fn in_memory() -> Result<Self, StoreError> {
        let owner = Owner::open(Opening {
            description: "store in memory".to_owned(),
            connection: connection::in_memory()?,
            file: None,
            is_bare: false,
        })?;
        Ok(Self { file: None, role: RwLock::new(Role::Owner(owner)) })
    }

    pub fn owner(&self) -> Outcome<Arc<Owner>> {
        match &*self.role.read() {
            Role::Owner(owner) => Ok(Arc::clone(owner)),
            Role::Closed => Err(ProviderError::permanent("store", CLOSED)),
        }
    }

    pub async fn close(&self) {
        let role = std::mem::replace(&mut *self.role.write(), Role::Closed);
        if let Role::Owner(owner) = role {
            owner.close().await;
        }
    }

    pub async fn start(
        &self,
        requests: Vec<StartRequest>,
        if_exists: IfExists,
    ) -> Result<Vec<StartOutcome>, StoreError> {
        self.owner()?.start(requests, if_exists).await
    }

    pub async fn send(&self, messages: Vec<WorkItem>) -> Outcome<()> {
        self.owner()?.send(messages).await
    }

    pub fn standing(&self, instance: &str) -> Outcome<Option<Standing>> {
        self.owner()?.standing(instance)
    }

    /// The lease of this turn does not end while `is_busy`.
    pub fn lasts_while_busy(&self, token: &str, is_busy: &Arc<AtomicBool>) {
        if let Ok(owner) = self.owner() {
            owner.lasts_while_busy(token, is_busy);
        }
    }

    pub fn running(&self, instance: &str) -> Outcome<Option<String>> {
        self.owner()?.running(instance)
    }
}

/// One method that the owner of the file has too.
macro_rules! owners {
    ($self:ident.$method:ident($($argument:expr),*)) => {
        $self.owner()?.$method($($argument),*).await
    };
}

#[async_trait]
impl Provider for SqliteStore {
    fn name(&self) -> &str {
        "duroxide-python sqlite"
    }

    fn version(&self) -> &str {
        env!("CARGO_PKG_VERSION")
    }

    async fn fetch_orchestration_item(
        &self,
        lock_timeout: Duration,
        poll_timeout: Duration,
        filter: Option<&DispatcherCapabilityFilter>,
    ) -> Outcome<Option<(OrchestrationItem, String, u32)>> {
        owners!(self.fetch_orchestration_item(lock_timeout, poll_timeout, filter))
    }

    async fn ack_orchestration_item(
        &self,
        lock_token: &str,
        execution_id: u64,
        history_delta: Vec<Event>,
        worker_items: Vec<WorkItem>,
        orchestrator_items: Vec<WorkItem>,
        metadata: ExecutionMetadata,
        cancelled_activities: Vec<ScheduledActivityIdentifier>,
    ) -> Outcome<()> {
        owners!(self.ack_orchestration_item(
            lock_token,
            execution_id,
            history_delta,
            worker_items,
            orchestrator_items,
            metadata,
            cancelled_activities
        ))
    }

    async fn abandon_orchestration_item(
        &self,
        lock_token: &str,
        delay: Option<Duration>,
        ignore_attempt: bool,
    ) -> Outcome<()> {
        owners!(self.abandon_orchestration_item(lock_token, delay, ignore_attempt))
    }

    async fn renew_orchestration_item_lock(&self, token: &str, extend_for: Duration) -> Outcome<()> {
        owners!(self.renew_orchestration_item_lock(token, extend_for))
    }

    async fn fetch_work_item(
        &self,
        lock_timeout: Duration,
        poll_timeout: Duration,
        session: Option<&SessionFetchConfig>,
        tag_filter: &TagFilter,
    ) -> Outcome<Option<(WorkItem, String, u32)>> {
        owners!(self.fetch_work_item(lock_timeout, poll_timeout, session, tag_filter))
    }

    async fn ack_work_item(&self, token: &str, completion: Option<WorkItem>) -> Outcome<()> {
        owners!(self.ack_work_item(token, completion))
    }

    async fn abandon_work_item(&self, token: &str, delay: Option<Duration>, ignore_attempt: bool) -> Outcome<()> {
        owners!(self.abandon_work_item(token, delay, ignore_attempt))
    }

    async fn renew_work_item_lock(&self, token: &str, extend_for: Duration) -> Outcome<()> {
        owners!(self.renew_work_item_lock(token, extend_for))
    }

    async fn renew_session_lock(&self, owner_ids: &[&str], extend_for: Duration, idle: Duration) -> Outcome<usize> {
        owners!(self.renew_session_lock(owner_ids, extend_for, idle))
    }

    async fn cleanup_orphaned_sessions(&self, idle: Duration) -> Outcome<usize> {
        owners!(self.cleanup_orphaned_sessions(idle))
    }

    async fn enqueue_for_orchestrator(&self, item: WorkItem, delay: Option<Duration>) -> Outcome<()> {
        owners!(self.enqueue_for_orchestrator(item, delay))
    }

    async fn enqueue_for_worker(&self, item: WorkItem) -> Outcome<()> {
        owners!(self.enqueue_for_worker(item))
    }

    async fn read(&self, instance: &str) -> Outcome<Vec<Event>> {
        owners!(self.read(instance))
    }

    async fn read_with_execution(&self, instance: &str, execution_id: u64) -> Outcome<Vec<Event>> {
        owners!(self.read_with_execution(instance, execution_id))
    }

    async fn append_with_execution(&self, instance: &str, execution_id: u64, events: Vec<Event>) -> Outcome<()> {
        owners!(self.append_with_execution(instance, execution_id, events))
    }

    async fn get_custom_status(&self, instance: &str, last_seen: u64) -> Outcome<Option<(Option<String>, u64)>> {
        owners!(self.get_custom_status(instance, last_seen))
    }

    async fn get_kv_value(&self, instance: &str, key: &str) -> Outcome<Option<String>> {
        owners!(self.get_kv_value(instance, key))
    }

    async fn get_kv_all_values(&self, instance: &str) -> Outcome<HashMap<String, String>> {
        owners!(self.get_kv_all_values(instance))
    }

    async fn get_instance_stats(&self, instance: &str) -> Outcome<Option<SystemStats>> {
        owners!(self.get_instance_stats(instance))
    }

    fn as_management_capability(&self) -> Option<&dyn ProviderAdmin> {
        Some(self)
    }
}

#[async_trait]
impl ProviderAdmin for SqliteStore {
    async fn list_instances(&self) -> Outcome<Vec<String>> {
        owners!(self.list_instances())
    }

    async fn list_instances_by_status(&self, status: &str) -> Outcome<Vec<String>> {
        owners!(self.list_instances_by_status(status))
    }

    async fn list_executions(&self, instance: &str) -> Outcome<Vec<u64>> {
        owners!(self.list_executions(instance))
    }

    async fn read_history_with_execution_id(&self, instance: &str, execution_id: u64) -> Outcome<Vec<Event>> {
        owners!(self.read_history_with_execution_id(instance, execution_id))
    }

    async fn read_history(&self, instance: &str) -> Outcome<Vec<Event>> {
        owners!(self.read_history(instance))
    }

    async fn latest_execution_id(&self, instance: &str) -> Outcome<u64> {
        owners!(self.latest_execution_id(instance))
    }

    async fn get_instance_info(&self, instance: &str) -> Outcome<InstanceInfo> {
        owners!(self.get_instance_info(instance))
    }

    async fn get_execution_info(&self, instance: &str, execution_id: u64) -> Outcome<ExecutionInfo> {
        owners!(self.get_execution_info(instance, execution_id))
    }

    async fn get_system_metrics(&self) -> Outcome<SystemMetrics> {
        owners!(self.get_system_metrics())
    }

    async fn get_queue_depths(&self) -> Outcome<QueueDepths> {
        owners!(self.get_queue_depths())
    }

    async fn list_children(&self, instance_id: &str) -> Outcome<Vec<String>> {
        owners!(self.list_children(instance_id))
    }

    async fn get_parent_id(&self, instance_id: &str) -> Outcome<Option<String>> {
        owners!(self.get_parent_id(instance_id))
    }

    async fn delete_instances_atomic(&self, ids: &[String], force: bool) -> Outcome<DeleteInstanceResult> {
        owners!(self.delete_instances_atomic(ids, force))
    }

    async fn delete_instance_bulk(&self, filter: InstanceFilter) -> Outcome<DeleteInstanceResult> {
        owners!(self.delete_instance_bulk(filter))
    }

    async fn prune_executions(&self, instance_id: &str, options: PruneOptions) -> Outcome<PruneResult> {
        owners!(self.prune_executions(instance_id, options))
    }

    async fn prune_executions_bulk(&self, filter: InstanceFilter, options: PruneOptions) -> Outcome<PruneResult> {
        owners!(self.prune_executions_bulk(filter, options))
    }
}
