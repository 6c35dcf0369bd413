//! Starting what a task describes: the one place that turns an operation into slots.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use crate::orchestration::arena::Arena;
use crate::orchestration::arena::compare::{action_of, attempt_action};
use crate::orchestration::arena::slot::{Branch, Outcome, Retry, Slot, State, Waiting};
use crate::orchestration::operation::{Node, Operation, WaitUntil};
use crate::orchestration::retry_policy::RetryPolicy;
use crate::orchestration::timeline::{MessageKind, Moment};
use engine_adapter::{Action, AttemptHeader};

impl Arena {
    /// Starts what `node` describes, once; a task that was started before keeps its slot.
    pub(crate) fn start(&mut self, node: &Arc<Node>) -> usize {
        if let Some(slot) = node.slot() {
            return slot;
        }
        let slot = match &node.operation {
            Operation::Activity(call) => self.start_retried(node, call.retry.as_ref()),
            Operation::SubOrchestration { retry, .. } => self.start_retried(node, retry.as_ref()),
            Operation::InstanceValue { .. } => self.leaf(node, None),
            Operation::Start { .. } => {
                self.act(Some(node), || action_of(&node.operation));
                let slot = self.push(node, State::Vacant, Some((Outcome::Nothing, Moment::BEGINNING)));
                self.journal.start(slot, &node.operation);
                slot
            }
            Operation::Timer(delay) => self.start_timer(node, *delay),
            Operation::Event(_) => self.leaf(node, Some(MessageKind::Event)),
            Operation::Queue(_) => {
                let slot = self.leaf(node, Some(MessageKind::Queue));
                self.queue_waits.push(slot);
                slot
            }
            Operation::ContinueAsNew { .. } => {
                self.continued = true;
                let slot = self.push(node, State::Never, None);
                self.journal.start(slot, &node.operation);
                slot
            }
            Operation::All(tasks) => {
                let children = tasks.iter().map(|task| self.start(task)).collect();
                self.push(node, State::All { children, first_pending: 0 }, None)
            }
            Operation::Gather(tasks) => {
                let children: Vec<usize> = tasks.iter().map(|task| self.start(task)).collect();
                let suspects = self.suspects(&children);
                let slot = self.push(node, State::Gather { children, first_pending: 0, suspects }, None);
                self.gathers.push(slot);
                slot
            }
            Operation::Race(tasks) => {
                let mut children: Vec<(usize, usize)> =
                    tasks.iter().enumerate().map(|(index, task)| (self.start(task), index)).collect();
                children.sort_unstable();
                let slot = self.push(node, State::Race { children }, None);
                self.active.push(slot);
                slot
            }
            Operation::Wait { tasks, until } => {
                let mut children: Vec<usize> = tasks.iter().map(|task| self.start(task)).collect();
                if *until == WaitUntil::FirstHasEnded {
                    children.sort_unstable();
                }
                self.push(node, State::Wait { children, first_pending: 0, until: *until }, None)
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

    fn start_retried(&mut self, node: &Arc<Node>, policy: Option<&RetryPolicy>) -> usize {
        let Some(policy) = policy else {
            let Operation::Activity(call) = &node.operation else { return self.leaf(node, None) };
            let header = self.header_of_call(call);
            return self.start_attempt(node, 1, header);
        };
        let retry = Retry::start(self, node, policy);
        let slot = self.push(node, State::Retry(Box::new(retry)), None);
        self.active.push(slot);
        slot
    }

    /// Starts one attempt of the retried activity or sub-orchestration that `node` describes.
    pub(crate) fn start_attempt(&mut self, node: &Arc<Node>, attempt: u32, header: Option<AttemptHeader>) -> usize {
        if matches!(node.operation, Operation::SubOrchestration { .. }) {
            let slot = self.push_leaf(node, None, || action_of(&node.operation));
            self.journal.start_child(slot, &node.operation, attempt);
            return slot;
        }
        let Some(header) = header else { return self.leaf(node, None) };
        let slot = self.push_leaf(node, None, || attempt_action(&node.operation, header));
        if let Some(key) = header.end_key {
            self.end_keys.insert(slot, key);
        }
        self.journal.start_attempt(slot, &node.operation, header);
        slot
    }

    pub(crate) fn start_timer(&mut self, node: &Arc<Node>, delay: Duration) -> usize {
        let slot = self.push_leaf(node, None, || Some(Action::Timer));
        self.journal.start_timer(slot, delay);
        slot
    }

    fn leaf(&mut self, node: &Arc<Node>, message: Option<MessageKind>) -> usize {
        let slot = self.push_leaf(node, message, || action_of(&node.operation));
        self.journal.start(slot, &node.operation);
        slot
    }

    fn push_leaf<'a>(
        &mut self,
        node: &Arc<Node>,
        message: Option<MessageKind>,
        action: impl FnOnce() -> Option<Action<'a>>,
    ) -> usize {
        let action = self.act(Some(node), action);
        self.push(node, State::Leaf { action, message }, None)
    }

    fn push(&mut self, node: &Arc<Node>, state: State, done: Option<(Outcome, Moment)>) -> usize {
        debug_assert!(state.children().all(|child| child < self.slots.len()), "a task started before its parts");
        self.bytes += node.operation.bytes();
        self.slots.push(Slot { node: Arc::clone(node), state, done });
        self.slots.len() - 1
    }

    /// Those of the children of a `gather` that can end it before their turn.
    fn suspects(&self, children: &[usize]) -> Vec<usize> {
        children.iter().copied().filter(|child| self.may_fail_early(*child)).collect()
    }

    /// Searches again, since the history holds more than when the gathers were started.
    pub(super) fn suspect_again(&mut self) {
        let mut gathers = mem::take(&mut self.gathers);
        gathers.retain(|slot| self.slots[*slot].done.is_none());
        for slot in gathers.iter().copied() {
            let mut state = mem::replace(&mut self.slots[slot].state, State::Vacant);
            if let State::Gather { children, suspects, .. } = &mut state {
                *suspects = self.suspects(children);
            }
            self.slots[slot].state = state;
        }
        self.gathers = gathers;
    }

    /// Whether a slot can end a `gather` before its turn: history holds its failure, or it is more than a leaf.
    ///
    /// Looking at every leaf of a large `gather` at every poll would cost n² a turn.
    fn may_fail_early(&self, slot: usize) -> bool {
        match &self.slots[slot].state {
            State::Leaf { action, .. } => self.timeline.will_fail(*action),
            State::Vacant => self.has_failed(slot),
            _ => true,
        }
    }
}
