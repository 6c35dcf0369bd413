//! What the standard library knows about generators and coroutines.

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
