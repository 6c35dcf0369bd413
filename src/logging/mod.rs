//! Logs of the native side: to Python's `logging`, and to a file or stderr if that is asked for.

mod escape;
pub(crate) mod forwarder;

use std::env;
use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::str::FromStr as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use engine_adapter::escape;
use parking_lot::Mutex;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict as _, PyBytes, PyDict, PyString};
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::fmt;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::{Layer, Layered, SubscriberExt as _};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;

pub(crate) use crate::logging::forwarder::{deliver_logs_to, set_service, settle, stop_logging};

use crate::boundary::errors::ConfigurationError;
use crate::boundary::finalization;
use crate::boundary::options::{choices, unknown};
use crate::boundary::python::{GET_LOGGER, LOGGER_INFO, LOGGER_WARNING, Member};
use crate::logging::escape::EscapedFields;

type Filter = reload::Layer<EnvFilter, Registry>;
type Filtered = Layered<Filter, Registry>;
type Output = Box<dyn Layer<Filtered> + Send + Sync>;

static LOGGING: OnceLock<Logging> = OnceLock::new();

/// The parts of the process's subscriber that can be changed.
struct Logging {
    filter: reload::Handle<EnvFilter, Registry>,
    output: reload::Handle<Option<Output>, Filtered>,
    /// `RUST_LOG` has the last word.
    fixed: bool,
    levels: Mutex<Levels>,
    /// `init_tracing` was called.
    redirected: AtomicBool,
}

/// The text of a trace. A trace never fails the code, so what UTF-8 cannot hold is written as escapes.
pub(crate) struct TraceText(pub(crate) String);

impl<'py> FromPyObject<'_, 'py> for TraceText {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let text = value.cast::<PyString>().map_err(PyErr::from)?;
        if let Ok(text) = text.to_str() {
            return Ok(Self(text.to_owned()));
        }
        let bytes = text.call_method1(intern!(value.py(), "encode"), ("utf-8", "backslashreplace"))?;
        Ok(Self(String::from_utf8_lossy(bytes.cast::<PyBytes>().map_err(PyErr::from)?.as_bytes()).into_owned()))
    }
}

/// A text with its control characters as escapes, for the messages that the Python half makes.
#[pyfunction]
pub(crate) fn escaped(text: TraceText) -> String {
    escape(&text.0).into_owned()
}

/// How much is logged where `RUST_LOG` does not say it.
#[derive(Clone, Copy)]
struct Levels {
    /// The engine and the stores: most of what they do is of interest only when something is wrong.
    engine: LevelFilter,
    /// What orchestrations and activities trace themselves.
    user: LevelFilter,
}

const QUIET: Levels = Levels { engine: LevelFilter::WARN, user: LevelFilter::INFO };

impl Levels {
    fn filter(self) -> EnvFilter {
        let Self { engine, user } = self;
        let others = engine.min(LevelFilter::WARN);
        // PostgreSQL's driver warns of every connection that breaks and of every wait for one; the store says what it means.
        let driver = if engine > LevelFilter::WARN { others } else { others.min(LevelFilter::ERROR) };
        // The pool reports a new connection that breaks at once, which the store reports, too, where it matters.
        let pool = if engine > LevelFilter::WARN { others } else { LevelFilter::OFF };
        // A log that says that a store is away must also say that it is back.
        let store = if engine < LevelFilter::WARN { engine } else { engine.max(LevelFilter::INFO) };
        EnvFilter::new(format!(
            "{others},sqlx={driver},sqlx_core={driver},sqlx_core::pool={pool},sqlx_postgres={driver},\
             duroxide={engine},duroxide::store={store},duroxide::orchestration={user},\
             duroxide::activity={user}"
        ))
    }
}

choices! {
    enum Format("log_format") {
        Pretty = "pretty",
        Compact = "compact",
        Json = "json",
    }
}

/// Sets the subscriber of this process. The engine would set its own, which prints to stdout, with its first runtime; it
/// does not where there is one.
pub(crate) fn install() {
    let rust_log = env::var("RUST_LOG").ok().filter(|directives| !directives.trim().is_empty());
    let fixed = rust_log.is_some();
    // As the engine does, directives that cannot be read count as none.
    let filter = rust_log.and_then(|directives| EnvFilter::try_new(directives).ok()).unwrap_or_else(|| QUIET.filter());
    let output = fixed.then(|| stderr(Format::Pretty));
    let (filter_layer, filter) = reload::Layer::new(filter);
    let (output_layer, output) = reload::Layer::new(output);
    let subscriber = Registry::default().with(filter_layer).with(output_layer).with(forwarder::ToPython);
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        let _ = LOGGING.set(Logging {
            filter,
            output,
            fixed,
            levels: Mutex::new(QUIET),
            redirected: AtomicBool::new(false),
        });
    }
}

/// Logs at least at `level` what concerns duroxide.
pub(crate) fn set_level(level: &str) -> PyResult<()> {
    let level = read_level(level)?;
    if let Some(logging) = LOGGING.get() {
        let mut levels = logging.levels.lock();
        levels.engine = levels.engine.max(level);
        levels.user = levels.user.max(level);
        logging.apply(*levels);
    }
    Ok(())
}

/// Formats what goes to stderr because of `RUST_LOG`; `init_tracing` has the last word.
pub(crate) fn set_format(format: &str) -> PyResult<()> {
    let format = format.parse()?;
    if let Some(logging) = LOGGING.get()
        && logging.fixed
        && !logging.redirected.load(Ordering::Relaxed)
    {
        logging.output.reload(Some(stderr(format))).map_err(|error| ConfigurationError::new_err(error.to_string()))?;
    }
    Ok(())
}

impl Logging {
    fn apply(&self, levels: Levels) {
        if !self.fixed {
            // It fails only where the subscriber is gone, and ours stays until the process ends.
            let _ = self.filter.reload(levels.filter());
        }
    }
}

/// Writes the logs of the native side to a file or to stderr, beside handing them to Python's `logging`.
#[pyfunction]
#[pyo3(signature = (log_file=None, log_level=None, log_format=None))]
pub(crate) fn init_tracing(
    log_file: Option<PathBuf>,
    log_level: Option<&str>,
    log_format: Option<&str>,
) -> PyResult<()> {
    let level = log_level.map(read_level).transpose()?;
    let format = log_format.map_or(Ok(Format::Pretty), str::parse)?;
    let output = match log_file {
        Some(path) => file(path, format)?,
        None => stderr(format),
    };
    let Some(logging) = LOGGING.get() else {
        return Err(ConfigurationError::new_err(
            "the logs of duroxide cannot be redirected: this process has another tracing subscriber",
        ));
    };
    if let Some(level) = level {
        let mut levels = logging.levels.lock();
        *levels = Levels { engine: level, user: level };
        logging.apply(*levels);
    }
    logging.redirected.store(true, Ordering::Relaxed);
    logging.output.reload(Some(output)).map_err(|error| ConfigurationError::new_err(error.to_string()))
}

fn read_level(level: &str) -> PyResult<LevelFilter> {
    const NAMES: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let name = level.to_ascii_lowercase();
    let known = NAMES.contains(&name.as_str()).then(|| LevelFilter::from_str(&name).ok()).flatten();
    known.ok_or_else(|| unknown("log_level", level, &NAMES))
}

fn stderr(format: Format) -> Output {
    output(format, BoxMakeWriter::new(io::stderr), io::stderr().is_terminal())
}

fn file(path: PathBuf, format: Format) -> PyResult<Output> {
    let opened = File::options().append(true).create(true).open(&path).map_err(|error| {
        ConfigurationError::new_err(format!("log_file '{}' cannot be opened for writing: {error}", path.display()))
    })?;
    Ok(output(format, BoxMakeWriter::new(Arc::new(opened)), false))
}

fn output(format: Format, writer: BoxMakeWriter, colors: bool) -> Output {
    let layer = fmt::layer().with_writer(writer).with_ansi(colors);
    match format {
        // The engine's name for it means the formatter's default, one line a record.
        Format::Pretty => layer.fmt_fields(EscapedFields).boxed(),
        Format::Compact => layer.compact().fmt_fields(EscapedFields).boxed(),
        Format::Json => layer.json().boxed(),
    }
}

/// Logs an exception of Python code with its traceback, through `logging` alone: what is recorded has none.
pub(crate) fn log_exception(py: Python<'_>, logger: &str, message: &str, error: &PyErr, fields: &[(&str, &str)]) {
    match fields.iter().copied().into_py_dict(py) {
        Ok(extra) => log_exception_with(py, logger, message, error, &extra),
        Err(broken) => broken.write_unraisable(py, None),
    }
}

/// Logs an exception as `log_exception` does, with fields of any type.
pub(crate) fn log_exception_with(
    py: Python<'_>,
    logger: &str,
    message: &str,
    error: &PyErr,
    extra: &Bound<'_, PyDict>,
) {
    log_with(py, logger, &LOGGER_WARNING, message, Some(error), extra);
}

/// Logs, through `logging` alone, what is in order.
pub(crate) fn log_info_with(py: Python<'_>, logger: &str, message: &str, extra: &Bound<'_, PyDict>) {
    log_with(py, logger, &LOGGER_INFO, message, None, extra);
}

fn log_with(
    py: Python<'_>,
    logger: &str,
    level: &'static Member,
    message: &str,
    error: Option<&PyErr>,
    extra: &Bound<'_, PyDict>,
) {
    if finalization::is_over() {
        // Code that is told to end has not failed.
        return;
    }
    let outcome = (|| {
        let logger = GET_LOGGER.call(py, (logger,))?;
        let options = PyDict::new(py);
        options.set_item(intern!(py, "exc_info"), error.map(|error| error.clone_ref(py).into_value(py)))?;
        options.set_item(intern!(py, "extra"), extra)?;
        // The message is an argument, so a percent sign in it formats nothing.
        logger.call_method(level.text(py), ("%s", escape(message)), Some(&options))
    })();
    if let Err(broken) = outcome {
        broken.write_unraisable(py, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_levels_pass_traces_of_user_code_and_warnings_of_the_rest() {
        assert_eq!(
            QUIET.filter().to_string().split(',').collect::<std::collections::BTreeSet<_>>(),
            [
                "warn",
                "duroxide=warn",
                "duroxide::store=info",
                "duroxide::orchestration=info",
                "duroxide::activity=info",
                "sqlx=error",
                "sqlx_core=error",
                "sqlx_core::pool=off",
                "sqlx_postgres=error"
            ]
            .into()
        );
    }

    #[test]
    fn a_level_is_read_in_any_case_and_an_unknown_one_is_refused() {
        assert_eq!(read_level("Debug").ok(), Some(LevelFilter::DEBUG));
        assert!(read_level("loud").is_err());
        assert!(set_level("loud").is_err());
    }

    #[test]
    fn an_unknown_format_is_refused() {
        assert!("yaml".parse::<Format>().is_err());
    }
}
