//! The arena of a turn: every started operation has a slot that owns its engine futures and, in the end, its outcome.
//!
//! Dropping an engine future is a durable cancellation that replay must repeat. So slots alone own futures, and they
//! drop them at fixed points, in order; Python objects hold slot numbers.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use duroxide::{DurableFuture, OrchestrationContext};
use pyo3::prelude::*;

use super::operation::{ActivityCall, Node, Operation};
use super::retry::Retry;
use super::timeline::{Mailbox, Moment, Timeline};

/// How a started operation ended.
#[derive(Clone)]
pub(crate) enum Outcome {
    Text(Arc<str>),
    Nothing,
    /// Every task of an `all` or a `gather` has an outcome of its own.
    Children,
    /// The first of a race to finish.
    Winner {
        index: usize,
        slot: usize,
    },
    /// The failure of another slot.
    FailedBy(usize),
    /// What a branch returned.
    Returned(Arc<Py<PyAny>>),
    Failed(Failure),
}

#[derive(Clone)]
pub(crate) enum Failure {
    Activity {
        text: Arc<str>,
        activity_id: Option<u64>,
        attempts: u32,
    },
    SubOrchestration {
        text: Arc<str>,
    },
    TimedOut {
        timeout: Duration,
        attempts: u32,
        total: bool,
    },
    /// The exception that ended a branch.
    Raised(Arc<Py<PyAny>>),
    /// It was dropped before it ended.
    Cancelled,
}

type Leaf = DurableFuture<Result<String, String>>;

enum State {
    Leaf {
        future: Leaf,
        action: usize,
        mailbox: Option<Mailbox>,
    },
    All {
        children: Vec<usize>,
        first_pending: usize,
    },
    Gather {
        children: Vec<usize>,
        first_pending: usize,
        suspects: Vec<usize>,
    },
    Race {
        children: Vec<(usize, usize)>,
    },
    Retry(Box<Retry>),
    Branch(usize),
    /// Continue-as-new: nothing comes after it.
    Never,
    /// Ended, or being looked at.
    Vacant,
}

struct Slot {
    node: Arc<Node>,
    state: State,
    done: Option<(Outcome, Moment)>,
}

/// What a branch does next.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Waiting {
    Begin,
    On(usize),
    Ended,
}

/// A generator or coroutine under way; the first one is the orchestration itself and has no slot.
pub(crate) struct Branch {
    pub(crate) runner: Arc<Py<PyAny>>,
    pub(crate) waiting: Waiting,
    slot: Option<usize>,
}

pub(crate) struct Arena {
    engine: OrchestrationContext,
    pub(crate) timeline: Timeline,
    pub(crate) branches: Vec<Branch>,
    /// Branches that lost a race and whose generators are still to be closed.
    pub(crate) closing: Vec<Arc<Py<PyAny>>>,
    slots: Vec<Slot>,
    /// Slots that have something to do at every poll, whoever waits for them, in start order.
    active: Vec<usize>,
    actions: usize,
    pub(crate) continued: bool,
}

impl Arena {
    pub(crate) fn new(engine: OrchestrationContext, timeline: Timeline) -> Self {
        Self {
            engine,
            timeline,
            branches: Vec::new(),
            closing: Vec::new(),
            slots: Vec::new(),
            active: Vec::new(),
            actions: 0,
            continued: false,
        }
    }

    /// Counts an action that the engine was given outside a slot (custom status, KV), and says when it is recorded.
    pub(crate) fn count_action(&mut self) -> u64 {
        self.actions += 1;
        self.timeline.recorded_at(self.actions - 1)
    }

    pub(crate) fn actions(&self) -> usize {
        self.actions
    }

    /// Starts what `node` describes, once; a task that was started before keeps its slot.
    pub(crate) fn start(&mut self, node: &Arc<Node>) -> usize {
        if let Some(slot) = node.slot() {
            return slot;
        }
        let slot = match &node.operation {
            Operation::Activity(call) => self.start_call(node, call),
            Operation::SubOrchestration { name, version, instance_id, input } => {
                let future = match instance_id {
                    Some(instance_id) => self.engine.schedule_sub_orchestration_versioned_with_id(
                        name,
                        version.clone(),
                        instance_id,
                        input,
                    ),
                    None => self.engine.schedule_sub_orchestration_versioned(name, version.clone(), input),
                };
                self.leaf(node, future, None)
            }
            Operation::Start { name, version, instance_id, input } => {
                match version {
                    Some(version) => {
                        self.engine.schedule_orchestration_versioned(name, Some(version.clone()), instance_id, input);
                    }
                    None => self.engine.schedule_orchestration(name, instance_id, input),
                }
                self.count_action();
                self.push(node, State::Vacant, Some((Outcome::Nothing, Moment::BEGINNING)))
            }
            Operation::Timer(delay) => self.start_timer(node, *delay),
            Operation::Event(name) => {
                let future = self.engine.schedule_wait(name).map(Ok);
                self.leaf(node, future, Some(Mailbox::Event))
            }
            Operation::Queue(name) => {
                let future = self.engine.dequeue_event(name).map(Ok);
                let slot = self.leaf(node, future, Some(Mailbox::Queue));
                self.active.push(slot);
                slot
            }
            Operation::InstanceValue { instance_id, key } => {
                let future = self.engine.get_kv_value_from_instance(instance_id, key);
                let future = future.map(|value| {
                    value.map(|value| serde_json::to_string(&value).unwrap_or_else(|_| "null".to_owned()))
                });
                self.leaf(node, future, None)
            }
            Operation::ContinueAsNew { version, input } => {
                // The future only says that nothing follows; the action is emitted by the call.
                match version {
                    Some(version) => drop(self.engine.continue_as_new_versioned(version, input)),
                    None => drop(self.engine.continue_as_new(input)),
                }
                self.continued = true;
                self.push(node, State::Never, None)
            }
            Operation::All(tasks) => {
                let children = tasks.iter().map(|task| self.start(task)).collect();
                self.push(node, State::All { children, first_pending: 0 }, None)
            }
            Operation::Gather(tasks) => {
                let children: Vec<usize> = tasks.iter().map(|task| self.start(task)).collect();
                let suspects = children.iter().copied().filter(|child| self.may_fail_early(*child)).collect();
                self.push(node, State::Gather { children, first_pending: 0, suspects }, None)
            }
            Operation::Race(tasks) => {
                let mut children: Vec<(usize, usize)> =
                    tasks.iter().enumerate().map(|(index, task)| (self.start(task), index)).collect();
                children.sort_unstable();
                let slot = self.push(node, State::Race { children }, None);
                self.active.push(slot);
                slot
            }
            Operation::Branch(runner) => {
                let branch = self.branches.len();
                let slot = self.push(node, State::Branch(branch), None);
                self.branches.push(Branch { runner: Arc::clone(runner), waiting: Waiting::Begin, slot: Some(slot) });
                slot
            }
        };
        node.set_slot(slot);
        slot
    }

    /// Makes the orchestration itself the first branch.
    pub(crate) fn begin(&mut self, runner: Py<PyAny>) {
        self.branches.push(Branch { runner: Arc::new(runner), waiting: Waiting::Begin, slot: None });
    }

    fn start_call(&mut self, node: &Arc<Node>, call: &ActivityCall) -> usize {
        let Some(policy) = &call.retry else {
            return self.start_activity(node, call);
        };
        let retry = Retry::start(self, node, call, policy);
        let slot = self.push(node, State::Retry(Box::new(retry)), None);
        self.active.push(slot);
        slot
    }

    /// Starts one attempt of an activity.
    pub(crate) fn start_activity(&mut self, node: &Arc<Node>, call: &ActivityCall) -> usize {
        let mut future = match &call.session_id {
            Some(session_id) => self.engine.schedule_activity_on_session(&call.name, &call.input, session_id),
            None => self.engine.schedule_activity(&call.name, &call.input),
        };
        // The engine aborts the process when a tag is set after its actions were drained, so it is set here.
        if let Some(tag) = &call.tag {
            future = future.with_tag(tag);
        }
        self.leaf(node, future, None)
    }

    pub(crate) fn start_timer(&mut self, node: &Arc<Node>, delay: Duration) -> usize {
        let future = self.engine.schedule_timer(delay).map(|()| Ok(String::new()));
        self.leaf(node, future, None)
    }

    fn leaf(&mut self, node: &Arc<Node>, future: Leaf, mailbox: Option<Mailbox>) -> usize {
        let action = self.actions;
        self.actions += 1;
        self.push(node, State::Leaf { future, action, mailbox }, None)
    }

    fn push(&mut self, node: &Arc<Node>, state: State, done: Option<(Outcome, Moment)>) -> usize {
        self.slots.push(Slot { node: Arc::clone(node), state, done });
        self.slots.len() - 1
    }

    /// Whether a slot can end a `gather` before its turn: history holds its failure, or it is more than a leaf.
    ///
    /// Looking at every leaf of a large `gather` at every poll would cost n² a turn.
    fn may_fail_early(&self, slot: usize) -> bool {
        match &self.slots[slot].state {
            State::Leaf { action, .. } => self.timeline.will_fail(*action),
            State::Vacant => false,
            _ => true,
        }
    }

    /// Looks once at every slot that must be looked at whoever waits for it.
    pub(crate) fn advance(&mut self) {
        let active = mem::take(&mut self.active);
        let mut pending: Vec<usize> = active.into_iter().filter(|slot| !self.settle(*slot)).collect();
        // Retries and losers may have started or ended others meanwhile.
        pending.append(&mut self.active);
        self.active = pending;
    }

    pub(crate) fn outcome(&self, slot: usize) -> Option<(Outcome, Moment)> {
        self.slots[slot].done.clone()
    }

    pub(crate) fn node(&self, slot: usize) -> Arc<Node> {
        Arc::clone(&self.slots[slot].node)
    }

    /// The outcomes' slots of an `all` or a `gather`, in argument order.
    pub(crate) fn children(&self, slot: usize) -> Vec<usize> {
        self.slots[slot].node.operation.children().iter().filter_map(|child| child.slot()).collect()
    }

    fn has_failed(&self, slot: usize) -> bool {
        match &self.slots[slot].done {
            Some((Outcome::Failed(_) | Outcome::FailedBy(_), _)) => true,
            Some((Outcome::Winner { slot, .. }, _)) => self.has_failed(*slot),
            _ => false,
        }
    }

    /// Whether a slot has an outcome, after looking once.
    pub(crate) fn settle(&mut self, slot: usize) -> bool {
        if self.slots[slot].done.is_some() {
            return true;
        }
        let mut state = mem::replace(&mut self.slots[slot].state, State::Vacant);
        let done = self.look(slot, &mut state);
        if done.is_none() {
            self.slots[slot].state = state;
            return false;
        }
        self.slots[slot].done = done;
        true
    }

    fn look(&mut self, slot: usize, state: &mut State) -> Option<(Outcome, Moment)> {
        match state {
            State::Leaf { future, action, mailbox } => {
                let mut context = Context::from_waker(Waker::noop());
                let Poll::Ready(result) = Pin::new(future).poll(&mut context) else {
                    return None;
                };
                Some(self.finish(slot, result, *action, *mailbox))
            }
            State::All { children, first_pending } => self.look_at_all(children, first_pending),
            State::Gather { children, first_pending, suspects } => {
                let mut pending = false;
                for child in suspects.iter().copied() {
                    if !self.settle(child) {
                        pending = true;
                    } else if self.has_failed(child) {
                        return Some((Outcome::FailedBy(child), self.moment(child)));
                    }
                }
                // Looking at them a second time would double the work with every level of nesting.
                if pending {
                    return None;
                }
                let done = self.look_at_all(children, first_pending)?;
                let failed = children.iter().copied().find(|child| self.has_failed(*child));
                Some(failed.map_or(done.clone(), |child| (Outcome::FailedBy(child), done.1)))
            }
            State::Race { children } => {
                let (winner, index) = children.iter().copied().find(|(child, _)| self.settle(*child))?;
                for (child, _) in children.iter().copied() {
                    self.drop_all(Some(child));
                }
                Some((Outcome::Winner { index, slot: winner }, self.moment(winner)))
            }
            State::Retry(retry) => {
                let node = self.node(slot);
                retry.advance(self, &node)
            }
            State::Branch(_) | State::Never | State::Vacant => None,
        }
    }

    fn look_at_all(&mut self, children: &[usize], first_pending: &mut usize) -> Option<(Outcome, Moment)> {
        while let Some(child) = children.get(*first_pending) {
            if !self.settle(*child) {
                return None;
            }
            *first_pending += 1;
        }
        let moment = children.iter().fold(Moment::BEGINNING, |moment, child| moment.join(self.moment(*child)));
        Some((Outcome::Children, moment))
    }

    fn moment(&self, slot: usize) -> Moment {
        self.slots[slot].done.as_ref().map_or(Moment::BEGINNING, |(_, moment)| *moment)
    }

    fn finish(
        &mut self,
        slot: usize,
        result: Result<String, String>,
        action: usize,
        mailbox: Option<Mailbox>,
    ) -> (Outcome, Moment) {
        let node = self.node(slot);
        let moment = match (mailbox, &node.operation, &result) {
            (Some(mailbox), Operation::Event(name) | Operation::Queue(name), Ok(data)) => {
                self.timeline.take_arrival(mailbox, name, data)
            }
            _ => self.timeline.completed_at(action),
        };
        let outcome = match (result, &node.operation) {
            (Ok(text), _) => Outcome::Text(text.into()),
            (Err(text), Operation::SubOrchestration { .. }) => {
                Outcome::Failed(Failure::SubOrchestration { text: text.into() })
            }
            (Err(text), _) => Outcome::Failed(Failure::Activity {
                text: text.into(),
                activity_id: self.timeline.event_id(action),
                attempts: 1,
            }),
        };
        (outcome, moment)
    }

    /// Drops what a slot still waits for; it is looked at once more, since a finished one must not be cancelled.
    pub(crate) fn drop_all(&mut self, slot: Option<usize>) {
        let Some(slot) = slot else { return };
        if self.settle(slot) {
            return;
        }
        let state = mem::replace(&mut self.slots[slot].state, State::Vacant);
        self.slots[slot].done = Some((Outcome::Failed(Failure::Cancelled), Moment::BEGINNING));
        match state {
            State::Leaf { future, .. } => drop(future),
            State::All { children, .. } | State::Gather { children, .. } => {
                for child in children {
                    self.drop_all(Some(child));
                }
            }
            State::Race { children } => {
                for (child, _) in children {
                    self.drop_all(Some(child));
                }
            }
            State::Retry(mut retry) => retry.stop(self),
            State::Branch(branch) => self.stop_branch(branch),
            State::Never | State::Vacant => {}
        }
    }

    fn stop_branch(&mut self, branch: usize) {
        let waiting = mem::replace(&mut self.branches[branch].waiting, Waiting::Ended);
        if waiting != Waiting::Ended {
            self.closing.push(Arc::clone(&self.branches[branch].runner));
        }
        if let Waiting::On(slot) = waiting {
            self.drop_all(Some(slot));
        }
    }

    /// Records how a branch ended.
    pub(crate) fn end_branch(&mut self, branch: usize, outcome: Outcome, moment: Moment) {
        self.branches[branch].waiting = Waiting::Ended;
        if let Some(slot) = self.branches[branch].slot {
            self.slots[slot].state = State::Vacant;
            self.slots[slot].done = Some((outcome, moment));
        }
    }

    /// What a branch has waited for, if it can go on now.
    pub(crate) fn ready(&mut self, branch: usize) -> Option<Waiting> {
        let waiting = self.branches[branch].waiting;
        let ready = match waiting {
            Waiting::Begin => true,
            Waiting::On(slot) => self.settle(slot),
            Waiting::Ended => false,
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
    pub(crate) fn unfinished(&mut self) -> Vec<Arc<Py<PyAny>>> {
        let mut runners = mem::take(&mut self.closing);
        for branch in &mut self.branches {
            if mem::replace(&mut branch.waiting, Waiting::Ended) != Waiting::Ended {
                runners.push(Arc::clone(&branch.runner));
            }
        }
        runners
    }

    /// Everything that holds a future or a Python object, to be dropped in start order, and without the lock: the end of
    /// a Python object may run code that uses the context.
    pub(crate) fn take_all(&mut self) -> impl Sized + use<> {
        self.active.clear();
        (mem::take(&mut self.slots), mem::take(&mut self.branches))
    }
}
