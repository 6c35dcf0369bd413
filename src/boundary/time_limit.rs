//! The time limits of an activity, and the failure that history records when an attempt has passed one.

use serde::{Deserialize, Serialize};

/// The class of the recorded failure.
const CLASS: &str = "ActivityTimedOut";

/// The time limits of an activity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TimeLimit {
    /// From the begin of an attempt to its end.
    Attempt,
    /// From the schedule of an attempt to its begin.
    Start,
    /// From the first attempt to the end of the last, waits included.
    Total,
}

impl TimeLimit {
    /// The word for it, in Python too.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Attempt => "attempt",
            Self::Start => "start",
            Self::Total => "total",
        }
    }
}

/// A limit that an attempt has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PassedLimit {
    pub(crate) limit: TimeLimit,
    pub(crate) timeout_ms: u64,
}

/// A recorded failure, in the form that `duroxide._values.failures` reads.
#[derive(Serialize, Deserialize)]
struct RecordedTimeout {
    #[serde(rename = "type")]
    class: String,
    message: String,
    details: PassedLimit,
}

impl PassedLimit {
    /// The text that history records for the attempt.
    pub(crate) fn to_failure(self, activity: &str) -> String {
        let Self { limit, timeout_ms } = self;
        let verb = if limit == TimeLimit::Start { "begin" } else { "finish" };
        let message = format!("activity '{activity}' did not {verb} within {timeout_ms} ms");
        let recorded = RecordedTimeout { class: CLASS.to_owned(), message, details: self };
        // Texts and numbers can always be written.
        serde_json::to_string(&recorded).unwrap_or(recorded.message)
    }

    /// Reads the recorded failure of an attempt, if a limit has caused it.
    pub(crate) fn of_failure(failure: &str) -> Option<Self> {
        let recorded: RecordedTimeout = serde_json::from_str(failure).ok()?;
        (recorded.class == CLASS).then_some(recorded.details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_timeout_is_recognized_and_another_failure_is_not() {
        let passed = PassedLimit { limit: TimeLimit::Attempt, timeout_ms: 300 };
        assert_eq!(PassedLimit::of_failure(&passed.to_failure("charge")), Some(passed));
        for other in ["text", r#"{"type":"ActivityTimedOut","message":"x"}"#, r#"{"type":"ValueError","message":"x"}"#]
        {
            assert_eq!(PassedLimit::of_failure(other), None);
        }
    }
}
