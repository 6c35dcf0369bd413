//! Looking at slots and dropping them: when a leaf, a combinator, a retry or a race is over, and what its losers lose.

use std::mem;
use std::sync::Arc;
use std::task::Poll;

use crate::orchestration::arena::Arena;
use crate::orchestration::arena::slot::{Failure, Outcome, Slot, State, Waiting};
use crate::orchestration::operation::{ActivityCall, Operation, WaitUntil};
use crate::orchestration::timeline::{MessageKind, Moment};

impl Arena {
    pub(super) fn has_failed(&self, slot: usize) -> bool {
        match &self.slots[slot].done {
            Some((Outcome::Failed(_) | Outcome::FailedBy(_), _)) => true,
            Some((Outcome::Winner { slot, .. }, _)) => self.has_failed(*slot),
            _ => false,
        }
    }

    /// Whether a slot has an outcome, after looking once. The message of a queue is only taken by `take_message`.
    pub(crate) fn settle(&mut self, slot: usize) -> bool {
        match &self.slots[slot] {
            Slot { done: Some(_), .. } => true,
            Slot { state: State::Leaf { message: Some(MessageKind::Queue), .. }, .. } => false,
            _ => self.settle_now(slot),
        }
    }

    pub(super) fn settle_leaf(&mut self, slot: usize) -> bool {
        self.slots[slot].done.is_some() || self.settle_now(slot)
    }

    fn settle_now(&mut self, slot: usize) -> bool {
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
            State::Leaf { action, message } => {
                let Poll::Ready(result) = self.journal.look(slot) else {
                    return None;
                };
                Some(self.finish(slot, result, *action, *message))
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
                    self.give_up(child, true);
                }
                Some((Outcome::Winner { index, slot: winner }, self.moment(winner)))
            }
            State::Wait { children, until: WaitUntil::FirstHasEnded, .. } => {
                let first = children.iter().copied().find(|child| self.settle(*child))?;
                Some((Outcome::Waited { first: Some(first) }, self.moment(first)))
            }
            State::Wait { children, first_pending, until: WaitUntil::AllHaveEnded } => {
                let (_, moment) = self.look_at_all(children, first_pending)?;
                Some((Outcome::Waited { first: None }, moment))
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
        message: Option<MessageKind>,
    ) -> (Outcome, Moment) {
        let node = self.node(slot);
        let moment = match (message, &node.operation, &result) {
            (Some(message), Operation::Event(name) | Operation::Queue(name), Ok(data)) => {
                self.timeline.take_arrival(message, name, data)
            }
            _ => self.timeline.completed_at(action),
        };
        self.bytes += result.as_ref().map_or_else(String::len, String::len);
        if let (Err(text), Operation::Activity(ActivityCall { retry: None, .. })) = (&result, &node.operation) {
            self.report_failed_attempt(&node, 1, text, moment, None);
        }
        let outcome = match (result, &node.operation) {
            (Ok(text), _) => Outcome::Text(text.into()),
            (Err(text), Operation::SubOrchestration { .. }) => {
                Outcome::Failed(Failure::SubOrchestration { text: text.into(), attempts: 1 })
            }
            (Err(text), _) => Outcome::Failed(Failure::Activity {
                text: text.into(),
                activity_id: self.timeline.event_id(action),
                attempts: 1,
            }),
        };
        (outcome, moment)
    }

    /// Drops what a slot still waits for; it is looked at once more, since a finished one must not be cancelled. The wait for
    /// a queue is not: a message that no wait has taken stays for the next one.
    pub(crate) fn drop_all(&mut self, slot: Option<usize>) {
        if let Some(slot) = slot {
            self.give_up(slot, false);
        }
    }

    fn give_up(&mut self, slot: usize, lost_race: bool) {
        if self.settle(slot) {
            return;
        }
        // The event loop wakes the task that waits for it.
        self.end_watch(slot);
        let state = mem::replace(&mut self.slots[slot].state, State::Vacant);
        self.slots[slot].done = Some((Outcome::Failed(Failure::Cancelled { lost_race }), Moment::BEGINNING));
        match state {
            State::Leaf { .. } => self.journal.drop_leaf(slot),
            State::All { .. } | State::Gather { .. } | State::Race { .. } => {
                for child in state.children() {
                    self.drop_all(Some(child));
                }
            }
            State::Retry(mut retry) => retry.stop(self),
            State::Branch(branch) => self.stop_branch(branch),
            // The tasks of a wait are kept.
            State::Wait { .. } | State::Never | State::Vacant => {}
        }
    }

    fn stop_branch(&mut self, branch: usize) {
        let waiting = mem::replace(&mut self.branches[branch].waiting, Waiting::Ended);
        if waiting != Waiting::Ended {
            // A coroutine of the event loop is cancelled there.
            self.closing.push(Arc::clone(&self.branches[branch].runner));
        }
        if let Waiting::On(slot) = waiting {
            self.drop_all(Some(slot));
        }
    }
}
