//! The instances and activities that wait for code that can run them, as far as this process knows.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use store::live::{Refusal, moment_ms};

/// How many instances a report of this process has.
const MOST_REPORTED: usize = 500;
const MOST_ENTRIES: usize = 10_000;

/// Waiting work by its key, in the memory of this process.
pub struct WaitingWork<Key> {
    table: Mutex<BTreeMap<Key, WaitingEntry>>,
}

/// The waiting instances. On PostgreSQL the store has their reports, too.
pub type WaitingInstances = WaitingWork<String>;
/// The waiting activities, by instance, execution and the event that scheduled them.
pub type WaitingActivities = WaitingWork<ActivityKey>;
pub type ActivityKey = (String, u64, u64);

struct WaitingEntry {
    report: Option<String>,
    since: Instant,
    asked: Instant,
    times: u32,
}

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

impl<Key> Default for WaitingWork<Key> {
    fn default() -> Self {
        Self { table: Mutex::new(BTreeMap::new()) }
    }
}

impl<Key: Ord> WaitingWork<Key> {
    /// Records that work waits. Returns how long to leave it alone, and whether `report` is a new one.
    pub fn postpone<Query>(&self, key: &Query, report: &str) -> (Duration, bool)
    where
        Key: Borrow<Query>,
        Query: Ord + ToOwned<Owned = Key> + ?Sized,
    {
        self.with(key, |waiting| {
            let is_new = waiting.report.as_deref() != Some(report);
            waiting.report = Some(report.to_owned());
            let pause = FIRST_WAIT.saturating_mul(1 << waiting.times.min(6)).min(LONGEST_WAIT);
            waiting.times += 1;
            waiting.asked = Instant::now() + pause;
            (pause, is_new)
        })
    }

    /// How long ago this process was first asked for `key`, whose code it lacks.
    pub fn age<Query>(&self, key: &Query) -> Duration
    where
        Key: Borrow<Query>,
        Query: Ord + ToOwned<Owned = Key> + ?Sized,
    {
        self.with(key, |waiting| {
            waiting.asked = Instant::now();
            waiting.since.elapsed()
        })
    }

    /// Calls `change` with the entry of `key`, which is created if there is none.
    fn with<Query, Answer>(&self, key: &Query, change: impl FnOnce(&mut WaitingEntry) -> Answer) -> Answer
    where
        Key: Borrow<Query>,
        Query: Ord + ToOwned<Owned = Key> + ?Sized,
    {
        let mut table = self.table.lock();
        // An entry that another node has taken over does not come back, so it is removed here after a while.
        if table.len() >= MOST_ENTRIES {
            table.retain(|_, waiting| waiting.asked.elapsed() < LONGEST_WAIT);
        }
        change(table.entry(key.to_owned()).or_insert_with(WaitingEntry::new))
    }

    /// How much work waits.
    pub fn count(&self) -> u64 {
        self.table.lock().values().filter(|waiting| waiting.is_reported()).count() as u64
    }

    pub fn report<Query: Ord + ?Sized>(&self, key: &Query) -> Option<String>
    where
        Key: Borrow<Query>,
    {
        self.table.lock().get(key)?.report.clone()
    }

    pub fn clear<Query: Ord + ?Sized>(&self, key: &Query)
    where
        Key: Borrow<Query>,
    {
        let mut table = self.table.lock();
        if !table.is_empty() {
            table.remove(key);
        }
    }
}

impl WaitingInstances {
    /// The instances that wait with a report, and for which this process was asked in the last minute. Another process may
    /// have taken them over since.
    pub fn reported(&self) -> Vec<String> {
        let table = self.table.lock();
        let reported = table.iter().filter(|(_, waiting)| waiting.is_reported());
        reported.map(|(key, _)| key.clone()).collect()
    }

    /// The instances that wait, with their reports, for the report of this process.
    pub fn refusals(&self) -> Vec<Refusal> {
        let table = self.table.lock();
        let refused = table.iter().take(MOST_REPORTED).filter_map(|(instance, waiting)| {
            let message = waiting.report.clone()?;
            Some(Refusal { instance: instance.clone(), message, since_ms: moment_ms(waiting.since) })
        });
        refused.collect()
    }
}

impl WaitingActivities {
    /// Why an activity of an instance waits, if one does.
    pub fn report_for(&self, instance: &str) -> Option<String> {
        let table = self.table.lock();
        if table.is_empty() {
            return None;
        }
        let of_instance = table.range((instance.to_owned(), 0, 0)..=(instance.to_owned(), u64::MAX, u64::MAX));
        of_instance.filter(|(_, waiting)| waiting.is_reported()).find_map(|(_, waiting)| waiting.report.clone())
    }

    pub fn clear_for(&self, instance: &str) {
        let mut table = self.table.lock();
        if !table.is_empty() {
            table.retain(|(owner, ..), _| owner != instance);
        }
    }
}

impl WaitingEntry {
    fn new() -> Self {
        Self { report: None, since: Instant::now(), asked: Instant::now(), times: 0 }
    }

    /// Whether the work waits with a report. Another node has taken work over that was not asked for in the last minute.
    fn is_reported(&self) -> bool {
        self.report.is_some() && self.asked.elapsed() < LONGEST_WAIT
    }
}
