//! The one place where threads meet the interpreter: attaching, detaching, blocking, spawning, awaiting.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::process;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use pyo3::exceptions::{PyImportError, PyRuntimeError};
use pyo3::ffi;
use pyo3::prelude::*;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use crate::boundary::errors::{Error, NotAllowedInOrchestration};
use crate::boundary::finalization::{self, PythonSection};

/// How often a blocked call looks whether Ctrl-C was pressed.
const SIGNAL_CHECK: Duration = Duration::from_millis(100);

/// The engine blocks one worker for the time of a turn that waits for the interpreter; lock renewals and timers run on
/// the others. So there are more of them than the turns that run at once by default.
const WORKER_THREADS: usize = 12;

/// The stack of a thread that runs Python, which counts on room for its deepest recursion. A thread of Python's own has
/// eight or sixteen MiB. Only what is used takes memory.
const STACK_BYTES: usize = 16 * 1024 * 1024;

struct ProcessRuntime {
    runtime: Runtime,
    pid: u32,
}

static PROCESS: OnceLock<ProcessRuntime> = OnceLock::new();

/// The Tokio runtime of this process, started at its first use and kept until the process ends.
pub(super) fn runtime() -> PyResult<&'static Runtime> {
    if PROCESS.get().is_none() {
        check_threads().map_err(no_threads)?;
        let runtime = Builder::new_multi_thread()
            .thread_stack_size(STACK_BYTES)
            .worker_threads(WORKER_THREADS)
            .thread_name("duroxide")
            .on_thread_start(finalization::note_own_thread)
            .enable_all()
            .build()
            .map_err(no_threads)?;
        let process = ProcessRuntime { runtime, pid: process::id() };
        if let Err(unused) = PROCESS.set(process) {
            unused.runtime.shutdown_background();
        }
    }
    match PROCESS.get() {
        Some(process) if process.pid == process::id() => Ok(&process.runtime),
        Some(process) => Err(PyRuntimeError::new_err(format!(
            "process {} has used duroxide and then forked this process, {}, which lacks the threads of duroxide: fork \
             before the first use, or start the child with multiprocessing's 'spawn' or 'forkserver' method",
            process.pid,
            process::id(),
        ))),
        None => Err(PyRuntimeError::new_err("the threads of duroxide did not start")),
    }
}

/// Starts as many threads as Tokio is about to start, and ends them. Where there are too few, Tokio panics or goes on with
/// less, and never says so.
fn check_threads() -> io::Result<()> {
    let (release, released) = bounded::<()>(0);
    let started: io::Result<Vec<_>> = (0..WORKER_THREADS)
        .map(|_| {
            let released = released.clone();
            let wait = move || released.recv().unwrap_or_default();
            thread::Builder::new().name("duroxide".to_owned()).stack_size(STACK_BYTES).spawn(wait)
        })
        .collect();
    drop(release);
    started.map(|threads| threads.into_iter().for_each(|thread| drop(thread.join())))
}

fn no_threads(error: io::Error) -> PyErr {
    PyRuntimeError::new_err(format!(
        "cannot start the {WORKER_THREADS} threads of duroxide: {error}; raise the limit of processes and threads \
         (ulimit -u, or pids of the container)"
    ))
}

thread_local! {
    static KEPT_STATE: Cell<Option<ThreadState>> = const { Cell::new(None) };
}

/// An interpreter state of the calling thread that outlives each attach.
///
/// Without it every attach of a native thread makes and destroys one, which costs more than a turn does.
#[derive(Clone, Copy)]
struct ThreadState {
    before: ffi::PyGILState_STATE,
    kept: *mut ffi::PyThreadState,
}

impl ThreadState {
    #[expect(unsafe_code, reason = "a thread state that is kept has no safe interface")]
    fn keep() -> Self {
        // SAFETY: the caller has begun a section, so the interpreter is running. The state that `Ensure` makes is let go
        // of by `SaveThread` and found again by every later attach of this thread.
        unsafe {
            let before = ffi::PyGILState_Ensure();
            Self { before, kept: ffi::PyEval_SaveThread() }
        }
    }

    #[expect(unsafe_code, reason = "a thread state that is kept has no safe interface")]
    fn release(self) {
        // SAFETY: this thread saved the state in `keep`, and releases it once, in the opposite order.
        unsafe {
            ffi::PyEval_RestoreThread(self.kept);
            ffi::PyGILState_Release(self.before);
        }
    }
}

/// Lets other threads take what was spawned on this one, which is about to block.
///
/// Tokio keeps the newest task in a slot that only its own thread looks at; here that is the task that renews the lease
/// of the turn. One more task takes its place, and it goes to the queue from which others steal.
pub(crate) fn share_newest_task() {
    if let Ok(handle) = tokio::runtime::Handle::try_current() {
        handle.spawn(std::future::ready(()));
    }
}

/// Runs `work` attached to the interpreter, from a thread of ours. Once the interpreter ends, it does not return.
pub(crate) fn enter<R>(work: impl for<'py> FnOnce(Python<'py>) -> R) -> R {
    if !finalization::is_own_thread() {
        return Python::attach(work);
    }
    let Some(section) = PythonSection::begin() else { finalization::hang() };
    if KEPT_STATE.get().is_none() {
        // A thread of Tokio lives as long as the process, and so does its state.
        KEPT_STATE.set(Some(ThreadState::keep()));
    }
    let Some(result) = Python::try_attach(work) else { finalization::hang() };
    let is_nested = section.is_nested();
    drop(section);
    if !is_nested && finalization::is_over() {
        // Code that was told to end has not failed.
        finalization::hang();
    }
    result
}

/// Runs `future` to completion with the interpreter released; Ctrl-C and a forked process become exceptions.
pub(crate) fn block_on<T: Send>(py: Python<'_>, future: impl Future<Output = Result<T, Error>> + Send) -> PyResult<T> {
    if finalization::is_over() {
        return Err(finalization::error());
    }
    let runtime = runtime()?;
    refuse_in_orchestration()?;
    let result = py.detach(|| block_interruptibly(runtime, future));
    finalization::in_section(py, || result.map_err(PyErr::from))
}

/// Runs `work`, which waits for something short, with the interpreter released.
pub(crate) fn leave<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> T {
    py.detach(work)
}

/// Refuses to be imported by another interpreter than the main one: the threads of this crate run Python in that one.
#[expect(unsafe_code, reason = "the number of an interpreter has no safe interface")]
pub(crate) fn check_main_interpreter() -> PyResult<()> {
    // SAFETY: this thread imports a module, so it has an interpreter.
    let id = unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) };
    if id == 0 {
        return Ok(());
    }
    Err(PyImportError::new_err(
        "duroxide works in the main interpreter alone, and a subinterpreter imports it: under mod_wsgi, set \
         WSGIApplicationGroup %{GLOBAL}",
    ))
}

/// Refuses what waits for the outside world on the threads of the engine, where orchestrations take their turns.
pub(super) fn refuse_in_orchestration() -> PyResult<()> {
    if tokio::runtime::Handle::try_current().is_err() {
        return Ok(());
    }
    Err(NotAllowedInOrchestration::new_err(
        "a call of the client was made inside an orchestration; make it in an activity, or use the context's own \
         operations",
    ))
}

/// Waits for `ended` at most `longest`, noticing Ctrl-C; whether it came. It needs none of our threads, which may all be busy.
pub(crate) fn wait(py: Python<'_>, ended: &Receiver<()>, longest: Duration) -> PyResult<bool> {
    let began = Instant::now();
    loop {
        let rest = longest.saturating_sub(began.elapsed());
        match py.detach(|| ended.recv_timeout(rest.min(SIGNAL_CHECK))) {
            Ok(()) => return Ok(true),
            Err(RecvTimeoutError::Disconnected) => return Ok(false),
            Err(RecvTimeoutError::Timeout) if rest.is_zero() => return Ok(false),
            Err(RecvTimeoutError::Timeout) => py.check_signals()?,
        }
    }
}

/// Starts `future` on the threads of this process.
pub(crate) fn spawn<F>(future: F) -> PyResult<JoinHandle<F::Output>>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    Ok(runtime()?.spawn(future))
}

/// Starts a thread of ours that may run Python; it calls `ended` when it has nothing to do with the interpreter any more.
pub(crate) fn start_thread(
    name: &str,
    body: impl FnOnce() + Send + 'static,
    ended: impl FnOnce() + Send + 'static,
) -> std::io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(move || {
        finalization::note_own_thread();
        body();
        if let Some(state) = KEPT_STATE.take() {
            let Some(_section) = PythonSection::begin() else { finalization::hang() };
            state.release();
        }
        ended();
    })
}

/// Raises what a signal handler raises, `KeyboardInterrupt` for Ctrl-C.
fn interrupted(py: Python<'_>) -> PyResult<()> {
    py.check_signals()
}

/// Runs the handlers of signals that have come. While the interpreter is finalized, none runs.
fn check_signals() -> Result<(), Error> {
    Python::try_attach(interrupted).unwrap_or(Ok(())).map_err(Error::Python)
}

/// Polls `future` on the calling thread, which sleeps until the future wakes it or the next look for signals is due.
///
/// The thread sleeps by itself. A timer of Tokio would wake the thread that drives the timers as well, at each look.
fn block_interruptibly<T>(runtime: &Runtime, future: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(WakeThread(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut checked = Instant::now();
    loop {
        let polled = {
            // The handler of a signal may call the client again, so this is not held while it runs.
            let _inside = runtime.enter();
            future.as_mut().poll(&mut context)
        };
        if let Poll::Ready(result) = polled {
            return result;
        }
        let rest = SIGNAL_CHECK.saturating_sub(checked.elapsed());
        if rest.is_zero() {
            check_signals()?;
            checked = Instant::now();
        } else {
            thread::park_timeout(rest);
        }
    }
}

struct WakeThread(Thread);

impl Wake for WakeThread {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}
