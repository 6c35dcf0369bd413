//! The threads that run Python activities, apart from Tokio's workers, where the engine's timers live.
//!
//! They are Python's own and call activities from Python: one that is still at work when the process ends is ended by
//! the interpreter, which must not find native frames below it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use parking_lot::{Condvar, Mutex};
use pyo3::prelude::*;

use super::context::ActivityContext;
use super::executor::{Done, Ending};
use crate::bridge::enter;

/// What a thread is given to do.
pub(super) enum Job {
    /// An activity, called from Python.
    Call(Arc<Ending>),
    /// Something short of our own.
    Ours(Box<dyn FnOnce(Python<'_>) + Send>),
}

/// An idle thread ends after this time.
const IDLE: Duration = Duration::from_secs(10);

/// How long a shutdown waits for idle threads to notice it.
const FAREWELL: Duration = Duration::from_secs(2);

/// As many threads as there are activities under way; the engine's slots bound them.
pub(crate) struct Threads {
    sender: Mutex<Option<Sender<Job>>>,
    receiver: Receiver<Job>,
    census: Arc<Census>,
}

/// How many threads there are, how many wait for a job that nobody has promised them, and how many jobs are under way.
#[derive(Default)]
struct Census {
    counts: Mutex<Counts>,
    changed: Condvar,
}

#[derive(Default)]
struct Counts {
    alive: usize,
    idle: usize,
    jobs: usize,
}

impl Threads {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = unbounded();
        Self { sender: Mutex::new(Some(sender)), receiver, census: Arc::default() }
    }

    /// Runs `job` on an idle thread, or on a new one.
    ///
    /// # Errors
    ///
    /// The threads were stopped, or the system gives no more of them.
    pub(super) fn run(&self, job: Job) -> Result<(), String> {
        let Some(sender) = self.sender.lock().clone() else {
            return Err("the runtime is shut down".to_owned());
        };
        if !self.census.promise() {
            self.start_thread()?;
        }
        sender.send(job).map_err(|_| "the runtime is shut down".to_owned())
    }

    fn start_thread(&self) -> Result<(), String> {
        let worker = Worker {
            receiver: self.receiver.clone(),
            census: Arc::clone(&self.census),
            is_busy: AtomicBool::new(false),
        };
        let started = enter(|py| py.import("duroxide.activity_thread")?.getattr("start")?.call1((worker,)).map(drop));
        started.map_err(|error| {
            self.census.change(|counts| (counts.alive, counts.jobs) = (counts.alive - 1, counts.jobs - 1));
            format!("no thread could be started for the activity: {error}")
        })
    }

    /// Lets every thread end after its work in hand, and waits for those that have none.
    ///
    /// Call it detached: a thread that ends needs the interpreter.
    pub(crate) fn stop(&self) {
        self.sender.lock().take();
        let deadline = Instant::now() + FAREWELL;
        let mut counts = self.census.counts.lock();
        while counts.alive > counts.jobs {
            if self.census.changed.wait_until(&mut counts, deadline).timed_out() {
                return;
            }
        }
    }
}

impl Census {
    fn change(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock());
        self.changed.notify_all();
    }

    /// Promises a job to an idle thread, so that two jobs never count on the same one; false if a new one is needed.
    fn promise(&self) -> bool {
        let mut counts = self.counts.lock();
        counts.jobs += 1;
        let found = counts.idle > 0;
        if found {
            counts.idle -= 1;
        } else {
            counts.alive += 1;
        }
        found
    }

    fn end_job(&self) {
        self.change(|counts| (counts.jobs, counts.idle) = (counts.jobs - 1, counts.idle + 1));
    }

    /// Whether an idle thread may end: not if a job is promised to it.
    fn may_leave(&self) -> bool {
        let mut counts = self.counts.lock();
        let free = counts.idle > 0;
        counts.idle -= usize::from(free);
        free
    }
}

/// What one thread takes its work from.
#[pyclass(frozen, module = "duroxide._native")]
pub(crate) struct Worker {
    receiver: Receiver<Job>,
    census: Arc<Census>,
    is_busy: AtomicBool,
}

type Call = (Py<PyAny>, Py<ActivityContext>, Py<PyAny>, Py<Done>);

#[pymethods]
impl Worker {
    /// The next activity: its function, context and input, and what to tell its end; `None` when the thread is to end.
    fn take(&self, py: Python<'_>) -> PyResult<Option<Call>> {
        if self.is_busy.swap(false, Ordering::Relaxed) {
            self.census.end_job();
        }
        loop {
            match py.detach(|| self.receiver.recv_timeout(IDLE)) {
                Ok(Job::Call(ending)) => match ending.call.prepare(py) {
                    Ok((context, input)) => {
                        self.is_busy.store(true, Ordering::Relaxed);
                        let function = ending.call.definition.function.clone_ref(py);
                        let done = Py::new(py, Done(ending))?;
                        return Ok(Some((function, context.unbind(), input.unbind(), done)));
                    }
                    Err(error) => {
                        ending.finish(py, Err(error));
                        self.census.end_job();
                    }
                },
                Ok(Job::Ours(job)) => {
                    job(py);
                    self.census.end_job();
                }
                Err(RecvTimeoutError::Timeout) if !self.census.may_leave() => {}
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => {
                    self.census.may_leave();
                    break;
                }
            }
        }
        self.census.change(|counts| counts.alive -= 1);
        Ok(None)
    }
}
