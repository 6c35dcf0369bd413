//! The whole memory of the owner: queues, leases and timers, and the active instances. One lock guards it, and is held
//! only for a short time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use duroxide::providers::QueueDepths;

use crate::clock::{after_ms, now_ms};
use crate::flow_control::ORPHAN_LIFETIME;
use crate::policy::StorePolicy;
use crate::sqlite::owner::memory::activity_queue::ActivityQueue;
use crate::sqlite::owner::memory::capabilities::Capabilities;
use crate::sqlite::owner::memory::due_item::{DueItem, MIN_DUE_LIMIT};
use crate::sqlite::owner::memory::ids::{Number, Sequence, Token};
use crate::sqlite::owner::memory::instance::{Instance, Message};
use crate::sqlite::owner::memory::waiters::{Waiters, WakeUp};

/// How many inactive instances stay in memory with their histories.
const MAX_INACTIVE: usize = 4096;
const TURNS_PER_TRIM: usize = 4096;

pub struct OwnerState {
    /// Boxed, since a map of a hundred thousand entries may reserve room for twice as many.
    pub instances: HashMap<Number, Box<Instance>>,
    /// How often instances were deleted. Records that were read before a deletion are out of date.
    pub deletions: u64,
    pub numbers: HashMap<Arc<str>, Number>,
    next_number: Number,
    next_sequence: Sequence,
    pub ready: VecDeque<Number>,
    pub turns: HashMap<Token, Number>,
    /// No lease of a turn ends before this.
    pub first_expiry: Option<Instant>,
    pub due: BinaryHeap<Reverse<(u64, Sequence, DueItem)>>,
    /// The number of timers from which unneeded ones are dropped.
    pub due_limit: usize,
    pub activities: ActivityQueue,
    pub turn_waiters: Waiters<Option<Capabilities>>,
    /// Sent when the lock is released.
    pub wake_ups: Vec<WakeUp>,
    /// The next time at which the timer thread wakes up; `None` while it has nothing to wait for.
    pub next_timer_check: Option<Instant>,
    /// A timer is due before that time.
    pub has_earlier_due: bool,
    pub policy: StorePolicy,
    clock: u64,
    turns_since_trim: usize,
    /// Orphans whose time is over. The timer thread removes them from the file.
    pub expired_orphans: Vec<(Number, Sequence)>,
}

impl OwnerState {
    pub fn new(next_number: Number, next_sequence: Sequence, policy: StorePolicy) -> Self {
        Self {
            instances: HashMap::new(),
            deletions: 0,
            numbers: HashMap::new(),
            next_number,
            next_sequence,
            ready: VecDeque::new(),
            turns: HashMap::new(),
            first_expiry: None,
            due: BinaryHeap::new(),
            due_limit: MIN_DUE_LIMIT,
            activities: ActivityQueue::default(),
            turn_waiters: Waiters::default(),
            wake_ups: Vec::new(),
            next_timer_check: None,
            has_earlier_due: false,
            policy,
            clock: 0,
            turns_since_trim: 0,
            expired_orphans: Vec::new(),
        }
    }

    pub fn sequence(&mut self) -> Sequence {
        self.next_sequence += 1;
        self.next_sequence
    }

    /// The number of the entry of `id`. A new entry has no record yet, so the caller must read the record from the
    /// file.
    pub fn intern(&mut self, id: &str) -> Number {
        if let Some(number) = self.numbers.get(id) {
            return *number;
        }
        self.next_number += 1;
        self.insert(self.next_number, id)
    }

    /// Creates the entry of an instance with the given number.
    pub fn insert(&mut self, number: Number, id: &str) -> Number {
        let id: Arc<str> = id.into();
        self.numbers.insert(Arc::clone(&id), number);
        self.instances.insert(number, Box::new(Instance::new(id)));
        number
    }

    /// Replaces the provisional number of an entry by its number in the file.
    pub fn renumber(&mut self, from: Number, to: Number) {
        if let Some(instance) = self.instances.remove(&from) {
            self.numbers.insert(Arc::clone(&instance.id), to);
            let earlier = self.instances.insert(to, instance);
            debug_assert!(earlier.is_none(), "an instance has one entry");
        }
    }

    pub fn get(&mut self, number: Number) -> Option<&mut Instance> {
        self.instances.get_mut(&number).map(Box::as_mut)
    }

    /// Adds a message to its instance. It becomes visible now, or when it is due.
    pub fn push(&mut self, number: Number, message: Message, visible_ms: u64) {
        let now = now_ms();
        let Some(instance) = self.instances.get_mut(&number) else { return };
        let sequence = message.sequence;
        debug_assert!(sequence <= self.next_sequence, "sequence numbers grow");
        if visible_ms > now {
            instance.delayed.insert(sequence, message);
            self.schedule(visible_ms, DueItem::Message(number, sequence));
            return;
        }
        instance.enqueue(message);
        if instance.running().is_none() {
            self.schedule(after_ms(ORPHAN_LIFETIME), DueItem::Orphans(number, sequence));
        }
        self.refresh(number);
    }

    /// Notes that an instance was used, for [`Self::trim`].
    pub fn touch(&mut self, number: Number) {
        self.clock += 1;
        let clock = self.clock;
        if let Some(instance) = self.instances.get_mut(&number) {
            instance.last_used = clock;
        }
    }

    /// Removes an instance from memory if it is idle.
    pub fn forget_if_idle(&mut self, number: Number) {
        if self.instances.get(&number).is_some_and(|instance| instance.is_idle()) {
            self.forget(number);
        }
    }

    pub fn forget(&mut self, number: Number) {
        if let Some(instance) = self.instances.remove(&number) {
            self.numbers.remove(&instance.id);
        }
    }

    /// Counts a turn. Once every [`TURNS_PER_TRIM`] turns, the instances that were not used for longest leave memory.
    pub fn count_turn(&mut self) {
        self.turns_since_trim += 1;
        if self.turns_since_trim >= TURNS_PER_TRIM {
            self.turns_since_trim = 0;
            self.trim();
        }
    }

    fn trim(&mut self) {
        let mut idle: Vec<(u64, Number)> = self
            .instances
            .iter()
            .filter(|(_, instance)| instance.leased.is_none() && (instance.history.is_some() || instance.is_idle()))
            .map(|(number, instance)| (instance.last_used, *number))
            .collect();
        let Some(surplus) = idle.len().checked_sub(MAX_INACTIVE).filter(|surplus| *surplus > 0) else { return };
        idle.select_nth_unstable(surplus - 1);
        for (_, number) in &idle[..surplus] {
            if let Some(instance) = self.instances.get_mut(number)
                && !instance.is_pinned()
                && instance.has_row
            {
                instance.history = None;
            }
            self.forget_if_idle(*number);
        }
    }

    /// Removes a deleted instance, its turn and its activities from memory.
    pub fn drop_instance(&mut self, number: Number) {
        if let Some(leased) = self.instances.get_mut(&number).and_then(|instance| instance.leased.take()) {
            self.turns.remove(&leased.token);
        }
        for sequence in self.activities.of_instance(number) {
            self.activities.remove(sequence);
        }
        self.forget(number);
    }

    /// Whether an instance has a mismatch report. Its record has none afterwards.
    pub fn take_mismatch(&mut self, number: Number) -> bool {
        let record = self.get(number).and_then(|instance| instance.record.as_mut());
        record.is_some_and(|record| std::mem::take(&mut record.has_mismatch))
    }

    /// Removes all waiting fetches. They end when the returned wake-ups are dropped.
    pub fn take_waiters(&mut self) -> Vec<WakeUp> {
        let turns = self.turn_waiters.take_all();
        turns.chain(self.activities.waiters.take_all()).collect()
    }

    /// The numbers of messages and activities that no runtime has taken, and of timers that are not due.
    pub fn depths(&self) -> QueueDepths {
        let messages: usize = self.instances.values().map(|instance| instance.waiting()).sum();
        let timer_queue: usize = self.instances.values().map(|instance| instance.timers()).sum();
        QueueDepths { orchestrator_queue: messages - timer_queue, worker_queue: self.activities.waiting(), timer_queue }
    }
}
