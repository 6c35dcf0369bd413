//! The trace function of `threading.settrace`, which Python gives only to the threads that it starts itself.
//!
//! Debuggers and coverage need it to see the code of orchestrations, which runs on threads of this crate.

use std::cell::RefCell;

use pyo3::prelude::*;

use crate::boundary::python::{GET_TRACE_OF_THREADS, SET_TRACE};

thread_local! {
    /// What this thread has taken over. The function may have put another in its place since.
    static TAKEN_OVER: RefCell<Option<Py<PyAny>>> = const { RefCell::new(None) };
}

/// Sets the trace function of all threads on this one, if it has changed.
pub(super) fn follow_trace_function(py: Python<'_>) {
    let Ok(function) = GET_TRACE_OF_THREADS.call(py, ()) else { return };
    let is_known = TAKEN_OVER.with_borrow(|known| match known {
        Some(known) => known.is(&function),
        None => function.is_none(),
    });
    if !is_known {
        TAKEN_OVER.set(Some(function.clone().unbind()));
        if let Err(error) = SET_TRACE.call(py, (function,)) {
            error.write_unraisable(py, None);
        }
    }
}
