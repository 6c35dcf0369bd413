//! Instances whose code does not match their history: they wait, and say so, or end.

use duroxide::providers::Provider as _;
use duroxide::{ConfigErrorKind, ErrorDetails};

use super::{Dispatcher, Nondeterminism};
use crate::store::backend::Database;
use crate::store::ending::Ending;
use crate::store::mismatch::Mismatch;
use crate::store::postgres::LONGEST_NOTE;
use crate::store::turn::HeldTurn;

impl Dispatcher {
    pub(super) async fn begin_anew(&self, token: &str, held: &HeldTurn, report: &str) {
        let instance = &held.record.instance;
        tracing::debug!(target: "duroxide::runtime", instance = %instance, "a turn begins anew: {report}");
        // If this fails, the lease ends by itself.
        let _ = self.abandon_turn(token, None, true).await;
    }

    /// How an instance ends whose code does not match its history; `None` if it waits.
    pub(super) async fn end_mismatched(&self, held: &HeldTurn, mismatch: &Mismatch<'_>) -> Option<Ending> {
        let (record, parent) = (&held.record, held.parent.as_ref());
        let (instance, execution) = (record.instance.as_str(), record.execution_id);
        if let Some(reason) = &held.cancellation
            && !held.history.is_empty()
        {
            return Some(Ending::of_cancellation(instance, execution, &held.history, reason, parent));
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
        Some(Ending::of_failure(instance, execution, &history, details, parent))
    }

    pub(super) async fn put_off_mismatch(&self, token: &str, held: &HeldTurn, mismatch: &Mismatch<'_>) {
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

    /// Records for other processes why an instance waits, and tells those of this one.
    pub(super) async fn note_mismatch(&self, instance: &str, report: &str, news: bool) {
        match &self.shared.backend.database {
            Database::Embedded(store) if news => store.note_mismatch(instance, report),
            Database::Embedded(_) => {}
            Database::Postgres(store) => {
                // Each time, since another process may have gone on in between, and since it may have failed.
                let noted = tokio::time::timeout(LONGEST_NOTE, store.server().note_waiting(instance, report)).await;
                if let Ok(Err(error)) = noted {
                    tracing::debug!(target: "duroxide::runtime", instance, "other processes are not told: {error}");
                }
            }
        }
        if news {
            self.shared.watches.notify(instance);
        }
    }
}
