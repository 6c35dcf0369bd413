//! What a driver is told of one recorded event, or of one message that is about to be recorded.

use std::hash::{DefaultHasher, Hash, Hasher};

use duroxide::{Event, EventKind};

use crate::nondeterminism::action::Action;

pub struct RecordedEvent {
    /// 0 for a message of this batch.
    pub event_id: u64,
    pub source_event_id: Option<u64>,
    pub timestamp_ms: u64,
    pub kind: RecordedKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordedKind {
    /// Corresponds to an action that the code emitted: its fingerprint, and whether it has no result.
    Scheduled {
        fingerprint: u64,
        is_effect: bool,
    },
    Succeeded,
    Failed,
    /// An event raised by name; `data` is its hash.
    Event {
        name: String,
        data: u64,
    },
    /// A message of a queue; `data` is its hash.
    Queue {
        name: String,
        data: u64,
    },
    Other,
}

/// Compares the data of events without keeping it. Stable within a process only.
pub fn hash_data(data: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    data.hash(&mut hasher);
    hasher.finish()
}

impl From<&EventKind> for RecordedKind {
    fn from(kind: &EventKind) -> Self {
        if let Some(action) = Action::recorded(kind) {
            return Self::Scheduled { fingerprint: action.fingerprint(), is_effect: action.is_effect() };
        }
        match kind {
            EventKind::ActivityCompleted { .. }
            | EventKind::SubOrchestrationCompleted { .. }
            | EventKind::TimerFired { .. } => Self::Succeeded,
            EventKind::ActivityFailed { .. } | EventKind::SubOrchestrationFailed { .. } => Self::Failed,
            EventKind::ExternalEvent { name, data } => Self::Event { name: name.clone(), data: hash_data(data) },
            // What `OrchestrationStarted` carries over is not listed: the engine records a delivery for each of it.
            EventKind::QueueEventDelivered { name, data } => Self::Queue { name: name.clone(), data: hash_data(data) },
            _ => Self::Other,
        }
    }
}

impl RecordedEvent {
    pub fn recorded(event: &Event) -> Self {
        Self {
            event_id: event.event_id,
            source_event_id: event.source_event_id,
            timestamp_ms: event.timestamp_ms,
            kind: RecordedKind::from(&event.kind),
        }
    }

    pub fn arriving(source_event_id: Option<u64>, timestamp_ms: u64, kind: RecordedKind) -> Self {
        Self { event_id: 0, source_event_id, timestamp_ms, kind }
    }
}
