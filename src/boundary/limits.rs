//! The rules for names, ids, durations and payloads that hold on both sides of the boundary.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::boundary::errors::LimitExceeded;

/// The longest name or id, in bytes of UTF-8.
pub(crate) const MAX_NAME_BYTES: usize = 1024;

/// The longest payload that is recorded, in bytes of JSON text.
pub(crate) const MAX_PAYLOAD_BYTES: usize = 16 * 1024 * 1024;

/// The largest sum of the inputs that an orchestration may make in one turn. While the turn is recorded, the engine and
/// the store hold about fifteen copies of each.
pub(crate) const MAX_TURN_BYTES: usize = 128 * 1024 * 1024;

/// The longest duration of a timer, a wait or a timeout, in milliseconds: ten years.
pub(crate) const MAX_DURATION_MS: u64 = 10 * 366 * 24 * 60 * 60 * 1000;

/// How deep a payload nests. JSON that nests deeper than some readers go would be recorded, and never read.
pub(crate) const MAX_NESTING: usize = 500;

/// Returns how deep JSON text nests lists and objects.
#[pyfunction]
pub(crate) fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest): (usize, usize) = (0, 0);
    let (mut is_in_text, mut is_escaped) = (false, false);
    for byte in text.bytes() {
        if is_in_text {
            is_in_text = byte != b'"' || is_escaped;
            is_escaped = byte == b'\\' && !is_escaped;
            continue;
        }
        match byte {
            b'"' => is_in_text = true,
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Whether JSON text nests too deep. A shorter text cannot, and is not read.
pub(crate) fn is_too_deep(text: &str) -> bool {
    text.len() > 2 * MAX_NESTING && nesting(text) > MAX_NESTING
}

/// Why a text cannot be recorded, or cannot be a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextFault {
    Empty,
    /// PostgreSQL's text cannot hold a null character, and reports it too late for the caller.
    NullCharacter,
    TooLong {
        bytes: usize,
    },
}

/// Why no store can keep `text`.
pub(crate) fn fault_of_text(text: &str) -> Option<TextFault> {
    text.contains('\0').then_some(TextFault::NullCharacter)
}

/// Why `name` cannot be the name of an activity, orchestration, event, queue or session, or an id.
pub(crate) fn fault_of_name(name: &str) -> Option<TextFault> {
    match name.len() {
        0 => Some(TextFault::Empty),
        bytes if bytes > MAX_NAME_BYTES => fault_of_text(name).or(Some(TextFault::TooLong { bytes })),
        _ => fault_of_text(name),
    }
}

/// Returns `value` if it is text that UTF-8 and every store can hold; `what` names it in the error.
#[pyfunction]
pub(crate) fn check_text<'py>(value: Bound<'py, PyAny>, what: &str) -> PyResult<Bound<'py, PyString>> {
    check(value, what, fault_of_text)
}

/// Returns `value` if it can be a name or an id; `what` names it in the error.
#[pyfunction]
pub(crate) fn check_name<'py>(value: Bound<'py, PyAny>, what: &str) -> PyResult<Bound<'py, PyString>> {
    check(value, what, fault_of_name)
}

fn check<'py>(
    value: Bound<'py, PyAny>,
    what: &str,
    fault_of: fn(&str) -> Option<TextFault>,
) -> PyResult<Bound<'py, PyString>> {
    let text = value.cast_into::<PyString>().map_err(|refused| {
        let value = refused.into_inner();
        PyTypeError::new_err(format!("{what} must be a str, not {}", type_name(&value)))
    })?;
    let Ok(content) = text.to_str() else {
        return Err(LimitExceeded::new_err(format!(
            "{what} has lone surrogates, which UTF-8 cannot hold; replace or escape them"
        )));
    };
    match fault_of(content) {
        Some(fault) => Err(refuse(fault, what)),
        None => Ok(text),
    }
}

/// The name of the type of a value, for an error message.
pub(crate) fn type_name(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "object".to_owned(), |name| name.to_string())
}

fn refuse(fault: TextFault, what: &str) -> PyErr {
    LimitExceeded::new_err(match fault {
        TextFault::Empty => format!("{what} is empty; give it at least one character"),
        TextFault::NullCharacter => format!("{what} has a null character, which no store keeps; remove it"),
        TextFault::TooLong { bytes } => {
            format!("{what} has {bytes} bytes; at most {MAX_NAME_BYTES} are allowed, put the rest into the input")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_at_least_one_byte_and_at_most_1024() {
        assert_eq!(fault_of_name(""), Some(TextFault::Empty));
        assert_eq!(fault_of_name(&"x".repeat(1024)), None);
        assert_eq!(fault_of_name(&"é".repeat(513)), Some(TextFault::TooLong { bytes: 1026 }));
    }

    #[test]
    fn nesting_counts_open_brackets_outside_of_texts() {
        assert_eq!(nesting(r#"{"a": [1, {"b": "[[[\"[["}], "c": []}"#), 3);
        assert!(!is_too_deep(&format!("{}{}", "[".repeat(MAX_NESTING), "]".repeat(MAX_NESTING))));
        assert!(is_too_deep(&format!("{}{}", "[".repeat(MAX_NESTING + 1), "]".repeat(MAX_NESTING + 1))));
    }

    #[test]
    fn a_null_character_is_refused_in_every_text() {
        assert_eq!(fault_of_text(""), None);
        assert_eq!(fault_of_text("a\0"), Some(TextFault::NullCharacter));
        assert_eq!(fault_of_name(&"\0".repeat(2000)), Some(TextFault::NullCharacter));
    }
}
