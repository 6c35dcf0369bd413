//! The threads that run Python activities, apart from Tokio's workers, where the engine's timers live.
//!
//! They are Python's own and call activities from Python: one that is still at work when the process ends is ended by
//! the interpreter, which must not find native frames below it.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use parking_lot::{Condvar, Mutex};
use pyo3::prelude::*;

use crate::activity::call::{Done, PendingActivity};
use crate::activity::context::ActivityContext;
use crate::boundary;
use crate::boundary::enter;
use crate::boundary::finalization::PythonSection;
use crate::boundary::python::START_ACTIVITY_THREAD;

/// The work of a thread.
pub(super) enum Job {
    /// An activity, called from Python.
    Call(Arc<PendingActivity>),
    /// A short job of this crate.
    Ours(Box<dyn FnOnce(Python<'_>) + Send>),
}

/// An idle thread ends after this time.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a shutdown waits for idle threads to notice it.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Threads that are started at once when there is work. Short activities need no more: each thread beyond would only wait for
/// the interpreter.
const EAGER_THREADS: usize = 8;

/// How long work waits for a thread that is at work before another is started for it.
const LONGEST_QUEUE_TIME: Duration = Duration::from_millis(1);

/// How long work waits for the next try, where the system gives no thread.
const PAUSE_WITHOUT_THREADS: Duration = Duration::from_millis(100);

/// How often a shortage of threads is logged.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// As many threads as there are activities that take long; the engine's slots bound them.
pub(crate) struct Threads {
    sender: Mutex<Option<Sender<Job>>>,
    receiver: Receiver<Job>,
    shared: Arc<SharedCounts>,
}

#[derive(Default)]
struct SharedCounts {
    counts: Mutex<Counts>,
    changed: Condvar,
}

#[derive(Default)]
struct Counts {
    alive: usize,
    /// Started, and not yet waiting for work.
    starting: usize,
    waiting: usize,
    /// Jobs that no thread has taken yet.
    queued: usize,
    running: usize,
    /// A thread already watches for jobs that wait too long.
    is_watched: bool,
}

impl Counts {
    /// How many jobs no thread is about to take.
    fn unserved(&self) -> usize {
        self.queued.saturating_sub(self.waiting + self.starting)
    }

    fn begin_thread(&mut self) {
        self.alive += 1;
        self.starting += 1;
    }
}

/// The need of a job that was queued.
enum Need {
    Nothing,
    Thread,
    Watch,
}

impl Threads {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = unbounded();
        Self { sender: Mutex::new(Some(sender)), receiver, shared: Arc::default() }
    }

    /// Runs `job` on an idle thread, or on a new one.
    ///
    /// # Errors
    ///
    /// The threads were stopped.
    pub(super) fn run(self: &Arc<Self>, job: Job) -> Result<(), String> {
        let Some(sender) = self.sender.lock().clone() else {
            return Err("the runtime is shut down".to_owned());
        };
        let needs_watch = match self.shared.queue() {
            Need::Nothing => false,
            // Where the system gives no thread, the job waits until it does.
            Need::Thread => self.start_thread().is_err() && self.shared.begin_watch(),
            Need::Watch => true,
        };
        if needs_watch {
            let threads = Arc::clone(self);
            let watched = boundary::spawn(async move { threads.watch().await });
            watched
                .map_err(|error| error.to_string())
                .inspect_err(|_| self.shared.change(|counts| counts.queued -= 1))?;
        }
        sender.send(job).map_err(|_| "the runtime is shut down".to_owned())
    }

    /// Starts threads for jobs that wait for too long, until none does.
    async fn watch(&self) {
        let mut pause = LONGEST_QUEUE_TIME;
        let mut next_report = Instant::now();
        loop {
            tokio::time::sleep(pause).await;
            let needed = {
                let mut counts = self.shared.counts.lock();
                let needed = counts.unserved();
                counts.is_watched = needed > 0;
                (0..needed).for_each(|_| counts.begin_thread());
                needed
            };
            if needed == 0 {
                return;
            }
            let started = (0..needed).map(|_| self.start_thread()).collect::<Vec<_>>();
            let Some(Err(error)) = started.into_iter().find(Result::is_err) else {
                pause = LONGEST_QUEUE_TIME;
                continue;
            };
            pause = PAUSE_WITHOUT_THREADS;
            if Instant::now() >= next_report {
                next_report = Instant::now() + REPORT_INTERVAL;
                tracing::warn!(target: "duroxide::activity", "activities wait for a thread: {error}");
            }
        }
    }

    fn start_thread(&self) -> Result<(), String> {
        let worker = Worker {
            receiver: self.receiver.clone(),
            shared: Arc::clone(&self.shared),
            is_new: AtomicBool::new(true),
            is_busy: AtomicBool::new(false),
        };
        let started = enter(|py| START_ACTIVITY_THREAD.call(py, (worker,)).map(drop));
        started.map_err(|error| {
            self.shared.change(|counts| (counts.alive, counts.starting) = (counts.alive - 1, counts.starting - 1));
            format!("no thread could be started ({error}); raise the limit of processes, or lower worker_concurrency")
        })
    }

    /// Lets every thread end after its work in hand, and waits for those that have none.
    ///
    /// Call it detached: a thread that ends needs the interpreter.
    pub(crate) fn stop(&self) {
        self.sender.lock().take();
        let deadline = Instant::now() + STOP_TIMEOUT;
        let mut counts = self.shared.counts.lock();
        while counts.alive > counts.running + counts.queued {
            if self.shared.changed.wait_until(&mut counts, deadline).timed_out() {
                return;
            }
        }
    }
}

impl SharedCounts {
    fn change(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock());
        self.changed.notify_all();
    }

    fn queue(&self) -> Need {
        let mut counts = self.counts.lock();
        counts.queued += 1;
        if counts.unserved() == 0 {
            Need::Nothing
        } else if counts.alive < EAGER_THREADS {
            counts.begin_thread();
            Need::Thread
        } else if counts.is_watched {
            Need::Nothing
        } else {
            counts.is_watched = true;
            Need::Watch
        }
    }

    /// Whether the caller is to watch for jobs that wait; otherwise another one does.
    fn begin_watch(&self) -> bool {
        !mem::replace(&mut self.counts.lock().is_watched, true)
    }

    /// Whether an idle thread may end: not if a job counts on it.
    fn may_leave(&self) -> bool {
        let mut counts = self.counts.lock();
        let is_free = counts.queued < counts.waiting;
        counts.waiting -= usize::from(is_free);
        is_free
    }
}

/// What one thread takes its work from.
#[pyclass(frozen, module = "duroxide._native")]
pub(crate) struct Worker {
    receiver: Receiver<Job>,
    shared: Arc<SharedCounts>,
    is_new: AtomicBool,
    is_busy: AtomicBool,
}

impl Worker {
    /// The next job; what is there already is taken without letting go of the interpreter.
    fn next(&self, py: Python<'_>) -> Result<Job, RecvTimeoutError> {
        if let Ok(job) = self.receiver.try_recv() {
            return Ok(job);
        }
        py.detach(|| self.receiver.recv_timeout(IDLE_TIMEOUT))
    }

    fn wait_for_job(&self, py: Python<'_>) -> Option<Job> {
        self.shared.counts.lock().waiting += 1;
        loop {
            match self.next(py) {
                Ok(job) => {
                    let mut counts = self.shared.counts.lock();
                    counts.waiting -= 1;
                    counts.queued -= 1;
                    counts.running += 1;
                    return Some(job);
                }
                Err(RecvTimeoutError::Timeout) if !self.shared.may_leave() => {}
                Err(RecvTimeoutError::Timeout) => return None,
                Err(RecvTimeoutError::Disconnected) => {
                    self.shared.counts.lock().waiting -= 1;
                    return None;
                }
            }
        }
    }

    fn end_job(&self) {
        self.shared.change(|counts| counts.running -= 1);
    }
}

/// An activity that a thread is to call.
#[pyclass(frozen, get_all, module = "duroxide._native")]
pub(crate) struct PreparedActivity {
    function: Py<PyAny>,
    context: Py<ActivityContext>,
    input: Py<PyAny>,
    /// The thread calls this with the result or the error.
    done: Py<Done>,
}

impl PreparedActivity {
    fn new(py: Python<'_>, pending: &Arc<PendingActivity>) -> PyResult<Self> {
        let call = &pending.call;
        let input = call.decode_input(py)?.unbind();
        Ok(Self {
            function: call.definition.function.clone_ref(py),
            context: call.context(py)?.unbind(),
            input,
            done: Py::new(py, Done(Arc::clone(pending)))?,
        })
    }
}

#[pymethods]
impl Worker {
    /// Waits for the next activity; `None` when the thread is to end.
    fn take(&self, py: Python<'_>) -> Option<PreparedActivity> {
        if self.is_new.swap(false, Ordering::Relaxed) {
            self.shared.counts.lock().starting -= 1;
        }
        if self.is_busy.swap(false, Ordering::Relaxed) {
            self.end_job();
        }
        while let Some(job) = self.wait_for_job(py) {
            let _section = PythonSection::begin()?;
            match job {
                Job::Call(pending) => match PreparedActivity::new(py, &pending) {
                    Ok(activity) => {
                        self.is_busy.store(true, Ordering::Relaxed);
                        pending.call.begin.set();
                        return Some(activity);
                    }
                    Err(error) => pending.refuse(py, error),
                },
                Job::Ours(job) => job(py),
            }
            self.end_job();
        }
        self.shared.change(|counts| counts.alive -= 1);
        None
    }
}
