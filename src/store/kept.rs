//! What stays of a suspended orchestration between two turns, and how it passes from turn to turn.
//!
//! A driver leaves its state in the record of its turn. Only a turn that is known to be committed hands it on to the
//! keeper, and only a history of exactly that length gets it back: so a state is always owned by one party, and what
//! nobody can use any more is dropped.

use std::any::Any;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::turn::TurnRecord;

/// The state of a driver. It may be dropped on any thread, under any lock: its end must not wait for anything.
pub type DriverState = Box<dyn Any + Send>;

/// The state of a suspended orchestration whose last turn is committed.
pub struct KeptTurn {
    pub instance: String,
    pub execution_id: u64,
    /// When the execution started; another instance of the same name started at another time.
    pub started_ms: u64,
    /// The time of the last turn: no recorded event is later.
    pub time_ms: u64,
    /// How many recorded events the driver has been told of.
    pub told: usize,
    /// How many events history has, if nobody else has added any.
    pub length: usize,
    /// About how much memory the state takes.
    pub bytes: usize,
    pub state: DriverState,
}

impl KeptTurn {
    /// Whether a turn of this execution, on a history of this length, can go on from here.
    pub(super) fn leads_to(&self, execution_id: u64, started_ms: u64, length: usize) -> bool {
        self.execution_id == execution_id && self.started_ms == started_ms && self.length == length
    }
}

/// Keeps suspended orchestrations for one runtime.
pub trait Keeper: Send + Sync {
    /// Keeps a turn until it is taken, or as long as there is room.
    fn keep(&self, turn: KeptTurn);

    /// Gives away what is kept of an instance.
    fn take(&self, instance: &str) -> Option<KeptTurn>;
}

/// What a record carries between the keeper and the driver of its turn.
#[derive(Default)]
pub(super) struct Handover {
    before: Mutex<Option<DriverState>>,
    after: Mutex<Option<(DriverState, usize)>>,
    is_resumed: AtomicBool,
    /// Why the state that the driver went on from is of no use.
    stale: OnceLock<String>,
}

impl Handover {
    pub fn from(state: Option<DriverState>) -> Self {
        Self { before: Mutex::new(state), ..Self::default() }
    }
}

impl TurnRecord {
    /// The state that the last turn has left. Without it the driver begins anew.
    pub fn resume(&self) -> Option<DriverState> {
        let state = self.handover.before.lock().take();
        self.handover.is_resumed.store(state.is_some(), Ordering::Relaxed);
        state
    }

    /// Leaves the state that the next turn can go on from, if this one is committed.
    pub fn suspend(&self, state: DriverState, bytes: usize) {
        *self.handover.after.lock() = Some((state, bytes));
    }

    /// Says that the state does not lead to this history: the turn must run again, from the beginning.
    pub fn report_stale(&self, report: String) {
        self.handover.stale.set(report).ok();
    }

    pub(super) fn stale(&self) -> Option<&str> {
        self.handover.stale.get().map(String::as_str)
    }

    /// Whether the driver did not begin anew.
    pub(super) fn is_resumed(&self) -> bool {
        self.handover.is_resumed.load(Ordering::Relaxed)
    }

    /// What the driver has left, now that `added` events are committed on top of those that it found.
    pub(super) fn left(&self, added: usize) -> Option<KeptTurn> {
        let (state, bytes) = self.handover.after.lock().take()?;
        Some(KeptTurn {
            instance: self.instance.clone(),
            execution_id: self.execution_id,
            started_ms: self.started_ms,
            time_ms: self.time_ms,
            told: self.persisted,
            length: self.persisted + added,
            bytes,
            state,
        })
    }
}
