//! Instances that wait for code that can run them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

const KNOWN_WAITING: usize = 10_000;

/// Instances that wait for code that can run them. In this process's memory for now: another process does not see it.
#[derive(Default)]
pub struct WaitingInstances {
    table: Mutex<HashMap<String, Waiting>>,
}

struct Waiting {
    report: Option<String>,
    since: Instant,
    asked: Instant,
    times: u32,
}

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

impl WaitingInstances {
    /// How long to leave the instance alone, and whether `report` is news.
    pub fn postpone(&self, instance: &str, report: &str) -> (Duration, bool) {
        let mut table = self.table.lock();
        let waiting = table.entry(instance.to_owned()).or_insert_with(Waiting::new);
        let news = waiting.report.as_deref() != Some(report);
        waiting.report = Some(report.to_owned());
        let pause = FIRST_WAIT.saturating_mul(1 << waiting.times.min(6)).min(LONGEST_WAIT);
        waiting.times += 1;
        waiting.asked = Instant::now() + pause;
        (pause, news)
    }

    /// How long something has been asked for that nobody here has.
    pub fn age(&self, key: &str) -> Duration {
        let mut table = self.table.lock();
        // What another node took is never heard of again.
        if table.len() >= KNOWN_WAITING {
            table.retain(|_, waiting| waiting.asked.elapsed() < LONGEST_WAIT);
        }
        let waiting = table.entry(key.to_owned()).or_insert_with(Waiting::new);
        waiting.asked = Instant::now();
        waiting.since.elapsed()
    }

    /// How many instances wait; those that another node has taken on are not asked for any more.
    pub fn count(&self) -> u64 {
        let table = self.table.lock();
        let waits = |waiting: &&Waiting| waiting.report.is_some() && waiting.asked.elapsed() < LONGEST_WAIT;
        table.values().filter(waits).count() as u64
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

impl Waiting {
    fn new() -> Self {
        Self { report: None, since: Instant::now(), asked: Instant::now(), times: 0 }
    }
}
