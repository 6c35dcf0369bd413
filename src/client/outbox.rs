//! Starts, events and messages as an application writes them into its own database: rows of an outbox, or of PostgreSQL's
//! queue itself.

use std::path::PathBuf;

use duroxide::providers::WorkItem;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::boundary;
use crate::boundary::errors::Error;
use store::DatabaseWatcher;
use store::outbox::{Relay, Relayed};
use store::start::StartRequest;
use store::work_item::encode;

/// A row of an outbox that Python has checked.
#[derive(Clone)]
#[pyclass(frozen, get_all, from_py_object, module = "duroxide._native")]
pub(crate) struct OutboxRow {
    /// `"start"`, `"event"` or `"message"`.
    kind: String,
    instance: String,
    /// Of the orchestration, the event or the queue.
    name: String,
    data: String,
    version: Option<String>,
}

#[pymethods]
impl OutboxRow {
    #[new]
    fn new(kind: String, instance: String, name: String, data: String, version: Option<String>) -> Self {
        Self { kind, instance, name, data, version }
    }
}

/// The result of relaying rows of an outbox.
#[pyclass(frozen, get_all, module = "duroxide._native")]
pub(crate) struct RelayAnswer {
    /// The rows are in the store.
    is_done: bool,
    /// The key that the store has recorded, where it is not the one that the rows follow.
    seen: Option<i64>,
    /// The rows that the store will never take.
    refused: Vec<RefusedRow>,
}

impl RelayAnswer {
    /// `None` where another process works on the store.
    pub(super) fn of(relayed: Relayed) -> Option<Self> {
        let answer = |is_done, seen, refused| Some(Self { is_done, seen, refused });
        match relayed {
            Relayed::Done => answer(true, None, Vec::new()),
            Relayed::Behind(seen) => answer(false, seen, Vec::new()),
            Relayed::Refused(rows) => {
                let refused = rows.into_iter().map(|(position, reason)| RefusedRow { position, reason });
                answer(false, None, refused.collect())
            }
            Relayed::Elsewhere => None,
        }
    }
}

#[derive(Clone)]
#[pyclass(frozen, get_all, module = "duroxide._native")]
pub(crate) struct RefusedRow {
    /// The position among the rows of the call.
    position: usize,
    reason: String,
}

pub(super) fn relay(outbox: String, seen: Option<i64>, last: i64, rows: Vec<OutboxRow>) -> PyResult<Relay> {
    let messages = rows.into_iter().map(message).collect::<PyResult<_>>()?;
    Ok(Relay { outbox, seen, last, messages })
}

#[pyclass(frozen, name = "DatabaseWatcher", module = "duroxide._native")]
pub(crate) struct NativeDatabaseWatcher(DatabaseWatcher);

#[pymethods]
impl NativeDatabaseWatcher {
    #[new]
    fn new(file: PathBuf) -> Self {
        Self(DatabaseWatcher::of(&file))
    }

    fn notices(&self) -> u64 {
        self.0.notices()
    }

    fn wait(&self, py: Python<'_>, notices: u64) -> bool {
        boundary::leave(py, || self.0.wait(notices))
    }

    fn wake(&self) {
        self.0.wake();
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
    let message = message(OutboxRow { kind, instance, name, data, version })?;
    encode(&message).map_err(|error| Error::from(error).into())
}

/// The statement that finds the stores of a database, for `schema_without_name`.
#[pyfunction]
pub(crate) fn stores_statement() -> String {
    store::stores_statement()
}

/// The schema of the store for a transaction that names none.
#[pyfunction]
pub(crate) fn schema_without_name(stores: Vec<(String, String, bool, bool)>) -> PyResult<&'static str> {
    store::schema_for_application(stores).map_err(|error| Error::from(error).into())
}

fn message(row: OutboxRow) -> PyResult<WorkItem> {
    let OutboxRow { kind, instance, name, data, version } = row;
    match kind.as_str() {
        "start" => {
            Ok(StartRequest { instance, orchestration: name, input: data, version, due_ms: None }.into_message())
        }
        "event" => Ok(WorkItem::ExternalRaised { instance, name, data }),
        "message" => Ok(WorkItem::QueueMessage { instance, name, data }),
        _ => Err(PyValueError::new_err(format!("kind must be 'start', 'event' or 'message', not '{kind}'"))),
    }
}
