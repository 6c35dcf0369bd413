use pyo3::prelude::*;
pub(crate) fn install() {}
pub(crate) fn set_level(_: &str) {}
#[pyfunction]
#[pyo3(signature=(log_file=None, log_level=None, log_format=None))]
pub(crate) fn init_tracing(log_file: Option<String>, log_level: Option<String>, log_format: Option<String>) { let _ = (log_file, log_level, log_format); }
#[pyfunction]
pub(crate) fn start_logging(_deliver: Py<PyAny>) {}
#[pyfunction]
pub(crate) fn stop_logging() {}
pub(crate) fn log_exception(_: Python<'_>, _: &str, _: &str, _: &PyErr) {}
