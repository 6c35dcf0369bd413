//! The slots of the arena: what was started, what it waits for, and how it ended.

use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;

use crate::boundary::time_limit::TimeLimit;
use crate::orchestration::coroutines::Runner;
use crate::orchestration::operation::{Node, WaitUntil};
use crate::orchestration::retry_policy::RetryPolicy;
use crate::orchestration::timeline::{MessageKind, Moment};

/// How a started operation ended.
#[derive(Clone)]
pub(crate) enum Outcome {
    Text(Arc<str>),
    Nothing,
    /// Every task of an `all` or a `gather` has its own outcome.
    Children,
    /// A wait for several tasks has ended: with this task, or with all of them.
    Waited {
        first: Option<usize>,
    },
    /// The first of a race to finish.
    Winner {
        index: usize,
        slot: usize,
    },
    /// The failure of another slot.
    FailedBy(usize),
    /// The result of a branch.
    Returned(Arc<Py<PyAny>>),
    Failed(Failure),
}

#[derive(Clone)]
pub(crate) enum Failure {
    Activity {
        text: Arc<str>,
        activity_id: Option<u64>,
        attempts: u32,
    },
    SubOrchestration {
        text: Arc<str>,
        attempts: u32,
    },
    TimedOut {
        timeout: Duration,
        attempts: u32,
        limit: TimeLimit,
    },
    /// The exception that ended a branch.
    Raised(Arc<Py<PyAny>>),
    /// It was dropped before it ended.
    Cancelled {
        lost_race: bool,
    },
}

pub(super) enum State {
    /// The journal owns its future.
    Leaf {
        action: usize,
        message: Option<MessageKind>,
    },
    All {
        children: Vec<usize>,
        first_pending: usize,
    },
    Gather {
        children: Vec<usize>,
        first_pending: usize,
        suspects: Vec<usize>,
    },
    Race {
        children: Vec<(usize, usize)>,
    },
    /// The children of a wait for the first of them are in the order of their slots.
    Wait {
        children: Vec<usize>,
        first_pending: usize,
        until: WaitUntil,
    },
    Retry(Box<Retry>),
    Branch(usize),
    /// Continue-as-new: nothing comes after it.
    Never,
    /// Ended, or being looked at.
    Vacant,
}

impl State {
    /// The slots that a combinator is made of.
    pub(super) fn children(&self) -> impl Iterator<Item = usize> {
        let (plain, raced): (&[usize], &[(usize, usize)]) = match self {
            Self::All { children, .. } | Self::Gather { children, .. } | Self::Wait { children, .. } => (children, &[]),
            Self::Race { children } => (&[], children),
            _ => (&[], &[]),
        };
        plain.iter().copied().chain(raced.iter().map(|(child, _)| *child))
    }
}

pub(super) struct Slot {
    pub(super) node: Arc<Node>,
    pub(super) state: State,
    pub(super) done: Option<(Outcome, Moment)>,
}

/// The next step of a branch.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Waiting {
    Begin,
    On(usize),
    /// The event loop drives it.
    InLoop,
    Ended,
}

/// A generator or coroutine under way; the first one is the orchestration itself and has no slot.
pub(crate) struct Branch {
    pub(crate) runner: Arc<Runner>,
    pub(crate) waiting: Waiting,
    pub(super) slot: Option<usize>,
}

impl Branch {
    /// The slot that it waits for, unless the event loop runs it.
    pub(super) fn awaited(&self) -> Option<usize> {
        match self.waiting {
            Waiting::On(slot) => Some(slot),
            Waiting::Begin | Waiting::InLoop | Waiting::Ended => None,
        }
    }
}

/// The step of a retried activity or sub-orchestration.
#[derive(Clone, Copy)]
pub(super) enum RetryPhase {
    Trying { step: usize, timeout: Option<usize> },
    Waiting { timer: usize },
}

/// An activity or a sub-orchestration that is tried several times.
pub(crate) struct Retry {
    pub(super) policy: RetryPolicy,
    pub(super) attempt: u32,
    /// The action of the first attempt.
    pub(super) first_action: usize,
    /// The slot of the timer of the total timeout.
    pub(super) total: Option<usize>,
    pub(super) phase: RetryPhase,
}
