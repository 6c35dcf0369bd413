//! Messages and events as text, as every store holds them.

use duroxide::providers::{ExecutionMetadata, WorkItem};
use duroxide::{Event, EventKind};
use serde::Serialize;

use crate::error::Result;
use crate::failure::Failure;

pub fn encode<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|error| Failure::refused("encode", format!("a value cannot be written as JSON: {error}")))
}

/// The instance that a message is for.
pub fn target(message: &WorkItem) -> Option<&str> {
    match message {
        WorkItem::StartOrchestration { instance, .. }
        | WorkItem::ActivityCompleted { instance, .. }
        | WorkItem::ActivityFailed { instance, .. }
        | WorkItem::TimerFired { instance, .. }
        | WorkItem::ExternalRaised { instance, .. }
        | WorkItem::QueueMessage { instance, .. }
        | WorkItem::CancelInstance { instance, .. }
        | WorkItem::ContinueAsNew { instance, .. } => Some(instance),
        WorkItem::SubOrchCompleted { parent_instance, .. } | WorkItem::SubOrchFailed { parent_instance, .. } => {
            Some(parent_instance)
        }
        WorkItem::ActivityExecute { .. } => None,
    }
}

/// Whether the end of a turn changes something that clients wait for: the end of the instance, its custom status, a value.
pub fn can_be_waited_for(metadata: &ExecutionMetadata, delta: &[Event]) -> bool {
    let says =
        |event: &Event| matches!(event.kind, EventKind::CustomStatusUpdated { .. } | EventKind::KeyValueSet { .. });
    metadata.status.is_some() || delta.iter().any(says)
}
