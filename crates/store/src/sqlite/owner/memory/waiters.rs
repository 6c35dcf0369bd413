//! Fetches that wait for work. Each ready item wakes one fetch that would take it.

use std::collections::VecDeque;

use tokio::sync::oneshot;

/// Wakes one waiting fetch.
pub type WakeUp = oneshot::Sender<()>;

/// The waiting fetches in the order of their arrival, each with a description of the work that it takes.
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
        let (wake_up, receiver) = oneshot::channel();
        self.next += 1;
        self.waiting.push_back((self.next, wants, wake_up));
        (self.next, receiver)
    }

    /// Removes the first fetch that would take the work, and returns its wake-up.
    pub fn take_first(&mut self, would_take: impl Fn(&T) -> bool) -> Option<WakeUp> {
        let index = self.waiting.iter().position(|(_, wants, _)| would_take(wants))?;
        self.waiting.remove(index).map(|(_, _, wake_up)| wake_up)
    }

    /// What the first fetch takes that would take the work.
    pub fn find(&self, would_take: impl Fn(&T) -> bool) -> Option<&T> {
        self.waiting.iter().map(|(_, wants, _)| wants).find(|wants| would_take(wants))
    }

    pub fn count(&self, would_take: impl Fn(&T) -> bool) -> usize {
        self.waiting.iter().filter(|(_, wants, _)| would_take(wants)).count()
    }

    /// Removes a waiting fetch. Returns false if it was woken already: the caller must then wake another one.
    pub fn remove(&mut self, waiter: u64) -> bool {
        let index = self.waiting.iter().position(|(id, ..)| *id == waiter);
        index.and_then(|index| self.waiting.remove(index)).is_some()
    }

    pub fn take_all(&mut self) -> impl Iterator<Item = WakeUp> + use<'_, T> {
        self.waiting.drain(..).map(|(_, _, wake_up)| wake_up)
    }
}
