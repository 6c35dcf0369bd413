//! Values and failures between Python objects and the JSON text that is recorded. The rules live in Python.

use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::boundary::errors::LimitExceeded;
use crate::boundary::limits::{MAX_NESTING, MAX_PAYLOAD_BYTES, is_too_deep};
use crate::boundary::python::{CONVERT, DECODE, ENCODE, ENCODE_FAILURE};

/// Text that is recorded as it stands, without being encoded as JSON.
#[pyclass(frozen, module = "duroxide._native")]
pub(crate) struct RawText(String);

#[pymethods]
impl RawText {
    #[new]
    fn new(text: String) -> Self {
        Self(text)
    }

    #[getter]
    fn text(&self) -> &str {
        &self.0
    }
}

/// How the text of an outcome becomes the object that Python code receives.
pub(crate) enum Decode {
    /// JSON; text that is not JSON is handed over as it is.
    Json,
    /// JSON, converted to this annotation.
    Typed(Py<PyAny>),
    /// JSON of JSON, converted to this annotation; `None` stays.
    Nested(Py<PyAny>),
    /// The text itself.
    Raw,
    /// Always `None`.
    Nothing,
}

impl Decode {
    /// Decodes as `annotation` says, where there is one.
    pub(crate) fn typed(annotation: Option<Py<PyAny>>, otherwise: Self) -> Self {
        annotation.map_or(otherwise, Self::Typed)
    }

    pub(crate) fn apply<'py>(&self, py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Json => decode(py, text),
            Self::Typed(annotation) => convert(py, decode(py, text)?, annotation.bind(py)),
            Self::Nested(annotation) => {
                let inner = decode(py, text)?;
                match inner.extract::<String>() {
                    Ok(inner) => convert(py, decode(py, &inner)?, annotation.bind(py)),
                    Err(_) => Ok(inner),
                }
            }
            Self::Raw => Ok(PyString::new(py, text).into_any()),
            Self::Nothing => Ok(py.None().into_bound(py)),
        }
    }
}

/// Encodes a payload as the JSON text that is recorded.
pub(crate) fn encode(value: &Bound<'_, PyAny>) -> PyResult<String> {
    let text = match value.cast::<RawText>() {
        Ok(raw) => raw.get().0.clone(),
        Err(_) => ENCODE.call(value.py(), (value,))?.extract()?,
    };
    if text.len() > MAX_PAYLOAD_BYTES {
        return Err(LimitExceeded::new_err(format!(
            "a payload of {} bytes is too large: at most {MAX_PAYLOAD_BYTES} bytes of JSON are recorded; store the data \
             elsewhere and pass a reference to it",
            text.len()
        )));
    }
    if is_too_deep(&text) {
        return Err(LimitExceeded::new_err(format!(
            "a payload nests lists and objects more than {MAX_NESTING} levels deep; flatten it"
        )));
    }
    Ok(text)
}

pub(crate) fn decode<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyAny>> {
    DECODE.call(py, (text,))
}

pub(crate) fn convert<'py>(
    py: Python<'py>,
    value: Bound<'py, PyAny>,
    annotation: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    CONVERT.call(py, (value, annotation))
}

/// The recorded form of an exception; never fails, since a failure must not be lost.
pub(crate) fn encode_failure(py: Python<'_>, error: &PyErr) -> String {
    ENCODE_FAILURE.call(py, (error.value(py),)).and_then(|text| text.extract()).unwrap_or_else(|_| error.to_string())
}
