//! What is committed in batches, each with somebody who waits for the answer.

use std::sync::Arc;

use duroxide::providers::WorkItem;
use tokio::sync::oneshot;

use crate::error::Result;
use crate::postgres::node::held_turns::NodeTurn;
use crate::postgres::node::state::LeaseInFlight;
use crate::start::StartRequest;
use crate::turn_commit::TurnCommit;

/// The end of a turn.
pub struct TurnWrite {
    pub token: String,
    pub held: Arc<NodeTurn>,
    pub commit: Arc<TurnCommit>,
    /// Whether it is a turn that was run, and not one that found nothing to read.
    pub ran: bool,
}

/// The end of an activity.
pub struct ActivityEnd {
    pub id: i64,
    pub token: String,
    pub completion: Option<WorkItem>,
}

/// The orchestration that a start found its instance to run; `None` where it was started, and for everything else.
pub type Found = Option<String>;

pub enum WriteRequest {
    Turn(TurnWrite),
    Activity(ActivityEnd),
    Start(StartRequest),
    /// With in how many milliseconds they are due; `None` is now.
    Messages(Vec<WorkItem>, Option<i64>),
    /// An instance may have something to read.
    Look(String),
}

impl WriteRequest {
    /// Whether it must be known whether a commit without an answer was made: done twice, it would be seen.
    pub fn is_once(&self) -> bool {
        matches!(self, Self::Start(_) | Self::Messages(..))
    }
}

pub struct PendingWrite {
    pub work: WriteRequest,
    pub answer: oneshot::Sender<Result<Found>>,
    /// Where nobody waits for it: it may end a lease.
    pub leasing: Option<LeaseInFlight>,
}

impl PendingWrite {
    pub fn new(work: WriteRequest) -> (Self, oneshot::Receiver<Result<Found>>) {
        let (answer, receiver) = oneshot::channel();
        (Self { work, answer, leasing: None }, receiver)
    }

    /// Nobody may wait any more: that is no failure.
    pub fn finish(self, outcome: Result<Found>) {
        let _ = self.answer.send(outcome);
        drop(self.leasing);
    }
}
