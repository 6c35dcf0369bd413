//! The store as the clients of this process see it: real reads, and every change is told to whoever waits for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use duroxide::providers::{
    DeleteInstanceResult, DispatcherCapabilityFilter, ExecutionInfo, ExecutionMetadata, InstanceFilter, InstanceInfo,
    OrchestrationItem, Provider, ProviderAdmin, ProviderError, PruneOptions, PruneResult, QueueDepths,
    ScheduledActivityIdentifier, SessionFetchConfig, SystemMetrics, TagFilter, WorkItem,
};
use duroxide::{Event, SystemStats};

use crate::process::ProcessState;
use store::Result;
use store::retry::{Retry, RetryLimit};
use store::retrying;

/// A [`Provider`] for clients. Its locking operations are for a dispatcher and go through as they are.
pub struct ClientView {
    pub shared: Arc<ProcessState>,
}

/// One operation of the provider below, by name; the operation's own name is the one in errors.
macro_rules! forward {
    ($self:ident, $patience:ident, $operation:ident($($argument:expr),*)) => {{
        let backend = $self.shared.backend();
        let mut retry = Retry::new(RetryLimit::$patience);
        retrying!($self.shared.availability(), stringify!($operation), &mut retry, backend.$operation($($argument),*))
    }};
}

macro_rules! manage {
    ($self:ident, $patience:ident, $operation:ident($($argument:expr),*)) => {{
        let mut retry = Retry::new(RetryLimit::$patience);
        match $self.shared.backend().as_management_capability() {
            Some(admin) => {
                retrying!($self.shared.availability(), stringify!($operation), &mut retry, admin.$operation($($argument),*))
            }
            None => Err(ProviderError::permanent(stringify!($operation), "this store has no management operations")),
        }
    }};
}

#[async_trait]
impl Provider for ClientView {
    fn name(&self) -> &str {
        self.shared.backend().name()
    }

    fn version(&self) -> &str {
        self.shared.backend().version()
    }

    async fn read(&self, instance: &str) -> Result<Vec<Event>> {
        forward!(self, Caller, read(instance))
    }

    async fn read_with_execution(&self, instance: &str, execution_id: u64) -> Result<Vec<Event>> {
        forward!(self, Caller, read_with_execution(instance, execution_id))
    }

    async fn append_with_execution(&self, instance: &str, execution_id: u64, events: Vec<Event>) -> Result<()> {
        forward!(self, CallerOnce, append_with_execution(instance, execution_id, events.clone()))?;
        self.shared.watches.notify(instance);
        Ok(())
    }

    async fn enqueue_for_worker(&self, item: WorkItem) -> Result<()> {
        forward!(self, CallerOnce, enqueue_for_worker(item.clone()))?;
        Ok(())
    }

    async fn enqueue_for_orchestrator(&self, item: WorkItem, delay: Option<Duration>) -> Result<()> {
        let backend = self.shared.backend();
        // Both stores know what they have recorded: what they say may be tried again was not.
        let mut retry = Retry::new(RetryLimit::Caller);
        retrying!(
            self.shared.availability(),
            "enqueue_for_orchestrator",
            &mut retry,
            backend.enqueue_for_orchestrator(item.clone(), delay)
        )?;
        self.shared.enqueued(&item);
        Ok(())
    }

    fn as_management_capability(&self) -> Option<&dyn ProviderAdmin> {
        self.shared.backend().as_management_capability().map(|_| self as &dyn ProviderAdmin)
    }

    async fn get_custom_status(&self, instance: &str, last_seen_version: u64) -> Result<Option<(Option<String>, u64)>> {
        forward!(self, Caller, get_custom_status(instance, last_seen_version))
    }

    async fn get_kv_value(&self, instance: &str, key: &str) -> Result<Option<String>> {
        forward!(self, Caller, get_kv_value(instance, key))
    }

    async fn get_kv_all_values(&self, instance: &str) -> Result<HashMap<String, String>> {
        forward!(self, Caller, get_kv_all_values(instance))
    }

    async fn get_instance_stats(&self, instance: &str) -> Result<Option<SystemStats>> {
        forward!(self, Caller, get_instance_stats(instance))
    }

    async fn fetch_orchestration_item(
        &self,
        lock_timeout: Duration,
        poll_timeout: Duration,
        filter: Option<&DispatcherCapabilityFilter>,
    ) -> Result<Option<(OrchestrationItem, String, u32)>> {
        forward!(self, CallerOnce, fetch_orchestration_item(lock_timeout, poll_timeout, filter))
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
        forward!(
            self,
            CallerOnce,
            ack_orchestration_item(
                lock_token,
                execution_id,
                history_delta.clone(),
                worker_items.clone(),
                orchestrator_items.clone(),
                metadata.clone(),
                cancelled_activities.clone()
            )
        )
    }

    async fn abandon_orchestration_item(
        &self,
        token: &str,
        delay: Option<Duration>,
        ignore_attempt: bool,
    ) -> Result<()> {
        forward!(self, CallerOnce, abandon_orchestration_item(token, delay, ignore_attempt))
    }

    async fn renew_orchestration_item_lock(&self, token: &str, extend_for: Duration) -> Result<()> {
        forward!(self, Lease, renew_orchestration_item_lock(token, extend_for))
    }

    async fn fetch_work_item(
        &self,
        lock_timeout: Duration,
        poll_timeout: Duration,
        session: Option<&SessionFetchConfig>,
        tag_filter: &TagFilter,
    ) -> Result<Option<(WorkItem, String, u32)>> {
        forward!(self, CallerOnce, fetch_work_item(lock_timeout, poll_timeout, session, tag_filter))
    }

    async fn ack_work_item(&self, token: &str, completion: Option<WorkItem>) -> Result<()> {
        forward!(self, Lease, ack_work_item(token, completion.clone()))
    }

    async fn renew_work_item_lock(&self, token: &str, extend_for: Duration) -> Result<()> {
        forward!(self, Lease, renew_work_item_lock(token, extend_for))
    }

    async fn abandon_work_item(&self, token: &str, delay: Option<Duration>, ignore_attempt: bool) -> Result<()> {
        forward!(self, CallerOnce, abandon_work_item(token, delay, ignore_attempt))
    }

    async fn renew_session_lock(&self, owners: &[&str], extend_for: Duration, idle: Duration) -> Result<usize> {
        forward!(self, Lease, renew_session_lock(owners, extend_for, idle))
    }

    async fn cleanup_orphaned_sessions(&self, idle: Duration) -> Result<usize> {
        forward!(self, Caller, cleanup_orphaned_sessions(idle))
    }
}

#[async_trait]
impl ProviderAdmin for ClientView {
    async fn list_instances(&self) -> Result<Vec<String>> {
        manage!(self, Caller, list_instances())
    }

    async fn list_instances_by_status(&self, status: &str) -> Result<Vec<String>> {
        manage!(self, Caller, list_instances_by_status(status))
    }

    async fn list_executions(&self, instance: &str) -> Result<Vec<u64>> {
        manage!(self, Caller, list_executions(instance))
    }

    async fn read_history_with_execution_id(&self, instance: &str, execution_id: u64) -> Result<Vec<Event>> {
        manage!(self, Caller, read_history_with_execution_id(instance, execution_id))
    }

    async fn read_history(&self, instance: &str) -> Result<Vec<Event>> {
        manage!(self, Caller, read_history(instance))
    }

    async fn latest_execution_id(&self, instance: &str) -> Result<u64> {
        manage!(self, Caller, latest_execution_id(instance))
    }

    async fn get_instance_info(&self, instance: &str) -> Result<InstanceInfo> {
        manage!(self, Caller, get_instance_info(instance))
    }

    async fn get_execution_info(&self, instance: &str, execution_id: u64) -> Result<ExecutionInfo> {
        manage!(self, Caller, get_execution_info(instance, execution_id))
    }

    async fn get_system_metrics(&self) -> Result<SystemMetrics> {
        manage!(self, Caller, get_system_metrics())
    }

    async fn get_queue_depths(&self) -> Result<QueueDepths> {
        manage!(self, Caller, get_queue_depths())
    }

    async fn list_children(&self, instance_id: &str) -> Result<Vec<String>> {
        manage!(self, Caller, list_children(instance_id))
    }

    async fn get_parent_id(&self, instance_id: &str) -> Result<Option<String>> {
        manage!(self, Caller, get_parent_id(instance_id))
    }

    async fn delete_instances_atomic(&self, ids: &[String], force: bool) -> Result<DeleteInstanceResult> {
        if !force {
            // Between two executions an instance is alive, but the provider calls it ended.
            for id in ids {
                if self.get_instance_info(id).await?.status == CONTINUED {
                    return Err(ProviderError::permanent(
                        "delete_instances_atomic",
                        format!("Instance {id} is still running. Use force=true to delete anyway, or cancel first."),
                    ));
                }
            }
        }
        let result = manage!(self, Caller, delete_instances_atomic(ids, force))?;
        for id in ids {
            self.shared.deleted(id);
        }
        Ok(result)
    }

    async fn delete_instance_bulk(&self, filter: InstanceFilter) -> Result<DeleteInstanceResult> {
        let continued = if self.shared.backend().traits().lists_continued {
            self.list_instances_by_status(CONTINUED).await?
        } else {
            Vec::new()
        };
        let filter = if continued.is_empty() { filter } else { self.without(filter, &continued).await? };
        let result = manage!(self, Caller, delete_instance_bulk(filter.clone()))?;
        // Which instances they were is not told.
        self.shared.descriptors.forget_all();
        self.shared.watches.notify_all();
        Ok(result)
    }

    async fn prune_executions(&self, instance_id: &str, options: PruneOptions) -> Result<PruneResult> {
        manage!(self, Caller, prune_executions(instance_id, options.clone()))
    }

    async fn prune_executions_bulk(&self, filter: InstanceFilter, options: PruneOptions) -> Result<PruneResult> {
        manage!(self, Caller, prune_executions_bulk(filter.clone(), options.clone()))
    }
}

const CONTINUED: &str = "ContinuedAsNew";

impl ClientView {
    /// The same filter, without the instances that are between two executions.
    async fn without(&self, mut filter: InstanceFilter, continued: &[String]) -> Result<InstanceFilter> {
        let mut ids = if let Some(ids) = filter.instance_ids.take() {
            ids
        } else {
            let mut ids = self.list_instances_by_status("Completed").await?;
            ids.extend(self.list_instances_by_status("Failed").await?);
            ids
        };
        ids.retain(|id| !continued.contains(id));
        filter.instance_ids = Some(ids);
        Ok(filter)
    }
}
