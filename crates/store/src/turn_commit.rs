//! The result of a turn, as the engine acknowledges it.

use duroxide::Event;
use duroxide::providers::{ExecutionMetadata, ScheduledActivityIdentifier, WorkItem};

/// What one turn commits, all of it or nothing.
#[derive(Debug, Clone, Default)]
pub struct TurnCommit {
    pub execution_id: u64,
    /// The events that the turn appends to the history.
    pub delta: Vec<Event>,
    /// The activities that the turn schedules.
    pub activities: Vec<WorkItem>,
    /// The messages that the turn sends, timers included.
    pub messages: Vec<WorkItem>,
    pub metadata: ExecutionMetadata,
    /// The activities that the turn cancels.
    pub cancelled: Vec<ScheduledActivityIdentifier>,
}
