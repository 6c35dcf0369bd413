//! The turns that this process holds: those that were fetched, and not yet acknowledged or abandoned.

use std::collections::HashMap;
use std::sync::Arc;

use duroxide::Event;
use duroxide::providers::OrchestrationItem;
use parking_lot::Mutex;
use tokio::task::Id;

use crate::parent_link::ParentLink;
use crate::turn_record::TurnRecord;
use store::history::started;

/// A fetched instance, until it is acknowledged or abandoned.
pub struct HeldTurn {
    pub record: Arc<TurnRecord>,
    /// The parent of the instance, which must learn of its end.
    pub parent: Option<ParentLink>,
    /// The reason of a request to cancel the instance, if this turn got one.
    pub cancellation: Option<String>,
    /// The history as fetched, if the adapter may have to end the instance without running it.
    pub history: Vec<Event>,
    task: Option<Id>,
}

/// The turns in progress: by lock token for the store, and by task for the driver, which does not know the token.
#[derive(Default)]
pub struct Turns {
    table: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    by_token: HashMap<String, Arc<HeldTurn>>,
    by_task: HashMap<Id, Arc<TurnRecord>>,
}

impl Turns {
    pub fn publish(&self, token: &str, item: &OrchestrationItem, record: TurnRecord, cancellation: Option<String>) {
        let record = Arc::new(record);
        let task = tokio::task::try_id();
        let held = HeldTurn {
            record: Arc::clone(&record),
            parent: started(&item.history).and_then(|event| ParentLink::of(&event.kind)),
            cancellation,
            // Filled in below, if the adapter may have to cancel the instance.
            history: Vec::new(),
            task,
        };
        let keep = held.cancellation.is_some() && record.persisted > 0;
        let held = if keep { HeldTurn { history: item.history.clone(), ..held } } else { held };
        let mut tables = self.table.lock();
        tables.by_token.insert(token.to_owned(), Arc::new(held));
        if let Some(task) = task {
            tables.by_task.insert(task, record);
        }
    }

    pub fn current(&self) -> Option<Arc<TurnRecord>> {
        self.table.lock().by_task.get(&tokio::task::try_id()?).cloned()
    }

    pub fn get(&self, token: &str) -> Option<Arc<HeldTurn>> {
        self.table.lock().by_token.get(token).cloned()
    }

    pub fn tokens(&self) -> Vec<String> {
        self.table.lock().by_token.keys().cloned().collect()
    }

    pub fn remove(&self, token: &str) {
        let mut tables = self.table.lock();
        if let Some(held) = tables.by_token.remove(token)
            && let Some(task) = held.task
            && tables.by_task.get(&task).is_some_and(|record| Arc::ptr_eq(record, &held.record))
        {
            tables.by_task.remove(&task);
        }
    }

    /// Removes the turn of this task. A task that fetches again has ended its turn, even if the engine did not report
    /// it.
    pub fn forget_task(&self) {
        if let Some(task) = tokio::task::try_id() {
            let mut tables = self.table.lock();
            if let Some(record) = tables.by_task.remove(&task) {
                tables.by_token.retain(|_, held| !Arc::ptr_eq(&held.record, &record));
            }
        }
    }
}
