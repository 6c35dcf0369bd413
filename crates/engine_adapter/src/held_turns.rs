//! The turns that this process holds.

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
    /// As fetched, without the history of values: what is needed to end the instance without running it.
    pub parent: Option<ParentLink>,
    pub cancellation: Option<String>,
    pub history: Vec<Event>,
    task: Option<Id>,
}

/// The turns in progress: by lock token for the store, by task for the driver, which knows no token.
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
            // Only a turn that can be cancelled by us needs its history again.
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

    /// A task that fetches again has let go of its turn, even where the engine forgot to say so.
    pub fn forget_task(&self) {
        if let Some(task) = tokio::task::try_id() {
            let mut tables = self.table.lock();
            if let Some(record) = tables.by_task.remove(&task) {
                tables.by_token.retain(|_, held| !Arc::ptr_eq(&held.record, &record));
            }
        }
    }
}
