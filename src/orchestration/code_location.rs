//! The line of the user's code that asked for something, with its text.

use engine_adapter::CodeLocation;
use pyo3::prelude::*;

use crate::boundary::origin::Origin;
use crate::boundary::python::GET_LINE;

/// A line of the user's code with its text.
pub(crate) fn code_location(py: Python<'_>, origin: &Origin) -> CodeLocation {
    let (file, line) = origin.place(py);
    let source = GET_LINE.call(py, (&file, line)).and_then(|text| text.extract());
    let source = source.map_or_else(|_| String::new(), |text: String| text.trim().to_owned());
    CodeLocation { file, line, source }
}
