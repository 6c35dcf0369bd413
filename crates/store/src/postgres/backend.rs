//! The PostgreSQL store as a [`Backend`].

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use duroxide::providers::WorkItem;
use tokio::time::timeout;

use crate::backend::{Backend, EndedInstances, NextCommit, Traits};
use crate::error::{Result, StoreError};
use crate::events::StoreEvents;
use crate::listing::{InstanceCount, InstanceQuery, InstanceSummary, PageRequest};
use crate::live::LiveState;
use crate::outbox::{Relay, Relayed};
use crate::postgres::queries::mismatch_reports::LONGEST_NOTE;
use crate::postgres::store::PostgresStore;
use crate::retry::{RetryLimit, RetryState};
use crate::retrying;
use crate::session_limits::SessionLimits;
use crate::start::{ExistingInstance, IfExists, StartOutcome, StartRequest, WaitingStart, decide_starts};
use crate::termination::{Termination, terminate};
use crate::types::InstanceState;

/// Carries out one query, and repeats it after failures that pass.
macro_rules! repeating {
    ($store:ident, $operation:literal, $query:ident($($argument:expr),*)) => {{
        let (server, moves, mut retry) = ($store.server(), &$store.core.moves, RetryState::new(RetryLimit::Caller));
        let query = || moves.answer($operation, server.$query($($argument),*));
        retrying!($store.availability, $operation, &mut retry, query())
    }};
}

#[async_trait]
impl Backend for PostgresStore {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn traits(&self) -> Traits {
        Traits {
            has_other_nodes: true,
            leases_from_code_end: false,
            cheap_looks: false,
            lists_continued: true,
            knows_times: false,
        }
    }

    fn schema(&self) -> Option<&str> {
        Some(self.server().schema)
    }

    fn subscribe(&self, events: Arc<dyn StoreEvents>) {
        self.report_to(events);
    }

    fn reports_all_changes(&self) -> bool {
        self.is_listening()
    }

    fn watch_commits(&self) -> Option<Box<dyn NextCommit>> {
        self.start_listening();
        None
    }

    fn digest(&self, instance: &str) -> Option<String> {
        self.core.notifier.digest(instance)
    }

    fn rows_left_out(&self) -> usize {
        self.core.left_out.count()
    }

    async fn begin_dispatching(self: Arc<Self>) -> Result<(), StoreError> {
        Self::begin_dispatching(&self).await;
        Ok(())
    }

    async fn end_dispatching(&self) {
        Self::end_dispatching(self).await;
    }

    fn is_at_work(&self) -> bool {
        true
    }

    async fn answers(&self) -> bool {
        self.core.answers().await
    }

    async fn close(&self) {
        Self::close(self).await;
    }

    async fn back_up(&self, _target: &Path) -> Result<(), StoreError> {
        Err(StoreError::Configuration(
            "a PostgreSQL database is backed up by its own tools, such as pg_dump".to_owned(),
        ))
    }

    async fn tune(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.core.moves.answer("tune", self.server().tune()).await?)
    }

    async fn missing_rights(&self) -> Result<Vec<String>> {
        self.core.moves.answer("missing_rights", self.server().missing_rights()).await
    }

    async fn start(&self, requests: Vec<StartRequest>, if_exists: IfExists) -> Result<Vec<StartOutcome>, StoreError> {
        const OPERATION: &str = "start_orchestration";
        let mut retry = RetryState::new(RetryLimit::Caller);
        // The writers' batches send starts that begin at once.
        if let [request] = requests.as_slice()
            && request.due_ms.is_none()
            && matches!(if_exists, IfExists::Attach | IfExists::Raise)
        {
            let start = || Self::start(self, request.clone());
            let found = retrying!(self.availability, OPERATION, &mut retry, start())?;
            return decide_starts(std::iter::once(request.names()), if_exists, |_: &str| {
                Ok(found.as_deref().map(ExistingInstance::running))
            });
        }
        let (server, mut unconfirmed) = (self.server(), None);
        let outcomes = retrying!(
            self.availability,
            OPERATION,
            &mut retry,
            self.core.moves.answer(OPERATION, server.start_all(&requests, if_exists, &mut unconfirmed))
        )??;
        self.announce_sent_messages();
        Ok(outcomes)
    }

    async fn send(&self, messages: Vec<WorkItem>) -> Result<(), StoreError> {
        let mut retry = RetryState::new(RetryLimit::Caller);
        let send = || Self::send(self, messages.clone(), None);
        retrying!(self.availability, "enqueue_for_orchestrator", &mut retry, send())?;
        Ok(())
    }

    async fn orchestration_of(&self, instance: &str) -> Result<Option<String>, StoreError> {
        Ok(repeating!(self, "find_instance", running(instance))?)
    }

    async fn ended(&self, instances: &[String]) -> Result<HashSet<String>> {
        repeating!(self, "get_instance_info", ended_among(instances))
    }

    async fn instance_state(&self, instance: &str) -> Result<Option<InstanceState>> {
        repeating!(self, "get_instance_info", instance_state(instance))
    }

    async fn created(&self, instance: &str) -> Result<Option<u64>> {
        self.core.moves.answer("get_instance_info", self.server().created(instance)).await
    }

    async fn waiting_start(&self, instance: &str) -> Result<Option<WaitingStart>> {
        repeating!(self, "get_instance_info", waiting_start(instance))
    }

    async fn waiting_starts(&self) -> Result<Vec<String>> {
        repeating!(self, "list_instances", waiting_starts())
    }

    async fn count_waiting_starts(&self) -> Result<u64> {
        repeating!(self, "get_system_metrics", count_waiting_starts())
    }

    async fn page(&self, request: &PageRequest) -> Result<Vec<InstanceSummary>, StoreError> {
        let page: Result<_> = async { repeating!(self, "list", page(request)) }.await;
        Ok(page?)
    }

    async fn counts(&self, query: &InstanceQuery) -> Result<Vec<InstanceCount>, StoreError> {
        let counts: Result<_> = async { repeating!(self, "count", counts(query)) }.await;
        Ok(counts?)
    }

    async fn waiting_children(&self, parents: &[String]) -> Result<Vec<String>> {
        repeating!(self, "list_children", waiting_children(parents))
    }

    async fn count_running(&self) -> Result<u64> {
        self.core.moves.answer("get_system_metrics", self.server().count_running()).await
    }

    async fn mismatched(&self) -> Result<Vec<String>> {
        self.core.moves.answer("mismatched", self.server().mismatched()).await
    }

    async fn terminate(&self, request: &Termination) -> Result<Vec<String>, StoreError> {
        self.start_poller();
        Ok(terminate(self, request).await?)
    }

    async fn live_state(&self, instance: &str) -> Result<LiveState> {
        let mut live = repeating!(self, "get_instance_info", live_state(instance))?;
        // This process knows its own state better than its last report.
        if let Some(mut report) = self.core.events.get().and_then(|events| events.report()) {
            let last = live.nodes.iter().find(|node| node.id == report.id);
            let sessions = last.into_iter().flat_map(|node| &node.runtimes).map(|runtime| runtime.sessions);
            for (runtime, sessions) in report.runtimes.iter_mut().zip(sessions) {
                runtime.sessions = sessions;
            }
            live.add_node(report);
        }
        Ok(live)
    }

    fn node_id(&self) -> String {
        self.core.node.clone()
    }

    async fn instance_times(&self, instance: &str) -> Result<Option<(u64, u64)>> {
        let edges = repeating!(self, "get_instance_info", first_and_last(instance))?;
        Ok(edges.map(|(first, last)| (first.timestamp_ms, last.timestamp_ms)))
    }

    /// The provider would delete an instance between two executions. Its filter can only exclude by listing all others, so the ids
    /// are listed here.
    async fn ended_instances(&self, kept: Duration, limit: u32) -> Result<Option<EndedInstances>> {
        repeating!(self, "delete_instance_bulk", ended(kept, limit)).map(Some)
    }

    async fn relayed(&self, outbox: &str) -> Result<Option<i64>, StoreError> {
        Ok(self.core.moves.answer("relayed", self.server().relayed(outbox)).await?)
    }

    async fn relay(&self, relay: Relay) -> Result<Relayed, StoreError> {
        let relayed = self.core.moves.answer("relay", self.server().relay(relay)).await?;
        if relayed == Relayed::Done {
            self.announce_sent_messages();
        }
        Ok(relayed)
    }

    async fn mismatch(&self, instance: &str) -> Result<Option<String>> {
        self.core.moves.answer("mismatch", self.server().waiting(instance)).await
    }

    /// Writes the report each time: another process may have run the instance since, and an earlier write may have failed.
    async fn note_mismatch(&self, instance: &str, report: &str, _is_new: bool) -> Result<()> {
        // The caller holds a lease, so a slow server must not hold the caller.
        let (server, moves) = (self.server(), &self.core.moves);
        let noting = moves.answer("note_mismatch", server.note_waiting(instance, report));
        match timeout(LONGEST_NOTE, noting).await {
            Ok(outcome) => outcome,
            Err(_) => Ok(()),
        }
    }

    async fn leave_turn(&self, token: &str, pause: Duration) -> Result<()> {
        Self::leave_turn(self, token, pause).await
    }

    async fn leave_activity(&self, token: &str, pause: Duration) -> Result<()> {
        Self::leave_activity(self, token, pause).await
    }

    fn session_limits(&self) -> &SessionLimits {
        &self.core.session_limits
    }

    async fn release_sessions(&self, owners: &[String]) -> Result<()> {
        self.core.moves.answer("release_sessions", self.server().release_sessions(owners)).await
    }
}
