//! What the owner of a file holds in memory: queues, locks and timers, which are authoritative while it lives, and the
//! instances that something is going on with. All of it is behind one lock that is held for moments only.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use duroxide::providers::WorkItem;

use crate::clock::{after_ms, now_ms};
use crate::flow_control::ORPHANS_LIFE;
use crate::policy::StorePolicy;
use crate::sqlite::owner::memory::activity_queue::ActivityQueue;
pub use crate::sqlite::owner::memory::due::Due;
use crate::sqlite::owner::memory::due::FORGOTTEN_DUE;
use crate::sqlite::owner::memory::ids::{Number, Sequence, Token};
pub use crate::sqlite::owner::memory::instance::{Held, Instance, Known, Message};
pub use crate::sqlite::owner::memory::turns::Capabilities;
use crate::sqlite::owner::memory::waiters::{Waiters, WakeUp};

/// Instances whose histories stay in memory although nothing happens to them.
const KEPT_IDLE: usize = 4096;
const TRIM_EVERY: usize = 4096;

pub struct State {
    /// Boxed, since a map of a hundred thousand has room for twice as many.
    pub instances: HashMap<Number, Box<Instance>>,
    /// How often instances were deleted: what was read of them before is not true any more.
    pub deletions: u64,
    pub numbers: HashMap<Arc<str>, Number>,
    next_number: Number,
    next_sequence: Sequence,
    pub ready: VecDeque<Number>,
    pub turns: HashMap<Token, Number>,
    /// No lease of a turn ends before this.
    pub first_expiry: Option<Instant>,
    pub due: BinaryHeap<Reverse<(u64, Sequence, Due)>>,
    /// How many may be due before those are dropped that are needed no more.
    pub due_limit: usize,
    pub activities: ActivityQueue,
    pub turn_waiters: Waiters<Option<Capabilities>>,
    /// Rung when the lock is let go.
    pub bells: Vec<WakeUp>,
    /// When the timers look again; they do not while there is nothing to look for.
    pub next_look: Option<Instant>,
    /// Something is due before that.
    pub due_moved: bool,
    pub policy: StorePolicy,
    clock: u64,
    turns_since_trim: usize,
    /// Orphaned messages whose time is over, to be removed from the file.
    pub expired: Vec<(Number, Sequence)>,
}

impl State {
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
            due_limit: FORGOTTEN_DUE,
            activities: ActivityQueue::default(),
            turn_waiters: Waiters::default(),
            bells: Vec::new(),
            next_look: None,
            due_moved: false,
            policy,
            clock: 0,
            turns_since_trim: 0,
            expired: Vec::new(),
        }
    }

    pub fn sequence(&mut self) -> Sequence {
        self.next_sequence += 1;
        self.next_sequence
    }

    /// The entry of `id`, made if there is none; then the file must be asked what it knows.
    pub fn intern(&mut self, id: &str) -> Number {
        if let Some(number) = self.numbers.get(id) {
            return *number;
        }
        self.next_number += 1;
        self.adopt(self.next_number, id)
    }

    /// Makes the entry of an instance whose number is known from the file.
    pub fn adopt(&mut self, number: Number, id: &str) -> Number {
        let id: Arc<str> = id.into();
        self.numbers.insert(Arc::clone(&id), number);
        self.instances.insert(number, Box::new(Instance::new(id)));
        number
    }

    /// Replaces the number that an entry was made with by the one that the file has for it.
    pub fn renumber(&mut self, from: Number, to: Number) {
        if let Some(instance) = self.instances.remove(&from) {
            self.numbers.insert(Arc::clone(&instance.id), to);
            self.instances.insert(to, instance);
        }
    }

    pub fn get(&mut self, number: Number) -> Option<&mut Instance> {
        self.instances.get_mut(&number).map(Box::as_mut)
    }

    /// Puts a message where its instance finds it, now or when it is due.
    pub fn push(&mut self, number: Number, message: Message, visible_ms: u64) {
        let now = now_ms();
        let Some(instance) = self.instances.get_mut(&number) else { return };
        let sequence = message.sequence;
        if visible_ms > now {
            instance.delayed.insert(sequence, message);
            self.at(visible_ms, Due::Message(number, sequence));
            return;
        }
        // An event is for the execution that waits for it, whichever comes first; a start is read before all else.
        let begins = matches!(*message.item, WorkItem::StartOrchestration { .. });
        if begins && !instance.exists() {
            instance.queue.push_front(message);
        } else {
            instance.queue.push_back(message);
        }
        if instance.running().is_none() {
            self.at(after_ms(ORPHANS_LIFE), Due::Orphans(number, sequence));
        }
        self.refresh(number);
    }

    /// Notes that an instance is in use, for [`Self::trim`].
    pub fn touch(&mut self, number: Number) {
        self.clock += 1;
        let clock = self.clock;
        if let Some(instance) = self.instances.get_mut(&number) {
            instance.used = clock;
        }
    }

    /// Lets an instance go that nothing needs any more.
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

    /// Drops what was not used for longest, now and then.
    pub fn turn_ended(&mut self) {
        self.turns_since_trim += 1;
        if self.turns_since_trim >= TRIM_EVERY {
            self.turns_since_trim = 0;
            self.trim();
        }
    }

    fn trim(&mut self) {
        let mut idle: Vec<(u64, Number)> = self
            .instances
            .iter()
            .filter(|(_, instance)| instance.held.is_none() && (instance.history.is_some() || instance.is_idle()))
            .map(|(number, instance)| (instance.used, *number))
            .collect();
        let Some(surplus) = idle.len().checked_sub(KEPT_IDLE).filter(|surplus| *surplus > 0) else { return };
        idle.select_nth_unstable(surplus - 1);
        for (_, number) in &idle[..surplus] {
            if let Some(instance) = self.instances.get_mut(number)
                && instance.pins == 0
                && instance.has_row
            {
                instance.history = None;
            }
            self.forget_if_idle(*number);
        }
    }

    /// Drops all that is known of an instance that was deleted.
    pub fn drop_instance(&mut self, number: Number) {
        if let Some(held) = self.instances.get_mut(&number).and_then(|instance| instance.held.take()) {
            self.turns.remove(&held.token);
        }
        for sequence in self.activities.of_instance(number) {
            self.activities.remove(sequence);
        }
        self.forget(number);
    }

    pub fn has_mismatch(&mut self, number: Number) -> bool {
        let known = self.get(number).and_then(|instance| instance.known.as_mut());
        known.is_some_and(|known| std::mem::take(&mut known.has_mismatch))
    }

    /// Everybody who waits, to be told that there will be nothing more.
    pub fn take_waiters(&mut self) -> Vec<WakeUp> {
        let turns = self.turn_waiters.take_all();
        turns.chain(self.activities.waiters.take_all()).collect()
    }

    /// What a queue holds that nobody has taken: messages and activities.
    pub fn depths(&self) -> (usize, usize) {
        let messages = self.instances.values().map(|instance| instance.waiting()).sum();
        (messages, self.activities.waiting())
    }
}
