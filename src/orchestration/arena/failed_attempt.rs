//! The log line of an attempt of an activity that has failed.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::orchestration::arena::Arena;
use crate::orchestration::operation::{Node, Operation};
use crate::orchestration::timeline::Moment;

/// What a recorded failure says first.
#[derive(Deserialize)]
struct RecordedError {
    #[serde(rename = "type")]
    class: Option<String>,
    message: String,
}

impl Arena {
    /// Logs that an attempt has failed, unless it was logged in an earlier turn. The package prints the line where the
    /// application has configured no logging.
    pub(super) fn report_failed_attempt(
        &self,
        node: &Arc<Node>,
        attempt: u32,
        failure: &str,
        moment: Moment,
        next_try: Option<Duration>,
    ) {
        let Operation::Activity(call) = &node.operation else { return };
        if !self.timeline.is_new(moment) {
            return;
        }
        let (activity, instance) = (call.name.as_str(), self.engine().instance_id());
        let attempts = call.retry.as_ref().map_or(1, |policy| policy.max_attempts);
        let next = next_try
            .map_or_else(|| "no further try".to_owned(), |delay| format!("next try in {} ms", delay.as_millis()));
        tracing::warn!(
            target: "duroxide::activity",
            notice = true,
            instance_id = instance,
            activity_name = activity,
            attempt,
            next_try_ms = next_try.map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)),
            "activity '{activity}' of instance '{instance}' failed in attempt {attempt} of {attempts}: {}; {next}",
            first_words(failure),
        );
    }
}

/// The class and the text of a recorded exception, on one line.
fn first_words(failure: &str) -> String {
    let text = match serde_json::from_str::<RecordedError>(failure) {
        Ok(RecordedError { class: Some(class), message }) if message.is_empty() => class,
        Ok(RecordedError { class: Some(class), message }) => format!("{class}: {message}"),
        Ok(RecordedError { class: None, message }) => message,
        Err(_) => failure.to_owned(),
    };
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::first_words;

    #[test]
    fn a_failure_is_told_on_one_line() {
        assert_eq!(first_words(r#"{"type":"ValueError","message":"no\nroom"}"#), "ValueError: no");
        assert_eq!(first_words(r#"{"type":"KeyError","message":""}"#), "KeyError");
        assert_eq!(first_words("text"), "text");
    }
}
