//! The queue from the native side to Python's logging. A separate thread delivers the records.

use std::borrow::Cow;
use std::fmt;
use std::process;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use engine_adapter::escape;
use parking_lot::RwLock;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use crate::boundary;
use crate::logging::escape::MULTILINE;

/// How many records may wait. Further records are counted and dropped, since a logging thread must not wait for the
/// interpreter.
const CAPACITY: usize = 8192;
/// How many records are delivered before other threads get the interpreter.
const BATCH: usize = 64;
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a shutdown waits for the records that it left.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(1);

/// The names that `RuntimeOptions` gives to the service, as fields of every record.
static SERVICE: RwLock<Vec<(&'static str, String)>> = RwLock::new(Vec::new());

/// Names the service of this process in its log records.
pub(crate) fn set_service(name: Option<&str>, version: Option<&str>) {
    let named = [("service_name", name), ("service_version", version)];
    *SERVICE.write() = named.into_iter().filter_map(|(field, value)| Some((field, value?.to_owned()))).collect();
}

/// Takes the records: `deliver(logger_name, level, message, fields)`.
static RECEIVER: OnceLock<Py<PyAny>> = OnceLock::new();

/// The forwarder of this process, or that of a process that has forked this one. None is ever freed: a thread may read it.
static FORWARDER: AtomicPtr<Forwarder> = AtomicPtr::new(ptr::null_mut());

/// Set when the process ends.
static IS_STOPPED: AtomicBool = AtomicBool::new(false);

/// The sending half of a delivery under way.
struct Forwarder {
    records: Sender<QueuedRecord>,
    dropped: AtomicU64,
    /// Set when the rest need not be delivered any more: the interpreter may be gone.
    is_abandoned: AtomicBool,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
    process: u32,
}

impl Forwarder {
    #[expect(unsafe_code, reason = "a pointer that is swapped without a lock, which a fork could leave locked")]
    fn at(pointer: *mut Self) -> Option<&'static Self> {
        // SAFETY: it is null, or was made of a box that is never freed.
        unsafe { pointer.as_ref() }.filter(|forwarder| forwarder.process == process::id())
    }

    /// The forwarder that this process has started.
    fn started() -> Option<&'static Self> {
        Self::at(FORWARDER.load(Ordering::Acquire))
    }

    /// The forwarder of this process, which starts at the first record: a fork takes no thread along.
    fn of_this_process() -> Option<&'static Self> {
        let before = FORWARDER.load(Ordering::Acquire);
        Self::at(before).or_else(|| Self::start(before))
    }

    fn start(before: *mut Self) -> Option<&'static Self> {
        let deliver = RECEIVER.get()?;
        if IS_STOPPED.load(Ordering::Acquire) {
            return None;
        }
        let (sender, records) = bounded(CAPACITY);
        let (end, ended) = bounded::<()>(0);
        let forwarder: &'static Self = Box::leak(Box::new(Self {
            records: sender,
            dropped: AtomicU64::new(0),
            is_abandoned: AtomicBool::new(false),
            ended,
            process: process::id(),
        }));
        let started = ptr::from_ref(forwarder).cast_mut();
        if let Err(other) = FORWARDER.compare_exchange(before, started, Ordering::AcqRel, Ordering::Acquire) {
            return Self::at(other);
        }
        let thread = ForwarderThread { records, forwarder, deliver };
        // The other half of this tells the thread that stops the logs about the end.
        if boundary::start_thread("duroxide-logging", move || thread.run(), move || drop(end)).is_err() {
            // The next record tries again.
            FORWARDER.store(ptr::null_mut(), Ordering::Release);
            return None;
        }
        Some(forwarder)
    }

    fn is_abandoned(&self) -> bool {
        self.is_abandoned.load(Ordering::Acquire)
    }
}

enum QueuedRecord {
    Record(Record),
    /// Dropped when everything before it is delivered, and by that told.
    Mark {
        _told: Sender<()>,
    },
    /// Nothing comes after it.
    End,
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
        let Some(forwarder) = Forwarder::of_this_process() else { return };
        if forwarder.records.is_full() {
            forwarder.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let metadata = event.metadata();
        let mut record =
            Record { target: metadata.target(), level: *metadata.level(), message: String::new(), fields: Vec::new() };
        event.record(&mut record);
        if record.is_premature() {
            return;
        }
        if metadata.fields().field(MULTILINE).is_none() {
            record.escape_message();
        }
        if forwarder.records.try_send(QueuedRecord::Record(record)).is_err() {
            forwarder.dropped.fetch_add(1, Ordering::Relaxed);
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

    fn escape_message(&mut self) {
        if let Cow::Owned(escaped) = escape(&self.message) {
            self.message = escaped;
        }
    }

    fn add(&mut self, field: &Field, value: FieldValue) {
        match (field.name(), value) {
            ("message", FieldValue::Text(text)) => self.message = text,
            (MULTILINE, _) => {}
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

/// Hands the logs of the native side to `deliver(logger_name, level, message, fields)`, on a separate thread, which starts
/// with the first record of each process.
#[pyfunction]
pub(crate) fn deliver_logs_to(deliver: Py<PyAny>) {
    // The package calls it once.
    RECEIVER.set(deliver).ok();
}

/// Delivers what waits, and drops what comes later.
#[pyfunction]
pub(crate) fn stop_logging(py: Python<'_>) {
    IS_STOPPED.store(true, Ordering::Release);
    let Some(forwarder) = Forwarder::started() else { return };
    // The thread needs the interpreter to end.
    py.detach(|| {
        if forwarder.records.send_timeout(QueuedRecord::End, FLUSH_TIMEOUT).is_ok() {
            let _ = forwarder.ended.recv_timeout(FLUSH_TIMEOUT);
        }
    });
    forwarder.is_abandoned.store(true, Ordering::Release);
}

/// Waits until what was logged before is delivered, a second at most.
pub(crate) fn settle(py: Python<'_>) {
    let Some(forwarder) = Forwarder::started() else { return };
    let (told, delivered) = bounded(0);
    if forwarder.records.try_send(QueuedRecord::Mark { _told: told }).is_err() {
        return;
    }
    py.detach(|| {
        // It is disconnected, which is the news.
        delivered.recv_timeout(SETTLE_TIMEOUT).ok();
    });
}

/// The receiving half, owned by the thread.
struct ForwarderThread {
    records: Receiver<QueuedRecord>,
    forwarder: &'static Forwarder,
    deliver: &'static Py<PyAny>,
}

impl ForwarderThread {
    /// Ends when all is delivered that came before the end.
    fn run(self) {
        while let Ok(first) = self.records.recv() {
            if self.forwarder.is_abandoned() || matches!(first, QueuedRecord::End) {
                return;
            }
            let has_ended = boundary::enter(|py| {
                self.hand_over(py, first);
                let mut rest = self.records.try_iter().take(BATCH);
                let has_ended = rest.any(|record| {
                    let is_end = self.forwarder.is_abandoned() || matches!(record, QueuedRecord::End);
                    self.hand_over(py, record);
                    is_end
                });
                if self.records.is_empty() {
                    self.report_dropped(py);
                }
                has_ended
            });
            if has_ended {
                return;
            }
        }
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
        let dropped = self.forwarder.dropped.swap(0, Ordering::Relaxed);
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
