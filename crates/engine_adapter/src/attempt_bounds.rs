//! The time limits of one attempt of an activity, which history records in front of the activity's input.
//!
//! The worker that runs the attempt keeps the limits, because only the worker knows when the attempt begins. A timer of
//! the orchestration would count the time in the queue, too.

/// Encloses the limits. An input is JSON text, which never begins with this character.
const SEPARATOR: char = '\u{2}';

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AttemptBounds {
    /// How long the code of the attempt may run, in ms.
    pub timeout_ms: Option<u64>,
    /// The time by which the attempt must begin, in ms since the epoch, and the timeout that set it, in ms.
    pub start: Option<StartBound>,
    /// By which its orchestration asks it to end, if the orchestration then waits for its end.
    pub end_key: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartBound {
    pub latest_ms: u64,
    pub timeout_ms: u64,
}

impl AttemptBounds {
    /// Puts the limits in front of an input.
    #[must_use]
    pub fn before(self, input: &str) -> String {
        let timeout = self.timeout_ms.map(|timeout| timeout.to_string()).unwrap_or_default();
        let start = self.start.map(|start| format!(",{},{}", start.latest_ms, start.timeout_ms)).unwrap_or_default();
        let key = self.end_key.map(|key| format!(";{key}")).unwrap_or_default();
        format!("{SEPARATOR}{timeout}{start}{key}{SEPARATOR}{input}")
    }

    /// Splits the recorded input of an attempt into its limits and the input of the code.
    #[must_use]
    pub fn split(recorded: &str) -> (Option<Self>, &str) {
        let parts = recorded.strip_prefix(SEPARATOR).and_then(|rest| rest.split_once(SEPARATOR));
        parts.and_then(|(limits, input)| Some((Some(Self::parse(limits)?), input))).unwrap_or((None, recorded))
    }

    fn parse(limits: &str) -> Option<Self> {
        let (limits, end_key) = match limits.split_once(';') {
            Some((limits, key)) => (limits, Some(key.parse().ok()?)),
            None => (limits, None),
        };
        let mut fields = limits.split(',');
        let timeout_ms = match fields.next()? {
            "" => None,
            timeout => Some(timeout.parse().ok()?),
        };
        let start = match (fields.next(), fields.next(), fields.next()) {
            (None, ..) => None,
            (Some(latest), Some(timeout), None) => {
                Some(StartBound { latest_ms: latest.parse().ok()?, timeout_ms: timeout.parse().ok()? })
            }
            _ => return None,
        };
        Some(Self { timeout_ms, start, end_key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_and_the_input_come_back_as_they_were_joined() {
        let start = Some(StartBound { latest_ms: 1_796_000_000_000, timeout_ms: 500 });
        for bounds in [
            AttemptBounds { timeout_ms: Some(300), start: None, end_key: None },
            AttemptBounds { timeout_ms: None, start, end_key: None },
            AttemptBounds { timeout_ms: Some(1), start, end_key: Some(0) },
            AttemptBounds { timeout_ms: None, start: None, end_key: Some(17) },
        ] {
            assert_eq!(AttemptBounds::split(&bounds.before("[1, \"\u{2}\"]")), (Some(bounds), "[1, \"\u{2}\"]"));
        }
    }

    #[test]
    fn an_input_without_limits_stays_as_it_is() {
        for input in
            ["", "null", "\"text\"", "\u{2}", "\u{2}x\u{2}1", "\u{2}1,2\u{2}1", "\u{2}1,2,3,4\u{2}1", "\u{2};\u{2}1"]
        {
            assert_eq!(AttemptBounds::split(input), (None, input));
        }
    }
}
