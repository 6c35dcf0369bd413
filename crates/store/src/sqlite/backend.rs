//! The embedded store as a [`Backend`].

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use duroxide::providers::WorkItem;

use crate::backend::{Backend, NextCommit, Traits};
use crate::code_time::CodeTime;
use crate::error::{Result, StoreError};
use crate::events::StoreEvents;
use crate::listing::{InstanceCount, InstanceQuery, InstanceSummary, PageRequest};
use crate::live::LiveState;
use crate::operations::{AdminOperations as _, EngineOperations as _};
use crate::outbox::{Relay, Relayed};
use crate::session_limits::SessionLimits;
use crate::sqlite::client::commit_watcher::CommitWatch;
use crate::sqlite::file::paths::locate;
use crate::sqlite::store::SqliteStore;
use crate::start::{IfExists, StartOutcome, StartRequest, WaitingStart};
use crate::termination::Termination;
use crate::types::InstanceState;

#[async_trait]
impl Backend for SqliteStore {
    fn name(&self) -> &'static str {
        "duroxide-python sqlite"
    }

    fn traits(&self) -> Traits {
        Traits {
            has_other_nodes: false,
            leases_from_code_end: true,
            cheap_looks: true,
            lists_continued: false,
            knows_times: true,
        }
    }

    fn subscribe(&self, events: Arc<dyn StoreEvents>) {
        self.report_deletions(events);
    }

    fn reports_all_changes(&self) -> bool {
        true
    }

    fn watch_commits(&self) -> Option<Box<dyn NextCommit>> {
        Some(Box::new(self.change()?))
    }

    async fn begin_dispatching(self: Arc<Self>) -> Result<(), StoreError> {
        Self::begin_dispatching(&self).await?;
        // The new runtime may have the code that the others lack.
        self.end_pauses();
        Ok(())
    }

    async fn end_dispatching(&self) {
        Self::end_dispatching(self).await;
    }

    fn is_at_work(&self) -> bool {
        self.change().is_none()
    }

    async fn close(&self) {
        Self::close(self).await;
    }

    async fn back_up(&self, target: &Path) -> Result<(), StoreError> {
        let target = locate(target)?;
        if self.file()?.as_ref() == Some(&target) {
            return Err(StoreError::Configuration(format!(
                "'{}' is the file of the store itself; give the path of a new file",
                target.display()
            )));
        }
        if target.exists() || target.is_symlink() {
            return Err(StoreError::Configuration(format!(
                "'{}' exists already; give the path of a new file",
                target.display()
            )));
        }
        Self::back_up(self, target).await
    }

    async fn tune(&self) -> Result<Vec<String>, StoreError> {
        Err(StoreError::Configuration("only a store in PostgreSQL is tuned".to_owned()))
    }

    async fn start(&self, requests: Vec<StartRequest>, if_exists: IfExists) -> Result<Vec<StartOutcome>, StoreError> {
        Self::start(self, requests, if_exists).await
    }

    async fn send(&self, messages: Vec<WorkItem>) -> Result<(), StoreError> {
        Self::send(self, messages).await
    }

    async fn orchestration_of(&self, instance: &str) -> Result<Option<String>, StoreError> {
        self.running(instance).await
    }

    async fn ended(&self, instances: &[String]) -> Result<HashSet<String>> {
        Self::ended(self, instances)
    }

    async fn instance_state(&self, instance: &str) -> Result<Option<InstanceState>> {
        Self::instance_state(self, instance).await
    }

    async fn waiting_start(&self, instance: &str) -> Result<Option<WaitingStart>> {
        Self::waiting_start(self, instance).await
    }

    async fn waiting_starts(&self) -> Result<Vec<String>> {
        Self::waiting_starts(self).await
    }

    async fn count_waiting_starts(&self) -> Result<u64> {
        Self::count_waiting_starts(self).await
    }

    async fn page(&self, request: &PageRequest) -> Result<Vec<InstanceSummary>, StoreError> {
        Self::page(self, request.clone()).await
    }

    async fn counts(&self, query: &InstanceQuery) -> Result<Vec<InstanceCount>, StoreError> {
        Self::counts(self, query.clone()).await
    }

    async fn waiting_children(&self, parents: &[String]) -> Result<Vec<String>> {
        Self::waiting_children(self, parents).await
    }

    async fn count_running(&self) -> Result<u64> {
        let starting = Self::count_waiting_starts(self).await?;
        Ok(self.get_system_metrics().await?.running_instances + starting)
    }

    async fn mismatched(&self) -> Result<Vec<String>> {
        Self::mismatched(self).await
    }

    async fn live_state(&self, instance: &str) -> Result<LiveState> {
        Self::live_state(self, instance).await
    }

    async fn terminate(&self, request: &Termination) -> Result<Vec<String>, StoreError> {
        Self::terminate(self, request).await
    }

    /// The owner is the only node.
    fn node_id(&self) -> String {
        "owner".to_owned()
    }

    async fn relayed(&self, outbox: &str) -> Result<Option<i64>, StoreError> {
        Self::relayed(self, outbox)
    }

    async fn relay(&self, relay: Relay) -> Result<Relayed, StoreError> {
        Self::relay(self, relay).await
    }

    async fn mismatch(&self, instance: &str) -> Result<Option<String>> {
        Self::mismatch(self, instance)
    }

    async fn note_mismatch(&self, instance: &str, report: &str, is_new: bool) -> Result<()> {
        if is_new {
            Self::note_mismatch(self, instance, report);
        }
        Ok(())
    }

    fn extend_lease_while_running(&self, token: &str, code_time: &Arc<CodeTime>) {
        Self::extend_lease_while_running(self, token, code_time);
    }

    async fn leave_turn(&self, token: &str, pause: Duration) -> Result<()> {
        self.abandon_orchestration_item(token, Some(pause), true).await
    }

    async fn uncount(&self, turns: &[String], activities: &[String]) -> Result<()> {
        Self::uncount(self, turns, activities).await
    }

    async fn leave_activity(&self, token: &str, pause: Duration) -> Result<()> {
        self.abandon_work_item(token, Some(pause), true).await
    }

    fn session_limits(&self) -> &SessionLimits {
        &self.session_limits
    }
}

#[async_trait]
impl NextCommit for CommitWatch {
    async fn wait(&mut self) {
        self.changed().await;
    }
}
