//! Watching the code of an orchestration for calls that replay cannot repeat; what they are, Python knows.

use pyo3::prelude::*;

use crate::boundary::enter;
use crate::boundary::python::{STRICT_BEGIN, STRICT_END};

/// As long as it lives, the calls that are made on this thread are watched.
pub(super) struct StrictWatch {
    before: Option<Py<PyAny>>,
}

impl StrictWatch {
    pub(super) fn begin() -> Self {
        let before = enter(|py| STRICT_BEGIN.call(py, ()).ok().map(Bound::unbind));
        Self { before }
    }
}

impl Drop for StrictWatch {
    fn drop(&mut self) {
        let Some(before) = self.before.take() else { return };
        enter(|py| {
            // An exception of the code that was watched is on its way to its caller.
            if let Err(error) = STRICT_END.call(py, (before,)) {
                tracing::warn!(target: "duroxide::orchestration", "an orchestration is still being watched: {error}");
            }
        });
    }
}
