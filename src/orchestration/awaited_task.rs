//! What awaiting a task leads to. The event loop decides it, and the task hands it to Python.

use pyo3::prelude::*;

pub(crate) enum AwaitedTask<'py> {
    Value(Bound<'py, PyAny>),
    Future(Bound<'py, PyAny>),
}
