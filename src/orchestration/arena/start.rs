//! Starting what a task describes: the one place that turns an operation into futures of the engine.

use std::sync::Arc;
use std::time::Duration;

use super::{Arena, Branch, Leaf, Outcome, Slot, State, Waiting};
use crate::orchestration::operation::{ActivityCall, Node, Operation};
use crate::orchestration::retry::Retry;
use crate::orchestration::timeline::{Mailbox, Moment};

/// The engine's activity that reads a value of another instance.
const READ_VALUE: &str = "__duroxide_syscall:get_kv_value";

impl Arena {
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
                self.leaf(node, Leaf::Answer(future), None)
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
                let future = self.engine.schedule_wait(name);
                self.leaf(node, Leaf::Message(future), Some(Mailbox::Event))
            }
            Operation::Queue(name) => {
                let future = self.engine.dequeue_event(name);
                let slot = self.leaf(node, Leaf::Message(future), Some(Mailbox::Queue));
                self.queue_waits.push(slot);
                slot
            }
            Operation::InstanceValue { instance_id, key } => {
                // What the engine's own method records; that one would map the future.
                let input = serde_json::json!({ "instance_id": instance_id, "key": key }).to_string();
                let future = self.engine.schedule_activity(READ_VALUE, input);
                self.leaf(node, Leaf::Answer(future), None)
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
        self.leaf(node, Leaf::Answer(future), None)
    }

    pub(crate) fn start_timer(&mut self, node: &Arc<Node>, delay: Duration) -> usize {
        let future = self.engine.schedule_timer(delay);
        self.leaf(node, Leaf::Timer(future), None)
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
            State::Vacant => self.has_failed(slot),
            _ => true,
        }
    }
}
