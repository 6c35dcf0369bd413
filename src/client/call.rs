//! One call of a client: described first, then made by the thread that waits for it, or awaited on an event loop.

use std::future::Future;
use std::pin::Pin;

use parking_lot::Mutex;
use pyo3::IntoPyObjectExt as _;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::boundary;
use crate::boundary::errors::Error;
use crate::boundary::finalization::in_section;
use crate::boundary::{Awaited, LoopQueue};

/// Makes the Python object of an answer.
type Answer = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;
type Work = Pin<Box<dyn Future<Output = Result<Answer, Error>> + Send>>;

#[pyclass(frozen, module = "duroxide._native")]
pub(crate) struct Call(Mutex<Option<PlannedCall>>);

struct PlannedCall {
    work: Work,
    /// Applied to the answer, one after the other, where it is waited for.
    decoders: Vec<Py<PyAny>>,
}

impl Call {
    pub(super) fn new<T, F>(work: F) -> Self
    where
        T: for<'py> IntoPyObject<'py> + Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let work = async move {
            let answer = work.await?;
            Ok(Box::new(move |py: Python<'_>| answer.into_py_any(py)) as Answer)
        };
        Self(Mutex::new(Some(PlannedCall { work: Box::pin(work), decoders: Vec::new() })))
    }

    fn take(&self) -> PyResult<PlannedCall> {
        self.0.lock().take().ok_or_else(|| PyRuntimeError::new_err("this call was made already"))
    }
}

#[pymethods]
impl Call {
    fn then(slf: Bound<'_, Self>, decode: Py<PyAny>) -> Bound<'_, Self> {
        if let Some(described) = slf.get().0.lock().as_mut() {
            described.decoders.push(decode);
        }
        slf
    }

    fn run(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let PlannedCall { work, decoders } = self.take()?;
        let answer = boundary::block_on(py, work)?;
        in_section(py, || decode(py, answer, decoders))
    }

    fn begin(&self, py: Python<'_>, queue: &Bound<'_, LoopQueue>) -> PyResult<Awaited> {
        let PlannedCall { work, decoders } = self.take()?;
        boundary::awaited(py, queue.get(), work, |py, answer| decode(py, answer, decoders))
    }
}

fn decode(py: Python<'_>, answer: Answer, decoders: Vec<Py<PyAny>>) -> PyResult<Py<PyAny>> {
    decoders.into_iter().try_fold(answer(py)?, |value, decoder| decoder.call1(py, (value,)))
}
