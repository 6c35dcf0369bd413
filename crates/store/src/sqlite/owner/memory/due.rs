//! The timers: the times at which messages and activities become visible, and at which orphans are dropped.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use crate::clock::now_ms;
use crate::sqlite::owner::memory::due_item::{DueItem, MIN_DUE_LIMIT};
use crate::sqlite::owner::memory::ids::{Number, Sequence};
use crate::sqlite::owner::memory::state::OwnerState;

/// The timer thread checks the clock at least this often, so that it notices a clock that was set forward.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

impl OwnerState {
    pub fn schedule(&mut self, due_ms: u64, due: DueItem) {
        let is_first = self.due.peek().is_none_or(|Reverse((first, ..))| due_ms < *first);
        let order = self.sequence();
        self.due.push(Reverse((due_ms, order, due)));
        self.has_earlier_due |= is_first;
        if self.due.len() > self.due_limit {
            self.drop_unneeded_timers();
        }
    }

    #[cfg(test)]
    pub fn timers(&self) -> usize {
        self.due.len()
    }

    /// Drops the timers of ended instances and activities. Some of them would be due only in a year.
    fn drop_unneeded_timers(&mut self) {
        let Self { due, instances, activities, .. } = self;
        due.retain(|Reverse((_, _, due))| match due {
            DueItem::Message(number, sequence) => instances.get(number).is_some_and(|instance| {
                instance.delayed.contains_key(sequence) || instance.put_off.contains_key(sequence)
            }),
            DueItem::Activity(sequence) => activities.is_waiting(*sequence),
            DueItem::Orphans(number, _) => instances.get(number).is_some_and(|instance| instance.running().is_none()),
        });
        self.due_limit = MIN_DUE_LIMIT.max(2 * self.due.len());
    }

    /// Returns the messages that were put off together with this one to the queue of their instance.
    fn return_put_off(&mut self, number: Number, sequence: Sequence) {
        if let Some(instance) = self.instances.get_mut(&number)
            && instance.put_off.contains_key(&sequence)
        {
            let messages = std::mem::take(&mut instance.put_off).into_values().collect();
            self.put_back(number, messages);
        }
    }

    /// Makes all messages and activities due that a dispatcher has put off. Their timers have no effect any more.
    pub fn end_pauses(&mut self) {
        let put_off = self.instances.iter().filter(|(_, instance)| !instance.put_off.is_empty());
        let numbers: Vec<Number> = put_off.map(|(number, _)| *number).collect();
        for number in numbers {
            if let Some(instance) = self.instances.get_mut(&number) {
                let messages = std::mem::take(&mut instance.put_off).into_values().collect();
                self.put_back(number, messages);
            }
        }
        self.activities.end_pauses(&mut self.wake_ups);
    }

    /// Makes due messages and activities visible. Returns the pause until the next call; `None` without timers.
    pub fn tick(&mut self) -> Option<Duration> {
        let now = now_ms();
        while self.due.peek().is_some_and(|Reverse((due_ms, ..))| *due_ms <= now) {
            let Some(Reverse((_, _, due))) = self.due.pop() else { break };
            match due {
                DueItem::Message(number, sequence) => {
                    if let Some(instance) = self.instances.get_mut(&number)
                        && let Some(message) = instance.delayed.remove(&sequence)
                    {
                        instance.enqueue(message);
                        self.refresh(number);
                    } else {
                        self.return_put_off(number, sequence);
                    }
                }
                DueItem::Activity(sequence) => self.activities.make_ready(sequence, &mut self.wake_ups),
                DueItem::Orphans(number, last) => {
                    if self.instances.get(&number).is_some_and(|instance| instance.running().is_none()) {
                        self.expired_orphans.push((number, last));
                    }
                }
            }
        }
        let instant = Instant::now();
        self.expire(instant);
        let timer = self.due.peek().map(|Reverse((due_ms, ..))| Duration::from_millis(due_ms.saturating_sub(now)));
        let lease = self.first_lease().map(|first| first.saturating_duration_since(instant));
        let pause = [timer, lease].into_iter().flatten().min();
        // Times are whole milliseconds, so an earlier check would find nothing. A check after the longest pause notices
        // a clock that was set forward, even if the next timer is far away.
        let pause = pause.map(|pause| pause.clamp(Duration::from_millis(1), LONGEST_PAUSE));
        self.next_timer_check = pause.map(|pause| instant + pause);
        self.has_earlier_due = false;
        pause
    }

    fn first_lease(&self) -> Option<Instant> {
        [self.first_expiry, self.activities.first_expiry].into_iter().flatten().min()
    }

    /// Whether the timer thread must wake up earlier than planned.
    pub fn must_wake_timers(&mut self) -> bool {
        let has_earlier_lease =
            self.first_lease().is_some_and(|first| self.next_timer_check.is_none_or(|check| first < check));
        if has_earlier_lease {
            // One wake-up is enough.
            self.next_timer_check = self.first_lease();
        }
        std::mem::take(&mut self.has_earlier_due) || has_earlier_lease
    }
}
