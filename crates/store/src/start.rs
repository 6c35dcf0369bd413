//! Requests to start instances, and the decision what a start does if its instance exists.

use std::collections::HashMap;
use std::ops::Deref;

use duroxide::INITIAL_EXECUTION_ID;
use duroxide::providers::WorkItem;

use crate::error::StoreError;

/// A client's request to start an instance.
#[derive(Debug, Clone)]
pub struct StartRequest {
    pub instance: String,
    pub orchestration: String,
    pub input: String,
    pub version: Option<String>,
    /// When the instance begins, in ms since the epoch; `None` for at once.
    pub due_ms: Option<u64>,
}

/// A recorded start that no turn has read yet, so that its instance has no history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingStart {
    pub orchestration: String,
    pub version: Option<String>,
    /// The instance that started it as a sub-orchestration.
    pub parent: Option<String>,
    /// When it was recorded, in ms since the epoch.
    pub requested_ms: u64,
    /// When its message is visible, in ms since the epoch; 0 for at once.
    pub due_ms: u64,
}

impl WaitingStart {
    /// Reads the start from its message; `None` for any other message.
    pub fn of(message: WorkItem, requested_ms: u64, due_ms: u64) -> Option<Self> {
        match message {
            WorkItem::StartOrchestration { orchestration, version, parent_instance, .. } => {
                Some(Self { orchestration, version, parent: parent_instance, requested_ms, due_ms })
            }
            _ => None,
        }
    }
}

/// The behaviour of a start whose instance exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfExists {
    /// Attach to the instance if it runs the same orchestration, and fail otherwise.
    Attach,
    /// Fail.
    Raise,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartOutcome {
    Started,
    Attached,
}

impl StartRequest {
    pub fn names(&self) -> (&str, &str) {
        (&self.instance, &self.orchestration)
    }

    /// When its message becomes visible, in ms since the epoch; 0 for at once.
    pub fn visible_ms(&self) -> u64 {
        self.due_ms.unwrap_or(0)
    }

    /// The message that starts the instance.
    #[must_use]
    pub fn into_message(self) -> WorkItem {
        let Self { instance, orchestration, input, version, due_ms: _ } = self;
        WorkItem::StartOrchestration {
            instance,
            orchestration,
            input,
            version,
            parent_instance: None,
            parent_id: None,
            parent_execution_id: None,
            execution_id: INITIAL_EXECUTION_ID,
        }
    }
}

/// Decides which starts are made: all of them or none. Each start is a pair of instance and orchestration, and
/// `running` returns the orchestration that an instance runs already, or will run. Of two starts of one instance, the
/// first counts.
pub fn decide_starts<'a, Name: Deref<Target = str>>(
    starts: impl Iterator<Item = (&'a str, &'a str)>,
    if_exists: IfExists,
    running: impl Fn(&str) -> Result<Option<Name>, StoreError>,
) -> Result<Vec<StartOutcome>, StoreError> {
    let mut starting: HashMap<&str, &str> = HashMap::new();
    let mut outcomes = Vec::with_capacity(starts.size_hint().0);
    for (instance, orchestration) in starts {
        let earlier = starting.get(instance).copied();
        let known = if earlier.is_none() { running(instance)? } else { None };
        outcomes.push(match earlier.or(known.as_deref()) {
            None => {
                starting.insert(instance, orchestration);
                StartOutcome::Started
            }
            Some(existing) if if_exists == IfExists::Attach && existing == orchestration => StartOutcome::Attached,
            Some(existing) => return Err(exists(instance, existing)),
        });
    }
    Ok(outcomes)
}

pub fn exists(instance: &str, orchestration: &str) -> StoreError {
    StoreError::InstanceAlreadyExists { instance: instance.to_owned(), orchestration: orchestration.to_owned() }
}
