//! What an application wrote into an outbox, a table of its own database, taken over into the store once.
//!
//! Every row of an outbox has a random key. With the messages of some rows the store records the key of the last of them, in
//! the same transaction. A relay says which key it has seen there: if another one is recorded meanwhile, it is told that one,
//! and nothing is sent. So whoever relays next, after a crash or at the same time, finds out which rows are done.

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

/// What became of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relayed {
    /// They are in the store.
    Done,
    /// Some are refused for good, by their places, with the reason; nothing was sent.
    Refused(Vec<(usize, String)>),
    /// Another key is recorded; nothing was sent.
    Behind(Option<i64>),
    /// Another process works on the store, and relays.
    Elsewhere,
}

/// Decides about each message by what its instance runs: `None` to send it, or why it is refused. A start of what is started
/// already is sent too; the engine drops it.
#[derive(Default)]
pub struct StartFilter {
    starting: HashMap<String, String>,
}

impl StartFilter {
    pub fn refuses(&mut self, message: &WorkItem, running: Option<&str>) -> Option<String> {
        let WorkItem::StartOrchestration { instance, orchestration, .. } = message else { return None };
        if let Some(running) = self.starting.get(instance).map(String::as_str).or(running) {
            return (running != orchestration).then(|| exists(instance, running).to_string());
        }
        self.starting.insert(instance.clone(), orchestration.clone());
        None
    }
}
