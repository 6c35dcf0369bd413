//! The instances that wait for code that can run them, as far as this process knows.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use store::live::{Refusal, moment_ms};

/// How many instances a report of this process has.
const MOST_REPORTED: usize = 500;
const MOST_ENTRIES: usize = 10_000;

/// The waiting instances and activities, in the memory of this process. On PostgreSQL the store has the reports, too.
#[derive(Default)]
pub struct WaitingInstances {
    table: Mutex<HashMap<String, WaitingInstance>>,
}

struct WaitingInstance {
    report: Option<String>,
    since: Instant,
    asked: Instant,
    times: u32,
}

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

impl WaitingInstances {
    /// Records that an instance waits. Returns how long to leave it alone, and whether `report` is a new one.
    pub fn postpone(&self, instance: &str, report: &str) -> (Duration, bool) {
        let mut table = self.table.lock();
        let waiting = table.entry(instance.to_owned()).or_insert_with(WaitingInstance::new);
        let is_new = waiting.report.as_deref() != Some(report);
        waiting.report = Some(report.to_owned());
        let pause = FIRST_WAIT.saturating_mul(1 << waiting.times.min(6)).min(LONGEST_WAIT);
        waiting.times += 1;
        waiting.asked = Instant::now() + pause;
        (pause, is_new)
    }

    /// How long ago this process was first asked for `key`, whose code it lacks.
    pub fn age(&self, key: &str) -> Duration {
        let mut table = self.table.lock();
        // An entry that another node has taken over does not come back, so it is removed here after a while.
        if table.len() >= MOST_ENTRIES {
            table.retain(|_, waiting| waiting.asked.elapsed() < LONGEST_WAIT);
        }
        let waiting = table.entry(key.to_owned()).or_insert_with(WaitingInstance::new);
        waiting.asked = Instant::now();
        waiting.since.elapsed()
    }

    /// The instances and activities that this process was asked for in the last minute. Another process may have taken
    /// them over since.
    pub fn known(&self) -> Vec<String> {
        let table = self.table.lock();
        let known = table.iter().filter(|(_, waiting)| waiting.asked.elapsed() < LONGEST_WAIT);
        known.map(|(key, _)| key.clone()).collect()
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

    pub fn report(&self, instance: &str) -> Option<String> {
        self.table.lock().get(instance)?.report.clone()
    }

    pub fn clear(&self, key: &str) {
        let mut table = self.table.lock();
        if !table.is_empty() {
            table.remove(key);
        }
    }
}

impl WaitingInstance {
    fn new() -> Self {
        Self { report: None, since: Instant::now(), asked: Instant::now(), times: 0 }
    }
}
