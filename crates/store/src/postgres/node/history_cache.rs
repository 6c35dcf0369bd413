//! Caches the histories of instances that this node has worked on lately, so that a turn need not read events that this
//! node has written.
//!
//! With each lease the server sends the instance's creation time, its execution and its last event. These decide
//! whether a cached history fits: another node may have continued the instance, or the instance may have been deleted
//! and created again.

use std::collections::HashMap;

use duroxide::Event;
use parking_lot::Mutex;

/// The limit for all histories together, as JSON.
const MOST_BYTES: usize = 64 << 20;

pub struct HistoryEntry {
    /// When the instance was created, in microseconds since the epoch.
    pub created_us: i64,
    pub execution: i64,
    pub events: Vec<Event>,
    pub bytes: usize,
}

/// Two generations, which stand for the order of use. The young one holds the histories that were used since the last
/// change of generations. When it is full, it becomes the old one, and the histories of the old one are dropped.
#[derive(Default)]
struct Generations {
    young: HashMap<String, HistoryEntry>,
    old: HashMap<String, HistoryEntry>,
    young_bytes: usize,
}

#[derive(Default)]
pub struct HistoryCache(Mutex<Generations>);

impl HistoryCache {
    /// A copy of the cached history of this execution. Its last events may be missing.
    pub fn get(&self, instance: &str, created_us: i64, execution: i64) -> Option<(Vec<Event>, usize)> {
        let mut generations = self.0.lock();
        if let Some(history) = generations.old.remove(instance) {
            generations.put(instance, history);
        }
        let history = generations.young.get(instance)?;
        (history.created_us == created_us && history.execution == execution)
            .then(|| (history.events.clone(), history.bytes))
    }

    pub fn put(&self, instance: &str, history: HistoryEntry) {
        self.0.lock().put(instance, history);
    }

    /// Adds the events that a turn has committed, if the cached history is the one that the turn ran on.
    pub fn append(&self, instance: &str, execution: i64, length: usize, delta: Vec<Event>, bytes: usize) {
        let mut generations = self.0.lock();
        let Generations { young, young_bytes, .. } = &mut *generations;
        let Some(history) = young.get_mut(instance) else { return };
        if history.execution == execution && history.events.len() == length {
            history.events.extend(delta);
            history.bytes += bytes;
            *young_bytes += bytes;
        }
    }

    /// Forgets everything: another server may lack the last events.
    pub fn clear(&self) {
        *self.0.lock() = Generations::default();
    }

    pub fn forget(&self, instance: &str) {
        let mut generations = self.0.lock();
        generations.old.remove(instance);
        if let Some(history) = generations.young.remove(instance) {
            generations.young_bytes -= history.bytes;
        }
    }
}

impl Generations {
    fn put(&mut self, instance: &str, history: HistoryEntry) {
        self.young_bytes += history.bytes;
        if let Some(replaced) = self.young.insert(instance.to_owned(), history) {
            self.young_bytes -= replaced.bytes;
        }
        if self.young_bytes > MOST_BYTES / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }
}
