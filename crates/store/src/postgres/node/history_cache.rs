//! Caches the histories of instances that this node has worked on lately, so that a turn need not read events that this
//! node has written.
//!
//! With each lease the server sends the instance's creation time, its execution and its last event. These decide
//! whether a cached history fits: another node may have continued the instance, or the instance may have been deleted
//! and created again.

use duroxide::Event;
use parking_lot::Mutex;

use crate::postgres::node::generations::{CacheEntry, Generations};

/// The limit for all histories together, as JSON.
const MOST_BYTES: usize = 64 << 20;

pub struct HistoryEntry {
    /// When the instance was created, in microseconds since the epoch.
    pub created_us: i64,
    pub execution: i64,
    pub events: Vec<Event>,
    pub bytes: usize,
}

impl CacheEntry for HistoryEntry {
    fn bytes(&self) -> usize {
        self.bytes
    }
}

pub struct HistoryCache(Mutex<Generations<HistoryEntry>>);

impl Default for HistoryCache {
    fn default() -> Self {
        Self(Mutex::new(Generations::within(MOST_BYTES)))
    }
}

impl HistoryCache {
    /// A copy of the cached history of this execution. Its last events may be missing.
    pub fn get(&self, instance: &str, created_us: i64, execution: i64) -> Option<(Vec<Event>, usize)> {
        let mut generations = self.0.lock();
        let history = generations.get(instance)?;
        (history.created_us == created_us && history.execution == execution)
            .then(|| (history.events.clone(), history.bytes))
    }

    pub fn put(&self, instance: &str, history: HistoryEntry) {
        self.0.lock().put(instance, history);
    }

    /// Adds the events that a turn has committed, if the cached history is the one that the turn ran on.
    pub fn append(&self, instance: &str, execution: i64, length: usize, delta: Vec<Event>, bytes: usize) {
        self.0.lock().change(instance, |history| {
            if history.execution == execution && history.events.len() == length {
                history.events.extend(delta);
                history.bytes += bytes;
            }
        });
    }

    /// Forgets everything: another server may lack the last events.
    pub fn clear(&self) {
        self.0.lock().clear();
    }

    pub fn forget(&self, instance: &str) {
        self.0.lock().forget(instance);
    }
}
