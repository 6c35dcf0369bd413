//! What the event loop of an orchestration waits for, and in which order history brings it.
//!
//! The engine polls once for each completion, in the order of history. Looking at every slot each time would cost n² a
//! turn; so those whose completion is known are looked at in the order of these, and the others not before it is.

use std::collections::HashSet;
use std::sync::Arc;

use crate::orchestration::arena::Arena;
use crate::orchestration::arena::slot::{Branch, Slot, State};
use crate::orchestration::arena::watched::Watched;
use crate::orchestration::operation::Node;
use engine_adapter::TurnRecord;

impl Arena {
    /// The action whose completion ends a slot, if one does.
    fn completed_action(&self, slot: usize) -> Option<usize> {
        match self.slots[slot].state {
            State::Leaf { action, message: None } => Some(action),
            _ => None,
        }
    }

    /// Has `next_watched` give this slot once it has ended.
    pub(crate) fn watch(&mut self, slot: usize) {
        match self.completed_action(slot) {
            None => _ = self.watched.others.insert(slot),
            Some(action) => match self.timeline.completion_order(action) {
                Some(order) => _ = self.watched.due.insert(order, slot),
                None => _ = self.watched.unknown.insert(action, slot),
            },
        }
    }

    /// Ends the wait for it. Returns whether a branch waited.
    pub(crate) fn unwatch(&mut self, slot: usize) -> bool {
        let mut was_watched = self.watched.others.remove(&slot);
        if let Some(action) = self.completed_action(slot) {
            was_watched |= self.watched.unknown.remove(&action).is_some();
            if let Some(order) = self.timeline.completion_order(action) {
                was_watched |= self.watched.due.remove(&order).is_some();
            }
        }
        was_watched
    }

    /// It ends before its completion; `next_watched` gives it next.
    pub(crate) fn end_watch(&mut self, slot: usize) {
        if self.unwatch(slot) {
            self.watched.others.insert(slot);
        }
    }

    /// The one of them that was started first.
    pub(crate) fn first_watched(&self) -> Option<usize> {
        let Watched { unknown, due, others } = &self.watched;
        unknown.values().chain(due.values()).chain(others).copied().min()
    }

    /// Whether anything durable may still wake the event loop, or a generator beside it. Asked when nothing can move.
    pub(crate) fn may_continue(&mut self) -> bool {
        if self.watched.has_completions() {
            return true;
        }
        let mut seen = HashSet::new();
        for branch in 0..self.branches.len() {
            // The first one that is looked at mostly waits for something durable.
            if let Some(slot) = self.branches[branch].awaited()
                && (self.slots[slot].done.is_some() || self.may_end(slot, &mut seen))
            {
                return true;
            }
        }
        let others: Vec<usize> = self.watched.others.iter().copied().collect();
        others.into_iter().any(|slot| self.may_end(slot, &mut seen))
    }

    /// What the generators wait for, the orchestration itself first.
    pub(crate) fn awaited_by_branches(&self) -> Vec<Arc<Node>> {
        let awaited = self.branches.iter().filter_map(Branch::awaited);
        awaited.map(|slot| Arc::clone(&self.slots[slot].node)).collect()
    }

    /// Whether something durable may still end a slot. A coroutine of the event loop continues when a slot that the loop
    /// watches ends.
    fn may_end(&mut self, slot: usize, seen: &mut HashSet<usize>) -> bool {
        let Slot { state, done, .. } = &self.slots[slot];
        if done.is_some() || !seen.insert(slot) {
            return false;
        }
        let mut next = match state {
            // One of an `all` or a `gather` may have ended without being looked at.
            State::Leaf { .. } => return !self.settle(slot),
            State::Retry(_) => return true,
            State::All { first_pending, .. }
            | State::Gather { first_pending, .. }
            | State::Wait { first_pending, .. } => *first_pending,
            State::Race { .. } => 0,
            State::Branch(branch) => {
                let awaited = self.branches[*branch].awaited();
                return awaited.is_some_and(|awaited| self.may_end(awaited, seen));
            }
            State::Never | State::Vacant => return false,
        };
        while let Some(child) = self.child(slot, next) {
            if self.may_end(child, seen) {
                return true;
            }
            next += 1;
        }
        false
    }

    fn child(&self, slot: usize, index: usize) -> Option<usize> {
        match &self.slots[slot].state {
            State::All { children, .. } | State::Gather { children, .. } | State::Wait { children, .. } => {
                children.get(index).copied()
            }
            State::Race { children } => children.get(index).map(|(child, _)| *child),
            _ => None,
        }
    }

    /// Learns from a further turn which completions are known now.
    pub(crate) fn watch_again(&mut self, record: &TurnRecord) {
        for source in record.events.iter().filter_map(|event| event.source_event_id) {
            let Some(action) = self.timeline.action_of(source) else { continue };
            if let Some(order) = self.timeline.completion_order(action)
                && let Some(slot) = self.watched.unknown.remove(&action)
            {
                self.watched.due.insert(order, slot);
            }
        }
    }

    /// The next slot that has ended, in the order of history.
    pub(crate) fn next_watched(&mut self) -> Option<usize> {
        let others: Vec<usize> = self.watched.others.iter().copied().collect();
        if let Some(slot) = others.into_iter().find(|slot| self.settle(*slot)) {
            self.watched.others.remove(&slot);
            return Some(slot);
        }
        let (order, slot) = self.watched.due.first_key_value().map(|(order, slot)| (*order, *slot))?;
        if !self.settle(slot) {
            return None;
        }
        self.watched.due.remove(&order);
        Some(slot)
    }

    /// One that has ended although an earlier completion has not come: the engine has passed that one over.
    pub(crate) fn next_out_of_order(&mut self) -> Option<usize> {
        let due: Vec<(usize, usize)> = self.watched.due.iter().map(|(order, slot)| (*order, *slot)).collect();
        let (order, slot) = due.into_iter().find(|(_, slot)| self.settle(*slot))?;
        self.watched.due.remove(&order);
        Some(slot)
    }
}
