//! The operations that the writers commit in batches. Most have a caller that waits for the answer.

use std::sync::Arc;

use duroxide::providers::WorkItem;
use tokio::sync::oneshot;

use crate::error::Result;
use crate::postgres::node::held_turns::NodeTurn;
use crate::postgres::node::leases_in_flight::LeaseInFlight;
use crate::start::StartRequest;
use crate::turn_commit::TurnCommit;

/// The results of a turn, and its lease.
pub struct TurnWrite {
    pub token: String,
    pub held: Arc<NodeTurn>,
    pub commit: Arc<TurnCommit>,
    /// Whether the engine ran the turn. A turn that found nothing to read is ended without running.
    pub ran: bool,
}

/// The result of an activity.
pub struct ActivityWrite {
    pub id: i64,
    pub token: String,
    pub completion: Option<WorkItem>,
}

/// The orchestration that the instance of a start runs already; `None` if the start was made, and for all other
/// operations.
pub type ExistingOrchestration = Option<String>;

pub enum WriteRequest {
    Turn(TurnWrite),
    Activity(ActivityWrite),
    Start(StartRequest),
    /// Messages, and the milliseconds until they are due; `None` is now.
    Messages(Vec<WorkItem>, Option<i64>),
    /// Leases the instance for this node if it has something to read.
    CheckInstance(String),
}

impl WriteRequest {
    /// Whether the operation must be done exactly once. The writer then finds out whether a commit without an answer
    /// was made.
    pub fn is_once(&self) -> bool {
        matches!(self, Self::Start(_) | Self::Messages(..))
    }
}

pub struct PendingWrite {
    pub request: WriteRequest,
    pub answer: oneshot::Sender<Result<ExistingOrchestration>>,
    /// Set if no caller waits for the operation, since its commit may grant or end a lease.
    pub lease_in_flight: Option<LeaseInFlight>,
}

impl PendingWrite {
    pub fn new(request: WriteRequest) -> (Self, oneshot::Receiver<Result<ExistingOrchestration>>) {
        let (answer, receiver) = oneshot::channel();
        (Self { request, answer, lease_in_flight: None }, receiver)
    }

    /// Answers the caller, if it still waits.
    pub fn finish(self, outcome: Result<ExistingOrchestration>) {
        let _ = self.answer.send(outcome);
        drop(self.lease_in_flight);
    }
}
