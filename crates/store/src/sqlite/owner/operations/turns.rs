//! Fetches turns for dispatchers, and renews or abandons them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use duroxide::providers::{DispatcherCapabilityFilter, OrchestrationItem, WorkItem};
use duroxide::{Event, EventKind};
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use crate::clock::{after_ms, now_ms};
use crate::error::Result;
use crate::failure::{Failure, FailureKind};
use crate::flow_control::MessageGate;
use crate::operations::FetchedTurn;
use crate::sqlite::owner::core::{LockedState, OwnerCore};
use crate::sqlite::owner::disk::change::Change;
use crate::sqlite::owner::disk::effect::CommitEffect;
use crate::sqlite::owner::disk::job::Written;
use crate::sqlite::owner::memory::capabilities::Capabilities;
use crate::sqlite::owner::memory::due_item::DueItem;
use crate::sqlite::owner::memory::ids::{History, Number, Token};
use crate::sqlite::owner::memory::state::OwnerState;
use crate::sqlite::owner::operations::waiter_guard::WaiterGuard;
use crate::sqlite::read;

pub const INVALID: &str = "Invalid lock token: the turn has ended, or its lock expired";

/// A new lease of a turn. Dropping this gives the turn back, unless the fetch has returned it.
struct TurnClaim<'a> {
    core: &'a OwnerCore,
    token: Token,
    number: Number,
    is_open: bool,
}

impl Drop for TurnClaim<'_> {
    fn drop(&mut self) {
        if self.is_open {
            let mut state = self.core.lock();
            let changes = state.uncount_turn(self.token);
            if !changes.is_empty() {
                // The fetch may end while the attempts are written. The next process must not count them either.
                self.core.submit_and_forget(None, changes, CommitEffect::None);
            }
            if let Some((number, taken)) = state.release(self.token) {
                state.put_back(number, taken);
            }
        }
    }
}

fn capabilities(filter: Option<&DispatcherCapabilityFilter>) -> Option<Capabilities> {
    let triple = |version: &semver::Version| (version.major, version.minor, version.patch);
    filter.map(|filter| match filter.supported_duroxide_versions.first() {
        Some(range) => Capabilities { first: triple(&range.min), last: triple(&range.max), none: false },
        None => Capabilities { first: (0, 0, 0), last: (0, 0, 0), none: true },
    })
}

impl OwnerCore {
    pub async fn fetch_turn(
        &self,
        lock_timeout: Duration,
        poll_timeout: Duration,
        filter: Option<&DispatcherCapabilityFilter>,
    ) -> Result<Option<FetchedTurn>> {
        let deadline = tokio::time::Instant::now() + poll_timeout;
        let capabilities = capabilities(filter);
        loop {
            if self.health.broken().is_some() {
                // The store is broken. An immediate return would only make the dispatcher spin.
                tokio::time::sleep_until(deadline).await;
                return Ok(None);
            }
            match self.search_turn(capabilities, lock_timeout)? {
                TurnSearch::Found(found) => return self.complete_fetch(*found).await.map(Some),
                TurnSearch::Retry => {}
                TurnSearch::Waiting(guard, wake_up) => {
                    if timeout_at(deadline, wake_up).await.is_err() {
                        return Ok(None);
                    }
                    std::mem::forget(guard);
                }
            }
        }
    }

    fn search_turn(&self, capabilities: Option<Capabilities>, lock_timeout: Duration) -> Result<TurnSearch<'_>> {
        let token = Self::token();
        let mut state = self.lock();
        state.expire(Instant::now());
        if let Some(number) = state.claim(capabilities.as_ref(), token, lock_timeout) {
            let claim = TurnClaim { core: self, token, number, is_open: true };
            let found = self.prepare(claim, state)?;
            return Ok(found.map_or(TurnSearch::Retry, |found| TurnSearch::Found(Box::new(found))));
        }
        let (waiter, wake_up) = state.turn_waiters.add(capabilities);
        Ok(TurnSearch::Waiting(WaiterGuard::new(self, waiter, OwnerState::remove_turn_waiter), wake_up))
    }

    /// Waits for the write of the attempts, and adds the history and the key-value pairs.
    async fn complete_fetch(&self, found: FoundTurn<'_>) -> Result<FetchedTurn> {
        let FoundTurn { mut claim, turn, written } = found;
        if let Some(written) = written {
            self.wait_until_written(written).await?;
        }
        let TurnItem { mut item, history, attempts, has_kv, .. } = turn;
        if let Some(history) = history {
            item.history.clone_from(&history.lock());
        }
        if has_kv {
            let number = claim.number;
            item.kv_snapshot =
                self.read("fetch_orchestration_item", |connection| read::kv_snapshot(connection, number))?;
        }
        claim.is_open = false;
        Ok((item, claim.token.to_string(), attempts))
    }

    /// Reads the history of the instance if needed, and takes the messages of the turn. `None` if the turn has nothing
    /// to do.
    fn prepare<'a>(&'a self, claim: TurnClaim<'a>, mut state: LockedState<'a>) -> Result<Option<FoundTurn<'a>>> {
        let number = claim.number;
        let Some(instance) = state.get(number) else { return Ok(None) };
        let mut history_error = None;
        if instance.history.is_none() || instance.gate.is_none() {
            let execution = instance.execution();
            drop(state);
            let loaded =
                self.read("fetch_orchestration_item", |connection| read::history(connection, number, execution));
            state = self.lock();
            if state.turn(claim.token) != Some(number) {
                // Reading took longer than the lease, so the history may be out of date.
                drop(state);
                return Ok(None);
            }
            match loaded {
                Ok(history) => {
                    if let Some(instance) = state.get(number) {
                        instance.gate = Some(MessageGate::of(&history));
                        instance.history = Some(Arc::new(parking_lot::Mutex::new(history)));
                    }
                }
                Err(failure) if failure.kind == FailureKind::Unreadable => history_error = Some(failure.message),
                // The engine waits a moment before its next fetch.
                Err(failure) => {
                    drop(state);
                    return Err(Failure::not_applied(failure.operation, failure.message));
                }
            }
        }
        if !state.take_messages(number) {
            // Dropping the claim needs the lock.
            drop(state);
            return Ok(None);
        }
        state.touch(number);
        let mut turn = state.turn_item(number, history_error);
        let changes = turn.as_mut().map(|turn| std::mem::take(&mut turn.attempt_changes)).unwrap_or_default();
        let written = if changes.is_empty() { None } else { Some(self.submit(None, changes, CommitEffect::None)) };
        drop(state);
        Ok(turn.map(|turn| FoundTurn { claim, turn, written }))
    }

    pub fn abandon_turn(&self, token: &str, delay: Option<Duration>, ignore_attempt: bool) -> Result<()> {
        let mut state = self.lock();
        let token: Option<Token> = token.parse().ok();
        if ignore_attempt && let Some(token) = token {
            let changes = state.uncount_turn(token);
            if !changes.is_empty() {
                // The next process to open the file must not count the attempt either.
                self.submit_and_forget(None, changes, CommitEffect::None);
            }
        }
        let Some((number, messages)) = token.and_then(|token| state.release(token)) else {
            return Err(Failure::lock_lost("abandon_orchestration_item", INVALID));
        };
        match delay.map(after_ms) {
            Some(due_ms) if due_ms > now_ms() => {
                for message in messages {
                    let sequence = message.sequence;
                    let policy = state.policy;
                    if let Some(instance) = state.get(number) {
                        let keeps_place = policy.keep_message_order;
                        let place = if keeps_place { &mut instance.put_off } else { &mut instance.delayed };
                        place.insert(sequence, message);
                    }
                    state.schedule(due_ms, DueItem::Message(number, sequence));
                }
                state.refresh(number);
            }
            _ => state.put_back(number, messages),
        }
        Ok(())
    }

    pub fn renew_turn(&self, token: &str, extend_for: Duration) -> Result<()> {
        let mut state = self.lock();
        let now = Instant::now();
        let renewed = token.parse().ok().and_then(|token| state.renew(token, now + extend_for));
        renewed.ok_or_else(|| Failure::lock_lost("renew_orchestration_item_lock", INVALID))
    }
}

/// The turn for the engine, still without its history and its key-value pairs.
struct TurnItem {
    item: OrchestrationItem,
    history: Option<History>,
    attempts: u32,
    has_kv: bool,
    /// The attempts that must be written before the fetch returns the turn.
    attempt_changes: Vec<Change>,
}

struct FoundTurn<'a> {
    claim: TurnClaim<'a>,
    turn: TurnItem,
    /// Resolves when the attempts are on the disk, if the fetch must wait for that.
    written: Option<Written>,
}

/// The result of one search for a turn.
enum TurnSearch<'a> {
    Found(Box<FoundTurn<'a>>),
    /// The ready instance had nothing to do after all.
    Retry,
    /// The fetch waits for a wake-up.
    Waiting(WaiterGuard<'a>, oneshot::Receiver<()>),
}

impl OwnerState {
    fn turn_item(&mut self, number: Number, history_error: Option<String>) -> Option<TurnItem> {
        let instance = self.instances.get(&number)?;
        let leased = instance.leased.as_ref()?;
        let record = instance.record.clone().unwrap_or_default();
        let messages: Vec<WorkItem> = leased.taken.iter().map(|message| (*message.item).clone()).collect();
        let attempts = leased.taken.iter().map(|message| message.attempts).max().unwrap_or(1);
        let attempt_changes = leased
            .taken
            .iter()
            .filter(|message| message.is_loaded)
            .map(|message| Change::MessageAttempts { sequence: message.sequence, attempts: message.attempts })
            .collect();
        let (name, version) = match (&record.orchestration, &record.version) {
            (Some(name), version) => (name.to_string(), version.as_deref().map(str::to_owned)),
            (None, _) => requested_start(&messages)
                .or_else(|| instance.history.as_ref().and_then(|history| recorded_start(&history.lock())))
                .unwrap_or_default(),
        };
        let item = OrchestrationItem {
            instance: instance.id.to_string(),
            orchestration_name: name,
            execution_id: instance.execution(),
            version: version.unwrap_or_else(|| "unknown".to_owned()),
            history: Vec::new(),
            messages,
            history_error: history_error.clone(),
            kv_snapshot: HashMap::new(),
        };
        let history = if history_error.is_some() { None } else { instance.history.clone() };
        Some(TurnItem { item, history, attempts, has_kv: record.has_kv, attempt_changes })
    }

    fn renew(&mut self, token: Token, until: Instant) -> Option<()> {
        let number = self.turn(token)?;
        let held = self.instances.get_mut(&number)?.leased.as_mut()?;
        if held.token != token {
            return None;
        }
        held.until = until;
        Some(())
    }
}

/// The orchestration and the version of the execution that the messages begin.
fn requested_start(messages: &[WorkItem]) -> Option<(String, Option<String>)> {
    messages.iter().find_map(|message| match message {
        WorkItem::StartOrchestration { orchestration, version, .. }
        | WorkItem::ContinueAsNew { orchestration, version, .. } => Some((orchestration.clone(), version.clone())),
        _ => None,
    })
}

/// The orchestration and the version of the execution with this history.
fn recorded_start(history: &[Event]) -> Option<(String, Option<String>)> {
    history.iter().find_map(|event| match &event.kind {
        EventKind::OrchestrationStarted { name, version, .. } => Some((name.clone(), Some(version.clone()))),
        _ => None,
    })
}
