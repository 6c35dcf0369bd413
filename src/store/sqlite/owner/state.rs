//! What the owner of a file holds in memory: queues, locks and timers, which are authoritative while it lives, and the
//! instances that something is going on with. All of it is behind one lock that is held for moments only.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use duroxide::Event;
use duroxide::providers::WorkItem;
use parking_lot::Mutex;

use super::activities::Activities;
use super::change::Change;
use super::mail::Mail;
use super::waiters::{Bell, Waiters};
use crate::store::clock::now_ms;

/// The number of an instance in the file.
pub(super) type Number = i64;
/// The number of a message or an activity in the file, in order of arrival.
pub(super) type Sequence = i64;
pub(super) type Token = u64;
pub(super) type Version = (u64, u64, u64);
pub(super) type History = Arc<Mutex<Vec<Event>>>;

/// Instances whose histories stay in memory although nothing happens to them.
const KEPT_IDLE: usize = 4096;
const TRIM_EVERY: usize = 4096;

/// How often a turn whose lease is over but whose code runs is looked at again.
const BUSY_LOOK: Duration = Duration::from_millis(500);
/// A clock that is set forward is noticed after this time.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);

/// Timers that nobody waits for any more stay in memory until there are this many.
const FORGOTTEN_DUE: usize = 4096;

/// How long messages are kept for an instance that does not exist.
const ORPHANS_LIFE_MS: u64 = 10 * 60 * 1000;

pub(super) struct Message {
    pub sequence: Sequence,
    /// Boxed, since queues and maps make room for more entries than they have.
    pub item: Box<WorkItem>,
    pub attempts: u32,
    /// It was found when the file was opened: the process that had it may have died of it, so each further attempt is written
    /// before it is made.
    pub is_found: bool,
}

/// A turn that somebody runs.
pub(super) struct Held {
    pub token: Token,
    pub until: Instant,
    pub since: Instant,
    /// Its end is on the way to the disk, and its lease no longer ends.
    pub is_ending: bool,
    /// Its code runs, on a thread that then renews nothing; the lease does not end.
    pub is_busy: Option<Arc<AtomicBool>>,
    pub taken: Vec<Message>,
    /// Its attempts are on the disk, or on their way.
    pub is_noted: bool,
}

impl Held {
    fn is_safe(&self) -> bool {
        self.is_ending || self.is_busy.as_ref().is_some_and(|is_busy| is_busy.load(Ordering::Acquire))
    }
}

/// What the file says of an instance.
#[derive(Clone, Default)]
pub(super) struct Known {
    pub orchestration: Option<Arc<str>>,
    pub version: Option<Arc<str>>,
    /// The orchestration of a start that waits for its first turn.
    pub starting: Option<Arc<str>>,
    pub execution: u64,
    /// The newest execution that has a row.
    pub recorded_execution: u64,
    /// The version of the engine that the execution is pinned to.
    pub pinned: Option<Version>,
    pub has_ended: bool,
    pub has_kv: bool,
    /// It waits for code that can run it, and its row says why.
    pub has_mismatch: bool,
}

pub(super) struct Instance {
    pub id: Arc<str>,
    /// `None` until the file was asked.
    pub known: Option<Known>,
    /// It has a row in the file, or one is on its way.
    pub has_row: bool,
    /// Work under way that counts on this entry.
    pub pins: u32,
    pub queue: VecDeque<Message>,
    pub delayed: BTreeMap<Sequence, Message>,
    /// Given back to be handed out later, or with what comes before: nothing overtakes it.
    pub put_off: BTreeMap<Sequence, Message>,
    pub held: Option<Held>,
    pub is_ready: bool,
    /// How many of its activities are waiting or running.
    pub activities: usize,
    /// The current execution, as far as it is on the disk; `None` when it was not read or left memory.
    pub history: Option<History>,
    pub mail: Option<Mail>,
    pub used: u64,
}

impl Instance {
    fn new(id: Arc<str>) -> Self {
        Self {
            id,
            known: None,
            has_row: false,
            pins: 0,
            queue: VecDeque::new(),
            delayed: BTreeMap::new(),
            put_off: BTreeMap::new(),
            held: None,
            is_ready: false,
            activities: 0,
            history: None,
            mail: None,
            used: 0,
        }
    }

    /// Takes in what the file says.
    pub fn know(&mut self, known: Known) {
        if known.recorded_execution == 0 {
            self.mail = Some(Mail::default());
            self.history = Some(History::default());
        }
        self.known = Some(known);
        self.has_row = true;
    }

    pub fn exists(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.orchestration.is_some())
    }

    pub fn has_ended(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.has_ended)
    }

    pub fn execution(&self) -> u64 {
        self.known.as_ref().map_or(duroxide::INITIAL_EXECUTION_ID, |known| known.execution)
    }

    /// The orchestration that it runs, or that a waiting start will run.
    pub fn running(&self) -> Option<Arc<str>> {
        let known = self.known.as_ref()?;
        known.orchestration.clone().or_else(|| known.starting.clone())
    }

    fn begins(&self) -> bool {
        self.queue.iter().any(|message| {
            matches!(*message.item, WorkItem::StartOrchestration { .. } | WorkItem::ContinueAsNew { .. })
        })
    }

    fn has_history(&self) -> bool {
        // What was not read may be there.
        self.history.as_ref().is_none_or(|history| !history.lock().is_empty())
    }

    /// Takes back that it will run, when the start was not written.
    pub fn forget_start(&mut self) {
        let mut waiting = self.queue.iter().chain(self.delayed.values()).chain(self.put_off.values());
        let is_started =
            self.held.is_some() || waiting.any(|message| matches!(*message.item, WorkItem::StartOrchestration { .. }));
        if !is_started && let Some(known) = &mut self.known {
            known.starting = None;
        }
    }

    /// How many messages nobody has taken.
    fn waiting(&self) -> usize {
        self.queue.len() + self.delayed.len() + self.put_off.len()
    }

    /// Whether nothing needs this entry: all there is to know is in the file.
    fn is_idle(&self) -> bool {
        self.pins == 0
            && self.activities == 0
            && self.queue.is_empty()
            && self.delayed.is_empty()
            && self.put_off.is_empty()
            && self.held.is_none()
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    Message(Number, Sequence),
    Activity(Sequence),
    /// Its messages up to this one are for nobody by then.
    Orphans(Number, Sequence),
}

pub(super) struct State {
    /// Boxed, since a map of a hundred thousand has room for twice as many.
    pub instances: HashMap<Number, Box<Instance>>,
    /// How often instances were deleted: what was read of them before is not true any more.
    pub deletions: u64,
    pub numbers: HashMap<Arc<str>, Number>,
    next_number: Number,
    next_sequence: Sequence,
    ready: VecDeque<Number>,
    turns: HashMap<Token, Number>,
    /// No lease of a turn ends before this.
    first_expiry: Option<Instant>,
    due: BinaryHeap<Reverse<(u64, Sequence, Due)>>,
    /// How many may be due before those are dropped that are needed no more.
    due_limit: usize,
    pub activities: Activities,
    pub turn_waiters: Waiters<Option<Capabilities>>,
    /// Rung when the lock is let go.
    pub bells: Vec<Bell>,
    /// When the timers look again; they do not while there is nothing to look for.
    next_look: Option<Instant>,
    /// Something is due before that.
    due_moved: bool,
    /// Messages go to turns as they come, and messages to nobody are dropped: what the engine's conformance suite expects.
    pub is_bare: bool,
    clock: u64,
    turns_since_trim: usize,
    /// Orphaned messages whose time is over, to be removed from the file.
    pub expired: Vec<(Number, Sequence)>,
}

/// The versions of recorded executions that a dispatcher can replay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Capabilities {
    pub first: Version,
    pub last: Version,
    /// It can replay nothing.
    pub none: bool,
}

impl Capabilities {
    fn accepts(self, pinned: Option<Version>) -> bool {
        !self.none && pinned.is_none_or(|version| self.first <= version && version <= self.last)
    }
}

fn accepts(filter: Option<&Capabilities>, instance: &Instance) -> bool {
    let pinned = instance.known.as_ref().and_then(|known| known.pinned);
    filter.is_none_or(|capabilities| capabilities.accepts(pinned))
}

impl State {
    pub fn new(next_number: Number, next_sequence: Sequence, is_bare: bool) -> Self {
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
            activities: Activities::default(),
            turn_waiters: Waiters::default(),
            bells: Vec::new(),
            next_look: None,
            due_moved: false,
            is_bare,
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

    pub fn lasts_while_busy(&mut self, token: Token, is_busy: &Arc<AtomicBool>) {
        if let Some(instance) = self.turn(token).and_then(|number| self.instances.get_mut(&number))
            && let Some(held) = &mut instance.held
        {
            held.is_busy = Some(Arc::clone(is_busy));
        }
    }

    pub fn turn(&self, token: Token) -> Option<Number> {
        self.turns.get(&token).copied()
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
        let is_orphaned = !self.is_bare && instance.running().is_none();
        if is_orphaned {
            self.at(now.saturating_add(ORPHANS_LIFE_MS), Due::Orphans(number, sequence));
        }
        self.refresh(number);
    }

    pub fn at(&mut self, due_ms: u64, due: Due) {
        let is_first = self.due.peek().is_none_or(|Reverse((first, ..))| due_ms < *first);
        let order = self.sequence();
        self.due.push(Reverse((due_ms, order, due)));
        self.due_moved |= is_first;
        if self.due.len() > self.due_limit {
            self.drop_needless_timers();
        }
    }

    #[cfg(test)]
    pub fn timers(&self) -> usize {
        self.due.len()
    }

    /// What has ended leaves its timers behind, and some are for next year.
    fn drop_needless_timers(&mut self) {
        let Self { due, instances, activities, .. } = self;
        due.retain(|Reverse((_, _, due))| match due {
            Due::Message(number, sequence) => instances.get(number).is_some_and(|instance| {
                instance.delayed.contains_key(sequence) || instance.put_off.contains_key(sequence)
            }),
            Due::Activity(sequence) => activities.is_waiting(*sequence),
            Due::Orphans(number, _) => instances.get(number).is_some_and(|instance| instance.running().is_none()),
        });
        self.due_limit = FORGOTTEN_DUE.max(2 * self.due.len());
    }

    /// Makes an instance ready if a turn has something to do for it.
    pub fn refresh(&mut self, number: Number) {
        let is_bare = self.is_bare;
        let Some(instance) = self.instances.get_mut(&number) else { return };
        if instance.is_ready
            || instance.held.is_some()
            || instance.queue.is_empty()
            || !(instance.exists() || instance.begins() || instance.has_history())
        {
            return;
        }
        if !is_bare
            && !instance.has_ended()
            && let Some(mail) = &instance.mail
        {
            // What was put off goes first: beside it, a message may have to wait that alone could be given to a turn.
            let put_off = instance.put_off.len();
            let messages = instance.put_off.values().chain(&instance.queue).map(|message| &*message.item);
            if !mail.choose(messages).into_iter().any(|place| place >= put_off) {
                return;
            }
        }
        instance.is_ready = true;
        self.ready.push_back(number);
        let instance = &self.instances[&number];
        let bell = self.turn_waiters.first(|filter| accepts(filter.as_ref(), instance));
        self.bells.extend(bell);
    }

    /// Takes the first instance with work that `filter` accepts, and locks it. Its messages are taken by [`Self::take`].
    pub fn claim(&mut self, filter: Option<&Capabilities>, token: Token, until: Instant) -> Option<Number> {
        let place = self.ready.iter().position(|number| {
            self.instances.get(number).is_some_and(|instance| instance.is_ready && accepts(filter, instance))
        })?;
        let number = self.ready.remove(place)?;
        let instance = self.instances.get_mut(&number)?;
        instance.is_ready = false;
        instance.held = Some(Held {
            token,
            until,
            since: Instant::now(),
            is_ending: false,
            is_busy: None,
            taken: Vec::new(),
            is_noted: false,
        });
        self.turns.insert(token, number);
        self.note_expiry(until);
        Some(number)
    }

    /// Moves the messages of the next turn into the hands of its holder; false if there are none after all.
    pub fn take(&mut self, number: Number) -> bool {
        let is_bare = self.is_bare;
        let Some(instance) = self.instances.get_mut(&number) else { return false };
        // An instance that has ended waits for nothing: whatever comes is for the engine to drop.
        let has_ended = instance.has_ended();
        let Some(held) = &mut instance.held else { return false };
        for (_, message) in std::mem::take(&mut instance.put_off).into_iter().rev() {
            instance.queue.push_front(message);
        }
        let chosen = match &instance.mail {
            Some(mail) if !is_bare && !has_ended => mail.choose(instance.queue.iter().map(|message| &*message.item)),
            _ => (0..instance.queue.len()).collect(),
        };
        if chosen.len() == instance.queue.len() {
            // It may wait for long now, and keeps no room for what may come.
            held.taken.extend(std::mem::take(&mut instance.queue));
        } else {
            for place in chosen.into_iter().rev() {
                held.taken.extend(instance.queue.remove(place));
            }
            held.taken.reverse();
        }
        for message in &mut held.taken {
            message.attempts += 1;
        }
        !held.taken.is_empty()
    }

    /// Takes the lock off an instance; what its holder had taken comes back.
    pub fn release(&mut self, token: Token) -> Option<(Number, Vec<Message>)> {
        let number = self.turns.remove(&token)?;
        let instance = self.instances.get_mut(&number)?;
        let held = instance.held.take_if(|held| held.token == token)?;
        Some((number, held.taken))
    }

    /// Puts messages back to the head of their queue, in their order.
    pub fn put_back(&mut self, number: Number, messages: Vec<Message>) {
        if let Some(instance) = self.instances.get_mut(&number) {
            for message in messages.into_iter().rev() {
                instance.queue.push_front(message);
            }
            self.refresh(number);
        }
    }

    /// Ends the time of the messages that were put off with this one.
    fn bring_back(&mut self, number: Number, sequence: Sequence) {
        if let Some(instance) = self.instances.get_mut(&number)
            && instance.put_off.contains_key(&sequence)
        {
            let messages = std::mem::take(&mut instance.put_off).into_values().collect();
            self.put_back(number, messages);
        }
    }

    pub fn note_expiry(&mut self, until: Instant) {
        if self.first_expiry.is_none_or(|first| until < first) {
            self.first_expiry = Some(until);
        }
    }

    /// Ends the leases whose time is over.
    pub fn expire(&mut self, now: Instant) {
        if self.first_expiry.is_some_and(|first| first <= now) {
            let mut next: Option<Instant> = None;
            let mut over = Vec::new();
            for (token, number) in &self.turns {
                let Some(held) = self.instances.get_mut(number).and_then(|instance| instance.held.as_mut()) else {
                    continue;
                };
                if held.until <= now {
                    if !held.is_safe() {
                        over.push(*token);
                        continue;
                    }
                    // What has been busy for so long gets the time to say how it went.
                    held.until = now + BUSY_LOOK;
                }
                let until = held.until;
                next = Some(next.map_or(until, |next| next.min(until)));
            }
            self.first_expiry = next;
            for token in over {
                if let Some((number, taken)) = self.release(token) {
                    self.put_back(number, taken);
                }
            }
        }
        self.activities.expire(now, &mut self.bells);
    }

    /// Makes visible what is due, and says when to look again.
    pub fn tick(&mut self) -> Option<Duration> {
        let now = now_ms();
        while self.due.peek().is_some_and(|Reverse((due_ms, ..))| *due_ms <= now) {
            let Some(Reverse((_, _, due))) = self.due.pop() else { break };
            match due {
                Due::Message(number, sequence) => {
                    if let Some(instance) = self.instances.get_mut(&number)
                        && let Some(message) = instance.delayed.remove(&sequence)
                    {
                        instance.queue.push_back(message);
                        self.refresh(number);
                    } else {
                        self.bring_back(number, sequence);
                    }
                }
                Due::Activity(sequence) => self.activities.show(sequence, &mut self.bells),
                Due::Orphans(number, last) => {
                    if self.instances.get(&number).is_some_and(|instance| instance.running().is_none()) {
                        self.expired.push((number, last));
                    }
                }
            }
        }
        let instant = Instant::now();
        self.expire(instant);
        let timer = self.due.peek().map(|Reverse((due_ms, ..))| Duration::from_millis(due_ms.saturating_sub(now)));
        let lease = self.first_lease().map(|first| first.saturating_duration_since(instant));
        let pause = [timer, lease].into_iter().flatten().min();
        // A millisecond is what times are counted in: looking earlier would find nothing. And a clock that is set forward is
        // noticed, however far away the next timer is.
        let pause = pause.map(|pause| pause.clamp(Duration::from_millis(1), LONGEST_SLEEP));
        self.next_look = pause.map(|pause| instant + pause);
        self.due_moved = false;
        pause
    }

    fn first_lease(&self) -> Option<Instant> {
        [self.first_expiry, self.activities.first_expiry].into_iter().flatten().min()
    }

    /// Whether the timers must look earlier than they mean to.
    pub fn takes_timers_by_surprise(&mut self) -> bool {
        let lease = self.first_lease().is_some_and(|first| self.next_look.is_none_or(|look| first < look));
        if lease {
            // They are told once.
            self.next_look = self.first_lease();
        }
        std::mem::take(&mut self.due_moved) || lease
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

    /// Wakes somebody for each instance that is ready, after one who was woken has left.
    pub fn ring_for_turns(&mut self) {
        for number in &self.ready {
            if let Some(instance) = self.instances.get(number) {
                self.bells.extend(self.turn_waiters.first(|filter| accepts(filter.as_ref(), instance)));
            }
        }
    }

    /// Turns that have lasted for `least`, each of them once: what they do may be what kills the process.
    pub fn running_attempts(&mut self, now: Instant, least: Duration) -> Vec<Change> {
        let has_lasted = |since: Instant| now.saturating_duration_since(since) >= least;
        let mut changes = Vec::new();
        for number in self.turns.values() {
            let Some(held) = self.instances.get_mut(number).and_then(|instance| instance.held.as_mut()) else {
                continue;
            };
            if held.is_noted || held.is_ending || !has_lasted(held.since) {
                continue;
            }
            held.is_noted = true;
            let messages = held.taken.iter().filter(|message| !message.is_found);
            changes.extend(
                messages
                    .map(|message| Change::MessageAttempts { sequence: message.sequence, attempts: message.attempts }),
            );
        }
        changes
    }

    /// Messages of queues that are for nobody are dropped at the next look, if this store keeps none.
    pub fn drop_orphans(&mut self) {
        if self.is_bare {
            for instance in self.instances.values_mut() {
                if !instance.exists() && !instance.begins() && !instance.has_history() {
                    instance.queue.retain(|message| !matches!(*message.item, WorkItem::QueueMessage { .. }));
                }
            }
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
    pub fn take_waiters(&mut self) -> Vec<Bell> {
        let turns = self.turn_waiters.take_all();
        turns.chain(self.activities.waiters.take_all()).collect()
    }

    /// What a queue holds that nobody has taken: messages and activities.
    pub fn depths(&self) -> (usize, usize) {
        let messages = self.instances.values().map(|instance| instance.waiting()).sum();
        (messages, self.activities.waiting())
    }
}
