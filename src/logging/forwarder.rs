//! The queue from the native side to Python's logging. A separate thread delivers the records.

use std::fmt;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::RwLock;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use crate::boundary;
use crate::boundary::errors::DuroxideError;

/// How many records may wait. Further records are counted and dropped, since a logging thread must not wait for the
/// interpreter.
const CAPACITY: usize = 8192;
/// How many records are delivered before other threads get the interpreter.
const BATCH: usize = 64;
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a shutdown waits for the records that it left.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(1);

static FORWARDER: RwLock<Option<Forwarder>> = RwLock::new(None);

/// The names that `RuntimeOptions` gives to the service, as fields of every record.
static SERVICE: RwLock<Vec<(&'static str, String)>> = RwLock::new(Vec::new());

/// Names the service of this process in its log records.
pub(crate) fn set_service(name: Option<&str>, version: Option<&str>) {
    let named = [("service_name", name), ("service_version", version)];
    *SERVICE.write() = named.into_iter().filter_map(|(field, value)| Some((field, value?.to_owned()))).collect();
}

/// The sending half of a delivery under way.
struct Forwarder {
    records: Sender<QueuedRecord>,
    dropped: Arc<AtomicU64>,
    /// Set when the rest need not be delivered any more: the interpreter may be gone.
    abandoned: Arc<AtomicBool>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
    process: u32,
}

enum QueuedRecord {
    Record(Record),
    /// Dropped when everything before it is delivered, and by that told.
    Mark {
        _told: Sender<()>,
    },
}

struct Record {
    target: &'static str,
    level: Level,
    message: String,
    fields: Vec<(&'static str, FieldValue)>,
}

#[derive(IntoPyObject)]
enum FieldValue {
    Boolean(bool),
    Integer(i128),
    Number(f64),
    Text(String),
}

/// The layer that hands records to the thread. It never waits and never takes the interpreter.
pub(crate) struct ToPython;

impl<S: Subscriber> Layer<S> for ToPython {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // This thread may be replacing the forwarder, or a thread of the parent was when the process was forked.
        let Some(delivery) = FORWARDER.try_read() else { return };
        let Some(delivery) = delivery.as_ref() else { return };
        if delivery.process != process::id() {
            return;
        }
        if delivery.records.is_full() {
            delivery.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let metadata = event.metadata();
        let mut record =
            Record { target: metadata.target(), level: *metadata.level(), message: String::new(), fields: Vec::new() };
        event.record(&mut record);
        if record.is_premature() {
            return;
        }
        if delivery.records.try_send(QueuedRecord::Record(record)).is_err() {
            delivery.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Record {
    /// Whether the engine says that an orchestration has failed, before it is decided that it waits for its code. What
    /// becomes of it, the dispatcher says.
    fn is_premature(&self) -> bool {
        self.message == "Orchestration failed"
            && self.fields.iter().any(|(name, value)| {
                *name == "error_type" && matches!(value, FieldValue::Text(text) if text == "configuration")
            })
    }

    fn add(&mut self, field: &Field, value: FieldValue) {
        match (field.name(), value) {
            ("message", FieldValue::Text(text)) => self.message = text,
            (name, value) => self.fields.push((name, value)),
        }
    }
}

impl Visit for Record {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, FieldValue::Boolean(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, FieldValue::Integer(value.into()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, FieldValue::Integer(value.into()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, FieldValue::Number(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, FieldValue::Text(value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, FieldValue::Text(format!("{value:?}")));
    }
}

/// Hands the logs of the native side to `deliver(logger_name, level, message, fields)`, on a separate thread.
#[pyfunction]
pub(crate) fn start_logging(py: Python<'_>, deliver: Py<PyAny>) -> PyResult<()> {
    stop_logging(py);
    let (sender, records) = bounded(CAPACITY);
    let (end, ended) = bounded(0);
    let dropped = Arc::new(AtomicU64::new(0));
    let abandoned = Arc::new(AtomicBool::new(false));
    let delivery = Forwarder {
        records: sender,
        dropped: Arc::clone(&dropped),
        abandoned: Arc::clone(&abandoned),
        ended,
        process: process::id(),
    };
    let courier = ForwarderThread { records, dropped, abandoned, deliver };
    let end: Sender<()> = end;
    // The other half of this tells the thread that stops the logs about the end.
    let started = boundary::start_thread("duroxide-logging", move || courier.run(), move || drop(end));
    started.map_err(|error| DuroxideError::new_err(format!("the thread of the logs did not start: {error}")))?;
    *FORWARDER.write() = Some(delivery);
    Ok(())
}

/// Delivers what waits, and drops what comes later. In a forked child it does nothing.
#[pyfunction]
pub(crate) fn stop_logging(py: Python<'_>) {
    let Some(delivery) = FORWARDER.try_write_for(FLUSH_TIMEOUT).and_then(|mut delivery| delivery.take()) else {
        return;
    };
    if delivery.process != process::id() {
        // The thread is in the parent, and so may be a thread that held the locks of the channel.
        std::mem::forget(delivery);
        return;
    }
    let Forwarder { records, abandoned, ended, .. } = delivery;
    drop(records);
    // The thread needs the interpreter to end.
    py.detach(|| {
        let _ = ended.recv_timeout(FLUSH_TIMEOUT);
    });
    abandoned.store(true, Ordering::Release);
}

/// Waits until what was logged before is delivered, a second at most.
pub(crate) fn settle(py: Python<'_>) {
    let (told, delivered) = bounded(0);
    match FORWARDER.read().as_ref() {
        Some(delivery) if delivery.process == process::id() => {
            let mark = QueuedRecord::Mark { _told: told };
            if delivery.records.try_send(mark).is_err() {
                return;
            }
        }
        _ => return,
    }
    py.detach(|| {
        // It is disconnected, which is the news.
        delivered.recv_timeout(SETTLE_TIMEOUT).ok();
    });
}

/// The receiving half, owned by the thread.
struct ForwarderThread {
    records: Receiver<QueuedRecord>,
    dropped: Arc<AtomicU64>,
    abandoned: Arc<AtomicBool>,
    deliver: Py<PyAny>,
}

impl ForwarderThread {
    /// Ends when the sending half is dropped and all is delivered.
    fn run(self) {
        while let Ok(first) = self.records.recv() {
            if self.is_abandoned() {
                // Without an interpreter a reference cannot be given back either.
                std::mem::forget(self.deliver);
                return;
            }
            boundary::enter(|py| {
                self.hand_over(py, first);
                let rest = self.records.try_iter().take(BATCH);
                rest.take_while(|_| !self.is_abandoned()).for_each(|record| self.hand_over(py, record));
                if self.records.is_empty() {
                    self.report_dropped(py);
                }
            });
        }
        if self.is_abandoned() {
            std::mem::forget(self.deliver);
        } else {
            boundary::enter(|_| drop(self.deliver));
        }
    }

    fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    fn hand_over(&self, py: Python<'_>, parcel: QueuedRecord) {
        let QueuedRecord::Record(record) = parcel else { return };
        let fields = PyDict::new(py);
        let service = SERVICE.read().clone().into_iter().map(|(name, value)| (name, FieldValue::Text(value)));
        let delivered = record
            .fields
            .into_iter()
            .chain(service)
            .try_for_each(|(name, value)| fields.set_item(name, value))
            .and_then(|()| {
                self.deliver.call1(py, (logger(record.target), number(record.level), record.message, fields))
            });
        if let Err(error) = delivered {
            error.write_unraisable(py, Some(self.deliver.bind(py)));
        }
    }

    fn report_dropped(&self, py: Python<'_>) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let message = format!("{dropped} log records were dropped, since they came faster than they were handled");
            let record = Record { target: "duroxide", level: Level::WARN, message, fields: Vec::new() };
            self.hand_over(py, QueuedRecord::Record(record));
        }
    }
}

/// The logger for a target. All are below `duroxide`, so that an application silences or shows them at one place.
fn logger(target: &str) -> String {
    let dotted = target.replace("::", ".");
    match dotted.strip_prefix("_native").unwrap_or(&dotted) {
        "" => "duroxide".to_owned(),
        own if own.starts_with('.') => format!("duroxide{own}"),
        ours if ours == "duroxide" || ours.starts_with("duroxide.") => ours.to_owned(),
        other => format!("duroxide.{other}"),
    }
}

/// The level as `logging` counts.
fn number(level: Level) -> u8 {
    match level {
        Level::ERROR => 40,
        Level::WARN => 30,
        Level::INFO => 20,
        Level::DEBUG => 10,
        Level::TRACE => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_a_logger_below_duroxide() {
        assert_eq!(logger("duroxide::orchestration"), "duroxide.orchestration");
        assert_eq!(logger("duroxide"), "duroxide");
        assert_eq!(logger("_native::store::backend"), "duroxide.store.backend");
        assert_eq!(logger("sqlx::query"), "duroxide.sqlx.query");
        assert_eq!(logger("duroxide_pg::provider"), "duroxide.duroxide_pg.provider");
    }
}
