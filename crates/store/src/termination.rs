//! Terminates instances: each ends at once, without another turn of its code.
//!
//! A store first seizes the turn of an instance. A turn that runs then loses its lease, so its commit is refused. With the
//! new lease the store commits the end as any turn commits, so an instance ends by its code or by the termination, and
//! never by both.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use duroxide::providers::WorkItem;
use duroxide::{AppErrorKind, ErrorDetails, Event};

use crate::error::Result;
use crate::failure::Failure;
use crate::operations::EngineOperations;
use crate::terminal_commit::{TerminalCommit, cancelled};
use crate::turn_commit::TurnCommit;

pub const TERMINATE: &str = "terminate_instance";
/// The lease of a seized turn. If the process dies, the instance continues when it ends.
pub const SEIZURE: Duration = Duration::from_secs(30);
/// How often the termination is tried after a lost lease.
const ATTEMPTS: usize = 8;

/// Which instance ends, and what is recorded of its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Termination {
    pub instance: String,
    pub reason: String,
    /// The JSON text of what the instance leaves as its output.
    pub output: Option<String>,
    /// Whether its sub-orchestrations end with it.
    pub is_recursive: bool,
}

/// The recorded failure of a terminated instance.
///
/// It is that of a cancelled instance, so that each engine understands it, but for `retryable`: no cancellation is
/// retryable. The output stands where a cancellation has the failure of its clean-up.
fn terminated(reason: &str, output: Option<&str>) -> ErrorDetails {
    ErrorDetails::Application {
        kind: AppErrorKind::Cancelled { reason: reason.to_owned() },
        message: output.unwrap_or_default().to_owned(),
        retryable: true,
    }
}

/// Whether a recorded failure is that of a terminated instance.
pub fn is_termination(details: &ErrorDetails) -> bool {
    matches!(details, ErrorDetails::Application { kind: AppErrorKind::Cancelled { .. }, retryable: true, .. })
}

/// A turn whose lease a termination has taken.
#[derive(Debug)]
pub struct SeizedTurn {
    pub token: String,
    /// The current execution, or the one that `beginning` begins.
    pub execution: u64,
    /// The history of the current execution.
    pub history: Vec<Event>,
    /// The message that begins an execution which has no history yet.
    pub beginning: Option<WorkItem>,
}

impl SeizedTurn {
    /// The commit that ends the instance.
    fn end(&self, instance: &str, reason: &str, output: Option<&str>) -> Option<TurnCommit> {
        let details = terminated(reason, output);
        let terminal = match &self.beginning {
            Some(beginning) => TerminalCommit::of_start(instance, self.execution, beginning, details)?,
            None => TerminalCommit::of_termination(instance, self.execution, &self.history, details),
        };
        let mut commit = TurnCommit::from(terminal);
        for message in &mut commit.messages {
            // To a parent, a terminated child is a cancelled one.
            if let WorkItem::SubOrchFailed { details, .. } = message {
                *details = cancelled(reason);
            }
        }
        Some(commit)
    }
}

/// A store that can take a turn away from the dispatcher that runs it.
#[async_trait]
pub trait SeizesTurns: EngineOperations {
    /// Takes the lease of the next turn of an instance, also from a turn that runs. `None` if the instance has ended or
    /// does not exist.
    async fn seize_turn(&self, instance: &str) -> Result<Option<SeizedTurn>>;

    /// The sub-orchestrations of an instance, also those whose starts wait.
    async fn all_children(&self, instance: &str) -> Result<Vec<String>>;
}

/// Terminates an instance and, if asked, all below it that run. Returns the instances that this call has ended.
pub async fn terminate(store: &impl SeizesTurns, request: &Termination) -> Result<Vec<String>> {
    let mut ended = Vec::new();
    let mut attempt = 1;
    loop {
        match terminate_tree(store, request, &mut ended).await {
            // A deletion or another termination has taken a lease, or one ended before its commit.
            Err(failure) if failure.is_lock_lost() && attempt < ATTEMPTS => attempt += 1,
            outcome => return outcome.map(|()| ended),
        }
    }
}

async fn terminate_tree(store: &impl SeizesTurns, request: &Termination, ended: &mut Vec<String>) -> Result<()> {
    let mut seized = Vec::new();
    let outcome = match seize_tree(store, request, &mut seized).await {
        Ok(()) => end_all(store, request, &mut seized, ended).await,
        failed => failed,
    };
    for (_, turn) in seized {
        // If this fails, the lease ends by itself.
        let _ = store.abandon_orchestration_item(&turn.token, None, true).await;
    }
    outcome
}

/// Seizes the turns of the instance and of all below it, each after its parent: an instance without a turn starts no
/// child that would be missed.
async fn seize_tree(
    store: &impl SeizesTurns,
    request: &Termination,
    seized: &mut Vec<(String, SeizedTurn)>,
) -> Result<()> {
    let mut waiting = VecDeque::from([request.instance.clone()]);
    while let Some(instance) = waiting.pop_front() {
        let Some(turn) = store.seize_turn(&instance).await? else { continue };
        seized.push((instance.clone(), turn));
        if request.is_recursive {
            waiting.extend(store.all_children(&instance).await?);
        }
    }
    Ok(())
}

/// Ends the seized instances, each after its children. If this is broken off, the first instance still runs, and the same
/// call ends the rest.
async fn end_all(
    store: &impl SeizesTurns,
    request: &Termination,
    seized: &mut Vec<(String, SeizedTurn)>,
    ended: &mut Vec<String>,
) -> Result<()> {
    while let Some((instance, turn)) = seized.last() {
        let output = request.output.as_deref().filter(|_| *instance == request.instance);
        let Some(commit) = turn.end(instance, &request.reason, output) else {
            return Err(Failure::refused(TERMINATE, format!("instance {instance} has no readable start")));
        };
        store.commit_turn(&turn.token, Arc::new(commit)).await?;
        ended.extend(seized.pop().map(|(instance, _)| instance));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listing::ListedStatus;

    fn listed(details: ErrorDetails) -> ListedStatus {
        let kind = duroxide::EventKind::OrchestrationFailed { details };
        let event = Event::with_event_id(2, "order-1", 1, None, kind);
        ListedStatus::of(Some("Failed"), Some(&serde_json::to_string(&event).unwrap()))
    }

    #[test]
    fn a_recorded_end_tells_a_termination_from_a_cancellation_and_a_failure() {
        assert_eq!(listed(terminated("enough", None)), ListedStatus::Terminated);
        assert_eq!(listed(terminated("enough", Some("{\"total\":1}"))), ListedStatus::Terminated);
        assert_eq!(listed(cancelled("enough")), ListedStatus::Cancelled);
    }

    #[test]
    fn no_text_in_a_cancellation_makes_it_a_termination() {
        let forged = r#"","retryable":true}}}"#;
        let details = ErrorDetails::Application {
            kind: AppErrorKind::Cancelled { reason: forged.to_owned() },
            message: forged.to_owned(),
            retryable: false,
        };
        assert_eq!(listed(details), ListedStatus::Cancelled);
    }

    #[test]
    fn a_failure_that_may_be_retried_is_no_termination() {
        let details = ErrorDetails::Application {
            kind: AppErrorKind::OrchestrationFailed,
            message: String::new(),
            retryable: true,
        };
        assert_eq!(listed(details), ListedStatus::Failed);
    }
}
