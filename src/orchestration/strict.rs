//! Watching the code of an orchestration for calls that replay cannot repeat; what they are, Python knows.

use pyo3::intern;
use pyo3::prelude::*;

use crate::boundary::enter;

/// As long as it lives, the calls that are made on this thread are watched.
pub(super) struct Watch {
    before: Option<Py<PyAny>>,
}

impl Watch {
    pub(super) fn begin() -> Self {
        let before = enter(|py| Some(strict(py).ok()?.call_method0(intern!(py, "begin")).ok()?.unbind()));
        Self { before }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let Some(before) = self.before.take() else { return };
        enter(|py| {
            // An exception of the code that was watched is on its way to whoever called it.
            let ended = strict(py).and_then(|strict| strict.call_method1(intern!(py, "end"), (before,)));
            if let Err(error) = ended {
                tracing::warn!(target: "duroxide::orchestration", "an orchestration is still being watched: {error}");
            }
        });
    }
}

fn strict(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    py.import(intern!(py, "duroxide._orchestration.strict"))
}
