//! Suspended orchestrations that stay awake between their turns, so that a turn costs what is new in it.
//!
//! There is room for so many of them, and so many bytes; the one that has waited longest goes first, and all go that
//! have waited too long. One thread closes them, since that runs their Python code: a thread that drops one only sends it
//! there, and may do so under any lock.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use parking_lot::Mutex;
use pyo3::prelude::*;

use crate::boundary;
use crate::definitions::OrchestrationDefinition;
use crate::orchestration::closing::close_execution;
use crate::orchestration::execution::Execution;
use crate::orchestration::timeline::Moment;
use engine_adapter::{DriverState, SuspendedTurn, SuspendedTurnCache};

/// The memory of a suspended orchestration beside its operations, in bytes: frames, contexts, tables.
const BYTES_AT_LEAST: usize = 4096;

/// How exactly the idle time is kept, as a part of it, and at the least.
const SWEEPS_PER_IDLE_TIME: u32 = 4;
const SHORTEST_SWEEP: Duration = Duration::from_millis(10);

/// How much is kept, and how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CacheLimits {
    pub(crate) orchestrations: usize,
    pub(crate) bytes: usize,
    pub(crate) idle: Duration,
}

/// An orchestration between two turns.
pub(crate) struct SuspendedExecution {
    pub(crate) execution: Arc<Execution>,
    pub(crate) definition: Arc<OrchestrationDefinition>,
    /// The recorded input that it was started with.
    pub(crate) input: String,
    pub(crate) moment: Moment,
}

impl SuspendedExecution {
    /// Takes it out of what passed through the store.
    pub(crate) fn from_state(state: DriverState) -> Option<Self> {
        let state: Box<dyn Any> = state;
        state.downcast::<CloseOnDrop>().ok()?.suspended.take()
    }
}

/// Sends a state that no turn took to the thread that closes it.
struct CloseOnDrop {
    suspended: Option<SuspendedExecution>,
    closer: Sender<CloserCommand>,
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        let Some(suspended) = self.suspended.take() else { return };
        if let Err(refused) = self.closer.send(CloserCommand::Close(suspended)) {
            // The runtime was shut down while this turn still ran.
            let body = move || perform(refused.into_inner());
            if let Err(error) = boundary::start_thread("duroxide-close", body, || {}) {
                tracing::warn!(target: "duroxide::runtime", "a suspended orchestration could not be closed: {error}");
            }
        }
    }
}

enum CloserCommand {
    Close(SuspendedExecution),
    /// Close what came before, tell, and end.
    Stop(Sender<()>),
}

/// Where the suspended orchestrations of one runtime are.
pub(crate) struct StickyCache {
    room: CacheLimits,
    entries: Mutex<CacheEntries>,
    closer: Sender<CloserCommand>,
}

#[derive(Default)]
struct CacheEntries {
    by_instance: HashMap<String, CacheEntry>,
    /// The instances by the order in which they came.
    by_age: BTreeMap<u64, String>,
    arrivals: u64,
    bytes: usize,
    is_shut: bool,
}

struct CacheEntry {
    suspended: SuspendedTurn,
    arrival: u64,
    since: Instant,
}

impl CacheEntries {
    fn insert(&mut self, suspended: SuspendedTurn) {
        self.arrivals += 1;
        self.bytes += suspended.bytes;
        let instance = suspended.instance.clone();
        self.by_age.insert(self.arrivals, instance.clone());
        self.by_instance.insert(instance, CacheEntry { suspended, arrival: self.arrivals, since: Instant::now() });
    }

    fn remove(&mut self, instance: &str) -> Option<SuspendedTurn> {
        let entry = self.by_instance.remove(instance)?;
        self.by_age.remove(&entry.arrival);
        self.bytes -= entry.suspended.bytes;
        Some(entry.suspended)
    }

    /// Takes out the oldest ones as long as `leaves` says so.
    fn remove_while(&mut self, leaves: impl Fn(&Self, &CacheEntry) -> bool) -> Vec<SuspendedTurn> {
        let mut removed = Vec::new();
        while let Some((_, instance)) = self.by_age.first_key_value() {
            let instance = instance.clone();
            if !self.by_instance.get(&instance).is_some_and(|oldest| leaves(self, oldest)) {
                break;
            }
            removed.extend(self.remove(&instance));
        }
        removed
    }
}

impl StickyCache {
    /// Makes room for them, and starts the thread that closes them.
    pub(crate) fn new(room: CacheLimits) -> PyResult<Arc<Self>> {
        let (closer, orders) = unbounded();
        let cache = Arc::new(Self { room, entries: Mutex::default(), closer });
        let of_thread = Arc::downgrade(&cache);
        boundary::start_thread("duroxide-sticky", move || serve(&of_thread, &orders, room), || {})?;
        Ok(cache)
    }

    /// Makes a state of a suspended orchestration, to pass through the store. Dropped there, it is closed.
    pub(crate) fn state(&self, suspended: SuspendedExecution) -> DriverState {
        Box::new(CloseOnDrop { suspended: Some(suspended), closer: self.closer.clone() })
    }

    /// Closes all, and waits until that is done, at most `longest`.
    pub(crate) fn shut(&self, py: Python<'_>, longest: Duration) -> PyResult<()> {
        let removed = {
            let mut entries = self.entries.lock();
            entries.is_shut = true;
            entries.remove_while(|_, _| true)
        };
        drop(removed);
        let (told, done) = bounded(1);
        if self.closer.send(CloserCommand::Stop(told)).is_ok() && !boundary::wait(py, &done, longest)? {
            tracing::warn!(
                target: "duroxide::runtime",
                "the runtime was left while suspended orchestrations were still being closed: a finally block of theirs \
                 blocks"
            );
        }
        Ok(())
    }

    fn sweep(&self) {
        let removed = self.entries.lock().remove_while(|_, oldest| oldest.since.elapsed() >= self.room.idle);
        drop(removed);
    }
}

impl SuspendedTurnCache for StickyCache {
    fn keep(&self, mut suspended: SuspendedTurn) {
        suspended.bytes += BYTES_AT_LEAST;
        let removed = {
            let mut entries = self.entries.lock();
            if entries.is_shut || suspended.bytes > self.room.bytes {
                vec![suspended]
            } else {
                let before = entries.remove(&suspended.instance);
                entries.insert(suspended);
                let room = self.room;
                let mut removed = entries
                    .remove_while(|all, _| all.by_instance.len() > room.orchestrations || all.bytes > room.bytes);
                removed.extend(before);
                removed
            }
        };
        drop(removed);
    }

    fn take(&self, instance: &str) -> Option<SuspendedTurn> {
        self.entries.lock().remove(instance)
    }
}

/// The thread that closes orchestrations and looks for those that have been idle too long.
fn serve(cache: &Weak<StickyCache>, orders: &Receiver<CloserCommand>, room: CacheLimits) {
    let pause = (room.idle / SWEEPS_PER_IDLE_TIME).max(SHORTEST_SWEEP);
    let mut next_sweep = Instant::now() + pause;
    loop {
        match orders.recv_deadline(next_sweep) {
            Ok(CloserCommand::Stop(told)) => {
                // After Ctrl-C the receiver is gone.
                told.send(()).ok();
                return;
            }
            Ok(order) => perform(order),
            Err(RecvTimeoutError::Timeout) => {
                if let Some(cache) = cache.upgrade() {
                    cache.sweep();
                }
                next_sweep = Instant::now() + pause;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn perform(order: CloserCommand) {
    match order {
        CloserCommand::Close(suspended) => boundary::enter(|py| close_execution(py, &suspended.execution)),
        CloserCommand::Stop(_) => {}
    }
}
