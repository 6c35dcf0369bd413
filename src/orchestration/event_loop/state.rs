//! The event loop of one orchestration, as its execution holds it.

use pyo3::prelude::*;

/// The loop of one orchestration, and how far its cancellation has come.
pub(crate) struct EventLoop {
    pub(super) object: Py<PyAny>,
    pub(super) cancellation: Cancellation,
}

pub(super) enum Cancellation {
    /// Its history began before requests reached the code: the engine ends it without asking.
    Unheard,
    /// The slot that waits for a request.
    AwaitedTask(usize),
    Requested {
        reason: String,
        /// The timer that bounds the clean-up.
        bound: Option<usize>,
        /// The clean-up had no time left.
        is_given_up: bool,
    },
}
