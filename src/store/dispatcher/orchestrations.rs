//! Turns: what is fetched, what is refused or put off, and what is committed.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use duroxide::providers::{
    DispatcherCapabilityFilter, ExecutionMetadata, OrchestrationItem, Provider as _, ProviderError,
    ScheduledActivityIdentifier, WorkItem,
};
use duroxide::{AppErrorKind, ConfigErrorKind, ErrorDetails, Event, EventKind};
use semver::Version;
use tokio::time::Instant;

use super::{Dispatcher, Nondeterminism, Outcome, listed};
use crate::store::backend::{Database, Server, patiently};
use crate::store::cancellation;
use crate::store::claim;
use crate::store::clock::after_ms;
use crate::store::ending::{Ending, cancelled, make_catchable, not_registered, tell_parent, tells_parent};
use crate::store::failure::{Patience, Retry, lock_lost};
use crate::store::metrics::add;
use crate::store::mismatch::Mismatch;
use crate::store::reports::LONGEST_NOTE;
use crate::store::shared::SIBLINGS_TURN;
use crate::store::turn::{HeldTurn, ParentLink, TurnRecord, started};

type Fetched = (OrchestrationItem, String, u32);
type Claimed = (OrchestrationItem, String, u32, Option<claim::Claim>);

/// The arguments of one acknowledgement.
pub(super) struct Commit {
    pub execution_id: u64,
    pub delta: Vec<Event>,
    pub activities: Vec<WorkItem>,
    pub messages: Vec<WorkItem>,
    pub metadata: ExecutionMetadata,
    pub cancelled: Vec<ScheduledActivityIdentifier>,
}

impl From<Ending> for Commit {
    fn from(ending: Ending) -> Self {
        Self {
            execution_id: ending.execution_id,
            delta: ending.delta,
            activities: Vec::new(),
            messages: ending.messages,
            metadata: ending.metadata,
            cancelled: ending.cancelled,
        }
    }
}

impl Commit {
    /// Records the end of code that was asked to end as the cancellation that it is.
    fn heed_cancellation(&mut self, held: &HeldTurn) {
        if let Some(reason) = held.record.cancelled.get()
            && let Some(details) = cancellation::record_end(&mut self.delta, reason)
        {
            self.metadata.status = Some("Failed".to_owned());
            self.metadata.output = Some(details.display_message());
            // It says something else; `tell_waiting_parent` says this.
            self.messages.retain(|message| {
                !matches!(message, WorkItem::SubOrchCompleted { .. } | WorkItem::SubOrchFailed { .. })
            });
        }
        // It is asked for again: of an execution that has just begun and does not listen, which the engine then ends, or of
        // the one that follows on one that did not wait to hear it.
        let is_deaf = started(&self.delta).is_some() && !cancellation::is_heard(&self.delta);
        if let Some(reason) = &held.cancellation
            && !ended(&self.delta)
            && (is_deaf || continues_as_new(&self.delta) && !held.record.has_heard())
        {
            let instance = held.record.instance.clone();
            self.messages.push(WorkItem::CancelInstance { instance, reason: reason.clone() });
        }
    }
}

/// What to do with a fetched instance.
enum Verdict {
    Run,
    End(Box<Ending>),
    /// Somebody else may be able to run it, or this process later.
    PutOff {
        delay: Duration,
    },
    /// Nobody here can run it; why.
    Wait {
        report: String,
    },
}

impl Dispatcher {
    pub(super) async fn next_turn(
        &self,
        lock_timeout: Duration,
        deadline: Instant,
        filter: Option<&DispatcherCapabilityFilter>,
    ) -> Option<Fetched> {
        self.turns.forget_task();
        let (backend, lane) = (&self.shared.backend, &self.signals.orchestrations);
        let mut failures = 0;
        loop {
            let sequence = self.shared.wake.arrivals.now();
            let (fetched, permit): (Outcome<Option<Claimed>>, _) = if backend.wakes_fetches() {
                let fetch = async |rest| {
                    let fetched = backend.provider.fetch_orchestration_item(lock_timeout, rest, filter).await?;
                    Ok(fetched.map(|(item, token, attempt)| (item, token, attempt, None)))
                };
                (self.wait_for("fetch_orchestration_item", deadline, fetch).await?, None)
            } else {
                let permit = self.permit(lane, deadline).await?;
                (claim::turn(&self.shared, lock_timeout, filter).await, Some(permit))
            };
            match fetched {
                Ok(Some((item, token, attempt, claim))) => {
                    drop(permit);
                    failures = 0;
                    self.recovered(lane);
                    if let Some(fetched) = self.take_on((item, token, attempt), claim, sequence).await {
                        return Some(fetched);
                    }
                }
                Ok(None) => {
                    if let Some(permit) = permit {
                        permit.forget();
                    }
                    failures = 0;
                    self.recovered(lane);
                }
                Err(error) => {
                    self.endure(&error, failures, lane, deadline).await;
                    failures += 1;
                    drop(permit);
                }
            }
        }
    }

    /// Publishes what was fetched; `None` when this runtime does not run it.
    async fn take_on(
        &self,
        (mut item, token, attempt): Fetched,
        claim: Option<claim::Claim>,
        sequence: u64,
    ) -> Option<Fetched> {
        add(&self.counters.orch_dispatcher_items_fetched);
        let mut verdict = self.judge(&item, attempt);
        item.messages.iter_mut().for_each(make_catchable);
        let requested = cancellation::requested(&item.messages).map(str::to_owned);
        if matches!(verdict, Verdict::Run) && cancellation::is_heard(&item.history) {
            cancellation::make_heard(&mut item.messages);
        }
        self.shared.descriptors.remember(&item.history);
        let record = TurnRecord::new(&item, attempt, self.keeper.get().map(Arc::as_ref));
        if let Database::Embedded(store) = &self.shared.backend.database {
            store.lasts_while_busy(&token, &record.is_busy);
        }
        self.turns.publish(&token, &item, record, requested, sequence);
        let is_settled = match &mut verdict {
            Verdict::Run => true,
            // Whatever fails here leaves the instance locked until its lease ends, and then comes again.
            Verdict::End(ending) => self.end_turn(&token, Commit::from(std::mem::take(&mut **ending))).await.is_ok(),
            Verdict::PutOff { delay } => self.abandon_turn(&token, Some(*delay), true).await.is_ok(),
            Verdict::Wait { report } => {
                let instance = &item.instance;
                let (delay, news) = self.shared.waiting.postpone(instance, report);
                if news {
                    tracing::warn!(target: "duroxide::runtime", instance = %instance, "{report}");
                }
                self.note_mismatch(instance, report, news).await;
                self.abandon_turn(&token, Some(delay), true).await.is_ok()
            }
        };
        if is_settled && let Some(claim) = claim {
            claim.settled();
        }
        matches!(verdict, Verdict::Run).then_some((item, token, attempt))
    }

    fn judge(&self, item: &OrchestrationItem, attempt: u32) -> Verdict {
        if item.history_error.is_some() || attempt > self.settings.max_attempts || ended(&item.history) {
            return Verdict::Run;
        }
        let successor = item.messages.iter().find(|message| matches!(message, WorkItem::ContinueAsNew { .. }));
        let recorded = started(&item.history);
        let (name, version) = match (successor, recorded) {
            (Some(WorkItem::ContinueAsNew { orchestration, version, .. }), _) => (orchestration, version.as_deref()),
            (_, Some(Event { kind: EventKind::OrchestrationStarted { name, version, .. }, .. })) => {
                // The engine writes this where there is no version.
                (name, Some(version.as_str()).filter(|version| *version != "0.0.0"))
            }
            _ => return self.judge_start(item),
        };
        if self.settings.has_orchestration(name, version) {
            return Verdict::Run;
        }
        let cancellation = cancellation::requested(&item.messages);
        match (cancellation, successor) {
            (Some(reason), Some(start)) => {
                match Ending::of_start(&item.instance, item.execution_id + 1, start, cancelled(reason)) {
                    Some(ending) => Verdict::End(Box::new(ending)),
                    None => Verdict::Run,
                }
            }
            (Some(reason), None) => {
                let parent = recorded.and_then(|event| ParentLink::of(&event.kind));
                let (instance, execution) = (&item.instance, item.execution_id);
                let ending = Ending::of_cancellation(instance, execution, &item.history, reason, parent.as_ref());
                Verdict::End(Box::new(ending))
            }
            (None, _) if self.shared.some_dispatcher(|other| other.has_orchestration(name, version)) => {
                // The other runtime takes it from its own turn on; if it never does, this one still says nothing wrong.
                Verdict::PutOff { delay: SIBLINGS_TURN }
            }
            (None, _) => {
                let report = format!(
                    "instance '{}' waits: {}; register it and start the runtime again, or cancel the instance",
                    item.instance,
                    self.lacks(name, version)
                );
                Verdict::Wait { report }
            }
        }
    }

    /// Judges an instance that has no history: only its own start may be refused for good.
    fn judge_start(&self, item: &OrchestrationItem) -> Verdict {
        let start = item.messages.iter().find(|message| matches!(message, WorkItem::StartOrchestration { .. }));
        let Some(start @ WorkItem::StartOrchestration { orchestration, version, .. }) = start else {
            return Verdict::Run;
        };
        if !item.history.is_empty() || self.settings.has_orchestration(orchestration, version.as_deref()) {
            return Verdict::Run;
        }
        let has_it = self.shared.some_dispatcher(|other| other.has_orchestration(orchestration, version.as_deref()));
        let timeout = self.settings.unregistered_timeout;
        if let Some(delay) = self.shared.leave_to_others(&item.instance, has_it, timeout) {
            return Verdict::PutOff { delay };
        }
        let message = self.lacks(orchestration, version.as_deref());
        let details = not_registered(AppErrorKind::OrchestrationFailed, &message);
        match Ending::of_start(&item.instance, item.execution_id, start, details) {
            Some(ending) => Verdict::End(Box::new(ending)),
            None => Verdict::Run,
        }
    }

    fn lacks(&self, name: &str, version: Option<&str>) -> String {
        match (self.settings.orchestrations.get(name), version) {
            (Some(registered), Some(version)) => {
                let registered: Vec<_> = registered.iter().map(Version::to_string).collect();
                let registered = listed(registered.iter());
                format!("orchestration '{name}' has no version {version} in this runtime; registered are: {registered}")
            }
            _ => format!(
                "orchestration '{name}' is not registered with this runtime; registered are: {}",
                listed(self.settings.orchestrations.keys())
            ),
        }
    }

    pub(super) async fn end_turn(&self, token: &str, mut commit: Commit) -> Outcome<()> {
        // After a lost lock the engine acknowledges a failure with the same token: it must never get through.
        let Some(held) = self.turns.get(token) else {
            return Err(ProviderError::permanent("ack_orchestration_item", "Invalid lock token: the turn has ended"));
        };
        let mismatch = Mismatch::of(&commit.delta, &held.record);
        // Only a turn that has begun anew can say that the code does not match: here the state may be to blame.
        let unproven = mismatch.is_some() && held.record.is_resumed();
        if let Some(report) = held.record.stale().or(unproven.then_some("its code did not match its history")) {
            self.begin_anew(token, &held, report).await;
            return Ok(());
        }
        if let Some(mismatch) = mismatch {
            let Some(ending) = self.end_mismatched(&held, &mismatch).await else {
                self.put_off_mismatch(token, &held, &mismatch).await;
                return Ok(());
            };
            commit = ending.into();
        }
        stamp(&mut commit.delta, held.record.time_ms);
        commit.heed_cancellation(&held);
        tell_waiting_parent(&mut commit, &held);
        forget_unborn_children(&mut commit);
        let keeper = self.keeper.get();
        // Before the commit: whoever fetches the next turn, right after it, looks there.
        if let Some(keeper) = keeper
            && is_suspended(&held, &commit)
            && let Some(kept) = held.record.left(&commit.delta)
        {
            keeper.keep(kept);
        }
        let outcome = self.commit(token, &held, &commit).await;
        if let Some(keeper) = keeper
            && outcome.is_err()
        {
            drop(keeper.take(&held.record.instance));
        }
        match &outcome {
            Ok(()) => self.committed(token, &held, &commit),
            Err(error) if lock_lost(error) => self.turns.remove(token),
            // The engine now records why, with the same token.
            Err(_) => {}
        }
        outcome
    }

    async fn begin_anew(&self, token: &str, held: &HeldTurn, report: &str) {
        let instance = &held.record.instance;
        tracing::debug!(target: "duroxide::runtime", instance = %instance, "a turn begins anew: {report}");
        // If this fails, the lease ends by itself.
        let _ = self.abandon_turn(token, None, true).await;
    }

    /// How an instance ends whose code does not match its history; `None` if it waits.
    async fn end_mismatched(&self, held: &HeldTurn, mismatch: &Mismatch<'_>) -> Option<Ending> {
        let (record, parent) = (&held.record, held.parent.as_ref());
        let (instance, execution) = (record.instance.as_str(), record.execution_id);
        if let Some(reason) = &held.cancellation
            && !held.history.is_empty()
        {
            return Some(Ending::of_cancellation(instance, execution, &held.history, reason, parent));
        }
        if self.settings.nondeterminism == Nondeterminism::Wait {
            return None;
        }
        // Without it nobody knows what is under way, so the instance waits until the store answers again.
        let history = self.view.read_with_execution(instance, execution).await.ok()?;
        let message = mismatch.report(instance, &history);
        tracing::error!(target: "duroxide::runtime", instance = %instance, "{message}");
        let details = ErrorDetails::Configuration {
            kind: ConfigErrorKind::Nondeterminism,
            resource: String::new(),
            message: Some(message),
        };
        Some(Ending::of_failure(instance, execution, &history, details, parent))
    }

    async fn put_off_mismatch(&self, token: &str, held: &HeldTurn, mismatch: &Mismatch<'_>) {
        let instance = &held.record.instance;
        // What cannot be read is missing in the report, and is there when the instance is looked at again.
        let history = self.view.read_with_execution(instance, held.record.execution_id).await.unwrap_or_default();
        let report = mismatch.report(instance, &history);
        let (delay, news) = self.shared.waiting.postpone(instance, &report);
        if news {
            tracing::error!(target: "duroxide::runtime", instance = %instance, "{report}");
        }
        self.note_mismatch(instance, &report, news).await;
        // If this fails, the lease ends by itself.
        let _ = self.abandon_turn(token, Some(delay), true).await;
    }

    /// Records for other processes why an instance waits, and tells those of this one.
    async fn note_mismatch(&self, instance: &str, report: &str, news: bool) {
        match &self.shared.backend.database {
            Database::Embedded(store) if news => store.note_mismatch(instance, report),
            Database::Embedded(_) => {}
            Database::Postgres { pool, schema } => {
                // Each time, since another process may have gone on in between, and since it may have failed.
                let server = Server { pool, schema };
                let noted = tokio::time::timeout(LONGEST_NOTE, server.note_waiting(instance, report)).await;
                if let Ok(Err(error)) = noted {
                    tracing::debug!(target: "duroxide::runtime", instance, "other processes are not told: {error}");
                }
            }
        }
        if news {
            self.shared.watches.notify(instance);
        }
    }

    async fn commit(&self, token: &str, held: &HeldTurn, commit: &Commit) -> Outcome<()> {
        const OPERATION: &str = "ack_orchestration_item";
        let backend = &self.shared.backend;
        let mut retry = Retry::new(Patience::Lease);
        let outcome = patiently!(
            backend,
            OPERATION,
            &mut retry,
            backend.provider.ack_orchestration_item(
                token,
                commit.execution_id,
                commit.delta.clone(),
                commit.activities.clone(),
                commit.messages.clone(),
                commit.metadata.clone(),
                commit.cancelled.clone(),
            )
        );
        match outcome {
            Err(error) if retry.ambiguous => {
                if self.was_applied(&held.record.instance, commit).await {
                    Ok(())
                } else {
                    Err(error)
                }
            }
            outcome => outcome,
        }
    }

    /// Whether a commit whose answer was lost is in the history.
    async fn was_applied(&self, instance: &str, commit: &Commit) -> bool {
        let Some(last) = commit.delta.last() else { return true };
        match self.view.read_with_execution(instance, commit.execution_id).await {
            Ok(history) => history.iter().any(|event| event == last),
            Err(_) => false,
        }
    }

    /// Tells everybody concerned. Nothing here waits.
    fn committed(&self, token: &str, held: &HeldTurn, commit: &Commit) {
        let shared = &self.shared;
        let instance = held.record.instance.as_str();
        self.turns.remove(token);
        self.counters.committed_turn(commit.execution_id, &commit.delta);
        shared.waiting.clear(instance);
        shared.descriptors.remember(&commit.delta);
        shared.deliveries.cancel(&commit.cancelled);
        if !commit.activities.is_empty() {
            let of_session = |item: &WorkItem| matches!(item, WorkItem::ActivityExecute { session_id: Some(_), .. });
            shared.wake.activities(commit.activities.iter().any(of_session));
        }
        for message in &commit.messages {
            let due = match message {
                WorkItem::TimerFired { fire_at_ms, .. } => Some(*fire_at_ms),
                _ => None,
            };
            shared.enqueued(message, due);
        }
        shared.wake.released(instance, held.fetched_at);
        shared.watches.notify(instance);
    }

    pub(super) async fn abandon_turn(&self, token: &str, delay: Option<Duration>, ignore_attempt: bool) -> Outcome<()> {
        let held = self.turns.get(token);
        let outcome = self.view.abandon_orchestration_item(token, delay, ignore_attempt).await;
        self.turns.remove(token);
        if let Some(held) = held {
            let instance = &held.record.instance;
            match delay {
                Some(delay) => self.shared.wake.orchestration_at(after_ms(delay), instance),
                None => self.shared.wake.orchestration(instance),
            }
            self.shared.wake.released(instance, held.fetched_at);
        }
        outcome
    }
}

/// Whether the execution that `history` records has ended for good.
fn ended(history: &[Event]) -> bool {
    history.iter().any(|event| {
        matches!(event.kind, EventKind::OrchestrationCompleted { .. } | EventKind::OrchestrationFailed { .. })
    })
}

/// Whether a commit leaves the execution, which the turn ran, waiting for more.
fn is_suspended(held: &HeldTurn, commit: &Commit) -> bool {
    commit.execution_id == held.record.execution_id && !ended(&commit.delta) && !continues_as_new(&commit.delta)
}

fn continues_as_new(delta: &[Event]) -> bool {
    delta.iter().any(|event| matches!(event.kind, EventKind::OrchestrationContinuedAsNew { .. }))
}

/// One time for everything that a turn records: the one that the turn itself was told.
fn stamp(delta: &mut [Event], time_ms: u64) {
    for event in delta {
        event.timestamp_ms = time_ms;
        if let EventKind::KeyValueSet { last_updated_at_ms, .. } = &mut event.kind {
            *last_updated_at_ms = time_ms;
        }
    }
}

/// An orchestration that ends in the turn in which it schedules a child never starts it, and yet cancels it: a message to
/// nobody, which on SQLite blocks all that comes after it.
fn forget_unborn_children(commit: &mut Commit) {
    let Commit { delta, messages, .. } = commit;
    let scheduled: HashSet<&str> = delta
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::SubOrchestrationScheduled { instance, .. } => Some(instance.as_str()),
            _ => None,
        })
        .collect();
    if scheduled.is_empty() {
        return;
    }
    let started: HashSet<String> = messages
        .iter()
        .filter_map(|message| match message {
            WorkItem::StartOrchestration { instance, .. } => Some(instance.clone()),
            _ => None,
        })
        .collect();
    messages.retain(|message| match message {
        WorkItem::CancelInstance { instance, .. } => {
            started.contains(instance) || !scheduled.contains(instance.as_str())
        }
        _ => true,
    });
}

/// A child that broke a limit ends without a word: the engine clears its messages.
fn tell_waiting_parent(commit: &mut Commit, held: &HeldTurn) {
    if commit.metadata.status.as_deref() != Some("Failed") {
        return;
    }
    let of_this_turn = started(&commit.delta).and_then(|event| ParentLink::of(&event.kind));
    let Some(parent) = of_this_turn.or_else(|| held.parent.clone()) else { return };
    let failure = commit.delta.iter().rev().find_map(|event| match &event.kind {
        EventKind::OrchestrationFailed { details } => Some(details.clone()),
        _ => None,
    });
    if let Some(details) = failure
        && !tells_parent(&commit.messages, &parent)
    {
        commit.messages.push(tell_parent(&parent, details));
    }
}
