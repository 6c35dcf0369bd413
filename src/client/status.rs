//! How an instance stands.

use duroxide::providers::InstanceInfo;
use duroxide::{AppErrorKind, ErrorDetails, EventKind};

use crate::boundary::errors::Error;
use crate::client::View;
use store::operations::{AdminOperations as _, EngineOperations as _};
use store::types::InstanceState;

/// Status, output, failure, custom status, its version, reason of a cancellation, report of a mismatch.
pub(super) type StatusTuple =
    (&'static str, Option<String>, Option<String>, Option<String>, u64, Option<String>, Option<String>);

const NOT_FOUND: &str = "NotFound";
const RUNNING: &str = "Running";
const COMPLETED: &str = "Completed";
const FAILED: &str = "Failed";

#[derive(Default)]
pub(super) struct Status {
    name: &'static str,
    output: Option<String>,
    failure: Option<OrchestrationFailure>,
    /// The custom status, and how often it was set.
    custom: Option<String>,
    pub(super) version: u64,
    mismatch: Option<String>,
}

struct OrchestrationFailure {
    text: String,
    cancel_reason: Option<String>,
}

impl From<Status> for StatusTuple {
    fn from(status: Status) -> Self {
        let (failure, reason) =
            status.failure.map_or((None, None), |failure| (Some(failure.text), failure.cancel_reason));
        let Status { name, output, custom, version, mismatch, .. } = status;
        (name, output, failure, custom, version, reason, mismatch)
    }
}

impl Status {
    pub(super) fn has_ended(&self) -> bool {
        has_ended(self.name)
    }
}

pub(super) fn has_ended(status: &str) -> bool {
    matches!(status, COMPLETED | FAILED)
}

/// What the store calls otherwise is between two executions, and goes on.
pub(super) fn shown(status: &str) -> &'static str {
    match status {
        COMPLETED => COMPLETED,
        FAILED => FAILED,
        _ => RUNNING,
    }
}

impl View {
    pub(super) async fn info(&self, instance: &str) -> Result<InstanceInfo, Error> {
        let info = self.client.get_instance_info(instance).await;
        info.map_err(|failure| Error::of_instance(instance, failure))
    }

    pub(super) async fn status(&self, instance: &str) -> Result<Status, Error> {
        match self.store.instance_state(instance).await {
            Ok(Some(standing)) => self.status_of(instance, standing).await,
            Ok(None) => Ok(Status { name: NOT_FOUND, ..Status::default() }),
            Err(error) => Err(Error::Store(error)),
        }
    }

    /// The status of an instance that ended, or whose standing was just read; its history is read only if it has failed.
    pub(super) async fn status_of(&self, instance: &str, standing: InstanceState) -> Result<Status, Error> {
        let InstanceState { status, output, custom_status, custom_status_version } = standing;
        let mut shown =
            Status { name: shown(&status), custom: custom_status, version: custom_status_version, ..Status::default() };
        match shown.name {
            COMPLETED => shown.output = output,
            FAILED => shown.failure = Some(self.failure(instance, output).await?),
            _ => shown.mismatch = self.adapter.mismatch(instance).await,
        }
        Ok(shown)
    }

    async fn failure(&self, instance: &str, output: Option<String>) -> Result<OrchestrationFailure, Error> {
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
            Some(details) => OrchestrationFailure::from(details),
            None => OrchestrationFailure { text: output.unwrap_or_default(), cancel_reason: None },
        })
    }
}

impl From<ErrorDetails> for OrchestrationFailure {
    fn from(details: ErrorDetails) -> Self {
        let shown = details.display_message();
        let text = match &details {
            ErrorDetails::Application { kind, message, .. } => match kind {
                AppErrorKind::Cancelled { reason } => {
                    return Self { text: shown, cancel_reason: Some(reason.clone()) };
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
        Self { text, cancel_reason: None }
    }
}

/// A failure in the form in which Python records its own.
fn typed(class: &str, message: &str) -> String {
    serde_json::json!({ "type": class, "message": message }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn application(kind: AppErrorKind) -> OrchestrationFailure {
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
        assert_eq!(failure.cancel_reason.as_deref(), Some("too late"));
    }

    #[test]
    fn instance_between_two_executions_is_running() {
        assert_eq!(shown("ContinuedAsNew"), "Running");
        assert!(!has_ended("ContinuedAsNew"));
    }
}
