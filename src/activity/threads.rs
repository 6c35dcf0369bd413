//! The threads that run Python activities, apart from Tokio's workers, where the engine's timers live.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use parking_lot::Mutex;

use crate::bridge;

type Job = Box<dyn FnOnce() + Send>;

/// An idle thread ends after this time.
const IDLE: Duration = Duration::from_secs(10);

/// As many threads as there are activities under way; the engine's slots bound them.
pub(crate) struct Threads {
    sender: Mutex<Option<Sender<Job>>>,
    receiver: Receiver<Job>,
    idle: Arc<AtomicUsize>,
}

impl Threads {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = unbounded();
        Self { sender: Mutex::new(Some(sender)), receiver, idle: Arc::new(AtomicUsize::new(0)) }
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
        // An idle thread is reserved here, so that two jobs never count on the same one.
        let reserved = self.idle.fetch_update(Ordering::AcqRel, Ordering::Acquire, |idle| idle.checked_sub(1));
        if reserved.is_err() {
            self.start_thread()?;
        }
        sender.send(Box::new(job)).map_err(|_| "the runtime is shut down".to_owned())
    }

    fn start_thread(&self) -> Result<(), String> {
        let receiver = self.receiver.clone();
        let idle = Arc::clone(&self.idle);
        let body = move || serve(&receiver, &idle);
        bridge::start_thread("duroxide-activity", body)
            .map(drop)
            .map_err(|error| format!("no thread could be started for the activity: {error}"))
    }

    /// Lets every thread end after its work in hand.
    pub(crate) fn stop(&self) {
        self.sender.lock().take();
    }
}

fn serve(receiver: &Receiver<Job>, idle: &AtomicUsize) {
    loop {
        match receiver.recv_timeout(IDLE) {
            Ok(job) => {
                job();
                idle.fetch_add(1, Ordering::AcqRel);
            }
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                // A thread that somebody has reserved waits for its job.
                if idle.fetch_update(Ordering::AcqRel, Ordering::Acquire, |idle| idle.checked_sub(1)).is_ok() {
                    return;
                }
            }
        }
    }
}
