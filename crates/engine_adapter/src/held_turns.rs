//! The turns that this process holds: those that were fetched, and not yet acknowledged or abandoned.

use std::collections::HashMap;
use std::sync::Arc;

use duroxide::providers::{OrchestrationItem, WorkItem};
use duroxide::{AppErrorKind, ErrorDetails, Event};
use parking_lot::Mutex;
use tokio::task::Id;

use crate::turn_record::TurnRecord;
use store::history::started;
use store::parent_link::ParentLink;
use store::terminal_commit::tell_parent;

/// A fetched instance, until it is acknowledged or abandoned.
pub struct HeldTurn {
    pub record: Arc<TurnRecord>,
    /// The parent of the instance, which must learn of its end.
    pub parent: Option<ParentLink>,
    /// The reason of a request to cancel the instance, if this turn got one.
    pub cancellation: Option<String>,
    /// For the parents whose children could not start, since another start of the same id came first.
    pub collisions: Vec<WorkItem>,
    /// The history as fetched, if the adapter may have to end the instance without running it.
    pub history: Vec<Event>,
    task: Option<Id>,
}

/// The failures of the children that lose their id to an earlier start in the first turn of an instance. The engine takes
/// the first start, and drops the others without a message to their parents. A later start, to an instance with a history,
/// the engine answers itself, with the same text.
fn collisions(item: &OrchestrationItem) -> Vec<WorkItem> {
    if !item.history.is_empty() {
        return Vec::new();
    }
    let starts = item.messages.iter().filter(|message| matches!(message, WorkItem::StartOrchestration { .. }));
    let parents = starts.skip(1).filter_map(ParentLink::of_start);
    let failed = |parent| {
        let details = ErrorDetails::Application {
            kind: AppErrorKind::OrchestrationFailed,
            message: format!("sub-orchestration instance id '{}' already exists", item.instance),
            retryable: false,
        };
        tell_parent(&parent, details)
    };
    parents.map(failed).collect()
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
            collisions: collisions(item),
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

    /// Forgets which turn this task runs. A task that fetches again has ended its turn. Returns the token of a turn that
    /// the engine has neither committed nor given back.
    pub fn forget_task(&self) -> Option<String> {
        let mut tables = self.table.lock();
        let record = tables.by_task.remove(&tokio::task::try_id()?)?;
        let mut held = tables.by_token.iter().filter(|(_, held)| Arc::ptr_eq(&held.record, &record));
        held.next().map(|(token, _)| token.clone())
    }

    /// An instance whose code runs now.
    pub fn with_running_code(&self) -> Option<String> {
        let tables = self.table.lock();
        let mut records = tables.by_token.values().map(|held| &held.record);
        records.find(|record| record.code_time.is_running()).map(|record| record.instance.clone())
    }
}
