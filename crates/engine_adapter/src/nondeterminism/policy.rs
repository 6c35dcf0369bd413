//! Instances whose code does not match their history: they wait, and say so, or end.

use duroxide::{ConfigErrorKind, ErrorDetails};
use store::operations::EngineOperations as _;

use crate::dispatcher::Dispatcher;
use crate::held_turns::HeldTurn;
use crate::nondeterminism::report::Mismatch;
use crate::settings::Nondeterminism;
use crate::terminal_commit::TerminalCommit;

impl Dispatcher {
    pub async fn begin_anew(&self, token: &str, held: &HeldTurn, report: &str) {
        let instance = &held.record.instance;
        tracing::debug!(target: "duroxide::runtime", instance = %instance, "a turn begins anew: {report}");
        // If this fails, the lease ends by itself.
        let _ = self.abandon_turn(token, None, true).await;
    }

    /// How an instance ends whose code does not match its history; `None` if it waits.
    pub async fn end_mismatched(&self, held: &HeldTurn, mismatch: &Mismatch<'_>) -> Option<TerminalCommit> {
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
        // Without it nobody knows what is under way, so the instance waits until the store answers again.
        let history = self.view.read_with_execution(instance, execution).await.ok()?;
        let message = mismatch.report(instance, &history);
        tracing::error!(target: "duroxide::runtime", instance = %instance, "{message}");
        let details = ErrorDetails::Configuration {
            kind: ConfigErrorKind::Nondeterminism,
            resource: String::new(),
            message: Some(message),
        };
        Some(TerminalCommit::of_failure(instance, execution, &history, details, parent))
    }

    pub async fn put_off_mismatch(&self, token: &str, held: &HeldTurn, mismatch: &Mismatch<'_>) {
        let instance = &held.record.instance;
        // What cannot be read is missing in the report, and is there when the instance is looked at again.
        let history = self.view.read_with_execution(instance, held.record.execution_id).await.unwrap_or_default();
        let report = mismatch.report(instance, &history);
        let (delay, news) = self.shared.waiting.postpone(instance, &report);
        if news {
            tracing::error!(target: "duroxide::runtime", instance = %instance, "{report}");
        }
        self.note_mismatch(instance, &report, news).await;
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
