//! The limits of what an orchestration may ask for, checked where it asks.
//!
//! Inside the engine they are checked after the turn: the whole orchestration fails, and a child does not tell its
//! parent. Here the user's line gets the error.

use duroxide::runtime::limits::{MAX_CUSTOM_STATUS_BYTES, MAX_KV_KEYS, MAX_KV_VALUE_BYTES, MAX_TAG_NAME_BYTES};
use pyo3::exceptions::PyValueError;
use pyo3::{PyErr, PyResult};

use crate::boundary::errors::LimitExceeded;
use crate::boundary::limits::{MAX_NAME_BYTES, MAX_TURN_BYTES, TextFault, fault_of_name, fault_of_text};

/// The marker of the ids that the engine gives to children without an explicit id.
const RESERVED_ID: &str = "sub::";

/// How deep combinators nest: what walks down through them does so on the stack.
pub(crate) const MAX_DEPTH: usize = 200;

fn at_most(what: &str, bytes: usize, limit: usize) -> PyResult<()> {
    if bytes > limit { Err(too_long(what, bytes, limit)) } else { Ok(()) }
}

fn too_long(what: &str, bytes: usize, limit: usize) -> PyErr {
    LimitExceeded::new_err(format!("{what} is {bytes} bytes long: at most {limit} bytes are kept"))
}

fn check_text(what: &str, text: &str) -> PyResult<()> {
    fault_of_text(text).map_or(Ok(()), |fault| Err(refuse(what, fault)))
}

/// Checks the name of an activity, orchestration, event, queue or session, or an id.
pub(crate) fn check_name(what: &str, name: &str) -> PyResult<()> {
    fault_of_name(name).map_or(Ok(()), |fault| Err(refuse(what, fault)))
}

/// The error for a text. Its words stay as they are: an orchestration may have recorded them.
fn refuse(what: &str, fault: TextFault) -> PyErr {
    LimitExceeded::new_err(match fault {
        TextFault::Empty => format!("{what} is empty: give it at least one character"),
        TextFault::NullCharacter => format!("{what} has a null character, which no store keeps: remove it"),
        TextFault::TooLong { bytes } => return too_long(what, bytes, MAX_NAME_BYTES),
    })
}

/// The sum of the inputs that an orchestration has made in one turn. A replay comes to the same sums, since the turn is
/// known by its time, which history records.
#[derive(Default)]
pub(crate) struct TurnInputs {
    time_ms: u64,
    bytes: usize,
}

impl TurnInputs {
    /// Adds an input that the code makes at this time of history.
    pub(crate) fn add(&mut self, time_ms: u64, bytes: usize) -> Result<(), usize> {
        if self.time_ms != time_ms {
            *self = Self { time_ms, bytes: 0 };
        }
        let sum = self.bytes.saturating_add(bytes);
        if sum > MAX_TURN_BYTES {
            return Err(sum);
        }
        self.bytes = sum;
        Ok(())
    }
}

pub(crate) fn too_much_in_a_turn(orchestration: &str, bytes: usize) -> PyErr {
    LimitExceeded::new_err(format!(
        "the inputs that orchestration '{orchestration}' has made without a wait have {bytes} bytes together: at most \
         {MAX_TURN_BYTES} bytes are recorded in one turn; wait for some of its tasks before you make more, or store the \
         data elsewhere and pass a reference"
    ))
}

pub(crate) fn check_tag(tag: &str) -> PyResult<()> {
    check_name("the tag", tag)?;
    at_most("the tag", tag.len(), MAX_TAG_NAME_BYTES)
}

/// Checks the id that the user chooses for another instance.
pub(crate) fn check_instance_id(id: &str) -> PyResult<()> {
    check_name("the instance id", id)?;
    if id.starts_with(RESERVED_ID) || id.contains("::sub::") {
        return Err(PyValueError::new_err(format!(
            "the instance id '{id}' uses the marker '{RESERVED_ID}', which names children without an id of their own; \
             choose another id"
        )));
    }
    Ok(())
}

pub(crate) fn check_custom_status(status: &str) -> PyResult<()> {
    check_text("the custom status", status)?;
    at_most("the custom status", status.len(), MAX_CUSTOM_STATUS_BYTES)
}

/// Checks a KV entry that is about to be written; `keys` counts the entries with it.
pub(crate) fn check_kv(key: &str, value: &str, keys: usize) -> PyResult<()> {
    check_name("the KV key", key)?;
    check_text(&format!("the value of KV key '{key}'"), value)?;
    at_most(&format!("the value of KV key '{key}'"), value.len(), MAX_KV_VALUE_BYTES)?;
    if keys > MAX_KV_KEYS {
        return Err(LimitExceeded::new_err(format!(
            "KV key '{key}' would be the {keys}th of its instance: at most {MAX_KV_KEYS} keys are kept; clear one first"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_turn_may_make_inputs_up_to_the_limit() {
        let mut inputs = TurnInputs::default();
        for time_ms in [1_000, 2_000] {
            inputs.add(time_ms, MAX_TURN_BYTES - 1).unwrap();
            inputs.add(time_ms, 1).unwrap();
            assert_eq!(inputs.add(time_ms, 1), Err(MAX_TURN_BYTES + 1));
        }
    }
}
