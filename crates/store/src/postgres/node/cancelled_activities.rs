//! The activities that turns of this node cancel: one that was leased ahead must not begin any more.

use std::collections::{HashMap, VecDeque};

use duroxide::providers::{ScheduledActivityIdentifier, WorkItem};
use parking_lot::Mutex;

use crate::postgres::node::request::{PendingWrite, WriteRequest};

/// So many are remembered after their commit: what was leased before it arrives within moments.
const REMEMBERED: usize = 4_096;

/// Its instance, its execution and its number there. An instance that is deleted and made again has the same ones again.
type ActivityKey = (String, u64, u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// The commit that cancels it is on its way.
    Committing,
    /// Its row is gone. If one is there all the same, it is of a later instance with the same id.
    Gone,
}

#[derive(Default)]
struct CancelledTable {
    states: HashMap<ActivityKey, Cancelled>,
    /// Those that are gone, in their order.
    gone: VecDeque<ActivityKey>,
}

#[derive(Default)]
pub struct CancelledActivities(Mutex<CancelledTable>);

fn key_of(item: &WorkItem) -> Option<ActivityKey> {
    match item {
        WorkItem::ActivityExecute { instance, execution_id, id, .. } => Some((instance.clone(), *execution_id, *id)),
        _ => None,
    }
}

/// What a batch cancels.
fn keys(operations: &[PendingWrite]) -> impl Iterator<Item = ActivityKey> {
    let turns = operations.iter().filter_map(|operation| match &operation.work {
        WriteRequest::Turn(end) => Some(&end.commit.cancelled),
        _ => None,
    });
    turns.flatten().map(|ScheduledActivityIdentifier { instance, execution_id, activity_id }| {
        (instance.clone(), *execution_id, *activity_id)
    })
}

impl CancelledActivities {
    /// A batch is about to be committed.
    pub fn begin(&self, operations: &[PendingWrite]) {
        for key in keys(operations) {
            self.0.lock().states.insert(key, Cancelled::Committing);
        }
    }

    /// It was committed, or was not.
    pub fn end(&self, operations: &[PendingWrite], is_committed: bool) {
        for key in keys(operations) {
            let mut table = self.0.lock();
            if is_committed {
                table.states.insert(key.clone(), Cancelled::Gone);
                table.gone.push_back(key);
                if table.gone.len() > REMEMBERED
                    && let Some(oldest) = table.gone.pop_front()
                {
                    table.states.remove(&oldest);
                }
            } else {
                table.states.remove(&key);
            }
        }
    }

    pub fn state(&self, item: &WorkItem) -> Option<Cancelled> {
        let table = self.0.lock();
        if table.states.is_empty() {
            return None;
        }
        table.states.get(&key_of(item)?).copied()
    }

    /// One that was said to be gone is there.
    pub fn forget(&self, item: &WorkItem) {
        if let Some(key) = key_of(item) {
            self.0.lock().states.remove(&key);
        }
    }
}
