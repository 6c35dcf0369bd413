//! What is under way for an instance: its activities and messages in the queues, and the processes that could take them.
//! A history cannot tell this.
//!
//! Everything here is read by other versions of this package too: from the inbox of a SQLite store, and from a table on
//! PostgreSQL. So a new field needs a default.

use duroxide::providers::WorkItem;
use serde::{Deserialize, Serialize};

use crate::clock::now_ms;

/// What is under way for one instance.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LiveState {
    pub activities: Vec<QueuedActivity>,
    pub messages: Vec<UnreadMessages>,
    /// Whether a turn could read something now.
    pub has_work: bool,
    /// The turn that runs now.
    pub turn: Option<LeaseHolder>,
    /// The processes that work on the store, each with its last report.
    pub nodes: Vec<NodeReport>,
}

/// An activity in the queue of the workers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueuedActivity {
    pub execution: u64,
    /// The number of the event that scheduled it.
    pub id: u64,
    /// How often it was delivered.
    pub deliveries: u32,
    /// The time from which a worker may take it, in ms since the epoch, if that is known.
    pub available_ms: Option<u64>,
    pub tag: Option<String>,
    pub session: Option<String>,
    /// The worker that holds the session.
    pub session_worker: Option<String>,
    pub lease: Option<LeaseHolder>,
}

/// The node that holds a lease.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LeaseHolder {
    /// The id of a [`NodeReport`]; `None` if the store cannot tell which node it is.
    pub node: Option<String>,
    /// When the lease began, in ms since the epoch, if that is known.
    pub since_ms: Option<u64>,
}

/// Messages under one name that the instance has not read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UnreadMessages {
    pub is_event: bool,
    pub name: String,
    pub count: usize,
}

/// A process that works on the store.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeReport {
    pub id: String,
    /// The name for people: the host and the process.
    pub name: String,
    /// When the process reported this, in ms since the epoch.
    pub seen_ms: u64,
    pub runtimes: Vec<RuntimeReport>,
    /// The activities whose code runs in the process.
    pub running: Vec<RunningReport>,
    /// The instances that wait, since the store refuses their turns.
    pub refused: Vec<Refusal>,
}

/// A runtime of such a process: what it can run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuntimeReport {
    /// Each orchestration with its versions.
    pub orchestrations: Vec<(String, Vec<String>)>,
    pub activities: Vec<String>,
    pub tags: TagReport,
    pub orchestration_slots: usize,
    pub worker_slots: usize,
    pub max_sessions: usize,
    /// The names under which it holds sessions.
    pub session_workers: Vec<String>,
    /// How many sessions it holds.
    pub sessions: usize,
    /// How many activities it runs.
    pub busy_workers: usize,
}

/// The tags that a runtime takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TagReport {
    /// Whether it takes every tag.
    pub takes_all: bool,
    /// Whether it takes activities without a tag.
    pub takes_untagged: bool,
    pub tags: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunningReport {
    pub instance: String,
    pub execution: u64,
    pub id: u64,
    pub since_ms: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Refusal {
    pub instance: String,
    pub message: String,
    pub since_ms: u64,
}

impl TagReport {
    pub fn takes(&self, tag: Option<&str>) -> bool {
        self.takes_all
            || match tag {
                None => self.takes_untagged,
                Some(tag) => self.tags.iter().any(|taken| taken == tag),
            }
    }
}

impl LiveState {
    /// Counts a message that waits.
    pub fn add_message(&mut self, is_event: bool, name: &str) {
        let place = self.messages.iter_mut().find(|unread| unread.is_event == is_event && unread.name == name);
        match place {
            Some(unread) => unread.count += 1,
            None => self.messages.push(UnreadMessages { is_event, name: name.to_owned(), count: 1 }),
        }
    }

    /// Counts a message that waits while no process works on the store. Whether a turn could read it is not known then.
    pub fn add(&mut self, message: &WorkItem) {
        self.has_work = true;
        match message {
            WorkItem::ExternalRaised { name, .. } => self.add_message(true, name),
            WorkItem::QueueMessage { name, .. } => self.add_message(false, name),
            _ => {}
        }
    }

    /// Puts the report of this process in the place of an older one.
    pub fn add_node(&mut self, report: NodeReport) {
        self.nodes.retain(|node| node.id != report.id);
        self.nodes.push(report);
    }
}

/// The time that has passed since `since`, subtracted from now, in ms since the epoch.
pub fn moment_ms(since: std::time::Instant) -> u64 {
    now_ms().saturating_sub(u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_another_version_is_read_with_defaults() {
        let node: NodeReport = serde_json::from_str(r#"{"name": "a", "later": 1}"#).unwrap();

        assert_eq!((node.name.as_str(), node.runtimes.len()), ("a", 0));
    }

    #[test]
    fn messages_of_one_name_are_counted_together() {
        let mut live = LiveState::default();
        for (is_event, name) in [(true, "go"), (false, "go"), (true, "go")] {
            live.add_message(is_event, name);
        }

        let counts: Vec<_> = live.messages.iter().map(|unread| (unread.is_event, unread.count)).collect();
        assert_eq!(counts, [(true, 2), (false, 1)]);
    }
}
