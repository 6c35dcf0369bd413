//! Queues of prefetched turns and activities. A fetch takes an item from a queue, or waits there.
//!
//! All fetches that ask for the same share a queue: turns that one range of versions can run, or activities with one
//! set of tags. A leased item goes to the fetch that has waited longest. The node leases a little more than the fetches
//! wait for, so that a slot that becomes free finds an item at once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::clock::span_ms;
use crate::session_limits::SessionLimit;

/// The owner of a session, for fetches that can take activities of sessions.
#[derive(Clone)]
pub struct QueueOwner {
    pub id: String,
    pub lease: Duration,
    /// The limit of its runtime, if there is one.
    pub limit: Option<Arc<SessionLimit>>,
}

struct Waiter<Item> {
    number: u64,
    owner: Option<QueueOwner>,
    sender: oneshot::Sender<Item>,
}

struct QueueState<Item> {
    pub ready: VecDeque<(Instant, Item)>,
    waiting: VecDeque<Waiter<Item>>,
    /// The number of the newest waiter.
    last_number: u64,
    /// Items of sessions whose waiter has gone. No other fetch may have them.
    returned: Vec<Item>,
    /// When the present window began, and how many fetches came in it and in the window before.
    window: (Instant, usize, usize),
}

/// The items for one kind of fetch.
pub struct PrefetchQueue<Key, Item> {
    pub key: Key,
    /// The length of lease that the last fetch asked for, in milliseconds.
    lease_ms: AtomicI64,
    /// Whether the server may have an item that this node has not looked for.
    hint: AtomicBool,
    /// Whether the next look has to find work whose lease has ended, too.
    finds_ended: AtomicBool,
    /// How many leased items will be offered once their histories are read.
    expected: AtomicUsize,
    state: Mutex<QueueState<Item>>,
}

/// The window in which the queue counts its fetches: about the time of a commit.
const WINDOW: Duration = Duration::from_millis(20);

impl<Key, Item> PrefetchQueue<Key, Item> {
    pub fn new(key: Key) -> Self {
        let state = QueueState {
            ready: VecDeque::new(),
            waiting: VecDeque::new(),
            last_number: 0,
            returned: Vec::new(),
            window: (Instant::now(), 0, 0),
        };
        Self {
            key,
            lease_ms: AtomicI64::new(0),
            hint: AtomicBool::new(true),
            finds_ended: AtomicBool::new(true),
            expected: AtomicUsize::new(0),
            state: Mutex::new(state),
        }
    }

    pub fn lease_ms(&self) -> i64 {
        self.lease_ms.load(Ordering::Relaxed)
    }

    /// Notes that the server may have an item.
    pub fn hint(&self) {
        self.hint.store(true, Ordering::Release);
    }

    pub fn has_hint(&self) -> bool {
        self.hint.load(Ordering::Acquire)
    }

    /// Whether the server may have an item, and a fetch waits that can use it.
    pub fn can_use_hint(&self, ahead: usize) -> bool {
        self.has_hint() && self.is_waited_for() && self.demand(ahead) > 0
    }

    pub fn take_hint(&self) -> bool {
        self.hint.swap(false, Ordering::AcqRel)
    }

    /// Notes that the next look has to find work whose lease has ended, too. A busy queue may use no item now, so the next
    /// fetch that waits has to look.
    pub fn find_ended(&self) {
        self.finds_ended.store(true, Ordering::Release);
        self.hint();
    }

    pub fn take_finds_ended(&self) -> bool {
        self.finds_ended.swap(false, Ordering::AcqRel)
    }

    /// How many more items this node can use: one for each waiting fetch, and at most `ahead` for fetches that will
    /// come soon.
    pub fn demand(&self, ahead: usize) -> usize {
        let mut state = self.state.lock();
        state.advance_window();
        // With long activities few fetches come in a window, so the node leaves the rest to the other nodes.
        let soon = ahead.min(state.window.1.max(state.window.2));
        (state.waiting.len() + soon).saturating_sub(state.ready.len() + self.expected.load(Ordering::Acquire))
    }

    /// Counts items that will be offered soon, until [`Self::expect_no_more`].
    pub fn expect(&self, count: usize) {
        self.expected.fetch_add(count, Ordering::AcqRel);
    }

    pub fn expect_no_more(&self, count: usize) {
        self.expected.fetch_sub(count, Ordering::AcqRel);
    }

    pub fn is_waited_for(&self) -> bool {
        !self.state.lock().waiting.is_empty()
    }

    /// The session owners of the waiting fetches, one entry for each fetch that has an owner.
    pub fn owners(&self) -> Vec<QueueOwner> {
        self.state.lock().waiting.iter().filter_map(|waiter| waiter.owner.clone()).collect()
    }

    /// Gives an item to the fetch that has waited longest, or keeps it ready for the next one.
    pub fn offer(&self, mut item: Item) {
        let mut state = self.state.lock();
        while let Some(waiter) = state.waiting.pop_front() {
            match waiter.sender.send(item) {
                Ok(()) => return,
                Err(refused) => item = refused,
            }
        }
        state.ready.push_back((Instant::now(), item));
    }

    /// Gives an item to a waiting fetch of `owner`. Returns the item if no such fetch waits.
    pub fn offer_to(&self, owner: &str, mut item: Item) -> Result<(), Item> {
        let mut state = self.state.lock();
        loop {
            let is_owner = |waiter: &Waiter<Item>| waiter.owner.as_ref().is_some_and(|own| own.id == owner);
            let Some(place) = state.waiting.iter().position(is_owner) else { return Err(item) };
            let Some(waiter) = state.waiting.remove(place) else { return Err(item) };
            match waiter.sender.send(item) {
                Ok(()) => return Ok(()),
                Err(refused) => item = refused,
            }
        }
    }

    /// Takes the items that no fetch has taken for at least `age`.
    pub fn take_unwanted(&self, age: Duration) -> Vec<Item> {
        let mut state = self.state.lock();
        let now = Instant::now();
        let count = state.ready.iter().take_while(|(since, _)| now.duration_since(*since) >= age).count();
        let mut unwanted = std::mem::take(&mut state.returned);
        unwanted.extend(state.ready.drain(..count).map(|(_, item)| item));
        unwanted
    }

    /// Takes a ready item, or begins to wait for one.
    pub fn enter(&self, lease: Duration, owner: Option<QueueOwner>) -> QueueEntry<'_, Key, Item> {
        self.lease_ms.store(span_ms(lease), Ordering::Relaxed);
        let mut state = self.state.lock();
        state.advance_window();
        state.window.1 += 1;
        if let Some((_, item)) = state.ready.pop_front() {
            return QueueEntry::Found(item);
        }
        let (sender, receiver) = oneshot::channel();
        state.last_number += 1;
        let number = state.last_number;
        let has_owner = owner.is_some();
        state.waiting.push_back(Waiter { number, owner, sender });
        QueueEntry::Waits(QueuePlace { queue: self, number, has_owner, receiver })
    }
}

impl<Item> QueueState<Item> {
    fn advance_window(&mut self) {
        let now = Instant::now();
        let age = now.duration_since(self.window.0);
        if age >= 2 * WINDOW {
            self.window = (now, 0, 0);
        } else if age >= WINDOW {
            self.window = (now, 0, self.window.1);
        }
    }
}

pub enum QueueEntry<'a, Key, Item> {
    Found(Item),
    Waits(QueuePlace<'a, Key, Item>),
}

/// The place of a waiting fetch in a queue. The engine may drop a fetch at any time; an item that it has received by
/// then goes to the next fetch.
pub struct QueuePlace<'a, Key, Item> {
    queue: &'a PrefetchQueue<Key, Item>,
    number: u64,
    has_owner: bool,
    receiver: oneshot::Receiver<Item>,
}

impl<Key, Item> QueuePlace<'_, Key, Item> {
    /// Waits for an item. Cancel-safe.
    pub async fn item(&mut self) -> Option<Item> {
        (&mut self.receiver).await.ok()
    }

    pub fn item_now(&mut self) -> Option<Item> {
        self.receiver.try_recv().ok()
    }
}

impl<Key, Item> Drop for QueuePlace<'_, Key, Item> {
    fn drop(&mut self) {
        self.receiver.close();
        if let Ok(item) = self.receiver.try_recv() {
            if self.has_owner {
                self.queue.state.lock().returned.push(item);
            } else {
                self.queue.offer(item);
            }
        }
        self.queue.state.lock().waiting.retain(|waiter| waiter.number != self.number);
    }
}
