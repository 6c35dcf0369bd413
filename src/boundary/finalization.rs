//! The end of the interpreter: from then on, no thread but the one that ends it runs Python below native code.
//!
//! The interpreter ends each other thread that asks for it while it is finalized, by unwinding the stack. A thread that waits
//! for the interpreter hangs instead. The stack of a thread on which native code has called Python code cannot be
//! unwound: the process would abort. So such a call is a section. Sections begin only before the end, and the end waits for
//! those that have begun.

use std::cell::Cell;
use std::process;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pyo3::exceptions::{PyRuntimeError, PySystemExit};
use pyo3::ffi;
use pyo3::prelude::*;

/// How long the end waits for sections.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// How often code on a thread of this crate is told to end, first after this time. It needs some time to do so.
const REQUEST_INTERVAL: Duration = Duration::from_millis(150);

const PAUSE: Duration = Duration::from_millis(1);

static HAS_BEGUN: AtomicBool = AtomicBool::new(false);
static THREAD_OF_THE_END: OnceLock<ThreadId> = OnceLock::new();

/// The threads that have had a section.
static THREADS: Mutex<Vec<Weak<SectionsOfThread>>> = Mutex::new(Vec::new());

thread_local! {
    static SECTIONS: Arc<SectionsOfThread> = SectionsOfThread::register();
    /// Whether this crate has started the thread.
    static IS_OWN: Cell<bool> = const { Cell::new(false) };
}

struct SectionsOfThread {
    depth: AtomicUsize,
    thread: ThreadId,
    /// By which Python knows the thread.
    ident: std::ffi::c_long,
    is_own: bool,
    process: u32,
}

impl SectionsOfThread {
    fn register() -> Arc<Self> {
        let sections = Arc::new(Self {
            depth: AtomicUsize::new(0),
            thread: thread::current().id(),
            ident: ident_of_thread(),
            is_own: is_own_thread(),
            process: process::id(),
        });
        let mut threads = THREADS.lock();
        threads.retain(|each| each.strong_count() > 0);
        threads.push(Arc::downgrade(&sections));
        sections
    }

    fn is_open(&self) -> bool {
        // A forked child has only the thread that has forked.
        self.depth.load(Ordering::SeqCst) > 0 && self.process == process::id()
    }
}

#[expect(unsafe_code, reason = "the interpreter's name for a thread has no safe interface")]
fn ident_of_thread() -> std::ffi::c_long {
    // SAFETY: it asks the operating system, and needs no interpreter.
    unsafe { ffi::PyThread_get_thread_ident() as std::ffi::c_long }
}

#[expect(unsafe_code, reason = "an exception in another thread has no safe interface")]
fn raise_in(py: Python<'_>, sections: &SectionsOfThread) {
    let exit = py.get_type::<PySystemExit>();
    // SAFETY: the interpreter is held. A thread that has ended is not found.
    unsafe { ffi::PyThreadState_SetAsyncExc(sections.ident, exit.as_ptr()) };
}

/// Notes that this crate has started the calling thread.
pub(super) fn note_own_thread() {
    IS_OWN.set(true);
}

/// Whether this crate has started the calling thread.
pub(super) fn is_own_thread() -> bool {
    IS_OWN.get()
}

/// Whether the interpreter ends, and another thread ends it.
pub(crate) fn is_over() -> bool {
    HAS_BEGUN.load(Ordering::SeqCst) && THREAD_OF_THE_END.get() != Some(&thread::current().id())
}

/// Whether `thread` is the one that ends the interpreter, or the end has not begun.
pub(super) fn may_wait(thread: ThreadId) -> bool {
    !HAS_BEGUN.load(Ordering::SeqCst) || THREAD_OF_THE_END.get() == Some(&thread)
}

/// The error of a call that another thread makes while the interpreter ends. It runs no Python code.
pub(super) fn error() -> PyErr {
    PyRuntimeError::new_err("the process ends: a thread that still runs can make no call of duroxide any more")
}

/// Stops the calling thread for good; the end of the process ends it.
pub(super) fn hang() -> ! {
    loop {
        thread::park();
    }
}

/// As long as it lives, native code of this thread may call Python code.
pub(crate) struct PythonSection(Arc<SectionsOfThread>);

impl PythonSection {
    /// Begins a section; `None` once the interpreter ends.
    pub(crate) fn begin() -> Option<Self> {
        let section = Self::begin_always();
        (section.is_nested() || !is_over()).then_some(section)
    }

    /// Begins a section even if the interpreter ends; the thread that ends it waits for this one.
    pub(super) fn begin_always() -> Self {
        let sections = SECTIONS.with(Arc::clone);
        sections.depth.fetch_add(1, Ordering::SeqCst);
        Self(sections)
    }

    pub(super) fn is_nested(&self) -> bool {
        self.0.depth.load(Ordering::SeqCst) > 1
    }
}

impl Drop for PythonSection {
    fn drop(&mut self) {
        self.0.depth.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Runs `body`, which may call Python code, on a thread of the application. An error that it returns is complete, so that its
/// way to the caller runs no Python code.
pub(crate) fn in_section<R>(py: Python<'_>, body: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
    let Some(_section) = PythonSection::begin() else { return Err(error()) };
    body().inspect_err(|error| drop(error.value(py).clone()))
}

/// Lets no more sections begin on other threads, and waits for those that have begun, a second at most.
///
/// Python calls it when the process ends. Code of this crate's threads that runs on, such as an orchestration in an endless
/// loop, gets a `SystemExit`.
#[pyfunction]
pub(crate) fn end_sections(py: Python<'_>) {
    let this = thread::current().id();
    if THREAD_OF_THE_END.set(this).is_err() {
        return;
    }
    HAS_BEGUN.store(true, Ordering::SeqCst);
    let began = Instant::now();
    let mut next_request = REQUEST_INTERVAL;
    loop {
        // In a forked child, a thread of the parent may have held the lock.
        let Some(threads) = THREADS.try_lock_for(LONGEST_WAIT) else { return };
        let open: Vec<_> =
            threads.iter().filter_map(Weak::upgrade).filter(|each| each.thread != this && each.is_open()).collect();
        drop(threads);
        if open.is_empty() || began.elapsed() >= LONGEST_WAIT {
            return;
        }
        if began.elapsed() >= next_request {
            next_request += REQUEST_INTERVAL;
            open.iter().filter(|each| each.is_own).for_each(|each| raise_in(py, each));
        }
        py.detach(|| thread::sleep(PAUSE));
    }
}
