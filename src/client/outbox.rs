//! Starts, events and messages as an application writes them into its own database: rows of an outbox, or of PostgreSQL's
//! queue itself.

use std::path::PathBuf;

use duroxide::providers::WorkItem;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::boundary;
use crate::boundary::errors::Error;
use store::FileNews;
use store::outbox::{Relay, Relayed};
use store::start::StartRequest;
use store::work_item::encode;

/// Kind, instance, name of the orchestration, event or queue, data, version.
pub(super) type RowTuple = (String, String, String, String, Option<String>);

/// Whether the rows are in the store; the key that is recorded instead; which rows are refused for good, and why.
type RelayedTuple = (bool, Option<i64>, Vec<(usize, String)>);

/// `None` where another process works on the store.
pub(super) fn relayed(relayed: Relayed) -> Option<RelayedTuple> {
    match relayed {
        Relayed::Done => Some((true, None, Vec::new())),
        Relayed::Refused(refused) => Some((false, None, refused)),
        Relayed::Behind(seen) => Some((false, seen, Vec::new())),
        Relayed::Elsewhere => None,
    }
}

pub(super) fn relay(outbox: String, seen: Option<i64>, last: i64, rows: Vec<RowTuple>) -> PyResult<Relay> {
    let messages = rows.into_iter().map(message).collect::<PyResult<_>>()?;
    Ok(Relay { outbox, seen, last, messages })
}

#[pyclass(frozen, name = "FileNews", module = "duroxide._native")]
pub(crate) struct NativeFileNews(FileNews);

#[pymethods]
impl NativeFileNews {
    #[new]
    fn new(file: PathBuf) -> Self {
        Self(FileNews::of(&file))
    }

    fn heard(&self) -> u64 {
        self.0.heard()
    }

    fn wait(&self, py: Python<'_>, heard: u64) -> bool {
        boundary::leave(py, || self.0.wait(heard))
    }

    fn ring(&self) {
        self.0.ring();
    }
}

/// The text of a message as it stands in PostgreSQL's queue.
#[pyfunction]
pub(crate) fn write_message(
    kind: String,
    instance: String,
    name: String,
    data: String,
    version: Option<String>,
) -> PyResult<String> {
    let message = message((kind, instance, name, data, version))?;
    encode(&message).map_err(|error| Error::from(error).into())
}

fn message((kind, instance, name, data, version): RowTuple) -> PyResult<WorkItem> {
    match kind.as_str() {
        "start" => Ok(StartRequest { instance, orchestration: name, input: data, version }.into_message()),
        "event" => Ok(crate::client::bulk::event((instance, name, data))),
        "message" => Ok(crate::client::bulk::queue_message((instance, name, data))),
        _ => Err(PyValueError::new_err(format!("kind must be 'start', 'event' or 'message', not '{kind}'"))),
    }
}
