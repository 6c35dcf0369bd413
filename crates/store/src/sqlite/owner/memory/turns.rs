//! The queue of instances that are ready for a turn, and the leases of the turns that dispatchers have fetched.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::code_time::CodeTime;
use crate::sqlite::owner::disk::change::Change;
use crate::sqlite::owner::memory::capabilities::{Capabilities, accepts};
use crate::sqlite::owner::memory::ids::{Number, Token};
use crate::sqlite::owner::memory::instance::{Message, TurnLease};
use crate::sqlite::owner::memory::state::OwnerState;

/// How often the lease of a turn is checked while the turn's code runs.
const LEASE_CHECK_INTERVAL: Duration = Duration::from_millis(500);

impl OwnerState {
    /// From now on, the lease of this turn counts from the end of its code.
    pub fn extend_lease_while_running(&mut self, token: Token, code_time: &Arc<CodeTime>) {
        if let Some(instance) = self.turn(token).and_then(|number| self.instances.get_mut(&number))
            && let Some(leased) = &mut instance.leased
        {
            leased.code_time = Some(Arc::clone(code_time));
        }
    }

    pub fn turn(&self, token: Token) -> Option<Number> {
        self.turns.get(&token).copied()
    }

    /// Makes an instance ready, and wakes a waiting fetch, if a turn can take messages.
    pub fn refresh(&mut self, number: Number) {
        let policy = self.policy;
        let Some(instance) = self.instances.get_mut(&number) else { return };
        if instance.is_ready || instance.leased.is_some() || instance.queue.is_empty() || !instance.can_run() {
            return;
        }
        if policy.gate_messages
            && !instance.has_ended()
            && let Some(gate) = &instance.gate
        {
            // Messages that were put off come first. Behind them, the gate may hold back a message that it would let
            // through alone.
            let put_off = instance.put_off.len();
            let messages = instance.put_off.values().chain(&instance.queue).map(|message| &*message.item);
            if !gate.choose(messages).into_iter().any(|position| position >= put_off) {
                return;
            }
        }
        instance.is_ready = true;
        self.ready.push_back(number);
        let instance = &self.instances[&number];
        let wake_up = self.turn_waiters.take_first(|filter| accepts(filter.as_ref(), instance));
        self.wake_ups.extend(wake_up);
    }

    /// Leases the first ready instance that `filter` accepts. [`Self::take_messages`] then takes its messages.
    pub fn claim(&mut self, filter: Option<&Capabilities>, token: Token, lease: Duration) -> Option<Number> {
        let position = self.ready.iter().position(|number| {
            self.instances.get(number).is_some_and(|instance| instance.is_ready && accepts(filter, instance))
        })?;
        let number = self.ready.remove(position)?;
        let instance = self.instances.get_mut(&number)?;
        debug_assert!(instance.leased.is_none(), "one token locks a turn");
        instance.is_ready = false;
        let since = Instant::now();
        instance.leased = Some(TurnLease {
            token,
            until: since + lease,
            since,
            is_ending: false,
            lease,
            code_time: None,
            taken: Vec::new(),
            is_attempt_recorded: false,
            counts: true,
        });
        let earlier = self.turns.insert(token, number);
        debug_assert!(earlier.is_none(), "a token is used once");
        self.note_expiry(since + lease);
        Some(number)
    }

    /// Moves the messages of the next turn into the leased turn. Returns false if the turn can take none.
    pub fn take_messages(&mut self, number: Number) -> bool {
        let policy = self.policy;
        let Some(instance) = self.instances.get_mut(&number) else { return false };
        // The gate has no effect on an ended instance: the engine drops its messages.
        let has_ended = instance.has_ended();
        let Some(leased) = &mut instance.leased else { return false };
        for (_, message) in std::mem::take(&mut instance.put_off).into_iter().rev() {
            instance.queue.push_front(message);
        }
        let chosen = match &instance.gate {
            Some(gate) if policy.gate_messages && !has_ended => {
                gate.choose(instance.queue.iter().map(|message| &*message.item))
            }
            _ => (0..instance.queue.len()).collect(),
        };
        if chosen.len() == instance.queue.len() {
            // The instance may wait for a long time now, so its queue gives its memory back.
            leased.taken.extend(std::mem::take(&mut instance.queue));
        } else {
            for position in chosen.into_iter().rev() {
                leased.taken.extend(instance.queue.remove(position));
            }
            leased.taken.reverse();
        }
        for message in &mut leased.taken {
            message.attempts += 1;
        }
        !leased.taken.is_empty()
    }

    /// Ends the lease of a turn, and returns the messages that it had taken.
    pub fn release(&mut self, token: Token) -> Option<(Number, Vec<Message>)> {
        let number = self.turns.remove(&token)?;
        let instance = self.instances.get_mut(&number)?;
        let leased = instance.leased.take_if(|leased| leased.token == token)?;
        Some((number, leased.taken))
    }

    /// Takes back that the delivery with this lease counts. Returns the changes of the attempts that the file has.
    pub fn uncount_turn(&mut self, token: Token) -> Vec<Change> {
        let instance = self.turns.get(&token).copied().and_then(|number| self.get(number));
        let leased = instance.and_then(|instance| instance.leased.as_mut());
        let Some(leased) = leased.filter(|leased| leased.token == token && leased.counts) else { return Vec::new() };
        leased.counts = false;
        let mut changes = Vec::new();
        for message in &mut leased.taken {
            message.attempts = message.attempts.saturating_sub(1);
            if message.is_loaded || leased.is_attempt_recorded {
                changes.push(Change::MessageAttempts { sequence: message.sequence, attempts: message.attempts });
            }
        }
        changes
    }

    /// Puts messages back at the head of their queue, in their order.
    pub fn put_back(&mut self, number: Number, messages: Vec<Message>) {
        if let Some(instance) = self.instances.get_mut(&number) {
            for message in messages.into_iter().rev() {
                instance.queue.push_front(message);
            }
            self.refresh(number);
        }
    }

    pub fn note_expiry(&mut self, until: Instant) {
        if self.first_expiry.is_none_or(|first| until < first) {
            self.first_expiry = Some(until);
        }
    }

    /// Ends the leases of turns and activities whose time is over.
    pub fn expire(&mut self, now: Instant) {
        if self.first_expiry.is_some_and(|first| first <= now) {
            let mut next: Option<Instant> = None;
            let mut over = Vec::new();
            for (token, number) in &self.turns {
                let Some(leased) = self.instances.get_mut(number).and_then(|instance| instance.leased.as_mut()) else {
                    continue;
                };
                if leased.until <= now {
                    leased.until = leased.ends(now + LEASE_CHECK_INTERVAL);
                }
                if leased.until <= now {
                    over.push(*token);
                } else {
                    next = Some(next.map_or(leased.until, |next| next.min(leased.until)));
                }
            }
            self.first_expiry = next;
            for token in over {
                if let Some((number, taken)) = self.release(token) {
                    self.put_back(number, taken);
                }
            }
        }
        self.activities.expire(now, &mut self.wake_ups);
    }

    /// Removes a fetch that waited for a turn. If it was woken already, another fetch is woken for each ready instance.
    pub fn remove_turn_waiter(&mut self, waiter: u64) {
        if self.turn_waiters.remove(waiter) {
            return;
        }
        for number in &self.ready {
            if let Some(instance) = self.instances.get(number) {
                self.wake_ups.extend(self.turn_waiters.take_first(|filter| accepts(filter.as_ref(), instance)));
            }
        }
    }

    /// The attempts of turns that have lasted for `least`, each once. Such a turn may kill the process, so its attempt
    /// must be on the disk.
    pub fn attempts_to_record(&mut self, now: Instant, least: Duration) -> Vec<Change> {
        let has_lasted = |since: Instant| now.saturating_duration_since(since) >= least;
        let mut changes = Vec::new();
        for number in self.turns.values() {
            let Some(leased) = self.instances.get_mut(number).and_then(|instance| instance.leased.as_mut()) else {
                continue;
            };
            if leased.is_attempt_recorded || leased.is_ending || !leased.counts || !has_lasted(leased.since) {
                continue;
            }
            leased.is_attempt_recorded = true;
            let messages = leased.taken.iter().filter(|message| !message.is_loaded);
            changes.extend(
                messages
                    .map(|message| Change::MessageAttempts { sequence: message.sequence, attempts: message.attempts }),
            );
        }
        changes
    }
}
