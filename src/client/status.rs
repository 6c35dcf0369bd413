//! How an instance stands.

use duroxide::providers::InstanceInfo;
use duroxide::{AppErrorKind, ErrorDetails, EventKind};

use crate::boundary::errors::Error;
use crate::client::open_store::OpenStore;
use crate::client::records::StatusRecord;
use store::operations::{AdminOperations as _, EngineOperations as _};
use store::termination::is_termination;
use store::types::InstanceState;

const NOT_FOUND: &str = "NotFound";
pub(super) const RUNNING: &str = "Running";
const COMPLETED: &str = "Completed";
pub(super) const FAILED: &str = "Failed";

pub(super) struct RecordedFailure {
    pub(super) text: String,
    pub(super) cancel_reason: Option<String>,
    /// The recorded failure of the clean-up after a cancellation.
    pub(super) cleanup_failure: Option<String>,
    /// The output of a termination, empty if it has none; `None` unless the instance was terminated.
    pub(super) termination: Option<String>,
}

impl RecordedFailure {
    /// The failure of an instance whose history does not say how it ended.
    pub(super) fn of_text(output: Option<String>) -> Self {
        Self { text: output.unwrap_or_default(), cancel_reason: None, cleanup_failure: None, termination: None }
    }
}

impl StatusRecord {
    fn new(status: &'static str, custom_status: Option<String>, custom_status_version: u64) -> Self {
        Self {
            status,
            output: None,
            failure: None,
            cancel_reason: None,
            cleanup_failure: None,
            termination: None,
            custom_status,
            custom_status_version,
            mismatch: None,
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        has_ended(self.status)
    }

    pub(super) fn exists(&self) -> bool {
        self.status != NOT_FOUND
    }
}

pub(super) fn has_ended(status: &str) -> bool {
    matches!(status, COMPLETED | FAILED)
}

/// An instance with another status in the store is between two executions, and runs.
pub(super) fn shown(status: &str) -> &'static str {
    match status {
        COMPLETED => COMPLETED,
        FAILED => FAILED,
        _ => RUNNING,
    }
}

impl OpenStore {
    pub(super) async fn info(&self, instance: &str) -> Result<InstanceInfo, Error> {
        let info = self.client.get_instance_info(instance).await;
        info.map_err(|failure| Error::of_instance(instance, failure))
    }

    pub(super) async fn status(&self, instance: &str) -> Result<StatusRecord, Error> {
        match self.store.instance_state(instance).await {
            Ok(Some(standing)) => self.status_of(instance, standing).await,
            Ok(None) => Ok(StatusRecord::new(NOT_FOUND, None, 0)),
            Err(error) => Err(Error::Store(error)),
        }
    }

    /// The status of an instance that ended, or whose standing was just read; its history is read only if it has failed.
    pub(super) async fn status_of(&self, instance: &str, standing: InstanceState) -> Result<StatusRecord, Error> {
        let InstanceState { status, output, custom_status, custom_status_version } = standing;
        let mut record = StatusRecord::new(shown(&status), custom_status, custom_status_version);
        match record.status {
            COMPLETED => record.output = output,
            FAILED => {
                let failure = self.failure(instance, output).await?;
                record.failure = Some(failure.text);
                record.cancel_reason = failure.cancel_reason;
                record.cleanup_failure = failure.cleanup_failure;
                record.termination = failure.termination;
            }
            _ => record.mismatch = self.adapter.mismatch(instance).await,
        }
        Ok(record)
    }

    pub(super) async fn failure(&self, instance: &str, output: Option<String>) -> Result<RecordedFailure, Error> {
        let history = match self.client.read(instance).await {
            Ok(history) => history,
            // A history that cannot be decoded may be the very reason of the failure.
            Err(error) if !error.is_transient() => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let details = history.into_iter().rev().find_map(|event| match event.kind {
            EventKind::OrchestrationFailed { details } => Some(details),
            _ => None,
        });
        Ok(match details {
            Some(details) => RecordedFailure::from(details),
            None => RecordedFailure::of_text(output),
        })
    }
}

impl From<ErrorDetails> for RecordedFailure {
    fn from(details: ErrorDetails) -> Self {
        let shown = details.display_message();
        let text = match &details {
            ErrorDetails::Application { kind, message, .. } => match kind {
                AppErrorKind::Cancelled { reason } => {
                    let cancel_reason = Some(reason.clone());
                    if is_termination(&details) {
                        let termination = Some(message.clone());
                        return Self { text: shown, cancel_reason, cleanup_failure: None, termination };
                    }
                    let cleanup_failure = Some(message.clone()).filter(|message| !message.is_empty());
                    return Self { text: shown, cancel_reason, cleanup_failure, termination: None };
                }
                AppErrorKind::ActivityFailed | AppErrorKind::OrchestrationFailed => message.clone(),
                AppErrorKind::Panicked => shown,
            },
            // The engine's text alone would leave Python to guess the class from its words.
            ErrorDetails::Configuration { message, .. } => {
                typed("NondeterminismError", message.as_deref().unwrap_or(&shown))
            }
            ErrorDetails::Poison { .. } => typed("PoisonMessageError", &shown),
            ErrorDetails::Infrastructure { .. } => shown,
        };
        Self { text, cancel_reason: None, cleanup_failure: None, termination: None }
    }
}

/// A failure in the form in which Python records its own.
fn typed(class: &str, message: &str) -> String {
    serde_json::json!({ "type": class, "message": message }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn application(kind: AppErrorKind) -> RecordedFailure {
        ErrorDetails::Application { kind, message: "{\"type\": \"ValueError\"}".to_owned(), retryable: false }.into()
    }

    #[test]
    fn recorded_failure_is_handed_over_as_it_is() {
        let failure = application(AppErrorKind::OrchestrationFailed);

        assert_eq!(failure.text, "{\"type\": \"ValueError\"}");
        assert_eq!(failure.cancel_reason, None);
    }

    #[test]
    fn cancellation_keeps_its_reason() {
        let failure = application(AppErrorKind::Cancelled { reason: "too late".to_owned() });

        assert_eq!(failure.text, "canceled: too late");
        assert_eq!(failure.cleanup_failure.as_deref(), Some("{\"type\": \"ValueError\"}"));
        assert_eq!(failure.cancel_reason.as_deref(), Some("too late"));
    }

    #[test]
    fn termination_keeps_its_output() {
        let kind = AppErrorKind::Cancelled { reason: "enough".to_owned() };
        let details = ErrorDetails::Application { kind, message: "1".to_owned(), retryable: true };
        let failure = RecordedFailure::from(details);

        assert_eq!(failure.termination.as_deref(), Some("1"));
        assert_eq!((failure.cancel_reason.as_deref(), failure.cleanup_failure), (Some("enough"), None));
    }

    #[test]
    fn instance_between_two_executions_is_running() {
        assert_eq!(shown("ContinuedAsNew"), "Running");
        assert!(!has_ended("ContinuedAsNew"));
    }
}
