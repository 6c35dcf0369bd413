//! Who looks for work, and when.
//!
//! PostgreSQL's provider is polled: it does not tell when work arrives. (The embedded store does, and needs none of this.) What this process commits is known here, so a fetch
//! waits for a *hint* (a permit of a semaphore) instead of asking. A fetch that finds something gives its hint back, and so
//! wakes the next one; a fetch that finds nothing uses it up; a fetch that is dropped gives it back. One of the waiting
//! fetches leads: it makes the hints of due timers and of the slow poll for what other processes commit, so an idle store
//! costs the same with two slots as with two hundred, and nothing runs when nobody waits.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::task::Id;

use super::clock::now_ms;

/// Beyond this many known due times, or instances with news, the slow poll is relied on.
const REMEMBERED: usize = 100_000;

#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Orchestrations,
    Activities,
}

/// The waiting fetches of one kind in one dispatcher.
pub(super) struct Lane {
    kind: Kind,
    hints: Semaphore,
    /// How many fetches may look at once.
    width: usize,
    leader: tokio::sync::Mutex<()>,
    polled: Mutex<Instant>,
    /// Something became due earlier than what the leader waits for.
    earlier: Notify,
    waiting: AtomicUsize,
    /// The slots that sessions belong to: nobody else can fetch what comes for these.
    session_slots: Mutex<HashSet<Id>>,
    /// The database does not answer; those who noticed keep trying, so nobody else is sent.
    suspended: AtomicBool,
}

/// When something can be fetched, and for which instance. Of the store, since it outlives a runtime.
type Due = Mutex<BinaryHeap<Reverse<(u64, String)>>>;

impl Lane {
    fn new(kind: Kind, width: usize) -> Self {
        Self {
            kind,
            // Work may be there from before.
            hints: Semaphore::new(width),
            width,
            leader: tokio::sync::Mutex::new(()),
            polled: Mutex::new(Instant::now()),
            earlier: Notify::new(),
            waiting: AtomicUsize::new(0),
            session_slots: Mutex::default(),
            suspended: AtomicBool::new(false),
        }
    }

    fn hint(&self) {
        // A permit that lies there is taken by a fetch that begins later than now, so it stands for this news too.
        if self.hints.available_permits() < self.width {
            self.hints.add_permits(1);
        }
    }

    fn hint_everyone(&self) {
        // A slot that is busy now asks soon, and must not find its hint taken by the others.
        let busy = self.session_slots.lock().len();
        self.hints.add_permits(self.waiting.load(Ordering::Relaxed).max(1) + busy);
    }

    /// The slot that asks has fetched something of a session, and so may own it.
    pub fn mark_session_slot(&self) {
        if let Some(slot) = tokio::task::try_id() {
            self.session_slots.lock().insert(slot);
        }
    }

    /// Whether the slot that asks should look without a hint: what came for its session while it was busy, others could not
    /// fetch.
    pub fn looks_unasked(&self) -> bool {
        let session_slots = self.session_slots.lock();
        !self.hints.is_closed() && tokio::task::try_id().is_some_and(|slot| session_slots.contains(&slot))
    }

    pub fn suspend(&self, suspended: bool) {
        self.suspended.store(suspended, Ordering::Relaxed);
    }

    /// Waits for a hint; `None` once the dispatcher is stopped.
    pub async fn next(&self, poll_interval: Duration, wake: &Wake) -> Option<SemaphorePermit<'_>> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        tokio::select! {
            biased;
            permit = self.hints.acquire() => permit.ok(),
            never = self.lead(poll_interval, wake) => match never {},
        }
    }

    async fn lead(&self, poll_interval: Duration, wake: &Wake) -> Infallible {
        let _leader = self.leader.lock().await;
        loop {
            let pause = self.make_due_hints(poll_interval, wake);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // A permit that an earlier leader left is one more turn of this loop, no more.
                () = self.earlier.notified() => {}
            }
        }
    }

    /// Makes the hints that are due, and says how long there will be none.
    fn make_due_hints(&self, poll_interval: Duration, wake: &Wake) -> Duration {
        let next = wake.make_due_hints(self.kind);
        let mut polled = self.polled.lock();
        if polled.elapsed() >= poll_interval {
            *polled = Instant::now();
            if !self.suspended.load(Ordering::Relaxed) {
                self.hint();
            }
        }
        let poll = poll_interval.saturating_sub(polled.elapsed());
        next.map_or(poll, |next| next.min(poll))
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The lanes of one dispatcher.
pub(super) struct Signals {
    pub orchestrations: Lane,
    pub activities: Lane,
    /// Has no permits: it ends by being closed.
    stop: Semaphore,
}

impl Signals {
    fn lane(&self, kind: Kind) -> &Lane {
        match kind {
            Kind::Orchestrations => &self.orchestrations,
            Kind::Activities => &self.activities,
        }
    }

    pub fn stop(&self) {
        self.orchestrations.hints.close();
        self.activities.hints.close();
        self.stop.close();
    }

    pub async fn stopped(&self) {
        let _ = self.stop.acquire().await;
    }
}

/// When each instance last got a message, so that a turn knows at its end whether one came while it held the instance: the
/// fetch which that message caused found the instance locked.
#[derive(Default)]
pub(super) struct Arrivals {
    state: Mutex<ArrivalState>,
}

#[derive(Default)]
struct ArrivalState {
    sequence: u64,
    last: HashMap<String, u64>,
    /// What came before this is no longer known one by one.
    forgotten: u64,
}

impl Arrivals {
    fn note(&self, instance: &str) {
        let mut state = self.state.lock();
        state.sequence += 1;
        let sequence = state.sequence;
        if state.last.len() >= REMEMBERED {
            state.last.clear();
            state.forgotten = sequence;
        }
        match state.last.get_mut(instance) {
            Some(last) => *last = sequence,
            None => {
                state.last.insert(instance.to_owned(), sequence);
            }
        }
    }

    pub fn now(&self) -> u64 {
        self.state.lock().sequence
    }

    fn since(&self, instance: &str, sequence: u64) -> bool {
        let mut state = self.state.lock();
        match state.last.get(instance) {
            Some(last) if *last > sequence => true,
            _ => {
                state.last.remove(instance);
                state.forgotten > sequence
            }
        }
    }
}

/// All dispatchers of a store.
pub(super) struct Wake {
    /// The store itself wakes those who wait for work.
    is_idle: bool,
    width: usize,
    dispatchers: Mutex<Vec<Weak<Signals>>>,
    pub arrivals: Arrivals,
    orchestrations_due: Due,
    activities_due: Due,
}

impl Wake {
    pub fn new(width: usize, is_idle: bool) -> Self {
        Self {
            is_idle,
            width,
            dispatchers: Mutex::default(),
            arrivals: Arrivals::default(),
            orchestrations_due: Due::default(),
            activities_due: Due::default(),
        }
    }

    pub fn register(&self) -> Arc<Signals> {
        let signals = Arc::new(Signals {
            orchestrations: Lane::new(Kind::Orchestrations, self.width),
            activities: Lane::new(Kind::Activities, self.width),
            stop: Semaphore::new(0),
        });
        let mut dispatchers = self.dispatchers.lock();
        dispatchers.retain(|dispatcher| dispatcher.strong_count() > 0);
        dispatchers.push(Arc::downgrade(&signals));
        signals
    }

    fn each(&self, tell: impl Fn(&Signals)) {
        for dispatcher in self.dispatchers.lock().iter().filter_map(Weak::upgrade) {
            tell(&dispatcher);
        }
    }

    pub fn stop(&self) {
        self.each(Signals::stop);
    }

    fn due(&self, kind: Kind) -> &Due {
        match kind {
            Kind::Orchestrations => &self.orchestrations_due,
            Kind::Activities => &self.activities_due,
        }
    }

    fn at(&self, kind: Kind, due_ms: u64, instance: &str) {
        let first = {
            let mut due = self.due(kind).lock();
            if due.len() >= REMEMBERED {
                return;
            }
            let first = due.peek().is_none_or(|Reverse((first, _))| due_ms < *first);
            due.push(Reverse((due_ms, instance.to_owned())));
            first
        };
        if first {
            self.each(|signals| signals.lane(kind).earlier.notify_one());
        }
    }

    /// Hints every dispatcher at what is due; how long until the next, if there is one.
    fn make_due_hints(&self, kind: Kind) -> Option<Duration> {
        let mut found = false;
        let next = {
            let mut due = self.due(kind).lock();
            let now = now_ms();
            while due.peek().is_some_and(|Reverse((first, _))| *first <= now) {
                if let Some(Reverse((_, instance))) = due.pop() {
                    self.arrivals.note(&instance);
                    found = true;
                }
            }
            due.peek().map(|Reverse((first, _))| Duration::from_millis(first.saturating_sub(now)))
        };
        if found {
            self.each(|signals| signals.lane(kind).hint());
        }
        next
    }

    /// A message for `instance` can be fetched now.
    pub fn orchestration(&self, instance: &str) {
        if self.is_idle {
            return;
        }
        self.arrivals.note(instance);
        self.each(|signals| signals.orchestrations.hint());
    }

    /// A message for `instance` can be fetched from `due_ms` on.
    pub fn orchestration_at(&self, due_ms: u64, instance: &str) {
        if self.is_idle {
            return;
        }
        if due_ms <= now_ms() {
            self.orchestration(instance);
        } else {
            self.at(Kind::Orchestrations, due_ms, instance);
        }
    }

    /// `instance` was unlocked by whoever fetched it at `sequence`.
    pub fn released(&self, instance: &str, sequence: u64) {
        if !self.is_idle && self.arrivals.since(instance, sequence) {
            self.each(|signals| signals.orchestrations.hint());
        }
    }

    /// Activities can be fetched now. Those of a session may be meant for one slot, so every slot looks.
    pub fn activities(&self, of_session: bool) {
        if self.is_idle {
            return;
        }
        self.each(|signals| if of_session { signals.activities.hint_everyone() } else { signals.activities.hint() });
    }

    pub fn activities_at(&self, due_ms: u64) {
        if self.is_idle {
            return;
        }
        self.at(Kind::Activities, due_ms, "");
    }
}
