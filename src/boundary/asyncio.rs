//! The way from Tokio's threads to an event loop: what ends there completes a future of `asyncio` here.

use std::future::Future;
use std::mem;
use std::sync::Arc;
use std::thread::{self, ThreadId};

use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use tokio::task::AbortHandle;

use crate::boundary::errors::Error;
use crate::boundary::finalization::{self, PythonSection};
use crate::boundary::interpreter::{refuse_in_orchestration, runtime};
use crate::boundary::python::{
    CALL_SOON_THREADSAFE, CREATE_FUTURE, FUTURE_AWAIT, FUTURE_CANCEL, FUTURE_DONE, FUTURE_EXCEPTION,
    FUTURE_SET_EXCEPTION, FUTURE_SET_RESULT, GET_RUNNING_LOOP,
};

/// The work of the loop's thread at the end of a call: it makes the object that `await` gives.
type Finish = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

/// Takes ends to one event loop. Many that come at once wake it once.
#[pyclass(frozen, module = "duroxide._native")]
pub(crate) struct LoopQueue(Arc<Completions>);

struct Completions {
    event_loop: Py<PyAny>,
    /// The thread that runs the loop.
    thread: ThreadId,
    waiting: Mutex<Vec<Completion>>,
}

struct Completion {
    future: Py<PyAny>,
    finish: Option<Finish>,
    has_panicked: bool,
}

#[pymethods]
impl LoopQueue {
    /// The mailbox of the running loop: `last`, if it is that one's.
    #[staticmethod]
    fn of_running_loop<'py>(py: Python<'py>, last: Option<Bound<'py, Self>>) -> PyResult<Bound<'py, Self>> {
        refuse_in_orchestration()?;
        let event_loop = GET_RUNNING_LOOP.call(py, ())?;
        match last {
            Some(last) if last.get().0.event_loop.is(&event_loop) => Ok(last),
            _ => Bound::new(
                py,
                Self(Arc::new(Completions {
                    event_loop: event_loop.unbind(),
                    thread: thread::current().id(),
                    waiting: Mutex::default(),
                })),
            ),
        }
    }

    /// Opens all letters; called by the loop.
    fn complete(&self, py: Python<'_>) {
        let Some(_section) = PythonSection::begin() else { return };
        let completions = mem::take(&mut *self.0.waiting.lock());
        for completion in completions {
            completion.complete(py);
        }
    }
}

impl Completions {
    fn send(self: &Arc<Self>, completion: Completion) {
        let is_first = {
            let mut waiting = self.waiting.lock();
            waiting.push(completion);
            waiting.len() == 1
        };
        // The others are opened along with the first one.
        if is_first && self.wake().is_none_or(|woken| woken.is_err()) {
            // The loop is closed, or the interpreter ends: no task awaits any more.
            let unread = mem::take(&mut *self.waiting.lock());
            drop(unread);
        }
    }

    /// `None` if the interpreter ends. A callback that Python calls at its end may still run a loop.
    fn wake(self: &Arc<Self>) -> Option<PyResult<()>> {
        let _section = PythonSection::begin_always();
        if !finalization::may_wait(self.thread) {
            return None;
        }
        Python::try_attach(|py| {
            let queue = Bound::new(py, LoopQueue(Arc::clone(self)))?;
            let complete = queue.getattr(intern!(py, "complete"))?;
            CALL_SOON_THREADSAFE.call(self.event_loop.bind(py), (complete,)).map(drop)
        })
    }
}

impl Completion {
    fn complete(self, py: Python<'_>) {
        let future = self.future.bind(py);
        if FUTURE_DONE.call(future, ()).and_then(|done| done.is_truthy()).unwrap_or(true) {
            return;
        }
        let end = match self.finish {
            Some(finish) => finish(py),
            None if self.has_panicked => Err(PyRuntimeError::new_err("the operation ended without a result")),
            None => {
                drop(FUTURE_CANCEL.call(future, ()));
                return;
            }
        };
        let set = match end {
            Ok(value) => FUTURE_SET_RESULT.call(future, (value,)),
            Err(error) => fail(future, &error),
        };
        // A future refuses StopIteration, say.
        drop(set.or_else(|error| fail(future, &error)));
    }
}

fn fail<'py>(future: &Bound<'py, PyAny>, error: &PyErr) -> PyResult<Bound<'py, PyAny>> {
    FUTURE_SET_EXCEPTION.call(future, (error.value(future.py()),))
}

/// The letter of one task, sent when the task ends, however it does.
struct Reply {
    completions: Arc<Completions>,
    future: Option<Py<PyAny>>,
    finish: Option<Finish>,
}

impl Reply {
    fn send(mut self, finish: Finish) {
        self.finish = Some(finish);
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(future) = self.future.take() {
            let has_panicked = thread::panicking();
            self.completions.send(Completion { future, finish: self.finish.take(), has_panicked });
        }
    }
}

/// A task of ours that Python awaits. Nothing waits on a thread.
#[pyclass(frozen, module = "duroxide._native")]
pub(crate) struct Awaited {
    future: Py<PyAny>,
    task: AbortHandle,
}

#[pymethods]
impl Awaited {
    fn __await__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        FUTURE_AWAIT.call(self.future.bind(py), ())
    }

    /// Gives the task up: no task awaits its end any more.
    fn abort(&self, py: Python<'_>) {
        self.task.abort();
        let future = self.future.bind(py);
        // It fails if the loop is closed, and then no coroutine waits any more.
        let is_cancelled = FUTURE_CANCEL.call(future, ()).is_ok_and(|done| done.is_truthy().unwrap_or(false));
        if !is_cancelled {
            // asyncio reports an exception that is never retrieved.
            drop(FUTURE_EXCEPTION.call(future, ()));
        }
    }
}

/// Starts `work` on the threads of this process; its end goes to `mailbox`, where `finish` makes an object of it.
pub(crate) fn awaited<T: Send + 'static>(
    py: Python<'_>,
    queue: &LoopQueue,
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
    finish: impl FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
) -> PyResult<Awaited> {
    let threads = runtime()?;
    let completions = Arc::clone(&queue.0);
    let future = CREATE_FUTURE.call(completions.event_loop.bind(py), ())?.unbind();
    let reply = Reply { completions, future: Some(future.clone_ref(py)), finish: None };
    let task = threads.spawn(async move {
        let end = work.await;
        reply.send(Box::new(move |py| finish(py, end?)));
    });
    Ok(Awaited { future, task: task.abort_handle() })
}
