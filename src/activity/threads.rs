//! The threads that run Python activities, apart from Tokio's workers, where the engine's timers live.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use parking_lot::{Condvar, Mutex};

use crate::bridge;

type Job = Box<dyn FnOnce() + Send>;

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
    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'static) -> Result<(), String> {
        let Some(sender) = self.sender.lock().clone() else {
            return Err("the runtime is shut down".to_owned());
        };
        if !self.census.promise() {
            self.start_thread()?;
        }
        sender.send(Box::new(job)).map_err(|_| "the runtime is shut down".to_owned())
    }

    fn start_thread(&self) -> Result<(), String> {
        let receiver = self.receiver.clone();
        let census = Arc::clone(&self.census);
        let ending = Arc::clone(&self.census);
        let started = bridge::start_thread(
            "duroxide-activity",
            move || serve(&receiver, &census),
            move || ending.change(|counts| counts.alive -= 1),
        );
        started.map(drop).map_err(|error| {
            self.census.change(|counts| (counts.alive, counts.jobs) = (counts.alive - 1, counts.jobs - 1));
            format!("no thread could be started for the activity: {error}")
        })
    }

    /// Lets every thread end after its work in hand, and waits for those that have none.
    ///
    /// Call it detached: a thread that ends attaches once more.
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

    /// Whether an idle thread may end: not if a job is promised to it.
    fn may_leave(&self) -> bool {
        let mut counts = self.counts.lock();
        let free = counts.idle > 0;
        counts.idle -= usize::from(free);
        free
    }
}

fn serve(receiver: &Receiver<Job>, census: &Census) {
    loop {
        match receiver.recv_timeout(IDLE) {
            Ok(job) => {
                job();
                census.change(|counts| (counts.jobs, counts.idle) = (counts.jobs - 1, counts.idle + 1));
            }
            Err(RecvTimeoutError::Disconnected) => {
                census.may_leave();
                return;
            }
            Err(RecvTimeoutError::Timeout) if census.may_leave() => return,
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}
