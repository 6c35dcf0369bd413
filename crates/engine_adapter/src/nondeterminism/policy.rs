//! Handles an instance whose code does not match its history: the instance waits, with a report, or it ends.

use duroxide::{ConfigErrorKind, ErrorDetails};
use store::operations::EngineOperations as _;

use crate::dispatcher::Dispatcher;
use crate::held_turns::HeldTurn;
use crate::nondeterminism::report::TurnMismatch;
use crate::settings::Nondeterminism;
use store::terminal_commit::TerminalCommit;

/// Logs a report with its lines. A report has escapes for the control characters of the values in it.
fn log_report(instance: &str, report: &str) {
    tracing::error!(target: "duroxide::runtime", instance = %instance, multiline = true, "{report}");
}

impl Dispatcher {
    /// Abandons a turn that continued from a suspended state, so that it is replayed from the beginning.
    pub async fn replay_again(&self, token: &str, held: &HeldTurn, report: &str) {
        let instance = &held.record.instance;
        tracing::debug!(
            target: "duroxide::runtime",
            instance = %instance,
            "a turn is replayed from the beginning: {report}"
        );
        // If this fails, the lease ends by itself.
        let _ = self.abandon_turn(token, None, true).await;
    }

    /// The end of an instance whose code does not match its history; `None` if it waits.
    pub async fn end_mismatched(&self, held: &HeldTurn, mismatch: &TurnMismatch<'_>) -> Option<TerminalCommit> {
        let (record, parent) = (&held.record, held.parent.as_ref());
        let (instance, execution) = (record.instance.as_str(), record.execution_id);
        if let Some(reason) = &held.cancellation
            && !held.history.is_empty()
        {
            return Some(TerminalCommit::of_cancellation(instance, execution, &held.history, reason, parent));
        }
        if self.settings.nondeterminism == Nondeterminism::Wait {
            return None;
        }
        // The ending cancels the pending steps, which only the history names. So the instance waits until the store
        // answers.
        let history = self.view.read_with_execution(instance, execution).await.ok()?;
        let message = mismatch.report(instance, &history);
        log_report(instance, &message);
        let details = ErrorDetails::Configuration {
            kind: ConfigErrorKind::Nondeterminism,
            resource: String::new(),
            message: Some(message),
        };
        Some(TerminalCommit::of_failure(instance, execution, &history, details, parent))
    }

    /// Lets an instance wait for code that matches its history, and reports it.
    pub async fn put_off_mismatch(&self, token: &str, held: &HeldTurn, mismatch: &TurnMismatch<'_>) {
        let instance = &held.record.instance;
        // If the history cannot be read, the report lacks a part. The next report of the instance has it.
        let history = self.view.read_with_execution(instance, held.record.execution_id).await.unwrap_or_default();
        let report = mismatch.report(instance, &history);
        let (delay, is_new) = self.shared.waiting.postpone(instance, &report);
        if is_new {
            log_report(instance, &report);
        }
        self.note_mismatch(instance, &report, is_new).await;
        // If this fails, the lease ends by itself.
        let _ = self.abandon_turn(token, Some(delay), true).await;
    }

    /// Records for other processes why an instance waits, and wakes the waits of this process.
    pub async fn note_mismatch(&self, instance: &str, report: &str, is_new: bool) {
        if let Err(error) = self.shared.backend().note_mismatch(instance, report, is_new).await {
            tracing::debug!(target: "duroxide::runtime", instance, "other processes cannot see why it waits: {error}");
        }
        if is_new {
            self.shared.watches.notify(instance);
        }
    }
}
