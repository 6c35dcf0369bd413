//! The instances that a turn has something to do for, and the turns that somebody runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::code_time::CodeTime;
use crate::sqlite::owner::disk::change::Change;
use crate::sqlite::owner::memory::ids::{Number, Token, Version};
use crate::sqlite::owner::memory::state::{Held, Instance, Message, State};

/// How often a turn whose lease lasts for its code is looked at again.
const BUSY_LOOK: Duration = Duration::from_millis(500);
/// The versions of recorded executions that a dispatcher can replay.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities {
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
    pub fn lasts_with_code(&mut self, token: Token, code_time: &Arc<CodeTime>) {
        if let Some(instance) = self.turn(token).and_then(|number| self.instances.get_mut(&number))
            && let Some(held) = &mut instance.held
        {
            held.code_time = Some(Arc::clone(code_time));
        }
    }

    pub fn turn(&self, token: Token) -> Option<Number> {
        self.turns.get(&token).copied()
    }

    /// Makes an instance ready if a turn has something to do for it.
    pub fn refresh(&mut self, number: Number) {
        let policy = self.policy;
        let Some(instance) = self.instances.get_mut(&number) else { return };
        if instance.is_ready
            || instance.held.is_some()
            || instance.queue.is_empty()
            || !(instance.exists() || instance.begins() || instance.has_history())
        {
            return;
        }
        if policy.gate_messages
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
    pub fn claim(&mut self, filter: Option<&Capabilities>, token: Token, lease: Duration) -> Option<Number> {
        let place = self.ready.iter().position(|number| {
            self.instances.get(number).is_some_and(|instance| instance.is_ready && accepts(filter, instance))
        })?;
        let number = self.ready.remove(place)?;
        let instance = self.instances.get_mut(&number)?;
        instance.is_ready = false;
        let since = Instant::now();
        instance.held = Some(Held {
            token,
            until: since + lease,
            since,
            is_ending: false,
            lease,
            code_time: None,
            taken: Vec::new(),
            is_noted: false,
        });
        self.turns.insert(token, number);
        self.note_expiry(since + lease);
        Some(number)
    }

    /// Moves the messages of the next turn into the hands of its holder; false if there are none after all.
    pub fn take(&mut self, number: Number) -> bool {
        let policy = self.policy;
        let Some(instance) = self.instances.get_mut(&number) else { return false };
        // An instance that has ended waits for nothing: whatever comes is for the engine to drop.
        let has_ended = instance.has_ended();
        let Some(held) = &mut instance.held else { return false };
        for (_, message) in std::mem::take(&mut instance.put_off).into_iter().rev() {
            instance.queue.push_front(message);
        }
        let chosen = match &instance.mail {
            Some(mail) if policy.gate_messages && !has_ended => {
                mail.choose(instance.queue.iter().map(|message| &*message.item))
            }
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
                    held.until = held.ends(now + BUSY_LOOK);
                }
                if held.until <= now {
                    over.push(*token);
                } else {
                    next = Some(next.map_or(held.until, |next| next.min(held.until)));
                }
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

    /// One who waited for turns has left; if it was woken already, somebody is woken for each instance that is ready.
    pub fn leave_turns(&mut self, waiter: u64) {
        if self.turn_waiters.leave(waiter) {
            return;
        }
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
}
