//! The store as the engine knows stores: each operation goes to whoever this process is for the file at that moment.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use duroxide::providers::{
    DeleteInstanceResult, DispatcherCapabilityFilter, ExecutionInfo, ExecutionMetadata, InstanceFilter, InstanceInfo,
    OrchestrationItem, Provider, ProviderAdmin, PruneOptions, PruneResult, QueueDepths, ScheduledActivityIdentifier,
    SessionFetchConfig, SystemMetrics, TagFilter, WorkItem,
};
use duroxide::{Event, SystemStats};
use tokio::time::{Instant, timeout_at};

use crate::error::Result;
use crate::sqlite::owner_session::OwnerSession;
use crate::sqlite::store::{Role, SqliteStore};

/// One method that both roles have.
macro_rules! either {
    ($self:ident.$method:ident($($argument:expr),*)) => {
        match $self.role()? {
            Role::Owner(work) => work.owner.$method($($argument),*).await,
            Role::Client(client) => client.$method($($argument),*).await,
        }
    };
}

/// As [`either`], once more when the owner was closed under the operation, which then was not carried out.
macro_rules! either_again {
    ($self:ident.$method:ident($($argument:expr),*)) => {
        match either!($self.$method($($argument.clone()),*)) {
            Err(error) if $self.has_changed_its_role(&error) => either!($self.$method($($argument),*)),
            outcome => outcome,
        }
    };
}

impl SqliteStore {
    /// What this process works with and how long until `deadline`, once it is the owner; `None` when it is not in time.
    async fn until_owner(&self, deadline: Instant) -> Result<Option<(Arc<OwnerSession>, Duration)>> {
        loop {
            let mut changes = self.next_role();
            if let Role::Owner(work) = self.role()? {
                let rest = deadline.saturating_duration_since(Instant::now());
                return Ok(Some((work, rest)));
            }
            if timeout_at(deadline, changes.changed()).await.is_err() {
                return Ok(None);
            }
        }
    }
}

#[async_trait]
impl Provider for SqliteStore {
    fn name(&self) -> &'static str {
        "duroxide-python sqlite"
    }

    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    async fn fetch_orchestration_item(
        &self,
        lock_timeout: Duration,
        poll_timeout: Duration,
        filter: Option<&DispatcherCapabilityFilter>,
    ) -> Result<Option<(OrchestrationItem, String, u32)>> {
        let deadline = Instant::now() + poll_timeout;
        while let Some((work, rest)) = self.until_owner(deadline).await? {
            match work.owner.fetch_orchestration_item(lock_timeout, rest, filter).await {
                Err(error) if self.has_changed_its_role(&error) => {}
                outcome => return outcome,
            }
        }
        Ok(None)
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
    ) -> Result<()> {
        either!(self.ack_orchestration_item(
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
    ) -> Result<()> {
        either!(self.abandon_orchestration_item(lock_token, delay, ignore_attempt))
    }

    async fn renew_orchestration_item_lock(&self, token: &str, extend_for: Duration) -> Result<()> {
        either!(self.renew_orchestration_item_lock(token, extend_for))
    }

    async fn fetch_work_item(
        &self,
        lock_timeout: Duration,
        poll_timeout: Duration,
        session: Option<&SessionFetchConfig>,
        tag_filter: &TagFilter,
    ) -> Result<Option<(WorkItem, String, u32)>> {
        let deadline = Instant::now() + poll_timeout;
        while let Some((work, rest)) = self.until_owner(deadline).await? {
            match work.owner.fetch_work_item(lock_timeout, rest, session, tag_filter).await {
                Err(error) if self.has_changed_its_role(&error) => {}
                outcome => return outcome,
            }
        }
        Ok(None)
    }

    async fn ack_work_item(&self, token: &str, completion: Option<WorkItem>) -> Result<()> {
        either!(self.ack_work_item(token, completion))
    }

    async fn abandon_work_item(&self, token: &str, delay: Option<Duration>, ignore_attempt: bool) -> Result<()> {
        either!(self.abandon_work_item(token, delay, ignore_attempt))
    }

    async fn renew_work_item_lock(&self, token: &str, extend_for: Duration) -> Result<()> {
        either!(self.renew_work_item_lock(token, extend_for))
    }

    async fn renew_session_lock(&self, owner_ids: &[&str], extend_for: Duration, idle: Duration) -> Result<usize> {
        either!(self.renew_session_lock(owner_ids, extend_for, idle))
    }

    async fn cleanup_orphaned_sessions(&self, idle: Duration) -> Result<usize> {
        either!(self.cleanup_orphaned_sessions(idle))
    }

    async fn enqueue_for_orchestrator(&self, item: WorkItem, delay: Option<Duration>) -> Result<()> {
        either_again!(self.enqueue_for_orchestrator(item, delay))
    }

    async fn enqueue_for_worker(&self, item: WorkItem) -> Result<()> {
        either!(self.enqueue_for_worker(item))
    }

    async fn read(&self, instance: &str) -> Result<Vec<Event>> {
        either!(self.read(instance))
    }

    async fn read_with_execution(&self, instance: &str, execution_id: u64) -> Result<Vec<Event>> {
        either!(self.read_with_execution(instance, execution_id))
    }

    async fn append_with_execution(&self, instance: &str, execution_id: u64, events: Vec<Event>) -> Result<()> {
        either!(self.append_with_execution(instance, execution_id, events))
    }

    async fn get_custom_status(&self, instance: &str, last_seen: u64) -> Result<Option<(Option<String>, u64)>> {
        either!(self.get_custom_status(instance, last_seen))
    }

    async fn get_kv_value(&self, instance: &str, key: &str) -> Result<Option<String>> {
        either!(self.get_kv_value(instance, key))
    }

    async fn get_kv_all_values(&self, instance: &str) -> Result<HashMap<String, String>> {
        either!(self.get_kv_all_values(instance))
    }

    async fn get_instance_stats(&self, instance: &str) -> Result<Option<SystemStats>> {
        either!(self.get_instance_stats(instance))
    }

    fn as_management_capability(&self) -> Option<&dyn ProviderAdmin> {
        Some(self)
    }
}

#[async_trait]
impl ProviderAdmin for SqliteStore {
    async fn list_instances(&self) -> Result<Vec<String>> {
        either!(self.list_instances())
    }

    async fn list_instances_by_status(&self, status: &str) -> Result<Vec<String>> {
        either!(self.list_instances_by_status(status))
    }

    async fn list_executions(&self, instance: &str) -> Result<Vec<u64>> {
        either!(self.list_executions(instance))
    }

    async fn read_history_with_execution_id(&self, instance: &str, execution_id: u64) -> Result<Vec<Event>> {
        either!(self.read_history_with_execution_id(instance, execution_id))
    }

    async fn read_history(&self, instance: &str) -> Result<Vec<Event>> {
        either!(self.read_history(instance))
    }

    async fn latest_execution_id(&self, instance: &str) -> Result<u64> {
        either!(self.latest_execution_id(instance))
    }

    async fn get_instance_info(&self, instance: &str) -> Result<InstanceInfo> {
        either!(self.get_instance_info(instance))
    }

    async fn get_execution_info(&self, instance: &str, execution_id: u64) -> Result<ExecutionInfo> {
        either!(self.get_execution_info(instance, execution_id))
    }

    async fn get_system_metrics(&self) -> Result<SystemMetrics> {
        either!(self.get_system_metrics())
    }

    async fn get_queue_depths(&self) -> Result<QueueDepths> {
        either!(self.get_queue_depths())
    }

    async fn list_children(&self, instance_id: &str) -> Result<Vec<String>> {
        either!(self.list_children(instance_id))
    }

    async fn get_parent_id(&self, instance_id: &str) -> Result<Option<String>> {
        either!(self.get_parent_id(instance_id))
    }

    async fn delete_instances_atomic(&self, ids: &[String], force: bool) -> Result<DeleteInstanceResult> {
        either!(self.delete_instances_atomic(ids, force))
    }

    async fn delete_instance_bulk(&self, filter: InstanceFilter) -> Result<DeleteInstanceResult> {
        either_again!(self.delete_instance_bulk(filter))
    }

    async fn prune_executions(&self, instance_id: &str, options: PruneOptions) -> Result<PruneResult> {
        either!(self.prune_executions(instance_id, options))
    }

    async fn prune_executions_bulk(&self, filter: InstanceFilter, options: PruneOptions) -> Result<PruneResult> {
        either_again!(self.prune_executions_bulk(filter, options))
    }
}
