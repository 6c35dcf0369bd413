//! What the methods of the context take for the name of an activity or orchestration: text, or the function itself.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::boundary::limits::type_name;
use crate::boundary::python::{DECLARED_KIND, DECLARED_NAME, DECLARED_RESULT_TYPE};

/// The name of something that is registered, and what is known of it where the function itself was given.
pub(crate) struct FunctionName {
    name: String,
    reference: Option<Reference>,
}

struct Reference {
    kind: String,
    result_type: Option<Py<PyAny>>,
}

impl FunctionName {
    /// The name and the annotation of the result, of a function that must be a `kind`.
    pub(crate) fn of_kind(self, kind: &str) -> PyResult<(String, Option<Py<PyAny>>)> {
        match self.reference {
            Some(reference) if reference.kind != kind => Err(PyTypeError::new_err(format!(
                "'{}' is an {}, and an {kind} is needed here",
                self.name, reference.kind
            ))),
            Some(reference) => Ok((self.name, reference.result_type)),
            None => Ok((self.name, None)),
        }
    }
}

impl<'py> FromPyObject<'_, 'py> for FunctionName {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(text) = object.cast::<PyString>() {
            return Ok(Self { name: text.extract()?, reference: None });
        }
        // Declared functions and definitions have both.
        let (Some(name), Some(kind)) = (DECLARED_NAME.find(&object)?, DECLARED_KIND.find(&object)?) else {
            return Err(PyTypeError::new_err(format!(
                "an activity or orchestration is meant by its name, a str, or by the function that @activity or \
                 @orchestration made, not {}",
                type_name(&object)
            )));
        };
        let result_type = DECLARED_RESULT_TYPE.find(&object)?.filter(|annotation| !annotation.is_none());
        let reference = Reference { kind: kind.extract()?, result_type: result_type.map(Bound::unbind) };
        Ok(Self { name: name.extract()?, reference: Some(reference) })
    }
}
