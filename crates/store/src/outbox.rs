//! Takes over each row of an outbox once. An outbox is a table of an application's own database.
//!
//! Every row of an outbox has a random key. When the store takes over some rows, it records the key of the last one in
//! the same transaction. A relay sends the key that was recorded when it read the rows. If the store has another key by
//! then, it returns that one and takes over nothing. So the next relay, after a crash or at the same time, finds out
//! which rows are done.

use std::collections::HashMap;

use duroxide::providers::WorkItem;

use crate::start::exists;

/// Rows of an outbox, in order.
#[derive(Debug, Clone)]
pub struct Relay {
    /// The name of the outbox.
    pub outbox: String,
    /// The key that was recorded when the rows were read.
    pub seen: Option<i64>,
    /// The key of the last row.
    pub last: i64,
    pub messages: Vec<WorkItem>,
}

/// The outcome of taking over rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relayed {
    /// The rows are in the store.
    Done,
    /// The store refuses these rows for good, by their places, with the reasons. It took over nothing.
    Refused(Vec<(usize, String)>),
    /// The store has this other key recorded. It took over nothing.
    Behind(Option<i64>),
    /// Another process is the owner of the store, and relays.
    Elsewhere,
}

/// Refuses starts of instances that run another orchestration. A start of an instance that runs the same orchestration
/// is sent, and the engine drops it.
#[derive(Default)]
pub struct StartFilter {
    starting: HashMap<String, String>,
}

impl StartFilter {
    /// Why a message is refused, or `None` to send it. `running` is the orchestration that its instance runs.
    pub fn refuses(&mut self, message: &WorkItem, running: Option<&str>) -> Option<String> {
        let WorkItem::StartOrchestration { instance, orchestration, .. } = message else { return None };
        if let Some(running) = self.starting.get(instance).map(String::as_str).or(running) {
            return (running != orchestration).then(|| exists(instance, running).to_string());
        }
        self.starting.insert(instance.clone(), orchestration.clone());
        None
    }
}
