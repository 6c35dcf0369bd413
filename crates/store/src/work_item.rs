//! Messages and events as text, as every store holds them.

use duroxide::providers::{ExecutionMetadata, TagFilter, WorkItem};
use duroxide::{Event, EventKind};
use serde::Serialize;

use crate::error::Result;
use crate::failure::Failure;

pub fn encode<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|error| Failure::refused("encode", format!("a value cannot be written as JSON: {error}")))
}

/// The instance that a message is for, or that an activity belongs to.
pub fn target(item: &WorkItem) -> &str {
    match item {
        WorkItem::StartOrchestration { instance, .. }
        | WorkItem::ActivityCompleted { instance, .. }
        | WorkItem::ActivityFailed { instance, .. }
        | WorkItem::TimerFired { instance, .. }
        | WorkItem::ExternalRaised { instance, .. }
        | WorkItem::QueueMessage { instance, .. }
        | WorkItem::CancelInstance { instance, .. }
        | WorkItem::ContinueAsNew { instance, .. }
        | WorkItem::ActivityExecute { instance, .. } => instance,
        WorkItem::SubOrchCompleted { parent_instance, .. } | WorkItem::SubOrchFailed { parent_instance, .. } => {
            parent_instance
        }
    }
}

/// Whether an item is for the workers, and not a message to an instance.
pub fn is_activity(item: &WorkItem) -> bool {
    matches!(item, WorkItem::ActivityExecute { .. })
}

/// Whether a fetch with this filter takes an activity with this tag.
pub fn takes_tag(filter: &TagFilter, tag: Option<&str>) -> bool {
    match (filter, tag) {
        (TagFilter::Any, _) | (TagFilter::DefaultOnly | TagFilter::DefaultAnd(_), None) => true,
        (TagFilter::Tags(tags) | TagFilter::DefaultAnd(tags), Some(tag)) => tags.contains(tag),
        _ => false,
    }
}

/// Whether the end of a turn changes something that clients wait for: the end of the instance, its custom status, a
/// value.
pub fn can_be_waited_for(metadata: &ExecutionMetadata, delta: &[Event]) -> bool {
    let says =
        |event: &Event| matches!(event.kind, EventKind::CustomStatusUpdated { .. } | EventKind::KeyValueSet { .. });
    metadata.status.is_some() || delta.iter().any(says)
}
