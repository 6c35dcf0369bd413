//! Generators and coroutines: what the standard library knows about them, and their steps.

use std::sync::Arc;

use pyo3::call::PyCallArgs;
use pyo3::exceptions::PyBaseException;
use pyo3::intern;
use pyo3::prelude::*;

use crate::boundary::python;

/// Whether a value is what `async def` makes.
pub(crate) fn is_coroutine(value: &Bound<'_, PyAny>) -> bool {
    python::IS_COROUTINE.call(value.py(), (value,)).is_ok_and(|is_coroutine| is_coroutine.is_truthy().unwrap_or(false))
}

/// Whether a generator or coroutine has not run a line.
pub(crate) fn is_unbegun(runner: &Bound<'_, PyAny>) -> bool {
    let py = runner.py();
    let state_of = || -> PyResult<bool> {
        for (state, unbegun) in [
            (&python::GENERATOR_STATE, &python::GENERATOR_CREATED),
            (&python::COROUTINE_STATE, &python::COROUTINE_CREATED),
        ] {
            if let Ok(state) = state.call(py, (runner,)) {
                return state.eq(unbegun.get(py)?);
            }
        }
        Ok(false)
    };
    // A user's object with the same methods is neither a generator nor a coroutine.
    state_of().unwrap_or(false)
}

/// The context variables that some code sees: a `contextvars.Context`.
pub(crate) struct Variables(Py<PyAny>);

impl Variables {
    /// Variables that have no value yet.
    pub(crate) fn empty(py: Python<'_>) -> PyResult<Self> {
        python::CONTEXT.call(py, ()).map(|context| Self(context.unbind()))
    }

    /// A copy of the variables of the calling code, as a task of asyncio gets.
    pub(crate) fn of_caller(py: Python<'_>) -> PyResult<Self> {
        python::COPY_CONTEXT.call(py, ()).map(|context| Self(context.unbind()))
    }

    pub(crate) fn bind<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.0.bind(py)
    }

    /// Calls a function whose code sees these variables; `arguments` begin with the function.
    pub(crate) fn call<'py>(&self, py: Python<'py>, arguments: impl PyCallArgs<'py>) -> PyResult<Bound<'py, PyAny>> {
        python::CONTEXT_RUN.call(self.bind(py), arguments)
    }
}

/// A generator or coroutine, and the context variables that it keeps from step to step.
pub(crate) struct Runner {
    object: Py<PyAny>,
    pub(crate) variables: Variables,
}

impl Runner {
    pub(crate) fn new(object: Py<PyAny>, variables: Variables) -> Arc<Self> {
        Arc::new(Self { object, variables })
    }

    pub(crate) fn bind<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.object.bind(py)
    }

    /// Where the generator or coroutine lies in memory, which no other one does as long as this one lives.
    pub(crate) fn address(&self) -> usize {
        self.object.as_ptr().addr()
    }

    pub(crate) fn send<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = value.py();
        self.variables.call(py, (self.bind(py).getattr(intern!(py, "send"))?, value))
    }

    pub(crate) fn throw<'py>(&self, py: Python<'py>, error: Py<PyBaseException>) -> PyResult<Bound<'py, PyAny>> {
        self.variables.call(py, (self.bind(py).getattr(intern!(py, "throw"))?, error))
    }
}
