//! Where what this node has leased meets who waits for it.
//!
//! A lane is for all that ask for the same: turns that one range of versions can run, activities with one set of tags. A fetch
//! takes what is ready, or waits; what is claimed goes to the one that has waited longest. A little more is claimed than is
//! waited for, so that a slot that comes free finds something at once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::clock::span_ms;

/// Who may be given an activity of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueOwner {
    pub id: String,
    pub lease: Duration,
}

struct Waiter<Item> {
    number: u64,
    owner: Option<QueueOwner>,
    sender: oneshot::Sender<Item>,
}

struct QueueState<Item> {
    pub ready: VecDeque<(Instant, Item)>,
    waiting: VecDeque<Waiter<Item>>,
    numbers: u64,
    /// What came for a slot that had gone, and that no other may have.
    returned: Vec<Item>,
    /// When the present window began, how many were taken in it, and in the one before.
    window: (Instant, usize, usize),
}

/// What one kind of fetch asks for.
pub struct PrefetchQueue<Key, Item> {
    pub key: Key,
    /// The longest lease that was asked for last, in milliseconds.
    lease_ms: AtomicI64,
    /// Whether the server may have something that nobody here has looked for.
    more: AtomicBool,
    /// How many are leased whose histories are being read.
    coming: AtomicUsize,
    state: Mutex<QueueState<Item>>,
}

/// Over which time it is counted how fast work is taken: about that of a commit.
const WINDOW: Duration = Duration::from_millis(20);

impl<Key, Item> PrefetchQueue<Key, Item> {
    pub fn new(key: Key) -> Self {
        let state = QueueState {
            ready: VecDeque::new(),
            waiting: VecDeque::new(),
            numbers: 0,
            returned: Vec::new(),
            window: (Instant::now(), 0, 0),
        };
        Self {
            key,
            lease_ms: AtomicI64::new(0),
            more: AtomicBool::new(true),
            coming: AtomicUsize::new(0),
            state: Mutex::new(state),
        }
    }

    pub fn lease_ms(&self) -> i64 {
        self.lease_ms.load(Ordering::Relaxed)
    }

    /// There may be something on the server.
    pub fn hint(&self) {
        self.more.store(true, Ordering::Release);
    }

    pub fn has_hint(&self) -> bool {
        self.more.load(Ordering::Acquire)
    }

    /// Whether somebody waits who could use what the server may have.
    pub fn can_use_hint(&self, ahead: usize) -> bool {
        self.has_hint() && self.is_waited_for() && self.demand(ahead) > 0
    }

    pub fn take_hint(&self) -> bool {
        self.more.swap(false, Ordering::AcqRel)
    }

    /// How many more can be used here: by those who wait, and by those who will come in a moment, at most `ahead`.
    pub fn demand(&self, ahead: usize) -> usize {
        let mut state = self.state.lock();
        state.turn_window();
        // A window of long activities takes few, and so leaves the rest to the other nodes.
        let soon = ahead.min(state.window.1.max(state.window.2));
        (state.waiting.len() + soon).saturating_sub(state.ready.len() + self.coming.load(Ordering::Acquire))
    }

    /// So many more will be offered soon, or have been.
    pub fn expect(&self, count: usize) {
        self.coming.fetch_add(count, Ordering::AcqRel);
    }

    pub fn expect_no_more(&self, count: usize) {
        self.coming.fetch_sub(count, Ordering::AcqRel);
    }

    pub fn is_waited_for(&self) -> bool {
        !self.state.lock().waiting.is_empty()
    }

    /// The owners of sessions among those who wait, one entry for each.
    pub fn owners(&self) -> Vec<QueueOwner> {
        self.state.lock().waiting.iter().filter_map(|waiter| waiter.owner.clone()).collect()
    }

    /// Hands over something that is for nobody in particular.
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

    /// Hands over what only `owner` may have; it comes back if that one waits no more.
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

    /// What has been ready for longer than `age` without anybody taking it.
    pub fn take_unwanted(&self, age: Duration) -> Vec<Item> {
        let mut state = self.state.lock();
        let now = Instant::now();
        let count = state.ready.iter().take_while(|(since, _)| now.duration_since(*since) >= age).count();
        let mut unwanted = std::mem::take(&mut state.returned);
        unwanted.extend(state.ready.drain(..count).map(|(_, item)| item));
        unwanted
    }

    /// What is ready, or a place in the line.
    pub fn enter(&self, lease: Duration, owner: Option<QueueOwner>) -> QueueEntry<'_, Key, Item> {
        self.lease_ms.store(span_ms(lease), Ordering::Relaxed);
        let mut state = self.state.lock();
        state.turn_window();
        state.window.1 += 1;
        if let Some((_, item)) = state.ready.pop_front() {
            return QueueEntry::Found(item);
        }
        let (sender, receiver) = oneshot::channel();
        state.numbers += 1;
        let number = state.numbers;
        let has_owner = owner.is_some();
        state.waiting.push_back(Waiter { number, owner, sender });
        QueueEntry::Waits(QueuePlace { lane: self, number, has_owner, receiver })
    }
}

impl<Item> QueueState<Item> {
    fn turn_window(&mut self) {
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

/// A place in the line of a lane. A fetch may be dropped at any time: what was handed over by then goes to the next.
pub struct QueuePlace<'a, Key, Item> {
    lane: &'a PrefetchQueue<Key, Item>,
    number: u64,
    has_owner: bool,
    receiver: oneshot::Receiver<Item>,
}

impl<Key, Item> QueuePlace<'_, Key, Item> {
    /// Cancel-safe.
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
                self.lane.state.lock().returned.push(item);
            } else {
                self.lane.offer(item);
            }
        }
        self.lane.state.lock().waiting.retain(|waiter| waiter.number != self.number);
    }
}
