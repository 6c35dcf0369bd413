//! The activities that turns of this node cancel. The node may have leased such an activity already, and must not begin
//! it.

use std::collections::{HashMap, VecDeque};

use duroxide::providers::{ScheduledActivityIdentifier, WorkItem};
use parking_lot::Mutex;

use crate::postgres::node::request::{PendingWrite, WriteRequest};

/// How many cancelled activities the node remembers after the commit. An activity that was leased before arrives soon
/// after.
const MOST_REMEMBERED: usize = 4_096;

/// The instance, the execution and the number of the activity. An instance that is deleted and created again repeats
/// them.
type ActivityKey = (String, u64, u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// The commit that cancels the activity is on its way.
    Committing,
    /// The row of the activity is gone. A row with the same key belongs to a later instance with the same id.
    Gone,
}

#[derive(Default)]
struct CancelledTable {
    states: HashMap<ActivityKey, Cancelled>,
    /// The keys whose state is `Gone`, oldest first.
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

/// The activities that a batch cancels.
fn keys(operations: &[PendingWrite]) -> impl Iterator<Item = ActivityKey> {
    let turns = operations.iter().filter_map(|operation| match &operation.request {
        WriteRequest::Turn(end) => Some(&end.commit.cancelled),
        _ => None,
    });
    turns.flatten().map(|ScheduledActivityIdentifier { instance, execution_id, activity_id }| {
        (instance.clone(), *execution_id, *activity_id)
    })
}

impl CancelledActivities {
    /// Notes that a batch is about to be committed.
    pub fn begin(&self, operations: &[PendingWrite]) {
        for key in keys(operations) {
            self.0.lock().states.insert(key, Cancelled::Committing);
        }
    }

    /// Notes whether the batch was committed.
    pub fn end(&self, operations: &[PendingWrite], is_committed: bool) {
        for key in keys(operations) {
            let mut table = self.0.lock();
            if is_committed {
                table.states.insert(key.clone(), Cancelled::Gone);
                table.gone.push_back(key);
                if table.gone.len() > MOST_REMEMBERED
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

    /// Forgets an activity whose row is there, although its state is `Gone`.
    pub fn forget(&self, item: &WorkItem) {
        if let Some(key) = key_of(item) {
            self.0.lock().states.remove(&key);
        }
    }
}
