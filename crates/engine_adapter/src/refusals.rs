//! Turns that the store refuses to record. Where an operator can remove the cause, the instance waits. Where the data itself
//! is wrong, the instance fails, so that it is visible, can be deleted, and its parent learns of it.

use std::sync::Arc;
use std::time::Duration;

use duroxide::ErrorDetails;
use duroxide::providers::WorkItem;
use store::history::started;
use store::operations::EngineOperations as _;
use store::turn_commit::TurnCommit;
use store::{Failure, Result};

use crate::dispatcher::Dispatcher;
use crate::held_turns::HeldTurn;
use crate::turn_commit::complete;
use store::terminal_commit::TerminalCommit;

/// The longest pause between two attempts at a turn, since a removed cause is not reported.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

fn details(failure: &Failure) -> ErrorDetails {
    let Failure { operation, message, .. } = failure;
    ErrorDetails::Infrastructure { operation: operation.clone(), message: message.clone(), retryable: false }
}

impl Dispatcher {
    /// Gives a turn back until an operator has removed the cause of the refusal. Its slot is free for other work.
    pub async fn wait_for_operator(&self, token: &str, held: &HeldTurn, failure: &Failure) {
        let instance = &held.record.instance;
        let (pause, is_new) = self.shared.obstructed.postpone(instance, &failure.message);
        if is_new {
            tracing::warn!(
                target: "duroxide::store",
                instance = %instance,
                store = %self.shared.availability().description(),
                "instance '{instance}' waits, since the store refuses its turn: {}; the instance continues when the cause is \
                 removed",
                failure.message
            );
        }
        // If this fails, the lease ends by itself.
        let _ = self.leave_turn(token, pause.min(LONGEST_PAUSE)).await;
    }

    /// Records the failure of an instance whose turn cannot be recorded. If not even that can be recorded, the instance
    /// waits.
    pub async fn end_refused(
        &self,
        token: &str,
        held: &HeldTurn,
        refused: &TurnCommit,
        failure: &Failure,
    ) -> Result<()> {
        let (record, parent) = (&held.record, held.parent.as_ref());
        let (instance, execution) = (record.instance.as_str(), refused.execution_id);
        let terminal = if started(&refused.delta).is_some() {
            TerminalCommit::of_first_turn(instance, refused, details(failure))
        } else {
            let history = self.view.read_with_execution(instance, execution).await?;
            Some(TerminalCommit::of_failure(instance, execution, &history, details(failure), parent))
        };
        let Some(terminal) = terminal else { return Err(failure.clone()) };
        let mut commit = terminal.into();
        complete(&mut commit, held);
        let commit = Arc::new(commit);
        match self.commit(token, held, &commit).await {
            Ok(()) => {
                tracing::error!(
                    target: "duroxide::runtime",
                    instance = %instance,
                    "instance '{instance}' fails, since the store cannot record its turn: {}",
                    failure.message
                );
                self.committed(token, held, &commit);
            }
            Err(error) if error.is_lock_lost() => self.turns.remove(token),
            Err(error) => self.wait_for_operator(token, held, &error).await,
        }
        Ok(())
    }
}

/// The failure of an activity whose result the store cannot record; `None` if `completion` is not a result.
pub fn failed_activity(completion: &WorkItem, failure: &Failure) -> Option<WorkItem> {
    match completion {
        WorkItem::ActivityCompleted { instance, execution_id, id, .. }
        | WorkItem::ActivityFailed { instance, execution_id, id, .. } => Some(WorkItem::ActivityFailed {
            instance: instance.clone(),
            execution_id: *execution_id,
            id: *id,
            details: details(failure),
        }),
        _ => None,
    }
}
