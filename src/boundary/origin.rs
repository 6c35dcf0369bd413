//! The user's file and line of a call.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;

use crate::boundary::python::{CODE_FILE, FRAME_BACK, FRAME_CODE, FRAME_LINE, PACKAGE_FILE};

/// A line of the user's Python code.
pub(crate) struct Origin {
    code: Py<PyAny>,
    line: i32,
}

impl Origin {
    /// The file name and the line number.
    pub(crate) fn place(&self, py: Python<'_>) -> (String, i32) {
        let file = CODE_FILE.get(self.code.bind(py)).and_then(|name| name.extract());
        (file.unwrap_or_else(|_| "<unknown>".to_owned()), self.line)
    }
}

/// The directory of this package's Python files, whose lines are not the user's.
fn package_directory(py: Python<'_>) -> &'static str {
    static DIRECTORY: PyOnceLock<String> = PyOnceLock::new();
    DIRECTORY.get_or_init(py, || {
        let file = PACKAGE_FILE.get(py).and_then(PyAnyMethods::extract::<String>);
        let file = file.unwrap_or_default();
        file.strip_suffix("__init__.py").unwrap_or("\0").to_owned()
    })
}

/// The line of Python code that is calling, outside of this package.
pub(crate) fn caller(py: Python<'_>) -> Option<Origin> {
    let package = package_directory(py);
    let mut frame = innermost_frame(py);
    while let Some(inner) = frame {
        let code = FRAME_CODE.get(&inner).ok()?;
        let is_users = CODE_FILE
            .get(&code)
            .is_ok_and(|file| file.cast::<PyString>().is_ok_and(|file| !file.to_string_lossy().starts_with(package)));
        if is_users {
            let line = FRAME_LINE.get(&inner).and_then(|line| line.extract()).ok()?;
            return Some(Origin { code: code.unbind(), line });
        }
        frame = FRAME_BACK.get(&inner).ok().filter(|outer| !outer.is_none());
    }
    None
}

#[expect(unsafe_code, reason = "the calling frame has no safe interface in the stable ABI")]
fn innermost_frame(py: Python<'_>) -> Option<Bound<'_, PyAny>> {
    // SAFETY: the interpreter is attached; the frame is borrowed from it, and null where no Python code runs.
    unsafe { Bound::from_borrowed_ptr_or_opt(py, ffi::PyEval_GetFrame().cast()) }
}
