//! The implementation of the engine's operations. The base provider does what is rare.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use duroxide::providers::{DispatcherCapabilityFilter, Provider as _, SessionFetchConfig, TagFilter, WorkItem};
use duroxide::{Event, SystemStats};
use sqlx::query;
use tokio::time::Instant;

use crate::clock::span_ms;
use crate::error::Result;
use crate::failure::Failure;
use crate::operations::{CustomStatusVersion, EngineOperations, FetchedActivity, FetchedTurn, operation_name};
use crate::postgres::activity_token;
use crate::postgres::connect::base_provider::in_base_provider;
use crate::postgres::errors::failed;
use crate::postgres::node::held_turns::LeasedTurn;
use crate::postgres::node::prefetch::{PrefetchQueue, QueueEntry, QueueOwner};
use crate::postgres::node::request::{ActivityWrite, TurnWrite, WriteRequest};
use crate::postgres::node::state::{LeasedActivity, Versions};
use crate::postgres::schema::function;
use crate::postgres::store::PostgresStore;
use crate::turn_commit::TurnCommit;

const LOCK_LOST: &str = "Lock token invalid, expired, or already released";

/// The range of versions that a filter takes; `None` if it takes nothing at all.
fn versions(filter: Option<&DispatcherCapabilityFilter>) -> Option<Versions> {
    let Some(filter) = filter else { return Some(None) };
    let range = filter.supported_duroxide_versions.first()?;
    let number = |version: &semver::Version| {
        i64::try_from(version.major * 1_000_000 + version.minor * 1_000 + version.patch).unwrap_or(i64::MAX)
    };
    Some(Some((number(&range.min), number(&range.max))))
}

impl PostgresStore {
    /// The next item of a queue: one that is ready, or one that arrives within `poll`.
    async fn next<Key, Item>(
        &self,
        queue: &PrefetchQueue<Key, Item>,
        lease: Duration,
        owner: Option<QueueOwner>,
        poll: Duration,
    ) -> Option<Item> {
        self.start_poller();
        let until = Instant::now() + poll;
        let mut rounds = self.core.rounds.subscribe();
        let first = *rounds.borrow_and_update();
        let has_owner = owner.is_some();
        let mut place = match queue.enter(lease, owner) {
            QueueEntry::Found(item) => return Some(item),
            QueueEntry::Waits(place) => place,
        };
        // A short poll must still include one full query that begins after this point.
        let is_short = poll < SHORT;
        if is_short || (has_owner && self.core.has_sessions.load(Ordering::Acquire)) {
            queue.hint();
        }
        if is_short || queue.has_hint() {
            self.core.wanted.notify_one();
        }
        let next_rounds = async {
            while *rounds.borrow_and_update() < first + 2 {
                // The hint comes before the wait, since the last round may have ended before this fetch waited for it.
                queue.hint();
                self.core.wanted.notify_one();
                if rounds.changed().await.is_err() {
                    break;
                }
            }
            // An earlier commit or round may have leased work to this node that is not in its queue yet.
            self.core.wait_for_leases().await;
        };
        tokio::select! {
            biased;
            item = place.item() => item,
            () = async {
                tokio::time::sleep_until(until).await;
                if is_short {
                    let _ = tokio::time::timeout(LONGEST_QUERY, next_rounds).await;
                }
            } => place.item_now(),
        }
    }
}

/// A shorter poll ends before the next slow round of the poller.
const SHORT: Duration = Duration::from_millis(600);
/// How long a short poll waits for the rounds that it must include.
const LONGEST_QUERY: Duration = Duration::from_secs(10);

#[async_trait]
impl EngineOperations for PostgresStore {
    async fn fetch_orchestration_item(
        &self,
        lock_timeout: Duration,
        poll_timeout: Duration,
        filter: Option<&DispatcherCapabilityFilter>,
    ) -> Result<Option<FetchedTurn>> {
        let Some(versions) = versions(filter) else {
            tokio::time::sleep(poll_timeout).await;
            return Ok(None);
        };
        let queue = self.core.turn_prefetch(versions);
        let found = self.next(&queue, lock_timeout, None, poll_timeout).await;
        Ok(found.map(|LeasedTurn { item, token, attempt }| (item, token, attempt)))
    }

    async fn commit_turn(&self, token: &str, commit: Arc<TurnCommit>) -> Result<()> {
        let operation = operation_name!(commit_turn);
        let Some(held) = self.core.held.get(token) else {
            return Err(Failure::lock_lost(operation, "Invalid lock token: the turn has ended"));
        };
        let write = TurnWrite { token: token.to_owned(), held, commit, ran: true };
        self.core.submit(operation, WriteRequest::Turn(write)).await?;
        Ok(())
    }

    async fn abandon_orchestration_item(
        &self,
        token: &str,
        delay: Option<Duration>,
        ignore_attempt: bool,
    ) -> Result<()> {
        self.core.give_back_turn(token, delay, !ignore_attempt).await
    }

    async fn renew_orchestration_item_lock(&self, token: &str, extend_for: Duration) -> Result<()> {
        const OPERATION: &str = "renew_orchestration_item_lock";
        let (schema, now_ms) = (&self.core.schema, function(&self.core.schema, "now_ms"));
        let statement = format!(
            "UPDATE \"{schema}\".instance_locks SET locked_until = greatest(locked_until, {now_ms}() + $2) \
             WHERE lock_token = $1 AND locked_until > {now_ms}()"
        );
        let renewal = async {
            let renewal = query(&statement).bind(token).bind(span_ms(extend_for)).execute(&self.core.pool);
            renewal.await.map_err(|error| failed(OPERATION, &error))
        };
        match self.core.moves.answer(OPERATION, renewal).await?.rows_affected() {
            0 => Err(Failure::lock_lost(OPERATION, LOCK_LOST)),
            _ => Ok(()),
        }
    }

    async fn fetch_work_item(
        &self,
        lock_timeout: Duration,
        poll_timeout: Duration,
        session: Option<&SessionFetchConfig>,
        tag_filter: &TagFilter,
    ) -> Result<Option<FetchedActivity>> {
        if *tag_filter == TagFilter::None {
            tokio::time::sleep(poll_timeout).await;
            return Ok(None);
        }
        let queue = self.core.activity_prefetch(tag_filter);
        let owner = session.map(|session| QueueOwner {
            id: session.owner_id.clone(),
            lease: session.lock_timeout,
            limit: self.core.session_limits.of(&session.owner_id),
        });
        let until = Instant::now() + poll_timeout;
        loop {
            let poll = until.saturating_duration_since(Instant::now());
            let Some(found) = self.next(&queue, lock_timeout, owner.clone(), poll).await else { return Ok(None) };
            if !self.core.drop_cancelled(&found) {
                self.core.running.note(found.id, lock_timeout);
                let LeasedActivity { item, id, token, attempt } = found;
                return Ok(Some((item, activity_token::join(id, &token), attempt)));
            }
        }
    }

    async fn ack_work_item(&self, token: &str, completion: Option<WorkItem>) -> Result<()> {
        let (id, own) = activity_token::split(token)?;
        let end = ActivityWrite { id, token: own.to_owned(), completion };
        let ended = self.core.submit("ack_work_item", WriteRequest::Activity(end)).await;
        self.core.running.remove(id);
        ended.map(|_| ())
    }

    async fn renew_work_item_lock(&self, token: &str, extend_for: Duration) -> Result<()> {
        const OPERATION: &str = "renew_work_item_lock";
        let (id, own) = activity_token::split(token)?;
        self.core.running.note(id, extend_for);
        let (schema, now_ms) = (&self.core.schema, function(&self.core.schema, "now_ms"));
        // A lease that ended while the server was slow is still ours if no other node has taken the activity.
        let statement = format!(
            "WITH renewed AS (UPDATE \"{schema}\".worker_queue SET locked_until = {now_ms}() + $3 \
             WHERE id = $1 AND lock_token = $2 AND ($4 OR locked_until > {now_ms}()) RETURNING session_id), \
             used AS (UPDATE \"{schema}\".sessions s SET last_activity_at = {now_ms}() FROM renewed \
             WHERE s.session_id = renewed.session_id AND s.locked_until > {now_ms}()) SELECT count(*) FROM renewed"
        );
        let renewal = async {
            sqlx::query_scalar::<_, i64>(&statement)
                .bind(id)
                .bind(own)
                .bind(span_ms(extend_for))
                .bind(!self.core.policy.strict_leases)
                .fetch_one(&self.core.pool)
                .await
                .map_err(|error| failed(OPERATION, &error))
        };
        match self.core.moves.answer(OPERATION, renewal).await? {
            0 => {
                self.core.running.remove(id);
                Err(Failure::lock_lost(OPERATION, LOCK_LOST))
            }
            _ => Ok(()),
        }
    }

    async fn abandon_work_item(&self, token: &str, delay: Option<Duration>, ignore_attempt: bool) -> Result<()> {
        let (id, own) = activity_token::split(token)?;
        self.core.give_back_activity(id, own, delay, !ignore_attempt).await
    }

    async fn renew_session_lock(&self, owners: &[&str], extend_for: Duration, idle: Duration) -> Result<usize> {
        const OPERATION: &str = "renew_session_lock";
        let (schema, now_ms) = (&self.core.schema, function(&self.core.schema, "now_ms"));
        let statement = format!(
            "UPDATE \"{schema}\".sessions SET locked_until = {now_ms}() + $2 WHERE worker_id = ANY ($1) \
             AND locked_until > {now_ms}() AND last_activity_at > {now_ms}() - $3"
        );
        let owners: Vec<String> = owners.iter().map(|&owner| owner.to_owned()).collect();
        let renewal = async {
            query(&statement)
                .bind(&owners)
                .bind(span_ms(extend_for))
                .bind(span_ms(idle))
                .execute(&self.core.pool)
                .await
                .map_err(|error| failed(OPERATION, &error))
        };
        let renewed = self.core.moves.answer(OPERATION, renewal).await?;
        Ok(usize::try_from(renewed.rows_affected()).unwrap_or(usize::MAX))
    }

    async fn cleanup_orphaned_sessions(&self, _idle: Duration) -> Result<usize> {
        self.core.moves.answer("cleanup_orphaned_sessions", self.server().clean_sessions()).await
    }

    async fn enqueue_for_orchestrator(&self, item: WorkItem, delay: Option<Duration>) -> Result<()> {
        self.send(vec![item], delay.filter(|delay| !delay.is_zero()).map(span_ms)).await
    }

    async fn enqueue_for_worker(&self, item: WorkItem) -> Result<()> {
        in_base_provider!(self, enqueue_for_worker(item))?;
        self.core.hint_activities();
        Ok(())
    }

    async fn read(&self, instance: &str) -> Result<Vec<Event>> {
        in_base_provider!(self, read(instance))
    }

    async fn read_with_execution(&self, instance: &str, execution_id: u64) -> Result<Vec<Event>> {
        in_base_provider!(self, read_with_execution(instance, execution_id))
    }

    async fn append_with_execution(&self, instance: &str, execution_id: u64, events: Vec<Event>) -> Result<()> {
        in_base_provider!(self, append_with_execution(instance, execution_id, events))
    }

    async fn get_custom_status(&self, instance: &str, last_seen_version: u64) -> Result<Option<CustomStatusVersion>> {
        in_base_provider!(self, get_custom_status(instance, last_seen_version))
    }

    async fn get_kv_value(&self, instance: &str, key: &str) -> Result<Option<String>> {
        in_base_provider!(self, get_kv_value(instance, key))
    }

    async fn get_kv_all_values(&self, instance: &str) -> Result<HashMap<String, String>> {
        in_base_provider!(self, get_kv_all_values(instance))
    }

    async fn get_instance_stats(&self, instance: &str) -> Result<Option<SystemStats>> {
        in_base_provider!(self, get_instance_stats(instance))
    }
}
