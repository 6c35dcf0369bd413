//! The activities that wait or run, and their leases.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use duroxide::providers::{TagFilter, WorkItem};

use crate::live::{LeaseHolder, QueuedActivity};
use crate::session_limits::{IDLE_BEFORE_GIVEN_UP, SessionLimit};
use crate::sqlite::owner::memory::ids::{Number, Sequence, Token};
use crate::sqlite::owner::memory::sessions::{SessionFilter, Sessions};
use crate::sqlite::owner::memory::waiters::{Waiters, WakeUp};
use crate::work_item::takes_tag;

pub struct Activity {
    pub sequence: Sequence,
    pub number: Number,
    pub item: WorkItem,
    pub attempts: u32,
    /// See [`crate::sqlite::owner::memory::instance::Message::is_loaded`].
    pub is_loaded: bool,
    /// The row already contains the next attempt, since a fetch waited for the activity when the row was written.
    pub is_counted: bool,
    pub lease: Option<ActivityLease>,
}

pub struct ActivityLease {
    pub token: Token,
    pub until: Instant,
    /// Whether the delivery counts as an attempt.
    pub counts: bool,
}

/// The key of an activity for its orchestration: instance, execution and id.
type ActivityKey = (Number, u64, u64);

impl Activity {
    pub fn new(sequence: Sequence, number: Number, item: WorkItem) -> Self {
        Self { sequence, number, item, attempts: 0, is_loaded: false, is_counted: false, lease: None }
    }

    fn key(&self) -> Option<ActivityKey> {
        match &self.item {
            WorkItem::ActivityExecute { execution_id, id, .. } => Some((self.number, *execution_id, *id)),
            _ => None,
        }
    }

    fn session(&self) -> Option<&str> {
        match &self.item {
            WorkItem::ActivityExecute { session_id, .. } => session_id.as_deref(),
            _ => None,
        }
    }

    fn tag(&self) -> Option<&str> {
        match &self.item {
            WorkItem::ActivityExecute { tag, .. } => tag.as_deref(),
            _ => None,
        }
    }
}

/// The most sessions that one look reports as held back.
const MOST_HELD_BACK: usize = 64;

/// The activities that a fetch takes: those with certain tags, and those of sessions if there is a session
/// configuration.
#[derive(Clone)]
pub struct ActivityFilter {
    pub tags: TagFilter,
    pub session: Option<SessionFilter>,
}

/// The key of a queue of ready activities: the tag, and whether the activities belong to sessions.
type ReadyKey = (Option<Arc<str>>, bool);

#[derive(Default)]
pub struct ActivityQueue {
    all: HashMap<Sequence, Activity>,
    ready: HashMap<ReadyKey, BTreeSet<Sequence>>,
    by_key: HashMap<ActivityKey, Sequence>,
    leases: HashMap<Token, Sequence>,
    pub sessions: Sessions,
    pub first_expiry: Option<Instant>,
    pub waiters: Waiters<ActivityFilter>,
}

impl ActivityQueue {
    /// How many activities have no lease.
    pub fn waiting(&self) -> usize {
        debug_assert!(self.leases.len() <= self.all.len(), "each lease is of an activity");
        self.all.len() - self.leases.len()
    }

    pub fn add(&mut self, activity: Activity, wake_ups: &mut Vec<WakeUp>) {
        let sequence = activity.sequence;
        self.add_delayed(activity);
        self.make_ready(sequence, wake_ups);
    }

    /// Adds an activity that becomes visible later.
    pub fn add_delayed(&mut self, activity: Activity) {
        if let Some(key) = activity.key() {
            self.by_key.insert(key, activity.sequence);
        }
        if let Some(session) = activity.session() {
            self.sessions.add_activity(session);
        }
        let earlier = self.all.insert(activity.sequence, activity);
        debug_assert!(earlier.is_none(), "a sequence number is used once");
    }

    fn ready_key(activity: &Activity) -> ReadyKey {
        (activity.tag().map(Arc::from), activity.session().is_some())
    }

    /// Makes an activity without a lease ready, and wakes a fetch that takes it.
    pub fn make_ready(&mut self, sequence: Sequence, wake_ups: &mut Vec<WakeUp>) {
        let Some(activity) = self.all.get(&sequence) else { return };
        if activity.lease.is_some() {
            return;
        }
        self.ready.entry(Self::ready_key(activity)).or_default().insert(sequence);
        let now = Instant::now();
        let (tag, session) = (activity.tag(), activity.session());
        // When the lease of its session ends, another slot may take it.
        let until = session.and_then(|session| self.sessions.bound_until(session, now));
        let room = Room::new(&self.sessions, now);
        let woken = self
            .waiters
            .take_first(|filter| takes_tag(&filter.tags, tag) && room.takes(filter.session.as_ref(), session));
        let mut next_look = until;
        if let (None, None, Some(session)) = (&woken, until, session) {
            // No slot waits for the activity, or each of those that wait belongs to a runtime that is at its limit.
            let full = self.waiters.find(|filter| takes_tag(&filter.tags, tag) && filter.session.is_some());
            if let Some(limit) = full.and_then(|filter| filter.session.as_ref()?.limit.as_ref()) {
                limit.hold_back([session.to_owned()]);
                next_look = self.sessions.next_room();
            }
        }
        wake_ups.extend(woken);
        if let Some(time) = next_look {
            self.look_at(time);
        }
    }

    /// Looks for ended leases, and for sessions that make room, at this time at the latest.
    fn look_at(&mut self, time: Instant) {
        if self.first_expiry.is_none_or(|first| time < first) {
            self.first_expiry = Some(time);
        }
    }

    /// Leases the first activity that `filter` takes, and binds its session to the slot.
    pub fn claim(
        &mut self,
        filter: &ActivityFilter,
        token: Token,
        until: Instant,
        now: Instant,
    ) -> Option<&mut Activity> {
        let Some(sequence) = self.find(filter, now) else {
            self.hold_back(filter, now);
            return None;
        };
        let activity = self.all.get(&sequence)?;
        let key = Self::ready_key(activity);
        if let (Some(session), Some(filter)) = (activity.session(), &filter.session) {
            self.sessions.bind(session, filter, now);
        }
        self.remove_ready(&key, sequence);
        let activity = self.all.get_mut(&sequence)?;
        if !activity.is_counted {
            activity.attempts += 1;
        }
        debug_assert!(activity.lease.is_none(), "one token leases an activity");
        activity.lease = Some(ActivityLease { token, until, counts: true });
        let earlier = self.leases.insert(token, sequence);
        debug_assert!(earlier.is_none(), "a token is used once");
        if self.first_expiry.is_none_or(|first| until < first) {
            self.first_expiry = Some(until);
        }
        Some(activity)
    }

    /// Notes the sessions that wait since the runtime of the fetch owns as many as it may.
    fn hold_back(&mut self, filter: &ActivityFilter, now: Instant) {
        let Some(session_filter) = &filter.session else { return };
        let Some(limit) = session_filter.limit.as_ref().filter(|_| !self.sessions.has_room(session_filter, now)) else {
            return;
        };
        let of_sessions =
            self.ready.iter().filter(|((tag, of_session), _)| *of_session && takes_tag(&filter.tags, tag.as_deref()));
        let waiting = of_sessions.flat_map(|(_, ready)| ready).filter_map(|sequence| self.all.get(sequence)?.session());
        let unbound = waiting.filter(|session| self.sessions.bound_until(session, now).is_none());
        limit.hold_back(unbound.take(MOST_HELD_BACK).map(str::to_owned));
        if let Some(next) = self.sessions.next_room() {
            self.look_at(next);
        }
    }

    fn remove_ready(&mut self, key: &ReadyKey, sequence: Sequence) {
        if let Some(ready) = self.ready.get_mut(key) {
            ready.remove(&sequence);
            if ready.is_empty() {
                self.ready.remove(key);
            }
        }
    }

    fn find(&self, filter: &ActivityFilter, now: Instant) -> Option<Sequence> {
        let mut first = None;
        let room = Room::new(&self.sessions, now);
        for ((tag, of_session), ready) in &self.ready {
            if !takes_tag(&filter.tags, tag.as_deref()) {
                continue;
            }
            let found = if *of_session {
                ready.iter().copied().find(|sequence| {
                    let session = self.all.get(sequence).and_then(Activity::session);
                    room.takes(filter.session.as_ref(), session)
                })
            } else {
                ready.first().copied()
            };
            first = match (first, found) {
                (Some(first), Some(found)) => Some(found.min(first)),
                (first, found) => first.or(found),
            };
        }
        first
    }

    /// The activity with this lease, if the lease has not ended.
    pub fn leased(&mut self, token: Token, now: Instant) -> Option<&mut Activity> {
        let activity = self.all.get_mut(self.leases.get(&token)?)?;
        activity.lease.as_ref().is_some_and(|lease| lease.token == token && lease.until > now).then_some(activity)
    }

    pub fn renew(&mut self, token: Token, until: Instant, now: Instant) -> bool {
        let Some(activity) = self.leased(token, now) else { return false };
        if let Some(lease) = &mut activity.lease {
            lease.until = until;
        }
        let session = activity.session().map(str::to_owned);
        if let Some(session) = session {
            self.sessions.touch(&session, now);
        }
        true
    }

    /// Takes back that the delivery with this lease counts. Returns the activity if the delivery counted.
    pub fn uncount(&mut self, token: Token) -> Option<&Activity> {
        let activity = self.all.get_mut(self.leases.get(&token)?)?;
        let lease = activity.lease.as_mut()?;
        if !std::mem::take(&mut lease.counts) {
            return None;
        }
        activity.attempts = activity.attempts.saturating_sub(1);
        Some(activity)
    }

    /// Ends a lease. The activity stays.
    pub fn release(&mut self, token: Token) -> Option<&mut Activity> {
        let sequence = self.leases.remove(&token)?;
        let activity = self.all.get_mut(&sequence)?;
        debug_assert!(activity.lease.as_ref().is_some_and(|lease| lease.token == token), "a token is of one lease");
        activity.lease = None;
        Some(activity)
    }

    /// Removes an activity that has ended before its lease.
    pub fn end(&mut self, token: Token, now: Instant) -> Option<Activity> {
        self.leased(token, now)?;
        let sequence = self.leases.get(&token).copied()?;
        let activity = self.remove(sequence)?;
        if let Some(session) = activity.session() {
            self.sessions.touch(session, now);
            if self.ready.keys().any(|(_, of_session)| *of_session) {
                // Another session may wait for this one to make room.
                self.look_at(now + IDLE_BEFORE_GIVEN_UP);
            }
        }
        Some(activity)
    }

    pub fn remove(&mut self, sequence: Sequence) -> Option<Activity> {
        let activity = self.all.remove(&sequence)?;
        if let Some(session) = activity.session() {
            self.sessions.remove_activity(session);
        }
        if let Some(key) = activity.key()
            && self.by_key.get(&key) == Some(&sequence)
        {
            self.by_key.remove(&key);
        }
        if let Some(lease) = &activity.lease {
            self.leases.remove(&lease.token);
        } else {
            self.remove_ready(&Self::ready_key(&activity), sequence);
        }
        Some(activity)
    }

    /// Whether the activity exists and has no lease.
    pub fn is_waiting(&self, sequence: Sequence) -> bool {
        self.all.get(&sequence).is_some_and(|activity| activity.lease.is_none())
    }

    pub fn by_key(&self, key: ActivityKey) -> Option<Sequence> {
        self.by_key.get(&key).copied()
    }

    /// Whether a fetch waits that would take `item`, after `taken` other fetches have taken earlier items.
    pub fn is_awaited(&self, item: &WorkItem, taken: usize) -> bool {
        let WorkItem::ActivityExecute { session_id, tag, .. } = item else { return false };
        let room = Room::new(&self.sessions, Instant::now());
        let takers = self.waiters.count(|filter| {
            takes_tag(&filter.tags, tag.as_deref()) && room.takes(filter.session.as_ref(), session_id.as_deref())
        });
        takers > taken
    }

    /// All activities of an instance, for its deletion.
    pub fn of_instance(&self, number: Number) -> Vec<Sequence> {
        self.all.values().filter(|activity| activity.number == number).map(|activity| activity.sequence).collect()
    }

    /// The activities of an instance, as they wait or run.
    pub fn describe(&self, number: Number, now: Instant) -> Vec<QueuedActivity> {
        let of_instance = self.all.values().filter(|activity| activity.number == number);
        let mut described: Vec<QueuedActivity> =
            of_instance.filter_map(|activity| self.describe_activity(activity, now)).collect();
        described.sort_unstable_by_key(|activity| activity.id);
        described
    }

    fn describe_activity(&self, activity: &Activity, now: Instant) -> Option<QueuedActivity> {
        let WorkItem::ActivityExecute { execution_id, id, .. } = &activity.item else { return None };
        let session = activity.session();
        let slot = session.and_then(|session| self.sessions.slot_of(session, now));
        Some(QueuedActivity {
            execution: *execution_id,
            id: *id,
            deliveries: activity.attempts,
            available_ms: None,
            tag: activity.tag().map(str::to_owned),
            session: session.map(str::to_owned),
            session_worker: slot.map(str::to_owned),
            lease: activity.lease.as_ref().map(|_| LeaseHolder::default()),
        })
    }

    /// How many sessions the workers of these names hold.
    pub fn count_sessions(&self, workers: &[String], now: Instant) -> usize {
        self.sessions.count_of_slots(workers, now)
    }

    /// Ends the leases whose time is over, and makes their activities ready.
    pub fn expire(&mut self, now: Instant, wake_ups: &mut Vec<WakeUp>) {
        if self.first_expiry.is_none_or(|first| first > now) {
            return;
        }
        let mut next: Option<Instant> = None;
        let mut over = Vec::new();
        for (token, sequence) in &self.leases {
            let Some(lease) = self.all.get(sequence).and_then(|activity| activity.lease.as_ref()) else { continue };
            if lease.until <= now {
                over.push((*token, *sequence));
            } else {
                next = Some(next.map_or(lease.until, |next| next.min(lease.until)));
            }
        }
        self.first_expiry = next;
        for (token, sequence) in over {
            self.release(token);
            self.make_ready(sequence, wake_ups);
        }
        let of_sessions: Vec<Sequence> = self
            .ready
            .iter()
            .filter(|((_, of_session), _)| *of_session)
            .flat_map(|(_, ready)| ready)
            .copied()
            .collect();
        if !of_sessions.is_empty()
            && let Some(next) = self.sessions.next_room().filter(|next| *next > now)
        {
            self.look_at(next);
        }
        for sequence in of_sessions {
            self.make_ready(sequence, wake_ups);
        }
    }

    /// Wakes a fetch for each ready activity, after a fetch that was woken has ended.
    pub fn wake_waiters(&mut self, wake_ups: &mut Vec<WakeUp>) {
        let ready: Vec<Sequence> = self.ready.values().flatten().copied().collect();
        for sequence in ready {
            self.make_ready(sequence, wake_ups);
        }
    }

    /// Makes all activities ready that have no lease, also those that are delayed.
    pub fn end_pauses(&mut self, wake_ups: &mut Vec<WakeUp>) {
        let waiting: Vec<Sequence> =
            self.all.values().filter(|activity| activity.lease.is_none()).map(|activity| activity.sequence).collect();
        for sequence in waiting {
            self.make_ready(sequence, wake_ups);
        }
    }
}

/// Whether fetches take activities of sessions at one moment. All slots of a runtime share its limit, so the answer for
/// a runtime that waits at its limit is kept.
struct Room<'a> {
    sessions: &'a Sessions,
    now: Instant,
    last: Cell<Option<(*const SessionLimit, bool)>>,
}

impl<'a> Room<'a> {
    fn new(sessions: &'a Sessions, now: Instant) -> Self {
        Self { sessions, now, last: Cell::new(None) }
    }

    fn takes(&self, filter: Option<&SessionFilter>, session: Option<&str>) -> bool {
        self.sessions.takes(filter, session, self.now, |filter| self.is_free(filter))
    }

    fn is_free(&self, filter: &SessionFilter) -> bool {
        let limit = filter.limit.as_ref().map_or(std::ptr::null(), Arc::as_ptr);
        match self.last.get() {
            Some((last, is_free)) if last == limit => is_free,
            _ => {
                let is_free = self.sessions.has_room(filter, self.now);
                self.last.set(Some((limit, is_free)));
                is_free
            }
        }
    }
}
