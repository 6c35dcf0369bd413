//! Fetches that wait for work: one is woken for each thing to do, and only one that would take it.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use crate::sqlite::owner::OwnerCore;
use crate::sqlite::owner::memory::state::State;

/// Wakes one waiting fetch.
pub type WakeUp = oneshot::Sender<()>;

/// One who waits in a row, and leaves it when dropped.
pub struct WaiterPlace<'a> {
    core: &'a OwnerCore,
    waiter: u64,
    leave: fn(&mut State, u64),
}

impl<'a> WaiterPlace<'a> {
    pub fn new(core: &'a OwnerCore, waiter: u64, leave: fn(&mut State, u64)) -> Self {
        Self { core, waiter, leave }
    }
}

impl Drop for WaiterPlace<'_> {
    fn drop(&mut self) {
        (self.leave)(&mut self.core.lock(), self.waiter);
    }
}

/// Those who wait, each with what it would take.
pub struct Waiters<T> {
    waiting: VecDeque<(u64, T, WakeUp)>,
    next: u64,
}

impl<T> Default for Waiters<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), next: 0 }
    }
}

impl<T> Waiters<T> {
    pub fn add(&mut self, wants: T) -> (u64, oneshot::Receiver<()>) {
        let (bell, receiver) = oneshot::channel();
        self.next += 1;
        self.waiting.push_back((self.next, wants, bell));
        (self.next, receiver)
    }

    /// Takes the first who would take it out of the row.
    pub fn first(&mut self, would_take: impl Fn(&T) -> bool) -> Option<WakeUp> {
        let place = self.waiting.iter().position(|(_, wants, _)| would_take(wants))?;
        self.waiting.remove(place).map(|(_, _, bell)| bell)
    }

    pub fn count(&self, would_take: impl Fn(&T) -> bool) -> usize {
        self.waiting.iter().filter(|(_, wants, _)| would_take(wants)).count()
    }

    /// Leaves the row; false if it was woken already, and another must be woken in its place.
    pub fn leave(&mut self, waiter: u64) -> bool {
        let place = self.waiting.iter().position(|(id, ..)| *id == waiter);
        place.and_then(|place| self.waiting.remove(place)).is_some()
    }

    pub fn take_all(&mut self) -> impl Iterator<Item = WakeUp> + use<'_, T> {
        self.waiting.drain(..).map(|(_, _, bell)| bell)
    }
}
