//! How many sessions the slots of one runtime may own together.
//!
//! The engine's interface has no room for such a limit. The engine itself counts the sessions whose activities run, after
//! a store has leased them. So each opened store knows the limits of the runtimes that work on it, and leases no session
//! beyond them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A session that has been idle for this long makes room, if an activity of another session waits.
pub const IDLE_BEFORE_GIVEN_UP: Duration = Duration::from_secs(2);
/// The time between two warnings of one runtime.
const WARNING_PAUSE: Duration = Duration::from_secs(60);
/// How many sessions of one runtime are known to wait. More of them would be counted again at each look.
const MOST_WAITING: usize = 10_000;

/// The limit of one runtime.
pub struct SessionLimit {
    pub most: usize,
    /// The slots of the runtime. Each owns its sessions for itself.
    owners: Mutex<BTreeSet<String>>,
    held_back: Mutex<HeldBack>,
}

#[derive(Default)]
struct HeldBack {
    /// The sessions that wait for room.
    waiting: HashSet<String>,
    /// How often a session began to wait.
    count: u64,
    warned: Option<Instant>,
}

impl SessionLimit {
    pub fn new(most: usize) -> Self {
        Self { most, owners: Mutex::default(), held_back: Mutex::default() }
    }

    /// The slots that have asked for activities of sessions.
    pub fn owners(&self) -> Vec<String> {
        self.owners.lock().iter().cloned().collect()
    }

    /// How often the limit has held a session back.
    pub fn count(&self) -> u64 {
        self.held_back.lock().count
    }

    /// Notes that these sessions have work and wait for room. Logs a warning, at most once a minute.
    pub fn hold_back(&self, sessions: impl IntoIterator<Item = String>) {
        let mut held_back = self.held_back.lock();
        if held_back.waiting.len() >= MOST_WAITING {
            held_back.waiting.clear();
        }
        let mut first = None;
        for session in sessions {
            if held_back.waiting.insert(session.clone()) {
                held_back.count += 1;
                first.get_or_insert(session);
            }
        }
        let Some(session) = first else { return };
        if held_back.warned.is_some_and(|warned| warned.elapsed() < WARNING_PAUSE) {
            return;
        }
        held_back.warned = Some(Instant::now());
        drop(held_back);
        tracing::warn!(
            target: "duroxide::runtime",
            session,
            "the activities of session '{session}' wait, since this runtime holds {} sessions, as many as \
             max_sessions_per_runtime allows; a session makes room after {} s without an activity; raise the limit, or \
             start another node",
            self.most,
            IDLE_BEFORE_GIVEN_UP.as_secs()
        );
    }

    /// Notes that a slot of the runtime owns the session now.
    pub fn admit(&self, session: &str) {
        let mut held_back = self.held_back.lock();
        if !held_back.waiting.is_empty() {
            held_back.waiting.remove(session);
        }
    }
}

/// The limits of the runtimes that work on one opened store, by their slots.
#[derive(Default)]
pub struct SessionLimits(Mutex<HashMap<String, Arc<SessionLimit>>>);

impl SessionLimits {
    /// Counts the sessions of a slot under `limit` from now on.
    pub fn apply(&self, limit: &Arc<SessionLimit>, owner: &str) {
        let mut owners = limit.owners.lock();
        if !owners.contains(owner) {
            owners.insert(owner.to_owned());
            self.0.lock().insert(owner.to_owned(), Arc::clone(limit));
        }
    }

    /// The limit of a slot; `None` without one.
    pub fn of(&self, owner: &str) -> Option<Arc<SessionLimit>> {
        self.0.lock().get(owner).cloned()
    }

    /// Forgets the limit of a runtime that has ended.
    pub fn remove(&self, limit: &Arc<SessionLimit>) {
        self.0.lock().retain(|_, other| !Arc::ptr_eq(other, limit));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_counts_once_for_each_time_that_it_waits() {
        let limit = SessionLimit::new(1);
        let waits = || ["a".to_owned(), "b".to_owned()];

        limit.hold_back(waits());
        limit.hold_back(waits());
        assert_eq!(limit.count(), 2);

        limit.admit("a");
        limit.hold_back(waits());
        assert_eq!(limit.count(), 3);
    }

    #[test]
    fn a_removed_limit_applies_to_no_slot() {
        let (limits, first, second) =
            (SessionLimits::default(), Arc::new(SessionLimit::new(1)), Arc::new(SessionLimit::new(1)));
        limits.apply(&first, "slot 1");
        limits.apply(&second, "slot 2");

        limits.remove(&first);

        assert!(limits.of("slot 1").is_none());
        assert!(limits.of("slot 2").is_some());
    }
}
