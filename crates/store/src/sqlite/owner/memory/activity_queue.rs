//! The activities that wait or run, their leases, and the sessions that bind some of them to one runtime.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use duroxide::providers::{SessionFetchConfig, TagFilter, WorkItem};

use crate::live::{LeaseHolder, QueuedActivity};
use crate::sqlite::owner::memory::ids::{Number, Sequence, Token};
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

/// The binding of a session to a worker. Its lease ends at `until`.
struct Session {
    worker: String,
    until: Instant,
    last_active: Instant,
}

/// The activities that a fetch takes: those with certain tags, and those of sessions if there is a session
/// configuration.
#[derive(Clone)]
pub struct ActivityFilter {
    pub tags: TagFilter,
    pub session: Option<SessionFetchConfig>,
}

/// The key of a queue of ready activities: the tag, and whether the activities belong to sessions.
type ReadyKey = (Option<Arc<str>>, bool);

#[derive(Default)]
pub struct ActivityQueue {
    all: HashMap<Sequence, Activity>,
    ready: HashMap<ReadyKey, BTreeSet<Sequence>>,
    by_key: HashMap<ActivityKey, Sequence>,
    leases: HashMap<Token, Sequence>,
    sessions: HashMap<String, Session>,
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
        let sessions = &self.sessions;
        // When the lease of its session ends, another worker may take it.
        if let Some(until) = session.and_then(|session| sessions.get(session)).map(|session| session.until)
            && until > now
            && self.first_expiry.is_none_or(|first| until < first)
        {
            self.first_expiry = Some(until);
        }
        wake_ups.extend(self.waiters.take_first(|filter| {
            takes_tag(&filter.tags, tag) && takes_session(sessions, filter.session.as_ref(), session, now)
        }));
    }

    /// Leases the first activity that `filter` takes, and binds its session to the worker.
    pub fn claim(
        &mut self,
        filter: &ActivityFilter,
        token: Token,
        until: Instant,
        now: Instant,
    ) -> Option<&mut Activity> {
        let sequence = self.find(filter, now)?;
        let activity = self.all.get(&sequence)?;
        let key = Self::ready_key(activity);
        self.remove_ready(&key, sequence);
        let activity = self.all.get_mut(&sequence)?;
        if let (Some(session), Some(config)) = (activity.session(), &filter.session) {
            let claimed =
                Session { worker: config.owner_id.clone(), until: now + config.lock_timeout, last_active: now };
            self.sessions.insert(session.to_owned(), claimed);
        }
        if !activity.is_counted {
            activity.attempts += 1;
        }
        debug_assert!(activity.lease.is_none(), "one token leases an activity");
        activity.lease = Some(ActivityLease { token, until });
        let earlier = self.leases.insert(token, sequence);
        debug_assert!(earlier.is_none(), "a token is used once");
        if self.first_expiry.is_none_or(|first| until < first) {
            self.first_expiry = Some(until);
        }
        Some(activity)
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
        for ((tag, of_session), ready) in &self.ready {
            if !takes_tag(&filter.tags, tag.as_deref()) {
                continue;
            }
            let found = if *of_session {
                ready.iter().copied().find(|sequence| {
                    let session = self.all.get(sequence).and_then(Activity::session);
                    takes_session(&self.sessions, filter.session.as_ref(), session, now)
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
        self.touch_session(session.as_deref(), now);
        true
    }

    fn touch_session(&mut self, session: Option<&str>, now: Instant) {
        if let Some(session) = session.and_then(|session| self.sessions.get_mut(session))
            && session.until > now
        {
            session.last_active = now;
        }
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
        let session = activity.session().map(str::to_owned);
        self.touch_session(session.as_deref(), now);
        Some(activity)
    }

    pub fn remove(&mut self, sequence: Sequence) -> Option<Activity> {
        let activity = self.all.remove(&sequence)?;
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
        let now = Instant::now();
        let takers = self.waiters.count(|filter| {
            takes_tag(&filter.tags, tag.as_deref())
                && takes_session(&self.sessions, filter.session.as_ref(), session_id.as_deref(), now)
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
        let holder = session.and_then(|session| self.sessions.get(session)).filter(|session| session.until > now);
        Some(QueuedActivity {
            execution: *execution_id,
            id: *id,
            deliveries: activity.attempts,
            available_ms: None,
            tag: activity.tag().map(str::to_owned),
            session: session.map(str::to_owned),
            session_worker: holder.map(|session| session.worker.clone()),
            lease: activity.lease.as_ref().map(|_| LeaseHolder::default()),
        })
    }

    /// How many sessions the workers of these names hold.
    pub fn count_sessions(&self, workers: &[String], now: Instant) -> usize {
        self.sessions.values().filter(|session| session.until > now && workers.contains(&session.worker)).count()
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

    pub fn renew_sessions(&mut self, workers: &[&str], until: Instant, idle: Duration, now: Instant) -> usize {
        let mut renewed = 0;
        for session in self.sessions.values_mut() {
            let is_active = now.checked_sub(idle).is_none_or(|cutoff| session.last_active > cutoff);
            if workers.contains(&session.worker.as_str()) && session.until > now && is_active {
                session.until = until;
                renewed += 1;
            }
        }
        renewed
    }

    pub fn clean_sessions(&mut self, now: Instant) -> usize {
        let needed: BTreeSet<&str> = self.all.values().filter_map(Activity::session).collect();
        let before = self.sessions.len();
        let over: Vec<String> = self
            .sessions
            .iter()
            .filter(|(id, session)| session.until < now && !needed.contains(id.as_str()))
            .map(|(id, _)| id.clone())
            .collect();
        for session in over {
            self.sessions.remove(&session);
        }
        before - self.sessions.len()
    }
}

fn takes_session(
    sessions: &HashMap<String, Session>,
    config: Option<&SessionFetchConfig>,
    session: Option<&str>,
    now: Instant,
) -> bool {
    match (session, config) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(session), Some(config)) => {
            sessions.get(session).is_none_or(|session| session.until <= now || session.worker == config.owner_id)
        }
    }
}
