//! The arena of an orchestration: every started operation has a slot that has, in the end, its outcome.
//!
//! Dropping an engine future is a durable cancellation that replay must repeat. So the arena's journal alone owns
//! futures, by slot, and drops them at fixed points, in order; Python objects hold slot numbers.

mod combine;
mod compare;
mod comparison;
mod failed_attempt;
mod journal;
mod ready;
mod retry;
mod slot;
mod start;
#[cfg(test)]
mod tests;
mod watched;

use std::collections::HashMap;
use std::mem::{self, size_of};
use std::sync::Arc;

use duroxide::OrchestrationContext;

use crate::orchestration::arena::comparison::Comparison;
pub(crate) use crate::orchestration::arena::comparison::Mismatch;
use crate::orchestration::arena::journal::Journal;
pub(crate) use crate::orchestration::arena::journal::{CatchUpProgress, Effect, READ_VALUE, read_value_input};
use crate::orchestration::arena::slot::{Branch, Slot, State};
pub(crate) use crate::orchestration::arena::slot::{Failure, Outcome, Waiting};
use crate::orchestration::arena::watched::Watched;
use crate::orchestration::coroutines::Runner;
use crate::orchestration::operation::Node;
use crate::orchestration::timeline::{Moment, Timeline};
use engine_adapter::TurnRecord;

pub(crate) struct Arena {
    journal: Journal,
    pub(crate) timeline: Timeline,
    pub(crate) branches: Vec<Branch>,
    /// Branches that lost a race and whose generators are still to be closed.
    pub(crate) closing: Vec<Arc<Runner>>,
    slots: Vec<Slot>,
    /// By which the activities of these slots can be asked to end.
    end_keys: HashMap<usize, u64>,
    /// Waits for queues that have no message yet, in start order.
    queue_waits: Vec<usize>,
    /// Slots that must be polled even if no branch waits for them, in start order.
    active: Vec<usize>,
    /// Those that end early when history holds a failure, in start order.
    gathers: Vec<usize>,
    /// The slots that the event loop waits for.
    watched: Watched,
    actions: usize,
    comparison: Comparison,
    pub(crate) continued: bool,
    bytes: usize,
}

impl Arena {
    pub(crate) fn new(engine: OrchestrationContext, timeline: Timeline) -> Self {
        Self {
            journal: Journal::new(engine),
            timeline,
            branches: Vec::new(),
            closing: Vec::new(),
            slots: Vec::new(),
            end_keys: HashMap::new(),
            queue_waits: Vec::new(),
            active: Vec::new(),
            gathers: Vec::new(),
            watched: Watched::default(),
            actions: 0,
            comparison: Comparison::default(),
            continued: false,
            bytes: 0,
        }
    }

    /// The engine's context of this turn, to be read from; what is written goes through the journal.
    pub(crate) fn engine(&self) -> &OrchestrationContext {
        self.journal.engine()
    }

    /// Lets go of the turn's engine; `idle` takes its place.
    pub(crate) fn suspend(&mut self, idle: OrchestrationContext) {
        self.journal.suspend(idle);
    }

    /// Continues with the engine of a new turn, which must first catch up.
    pub(crate) fn resume(&mut self, engine: OrchestrationContext, record: &TurnRecord) {
        if self.timeline.extend(record) {
            self.suspect_again();
        }
        self.watch_again(record);
        self.journal.resume(engine, self.slots.len());
    }

    /// Repeats for the engine what the code has done so far.
    pub(crate) fn catch_up(&mut self) -> CatchUpProgress {
        self.journal.catch_up(&self.slots)
    }

    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.journal.bytes() + self.slots.len() * (size_of::<Slot>() + size_of::<Node>())
    }

    /// Has an effect that needs no slot (custom status, KV), and says when it is recorded.
    pub(crate) fn happen(&mut self, effect: Effect) -> u64 {
        let action = self.act(None, || Some(effect.action()));
        self.journal.happen(effect);
        self.timeline.recorded_at(action)
    }

    pub(crate) fn actions(&self) -> usize {
        self.actions
    }

    /// Makes the orchestration itself the first branch.
    pub(crate) fn begin(&mut self, runner: Arc<Runner>, waiting: Waiting) {
        self.branches.push(Branch { runner, waiting, slot: None });
    }

    /// Polls once every slot that must be polled even if no branch waits for it. Returns whether one of them has ended.
    pub(crate) fn advance(&mut self) -> bool {
        let active = mem::take(&mut self.active);
        let before = active.len();
        let mut pending: Vec<usize> = active.into_iter().filter(|slot| !self.settle(*slot)).collect();
        let moved = pending.len() < before;
        // Retries and losers may have started or ended others.
        pending.append(&mut self.active);
        self.active = pending;
        moved
    }

    /// Takes the message of the first queue wait that has one, in start order; false if none has.
    ///
    /// One at a time, since the engine binds all waits of a live turn before it polls again, but polls after each when
    /// it replays: between two messages all code must have run as far as it goes.
    pub(crate) fn take_message(&mut self) -> bool {
        let waits = mem::take(&mut self.queue_waits);
        let taken = waits.iter().copied().find(|slot| self.settle_leaf(*slot));
        self.queue_waits = waits.into_iter().filter(|slot| self.slots[*slot].done.is_none()).collect();
        taken.is_some()
    }

    pub(crate) fn outcome(&self, slot: usize) -> Option<(Outcome, Moment)> {
        let Slot { done, state, .. } = &self.slots[slot];
        debug_assert!(done.is_none() || matches!(state, State::Vacant), "slot {slot} has ended and still waits");
        done.clone()
    }

    pub(crate) fn node(&self, slot: usize) -> Arc<Node> {
        Arc::clone(&self.slots[slot].node)
    }

    /// The outcomes' slots of an `all` or a `gather`, in argument order.
    pub(crate) fn children(&self, slot: usize) -> Vec<usize> {
        self.slots[slot].node.operation.children().iter().filter_map(|child| child.slot()).collect()
    }

    /// Records how a branch ended.
    pub(crate) fn end_branch(&mut self, branch: usize, outcome: Outcome, moment: Moment) {
        self.branches[branch].waiting = Waiting::Ended;
        if let Some(slot) = self.branches[branch].slot {
            self.slots[slot].state = State::Vacant;
            // One that has lost a race has its outcome.
            self.slots[slot].done.get_or_insert((outcome, moment));
        }
    }

    /// The outcome that a branch has waited for, if the branch can continue now.
    pub(crate) fn ready(&mut self, branch: usize) -> Option<Waiting> {
        let waiting = self.branches[branch].waiting;
        let ready = match waiting {
            Waiting::Begin => true,
            Waiting::On(slot) => self.settle(slot),
            Waiting::InLoop | Waiting::Ended => false,
        };
        ready.then_some(waiting)
    }

    /// Drops everything that is left when the orchestration has ended, in start order.
    pub(crate) fn drop_leftovers(&mut self) {
        for slot in 0..self.slots.len() {
            self.drop_all(Some(slot));
        }
    }

    /// The generators and coroutines that have not ended.
    pub(crate) fn unfinished(&mut self) -> Vec<Arc<Runner>> {
        let mut runners = mem::take(&mut self.closing);
        for branch in &mut self.branches {
            let waiting = mem::replace(&mut branch.waiting, Waiting::Ended);
            if !matches!(waiting, Waiting::InLoop | Waiting::Ended) {
                runners.push(Arc::clone(&branch.runner));
            }
        }
        runners
    }

    /// Everything that may hold a Python object, to be dropped without the lock: the end of one may run code that uses the
    /// context.
    pub(crate) fn take_all(&mut self) -> impl Sized + use<> {
        self.active.clear();
        self.queue_waits.clear();
        self.gathers.clear();
        self.watched = Watched::default();
        self.journal.clear();
        (mem::take(&mut self.slots), mem::take(&mut self.branches), mem::take(&mut self.comparison))
    }
}
