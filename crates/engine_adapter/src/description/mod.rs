//! Says what an instance waits for, since when, and what stands in its way: from its history, the queues, and the reports
//! of the processes that work on the store.

mod obstacles;
mod sources;
mod waits;

use serde::Serialize;

pub use crate::description::obstacles::Obstacle;
pub use crate::description::sources::Sources;
pub use crate::description::waits::Wait;

/// The state of an instance, and its waits. Python reads it as JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Description {
    pub instance_id: String,
    pub orchestration_name: String,
    pub orchestration_version: String,
    pub status: String,
    pub execution_id: u64,
    pub has_begun: bool,
    /// When its first turn is due, in ms since the epoch, if that is later than now.
    pub starts_at: Option<u64>,
    pub created_at: u64,
    pub updated_at: u64,
    pub parent_instance_id: Option<String>,
    pub custom_status: Option<String>,
    /// The node that runs a turn now.
    pub turn_node: Option<String>,
    pub waits: Vec<Wait>,
    /// What keeps the instance itself from its next turn.
    pub obstacle: Option<Obstacle>,
    pub unread: Vec<Unread>,
}

/// Messages that the instance has not read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unread {
    pub kind: &'static str,
    pub name: String,
    pub count: usize,
}

impl Sources<'_> {
    /// The open steps of the instance.
    pub fn waits(&self) -> Vec<Wait> {
        waits::of(self)
    }

    /// What keeps the instance itself from its next turn.
    pub fn obstacle(&self) -> Option<Obstacle> {
        obstacles::of_instance(self)
    }

    pub fn unread(&self) -> Vec<Unread> {
        let unread = self.live.messages.iter();
        unread
            .map(|messages| Unread {
                kind: if messages.is_event { "event" } else { "queue" },
                name: messages.name.clone(),
                count: messages.count,
            })
            .collect()
    }
}
