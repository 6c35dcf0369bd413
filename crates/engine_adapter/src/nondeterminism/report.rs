//! Reports that the code of an instance no longer matches its history.

use std::fmt::Write as _;

use duroxide::{AppErrorKind, ConfigErrorKind, ErrorDetails, Event, EventKind};
use serde_json::Value;

use crate::escape::escape;
use crate::nondeterminism::action::{Action, Described};
use crate::nondeterminism::mismatch_report::{ActualAction, CodeLocation, MismatchReport};
use crate::turn_record::TurnRecord;

/// How many characters of an input a report shows. The input is the user's data, and the report goes to the log.
const SHOWN_INPUT: usize = 200;
const SHOWN_VALUE: usize = 100;
/// A reader can compare two texts up to this length without a list of differences.
const SHORT: usize = 40;
/// The longest list of differences, in bytes.
const LONGEST_LIST: usize = 2_000;
/// How many characters a report shows before the place where texts differ.
const CONTEXT: usize = 20;

/// Why a turn cannot be committed.
pub enum TurnMismatch<'a> {
    Driver(&'a MismatchReport),
    /// Only the engine has found the mismatch: a completion or a cancellation that does not fit.
    Engine(String),
}

impl<'a> TurnMismatch<'a> {
    /// The mismatch of a turn, if it has one: the engine's, or the driver's if the engine took the turn for an end.
    pub fn of(delta: &[Event], record: &'a TurnRecord) -> Option<Self> {
        let mismatch = record.mismatch();
        delta.iter().find_map(|event| match &event.kind {
            EventKind::OrchestrationFailed {
                details: details @ ErrorDetails::Configuration { kind: ConfigErrorKind::Nondeterminism, .. },
            } => Some(mismatch.map_or_else(|| Self::Engine(details.display_message()), Self::Driver)),
            EventKind::OrchestrationCompleted { .. }
            | EventKind::OrchestrationFailed {
                details: ErrorDetails::Application { kind: AppErrorKind::OrchestrationFailed, .. },
            } => mismatch.filter(|mismatch| mismatch.decides).map(Self::Driver),
            _ => None,
        })
    }

    /// The whole report: lines without control characters, since a value with a line break would forge a line.
    /// `history` is the history of the execution, as far as it could be read.
    pub fn report(&self, instance: &str, history: &[Event]) -> String {
        let facts = match self {
            Self::Engine(text) => format!("  {}\n", escape(&shortened(text, 2 * SHOWN_INPUT))),
            Self::Driver(mismatch) => {
                let event = history.iter().find(|event| event.event_id == mismatch.event_id);
                let recorded = event.and_then(|event| Action::recorded(&event.kind)).map(|action| action.describe());
                compared(mismatch, recorded.as_ref())
            }
        };
        format!(
            "the code of instance '{}' no longer matches its history:\n{facts}\
             bring back the code that recorded it, or cancel the instance",
            escape(instance)
        )
    }
}

/// The recorded action and the action of the code one below the other, the line of the code, and where the inputs
/// differ.
fn compared(mismatch: &MismatchReport, recorded: Option<&Described>) -> String {
    let mut rows = Vec::new();
    let event = format!("event {} recorded:", mismatch.event_id);
    rows.push((event, recorded.map_or_else(|| "an action that cannot be read now".to_owned(), shown)));
    let actual = match &mismatch.actual {
        ActualAction::Action(action) => shown(action),
        ActualAction::Nothing(why) => format!("nothing more: {why}"),
    };
    rows.push(("the code did:".to_owned(), actual));
    if let Some(CodeLocation { file, line, source }) = &mismatch.location {
        rows.push((format!("at {}:{line}:", base_name(file)), shortened(source, SHOWN_INPUT)));
    }
    if let (Some(recorded), ActualAction::Action(actual)) = (recorded, &mismatch.actual)
        && let (Some(before), Some(now)) = (&recorded.input, &actual.input)
        && before != now
        && recorded.what == actual.what
        && (is_long(before) || is_long(now))
    {
        for (number, line) in differences(before, now).into_iter().enumerate() {
            rows.push((if number == 0 { "difference:" } else { "" }.to_owned(), line));
        }
    }
    let width = rows.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (label, row) in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", escape(format!("  {label:width$}  {row}").trim_end()));
    }
    text
}

/// Whether a text is too long or too complex to compare by eye.
fn is_long(text: &str) -> bool {
    text.len() > SHORT || text.starts_with(['{', '['])
}

fn shown(action: &Described) -> String {
    match &action.input {
        Some(input) => format!("{}  {}", action.what, shortened(input, SHOWN_INPUT)),
        None => action.what.clone(),
    }
}

/// The name of a file without its folders, since the paths of a machine are private and of no use to others.
fn base_name(file: &str) -> &str {
    file.rsplit(['/', '\\']).next().unwrap_or(file)
}

fn shortened(text: &str, most: usize) -> String {
    // A report has one line for each fact.
    let line = |text: &str| text.replace(['\n', '\r'], " ");
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}… ({} bytes)", line(&text[..end]), text.len()),
        None => line(text),
    }
}

/// The differences of two inputs, one line for each place: a path into the JSON, or a position in the text.
fn differences(before: &str, now: &str) -> Vec<String> {
    let mut list = Differences::default();
    match (serde_json::from_str::<Value>(before), serde_json::from_str::<Value>(now)) {
        (Ok(old), Ok(new)) if old != new => list.compare("", &old, &new),
        (Ok(_), Ok(_)) => {
            list.is_inconclusive = true;
            list.push("the JSON means the same, and is written differently".to_owned());
        }
        _ => {}
    }
    if list.found.is_empty() || list.is_inconclusive {
        let at = before.char_indices().zip(now.chars()).find(|((_, old), new)| old != new);
        let at = at.map_or_else(|| before.len().min(now.len()), |((position, _), _)| position);
        let start = before[..at].char_indices().rev().nth(CONTEXT).map_or(0, |(position, _)| position);
        let rest = |text: &str| shortened(text.get(start..).unwrap_or_default(), SHOWN_VALUE);
        let cut = if start > 0 { "…" } else { "" };
        list.push(format!("from byte {at} on: {cut}{} was recorded, now {cut}{}", rest(before), rest(now)));
    }
    list.found
}

#[derive(Default)]
struct Differences {
    found: Vec<String>,
    bytes: usize,
    is_full: bool,
    is_inconclusive: bool,
}

impl Differences {
    fn push(&mut self, line: String) {
        if self.is_full {
            return;
        }
        if self.bytes + line.len() > LONGEST_LIST {
            self.is_full = true;
            self.found.push("and more".to_owned());
            return;
        }
        self.bytes += line.len();
        self.found.push(line);
    }

    fn compare(&mut self, path: &str, before: &Value, now: &Value) {
        if before == now || self.is_full {
            return;
        }
        match (before, now) {
            (Value::Object(old), Value::Object(new)) => {
                for (key, value) in old {
                    let path = format!("{path}/{key}");
                    match new.get(key) {
                        Some(other) => self.compare(&path, value, other),
                        None => self.push(format!("{path}: {} was recorded, now it is missing", value_of(value))),
                    }
                }
                for (key, value) in new.iter().filter(|(key, _)| !old.contains_key(*key)) {
                    self.push(format!("{path}/{key}: was not recorded, now {}", value_of(value)));
                }
            }
            (Value::Array(old), Value::Array(new)) => {
                for (index, pair) in old.iter().zip(new).enumerate() {
                    self.compare(&format!("{path}/{index}"), pair.0, pair.1);
                }
                if old.len() != new.len() {
                    let path = if path.is_empty() { "/" } else { path };
                    self.push(format!("{path}: {} items were recorded, now {}", old.len(), new.len()));
                }
            }
            _ => {
                let (old, new) = (value_of(before), value_of(now));
                // The beginnings of long values may be alike.
                self.is_inconclusive |= old == new;
                let path = if path.is_empty() { "/" } else { path };
                self.push(format!("{path}: {old} was recorded, now {new}"));
            }
        }
    }
}

fn value_of(value: &Value) -> String {
    shortened(&value.to_string(), SHOWN_VALUE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_inputs_are_compared_part_by_part() {
        let lines = differences(r#"{"a": {"b": [1, 2]}, "gone": 1}"#, r#"{"a": {"b": [1, 3, 4]}, "new": null}"#);

        assert_eq!(
            lines,
            [
                "/a/b/1: 2 was recorded, now 3",
                "/a/b: 2 items were recorded, now 3",
                "/gone: 1 was recorded, now it is missing",
                "/new: was not recorded, now null",
            ]
        );
    }

    #[test]
    fn texts_are_shown_from_the_first_difference() {
        let lines = differences("the price of it all, as agreed: five", "the price of it all, as agreed: six");

        assert_eq!(lines, ["from byte 32 on: …f it all, as agreed: five was recorded, now …f it all, as agreed: six"]);
    }

    #[test]
    fn a_longer_text_differs_where_the_shorter_one_ends() {
        assert_eq!(differences("ärger", "ärgerlich"), ["from byte 6 on: ärger was recorded, now ärgerlich"]);
    }

    #[test]
    fn long_values_with_the_same_beginning_are_compared_as_text() {
        let text = |end: &str| format!("\"{}{end}\"", "x".repeat(300));

        let lines = differences(&text("a"), &text("b"));

        assert_eq!(lines.len(), 2);
        assert!(lines[1].starts_with("from byte 301 on: …"), "{lines:?}");
        assert!(lines[1].contains("xa\" was recorded, now …"), "{lines:?}");
    }

    #[test]
    fn the_list_of_differences_is_bounded() {
        let array = |value: u32| serde_json::to_string(&vec![value; 10_000]).unwrap();

        let lines = differences(&array(1), &array(2));

        assert!(lines.iter().map(String::len).sum::<usize>() < LONGEST_LIST + 100);
        assert_eq!(lines.last().map(String::as_str), Some("and more"));
    }

    #[test]
    fn an_input_of_many_lines_is_shown_on_one_line() {
        let action = Described { what: "activity 'print'".to_owned(), input: Some("one\ntwo".to_owned()) };

        assert_eq!(shown(&action), "activity 'print'  one two");
    }

    #[test]
    fn a_value_adds_no_line_to_a_report_and_commands_no_terminal() {
        let forging = "a\n2026-01-01 ERROR forged\u{1b}[2J\u{2028}b";
        let by_driver = MismatchReport {
            event_id: 2,
            actual: ActualAction::Nothing(forging.to_owned()),
            location: Some(CodeLocation { file: forging.to_owned(), line: 1, source: forging.to_owned() }),
            decides: true,
        };

        let lines = [TurnMismatch::Driver(&by_driver), TurnMismatch::Engine(forging.to_owned())]
            .map(|mismatch| mismatch.report(forging, &[]).lines().map(str::to_owned).collect::<Vec<_>>());

        assert_eq!(lines.each_ref().map(Vec::len), [5, 3], "{lines:?}");
        let is_safe = |line: &String| *line == escape(line);
        assert!(lines.iter().flatten().all(is_safe), "{lines:?}");
    }

    #[test]
    fn a_report_names_files_without_their_folders() {
        assert_eq!(base_name("/srv/app/shop.py"), "shop.py");
        assert_eq!(base_name(r"C:\app\shop.py"), "shop.py");
    }
}
