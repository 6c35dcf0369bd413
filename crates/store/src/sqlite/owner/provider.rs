//! The owner's implementation of the engine's operations.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use duroxide::providers::{
    DeleteInstanceResult, DispatcherCapabilityFilter, ExecutionInfo, InstanceFilter, InstanceInfo, PruneOptions,
    PruneResult, QueueDepths, SessionFetchConfig, SystemMetrics, TagFilter, WorkItem,
};
use duroxide::{Event, SystemStats};

use crate::clock::after_ms;
use crate::error::Result;
use crate::operations::{AdminOperations, CustomStatusVersion, EngineOperations, FetchedActivity, FetchedTurn};
use crate::sqlite::owner::Owner;
use crate::sqlite::read;
use crate::sqlite::read::Page;
use crate::turn_commit::TurnCommit;

#[async_trait]
impl EngineOperations for Owner {
    async fn fetch_orchestration_item(
        &self,
        lock_timeout: Duration,
        poll_timeout: Duration,
        filter: Option<&DispatcherCapabilityFilter>,
    ) -> Result<Option<FetchedTurn>> {
        self.core.fetch_turn(lock_timeout, poll_timeout, filter).await
    }

    async fn commit_turn(&self, token: &str, commit: Arc<TurnCommit>) -> Result<()> {
        self.core.end_turn(token, &commit).await
    }

    async fn abandon_orchestration_item(
        &self,
        lock_token: &str,
        delay: Option<Duration>,
        ignore_attempt: bool,
    ) -> Result<()> {
        self.core.abandon_turn(lock_token, delay, ignore_attempt)
    }

    async fn renew_orchestration_item_lock(&self, token: &str, extend_for: Duration) -> Result<()> {
        self.core.renew_turn(token, extend_for)
    }

    async fn fetch_work_item(
        &self,
        lock_timeout: Duration,
        poll_timeout: Duration,
        session: Option<&SessionFetchConfig>,
        tag_filter: &TagFilter,
    ) -> Result<Option<FetchedActivity>> {
        self.core.fetch_activity(lock_timeout, poll_timeout, session, tag_filter).await
    }

    async fn ack_work_item(&self, token: &str, completion: Option<WorkItem>) -> Result<()> {
        self.core.end_activity(token, completion).await
    }

    async fn abandon_work_item(&self, token: &str, delay: Option<Duration>, ignore_attempt: bool) -> Result<()> {
        self.core.abandon_activity(token, delay, ignore_attempt)
    }

    async fn renew_work_item_lock(&self, token: &str, extend_for: Duration) -> Result<()> {
        self.core.renew_activity(token, extend_for)
    }

    async fn renew_session_lock(&self, owner_ids: &[&str], extend_for: Duration, idle: Duration) -> Result<usize> {
        let now = Instant::now();
        Ok(self.core.lock().activities.sessions.renew(owner_ids, now + extend_for, idle, now))
    }

    async fn cleanup_orphaned_sessions(&self, _idle: Duration) -> Result<usize> {
        Ok(self.core.lock().activities.sessions.clean(Instant::now()))
    }

    async fn enqueue_for_orchestrator(&self, item: WorkItem, delay: Option<Duration>) -> Result<()> {
        self.core.send_messages(vec![item], delay.map_or(0, after_ms)).await
    }

    async fn enqueue_for_worker(&self, item: WorkItem) -> Result<()> {
        self.core.send_activity(item).await
    }

    async fn read(&self, instance: &str) -> Result<Vec<Event>> {
        self.core.read("read", |connection| read::read(connection, instance))
    }

    async fn read_with_execution(&self, instance: &str, execution_id: u64) -> Result<Vec<Event>> {
        self.core.read("read_with_execution", |connection| read::read_execution(connection, instance, execution_id))
    }

    async fn append_with_execution(&self, instance: &str, execution_id: u64, events: Vec<Event>) -> Result<()> {
        self.core.append(instance, execution_id, &events).await
    }

    async fn get_custom_status(&self, instance: &str, last_seen: u64) -> Result<Option<CustomStatusVersion>> {
        self.core.read("get_custom_status", |connection| read::custom_status(connection, instance, last_seen))
    }

    async fn get_kv_value(&self, instance: &str, key: &str) -> Result<Option<String>> {
        self.core.read("get_kv_value", |connection| read::kv_value(connection, instance, key))
    }

    async fn get_kv_all_values(&self, instance: &str) -> Result<HashMap<String, String>> {
        self.core.read("get_kv_all_values", |connection| read::kv_all(connection, instance))
    }

    async fn get_instance_stats(&self, instance: &str) -> Result<Option<SystemStats>> {
        self.core.read("get_instance_stats", |connection| read::instance_stats(connection, instance))
    }
}

#[async_trait]
impl AdminOperations for Owner {
    async fn list_instances(&self) -> Result<Vec<String>> {
        self.core.read("list_instances", |connection| read::list(connection, Page::default()))
    }

    async fn list_instances_by_status(&self, status: &str) -> Result<Vec<String>> {
        self.core
            .read("list_instances_by_status", |connection| read::list_by_status(connection, status, Page::default()))
    }

    async fn list_executions(&self, instance: &str) -> Result<Vec<u64>> {
        self.core.read("list_executions", |connection| read::executions(connection, instance))
    }

    async fn read_history_with_execution_id(&self, instance: &str, execution_id: u64) -> Result<Vec<Event>> {
        self.core.read("read_history_with_execution_id", |connection| {
            read::read_execution(connection, instance, execution_id)
        })
    }

    async fn read_history(&self, instance: &str) -> Result<Vec<Event>> {
        self.core.read("read_history", |connection| read::read(connection, instance))
    }

    async fn latest_execution_id(&self, instance: &str) -> Result<u64> {
        self.core.read("latest_execution_id", |connection| read::latest_execution(connection, instance))
    }

    async fn get_instance_info(&self, instance: &str) -> Result<InstanceInfo> {
        self.core.read("get_instance_info", |connection| read::instance_info(connection, instance))
    }

    async fn get_execution_info(&self, instance: &str, execution_id: u64) -> Result<ExecutionInfo> {
        self.core.read("get_execution_info", |connection| read::execution_info(connection, instance, execution_id))
    }

    async fn get_system_metrics(&self) -> Result<SystemMetrics> {
        self.core.read("get_system_metrics", read::system_metrics)
    }

    async fn get_queue_depths(&self) -> Result<QueueDepths> {
        Ok(self.core.lock().depths())
    }

    async fn list_children(&self, instance_id: &str) -> Result<Vec<String>> {
        self.core.read("list_children", |connection| read::children(connection, instance_id))
    }

    async fn get_parent_id(&self, instance_id: &str) -> Result<Option<String>> {
        self.core.read("get_parent_id", |connection| read::parent(connection, instance_id))
    }

    async fn delete_instances_atomic(&self, ids: &[String], force: bool) -> Result<DeleteInstanceResult> {
        self.core.delete(ids, force).await
    }

    async fn delete_instance_bulk(&self, filter: InstanceFilter) -> Result<DeleteInstanceResult> {
        self.core.delete_bulk(filter).await
    }

    async fn prune_executions(&self, instance_id: &str, options: PruneOptions) -> Result<PruneResult> {
        self.core.prune(instance_id, options).await
    }

    async fn prune_executions_bulk(&self, filter: InstanceFilter, options: PruneOptions) -> Result<PruneResult> {
        self.core.prune_bulk(filter, options).await
    }
}
