//! The link from a sub-orchestration to its parent.

use duroxide::EventKind;
use duroxide::providers::WorkItem;

/// The parent that waits for the end of a sub-orchestration, and the event with which it was scheduled.
#[derive(Debug, Clone)]
pub struct ParentLink {
    pub instance: String,
    pub execution_id: Option<u64>,
    pub event_id: u64,
}

impl ParentLink {
    pub fn of(kind: &EventKind) -> Option<Self> {
        match kind {
            EventKind::OrchestrationStarted {
                parent_instance: Some(instance),
                parent_id: Some(event_id),
                parent_execution_id,
                ..
            } => Some(Self { instance: instance.clone(), execution_id: *parent_execution_id, event_id: *event_id }),
            _ => None,
        }
    }

    /// The parent that a start names.
    pub fn of_start(start: &WorkItem) -> Option<Self> {
        match start {
            WorkItem::StartOrchestration {
                parent_instance: Some(instance),
                parent_id: Some(event_id),
                parent_execution_id,
                ..
            } => Some(Self { instance: instance.clone(), execution_id: *parent_execution_id, event_id: *event_id }),
            _ => None,
        }
    }
}
