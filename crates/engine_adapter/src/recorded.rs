//! A recorded event, or a message that is about to be recorded, as a driver sees it.

use std::hash::{DefaultHasher, Hash, Hasher};

use duroxide::{Event, EventKind};

use crate::attempt_header::AttemptHeader;
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
    /// The record of an action of the code: its fingerprint, whether the action has no result, and the header of an
    /// attempt of an activity.
    Scheduled {
        fingerprint: u64,
        is_effect: bool,
        header: Option<AttemptHeader>,
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

/// A hash to compare the data of events without keeping the data. It is stable within one process only.
pub fn hash_data(data: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    data.hash(&mut hasher);
    hasher.finish()
}

impl From<&EventKind> for RecordedKind {
    fn from(kind: &EventKind) -> Self {
        if let Some(action) = Action::recorded(kind) {
            let header = match kind {
                EventKind::ActivityScheduled { input, .. } => AttemptHeader::split(input).0,
                _ => None,
            };
            return Self::Scheduled { fingerprint: action.fingerprint(), is_effect: action.is_effect(), header };
        }
        match kind {
            EventKind::ActivityCompleted { .. }
            | EventKind::SubOrchestrationCompleted { .. }
            | EventKind::TimerFired { .. } => Self::Succeeded,
            EventKind::ActivityFailed { .. } | EventKind::SubOrchestrationFailed { .. } => Self::Failed,
            EventKind::ExternalEvent { name, data } => Self::Event { name: name.clone(), data: hash_data(data) },
            // Messages that `OrchestrationStarted` carries over are not listed, since the engine records a delivery of
            // each.
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
