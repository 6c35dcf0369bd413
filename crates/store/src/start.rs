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
    /// As [`Self::Attach`], but an instance that has ended runs again.
    Restart,
    /// As [`Self::Attach`], but an instance that has failed or was cancelled runs again.
    RestartFailed,
}

/// An instance that exists, or whose start waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExistingInstance<Name> {
    pub orchestration: Name,
    /// How it has ended.
    pub end: Option<End>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Completed,
    /// A failure, or a cancellation.
    Failed,
}

impl End {
    /// The end that the status of the current execution says.
    pub fn of(status: &str) -> Option<Self> {
        match status {
            "Completed" => Some(Self::Completed),
            "Failed" => Some(Self::Failed),
            _ => None,
        }
    }
}

impl<Name> ExistingInstance<Name> {
    /// An instance that has not ended.
    pub fn running(orchestration: Name) -> Self {
        Self { orchestration, end: None }
    }
}

impl IfExists {
    fn restarts(self, end: Option<End>) -> bool {
        match self {
            Self::Restart => end.is_some(),
            Self::RestartFailed => end == Some(End::Failed),
            Self::Attach | Self::Raise => false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartOutcome {
    Started,
    /// An instance that had ended runs again.
    Restarted,
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
        self.into_message_of(INITIAL_EXECUTION_ID)
    }

    /// The message that starts an execution of the instance.
    #[must_use]
    pub fn into_message_of(self, execution_id: u64) -> WorkItem {
        let Self { instance, orchestration, input, version, due_ms: _ } = self;
        WorkItem::StartOrchestration {
            instance,
            orchestration,
            input,
            version,
            parent_instance: None,
            parent_id: None,
            parent_execution_id: None,
            execution_id,
        }
    }
}

/// Decides which starts are made: all of them or none. Each start is a pair of instance and orchestration, and
/// `existing` returns the instance if it exists. Of two starts of one instance, the first counts.
pub fn decide_starts<'a, Name: Deref<Target = str>>(
    starts: impl Iterator<Item = (&'a str, &'a str)>,
    if_exists: IfExists,
    existing: impl Fn(&str) -> Result<Option<ExistingInstance<Name>>, StoreError>,
) -> Result<Vec<StartOutcome>, StoreError> {
    let mut starting: HashMap<&str, &str> = HashMap::new();
    let mut outcomes = Vec::with_capacity(starts.size_hint().0);
    for (instance, orchestration) in starts {
        let earlier = starting.get(instance).copied();
        let known = if earlier.is_none() { existing(instance)? } else { None };
        let end = known.as_ref().and_then(|known| known.end);
        let outcome = match earlier.or(known.as_ref().map(|known| &*known.orchestration)) {
            None => StartOutcome::Started,
            Some(existing) if if_exists == IfExists::Raise || existing != orchestration => {
                return Err(exists(instance, existing));
            }
            Some(_) if if_exists.restarts(end) => StartOutcome::Restarted,
            Some(_) => StartOutcome::Attached,
        };
        if outcome != StartOutcome::Attached {
            starting.insert(instance, orchestration);
        }
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

pub fn exists(instance: &str, orchestration: &str) -> StoreError {
    StoreError::InstanceAlreadyExists { instance: instance.to_owned(), orchestration: orchestration.to_owned() }
}
