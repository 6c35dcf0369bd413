//! The limits of what an orchestration may ask for, checked where it asks.
//!
//! Inside the engine they are checked after the turn: the whole orchestration fails, and a child does not tell its
//! parent. Here the user's line gets the error.

use duroxide::runtime::limits::{MAX_CUSTOM_STATUS_BYTES, MAX_KV_KEYS, MAX_KV_VALUE_BYTES, MAX_TAG_NAME_BYTES};
use pyo3::PyResult;
use pyo3::exceptions::PyValueError;

use crate::boundary::errors::LimitExceeded;

/// The longest name or id, in bytes of UTF-8.
pub(crate) const MAX_NAME_BYTES: usize = 1024;

/// Ids that the engine keeps for children without an id of their own.
const RESERVED_ID: &str = "sub::";

/// How deep combinators nest: what walks down through them does so on the stack.
pub(crate) const MAX_DEPTH: usize = 200;

/// The longest delay of a timer, ten years in milliseconds.
pub(crate) const MAX_DELAY_MS: u64 = 10 * 366 * 24 * 60 * 60 * 1000;

fn at_most(what: &str, bytes: usize, limit: usize) -> PyResult<()> {
    if bytes > limit {
        return Err(LimitExceeded::new_err(format!("{what} is {bytes} bytes long: at most {limit} bytes are kept")));
    }
    Ok(())
}

/// PostgreSQL's text cannot hold it, and finds out too late for the caller.
fn check_text(what: &str, text: &str) -> PyResult<()> {
    if text.contains('\0') {
        return Err(LimitExceeded::new_err(format!("{what} has a null character, which no store keeps: remove it")));
    }
    Ok(())
}

/// Checks the name of an activity, orchestration, event, queue or session, or an id.
pub(crate) fn check_name(what: &str, name: &str) -> PyResult<()> {
    if name.is_empty() {
        return Err(LimitExceeded::new_err(format!("{what} is empty: give it at least one character")));
    }
    check_text(what, name)?;
    at_most(what, name.len(), MAX_NAME_BYTES)
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
