//! What is due at a time: messages and activities that are shown then, and orphans that are dropped.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use crate::clock::now_ms;
use crate::sqlite::owner::memory::ids::{Number, Sequence};
use crate::sqlite::owner::memory::state::State;

/// A clock that is set forward is noticed after this time.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);

/// Timers that nobody waits for any more stay in memory until there are this many.
pub const FORGOTTEN_DUE: usize = 4096;

#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    Message(Number, Sequence),
    Activity(Sequence),
    /// Its messages up to this one are for nobody by then.
    Orphans(Number, Sequence),
}

impl State {
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

    /// Ends the time of the messages that were put off with this one.
    fn bring_back(&mut self, number: Number, sequence: Sequence) {
        if let Some(instance) = self.instances.get_mut(&number)
            && instance.put_off.contains_key(&sequence)
        {
            let messages = std::mem::take(&mut instance.put_off).into_values().collect();
            self.put_back(number, messages);
        }
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
}
