//! What history records about one attempt of an activity, in front of the activity's input.
//!
//! The worker that runs the attempt reads the header. It keeps the time limits, because only the worker knows when the
//! attempt begins: a timer of the orchestration would count the time in the queue, too. From the first attempt it makes
//! the key that all attempts of one call share.

/// Encloses the header. An input is JSON text, which never begins with this character.
const SEPARATOR: char = '\u{2}';
/// Stands before the first attempt, behind the limits.
const FIRST_ATTEMPT: char = '#';
/// Stands before the key for the request to end, behind everything else.
const END_KEY: char = ';';

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AttemptHeader {
    /// How long the code of the attempt may run, in ms.
    pub timeout_ms: Option<u64>,
    /// The time by which the attempt must begin, in ms since the epoch, and the timeout that set it, in ms.
    pub start: Option<StartBound>,
    /// The event that scheduled the first attempt, in the header of a later one.
    pub first_attempt: Option<u64>,
    /// By which its orchestration asks the attempt to end, if the orchestration then waits for its end.
    pub end_key: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartBound {
    pub latest_ms: u64,
    pub timeout_ms: u64,
}

impl AttemptHeader {
    /// Puts the header in front of an input.
    #[must_use]
    pub fn before(self, input: &str) -> String {
        let timeout = self.timeout_ms.map(|timeout| timeout.to_string()).unwrap_or_default();
        let start = self.start.map(|start| format!(",{},{}", start.latest_ms, start.timeout_ms)).unwrap_or_default();
        let first = self.first_attempt.map(|first| format!("{FIRST_ATTEMPT}{first}")).unwrap_or_default();
        let key = self.end_key.map(|key| format!("{END_KEY}{key}")).unwrap_or_default();
        format!("{SEPARATOR}{timeout}{start}{first}{key}{SEPARATOR}{input}")
    }

    /// Splits the recorded input of an attempt into its header and the input of the code.
    #[must_use]
    pub fn split(recorded: &str) -> (Option<Self>, &str) {
        let parts = recorded.strip_prefix(SEPARATOR).and_then(|rest| rest.split_once(SEPARATOR));
        parts.and_then(|(header, input)| Some((Some(Self::parse(header)?), input))).unwrap_or((None, recorded))
    }

    fn parse(header: &str) -> Option<Self> {
        let (header, end_key) = split_number(header, END_KEY)?;
        let (limits, first_attempt) = split_number(header, FIRST_ATTEMPT)?;
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
        Some(Self { timeout_ms, start, first_attempt, end_key })
    }
}

/// Splits off the number that stands behind `mark`, if the mark is there; `None` if no number follows it.
fn split_number(text: &str, mark: char) -> Option<(&str, Option<u64>)> {
    match text.split_once(mark) {
        Some((before, number)) => Some((before, Some(number.parse().ok()?))),
        None => Some((text, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_and_the_input_come_back_as_they_were_joined() {
        let start = Some(StartBound { latest_ms: 1_796_000_000_000, timeout_ms: 500 });
        for header in [
            AttemptHeader { timeout_ms: Some(300), ..AttemptHeader::default() },
            AttemptHeader { start, ..AttemptHeader::default() },
            AttemptHeader { timeout_ms: Some(1), start, ..AttemptHeader::default() },
            AttemptHeader { first_attempt: Some(3), ..AttemptHeader::default() },
            AttemptHeader { end_key: Some(17), ..AttemptHeader::default() },
            AttemptHeader { timeout_ms: Some(1), start, first_attempt: Some(3), end_key: Some(0) },
        ] {
            assert_eq!(AttemptHeader::split(&header.before("[1, \"\u{2}\"]")), (Some(header), "[1, \"\u{2}\"]"));
        }
    }

    #[test]
    fn an_input_without_header_stays_as_it_is() {
        for input in [
            "",
            "null",
            "\"text\"",
            "\u{2}",
            "\u{2}x\u{2}1",
            "\u{2}1,2\u{2}1",
            "\u{2}1,2,3,4\u{2}1",
            "\u{2}#\u{2}1",
            "\u{2};\u{2}1",
        ] {
            assert_eq!(AttemptHeader::split(input), (None, input));
        }
    }
}
