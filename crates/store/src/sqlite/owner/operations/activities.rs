//! Fetches activities for workers, and ends, renews or abandons them.

use std::time::{Duration, Instant};

use duroxide::providers::{SessionFetchConfig, TagFilter, WorkItem};
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use crate::clock::{after_ms, now_ms};
use crate::error::Result;
use crate::failure::Failure;
use crate::sqlite::owner::core::OwnerCore;
use crate::sqlite::owner::disk::change::Change;
use crate::sqlite::owner::disk::effect::CommitEffect;
use crate::sqlite::owner::disk::job::Written;
use crate::sqlite::owner::disk::rows::MessageRow;
use crate::sqlite::owner::memory::activity_queue::ActivityFilter;
use crate::sqlite::owner::memory::due_item::DueItem;
use crate::sqlite::owner::memory::ids::{Sequence, Token};
use crate::sqlite::owner::memory::sessions::SessionFilter;
use crate::sqlite::owner::memory::state::OwnerState;
use crate::sqlite::owner::operations::waiter_guard::WaiterGuard;
use crate::work_item::encode;

const INVALID: &str = "the activity was cancelled, or its lock expired (Invalid lock token)";

/// A new lease of an activity. Dropping this gives the activity back, unless the fetch has returned it.
struct ActivityClaim<'a> {
    core: &'a OwnerCore,
    token: Token,
    is_open: bool,
}

impl Drop for ActivityClaim<'_> {
    fn drop(&mut self) {
        if self.is_open {
            self.core.give_back(self.token, None, true);
        }
    }
}

/// The result of one search for an activity.
enum ActivitySearch<'a> {
    Found {
        fetched: Box<(WorkItem, String, u32)>,
        claim: ActivityClaim<'a>,
        /// Resolves when the attempt is on the disk, if the fetch must wait for that.
        written: Option<Written>,
    },
    /// The fetch waits for a wake-up.
    Waiting(WaiterGuard<'a>, oneshot::Receiver<()>),
}

impl OwnerCore {
    pub async fn fetch_activity(
        &self,
        lock_timeout: Duration,
        poll_timeout: Duration,
        session: Option<&SessionFetchConfig>,
        tags: &TagFilter,
    ) -> Result<Option<(WorkItem, String, u32)>> {
        let deadline = tokio::time::Instant::now() + poll_timeout;
        if *tags == TagFilter::None {
            tokio::time::sleep_until(deadline).await;
            return Ok(None);
        }
        let session = session
            .map(|config| SessionFilter { config: config.clone(), limit: self.session_limits.of(&config.owner_id) });
        let filter = ActivityFilter { tags: tags.clone(), session };
        loop {
            if self.health.broken().is_some() {
                tokio::time::sleep_until(deadline).await;
                return Ok(None);
            }
            match self.search_activity(&filter, lock_timeout) {
                ActivitySearch::Found { fetched, mut claim, written } => {
                    if let Some(written) = written {
                        self.wait_until_written(written).await?;
                    }
                    claim.is_open = false;
                    return Ok(Some(*fetched));
                }
                ActivitySearch::Waiting(guard, wake_up) => {
                    if timeout_at(deadline, wake_up).await.is_err() {
                        return Ok(None);
                    }
                    std::mem::forget(guard);
                }
            }
        }
    }

    fn search_activity(&self, filter: &ActivityFilter, lock_timeout: Duration) -> ActivitySearch<'_> {
        let token = Self::token();
        let now = Instant::now();
        let mut state = self.lock();
        state.expire(now);
        let Some(activity) = state.activities.claim(filter, token, now + lock_timeout, now) else {
            let (waiter, wake_up) = state.activities.waiters.add(filter.clone());
            return ActivitySearch::Waiting(
                WaiterGuard::new(self, waiter, OwnerState::remove_activity_waiter),
                wake_up,
            );
        };
        let (sequence, attempts) = (activity.sequence, activity.attempts);
        let fetched = Box::new((activity.item.clone(), token.to_string(), attempts));
        let (is_loaded, is_counted) = (activity.is_loaded, std::mem::take(&mut activity.is_counted));
        let mut written = None;
        if !is_counted {
            let changes = vec![Change::ActivityAttempts { sequence, attempts }];
            if is_loaded {
                // The activity may have killed the process before, so its attempt must be on the disk before it begins.
                written = Some(self.submit(None, changes, CommitEffect::None));
            } else {
                self.submit_and_forget(None, changes, CommitEffect::None);
            }
        }
        ActivitySearch::Found { fetched, claim: ActivityClaim { core: self, token, is_open: true }, written }
    }

    pub async fn end_activity(&self, token: &str, completion: Option<WorkItem>) -> Result<()> {
        const OPERATION: &str = "ack_work_item";
        let data = completion.as_ref().map(encode).transpose()?;
        let invalid = || Failure::lock_lost(OPERATION, INVALID);
        let token: Token = token.parse().map_err(|_| invalid())?;
        let written = {
            let mut state = self.lock();
            let activity = state.activities.end(token, Instant::now()).ok_or_else(invalid)?;
            let number = activity.number;
            if let Some(instance) = state.get(number) {
                debug_assert!(instance.activities > 0, "an instance counts each of its activities");
                instance.activities = instance.activities.saturating_sub(1);
            }
            let mut changes = vec![Change::ActivityEnded(activity.sequence)];
            let mut pushed = Vec::new();
            if let (Some(item), Some(data)) = (completion, data)
                && let Some(sequence) = state.deliver(number, item, 0, &mut changes)
            {
                changes.push(Change::Message(MessageRow { sequence, number, visible_ms: 0, data }));
                pushed.push((number, sequence));
            }
            self.submit(Some(number), changes, CommitEffect::Pushed(pushed))
        };
        self.wait_until_written(written).await
    }

    pub fn abandon_activity(&self, token: &str, delay: Option<Duration>, ignore_attempt: bool) -> Result<()> {
        let given_back = token.parse().is_ok_and(|token| self.give_back(token, delay, ignore_attempt));
        if given_back { Ok(()) } else { Err(Failure::lock_lost("abandon_work_item", INVALID)) }
    }

    fn give_back(&self, token: Token, delay: Option<Duration>, ignore_attempt: bool) -> bool {
        let mut state = self.lock();
        let due_ms = delay.map(after_ms).filter(|due_ms| *due_ms > now_ms());
        if ignore_attempt && let Some(activity) = state.activities.uncount(token) {
            // The next process to open the file must not count the attempt either.
            let change = Change::ActivityAttempts { sequence: activity.sequence, attempts: activity.attempts };
            self.submit_and_forget(None, vec![change], CommitEffect::None);
        }
        let Some(activity) = state.activities.release(token) else { return false };
        let sequence = activity.sequence;
        match due_ms {
            Some(due_ms) => state.schedule(due_ms, DueItem::Activity(sequence)),
            None => state.make_activity_ready(sequence),
        }
        true
    }

    /// Takes back that deliveries of turns and activities count, whose leases stay.
    pub async fn uncount(&self, turns: &[String], activities: &[String]) -> Result<()> {
        let written = {
            let mut state = self.lock();
            let mut changes = Vec::new();
            for token in activities.iter().filter_map(|token| token.parse().ok()) {
                changes.extend(state.activities.uncount(token).map(|activity| Change::ActivityAttempts {
                    sequence: activity.sequence,
                    attempts: activity.attempts,
                }));
            }
            for token in turns.iter().filter_map(|token| token.parse().ok()) {
                changes.extend(state.uncount_turn(token));
            }
            if changes.is_empty() {
                return Ok(());
            }
            self.submit(None, changes, CommitEffect::None)
        };
        self.wait_until_written(written).await
    }

    pub fn renew_activity(&self, token: &str, extend_for: Duration) -> Result<()> {
        let now = Instant::now();
        let renewed = token.parse().is_ok_and(|token| self.lock().activities.renew(token, now + extend_for, now));
        if renewed { Ok(()) } else { Err(Failure::lock_lost("renew_work_item_lock", INVALID)) }
    }
}

impl OwnerState {
    fn make_activity_ready(&mut self, sequence: Sequence) {
        self.activities.make_ready(sequence, &mut self.wake_ups);
    }

    /// Removes a fetch that waited for an activity. If it was woken already, other fetches are woken.
    fn remove_activity_waiter(&mut self, waiter: u64) {
        if !self.activities.waiters.remove(waiter) {
            self.activities.wake_waiters(&mut self.wake_ups);
        }
    }

    /// Removes a cancelled activity. A worker that runs it finds its lease ended.
    pub fn remove_activity(&mut self, sequence: Sequence) {
        if let Some(activity) = self.activities.remove(sequence)
            && let Some(instance) = self.get(activity.number)
        {
            debug_assert!(instance.activities > 0, "an instance counts each of its activities");
            instance.activities = instance.activities.saturating_sub(1);
        }
    }
}
