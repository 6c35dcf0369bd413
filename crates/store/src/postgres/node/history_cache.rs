//! HistoryCache of instances that this node has worked on lately, so that a turn need not read what this node has written.
//!
//! What the server says of an instance when it is leased, its creation, its execution and its last event, decides whether a
//! history fits: other nodes may have gone on with it, or it may have been deleted and made anew.

use std::collections::HashMap;

use duroxide::Event;
use parking_lot::Mutex;

/// Of all histories together, as JSON.
const MOST_BYTES: usize = 64 << 20;

pub struct History {
    /// When the instance was created, in microseconds since the epoch.
    pub created_us: i64,
    pub execution: i64,
    pub events: Vec<Event>,
    pub bytes: usize,
}

/// Two generations: what was used since the last change of them, and what was used before.
#[derive(Default)]
struct Generations {
    young: HashMap<String, History>,
    old: HashMap<String, History>,
    young_bytes: usize,
}

#[derive(Default)]
pub struct HistoryCache(Mutex<Generations>);

impl HistoryCache {
    /// A copy of what is known of this execution, which may lack its end.
    pub fn get(&self, instance: &str, created_us: i64, execution: i64) -> Option<(Vec<Event>, usize)> {
        let mut generations = self.0.lock();
        if let Some(history) = generations.old.remove(instance) {
            generations.put(instance, history);
        }
        let history = generations.young.get(instance)?;
        (history.created_us == created_us && history.execution == execution)
            .then(|| (history.events.clone(), history.bytes))
    }

    pub fn put(&self, instance: &str, history: History) {
        self.0.lock().put(instance, history);
    }

    /// Adds what a turn has committed to the history that it ran on, if that is the one known here.
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

    pub fn forget(&self, instance: &str) {
        let mut generations = self.0.lock();
        generations.old.remove(instance);
        if let Some(history) = generations.young.remove(instance) {
            generations.young_bytes -= history.bytes;
        }
    }
}

impl Generations {
    fn put(&mut self, instance: &str, history: History) {
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
