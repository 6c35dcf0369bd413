//! The sessions that bind activities to one slot of a runtime, and the limits of how many a runtime may own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use duroxide::providers::SessionFetchConfig;

use crate::session_limits::{IDLE_BEFORE_GIVEN_UP, SessionLimit};

/// The binding of a session to a slot. Its lease ends at `until`.
struct Session {
    slot: String,
    limit: Option<Arc<SessionLimit>>,
    until: Instant,
    last_active: Instant,
}

/// What a fetch that takes activities of sessions brings.
#[derive(Clone)]
pub struct SessionFilter {
    pub config: SessionFetchConfig,
    pub limit: Option<Arc<SessionLimit>>,
}

#[derive(Default)]
pub struct Sessions {
    bound: HashMap<String, Session>,
    /// How many of these sessions count under each limit.
    counts: Vec<(Arc<SessionLimit>, usize)>,
    /// How many activities each session has, waiting ones and running ones.
    activities: HashMap<String, usize>,
}

impl Sessions {
    pub fn add_activity(&mut self, session: &str) {
        *self.activities.entry(session.to_owned()).or_default() += 1;
    }

    pub fn remove_activity(&mut self, session: &str) {
        if let Some(count) = self.activities.get_mut(session) {
            *count -= 1;
            if *count == 0 {
                self.activities.remove(session);
            }
        }
    }

    fn binding(&self, session: &str, now: Instant) -> Option<&Session> {
        self.bound.get(session).filter(|bound| bound.until > now)
    }

    /// The slot that owns a session.
    pub fn slot_of(&self, session: &str, now: Instant) -> Option<&str> {
        self.binding(session, now).map(|bound| bound.slot.as_str())
    }

    /// How many sessions these slots own.
    pub fn count_of_slots(&self, slots: &[String], now: Instant) -> usize {
        self.bound.values().filter(|bound| bound.until > now && slots.contains(&bound.slot)).count()
    }

    /// When the lease of a session ends, if the session is bound.
    pub fn bound_until(&self, session: &str, now: Instant) -> Option<Instant> {
        self.binding(session, now).map(|bound| bound.until)
    }

    /// Whether a fetch takes an activity of `session`. `has_room` says whether its runtime may own one more session.
    pub fn takes(
        &self,
        filter: Option<&SessionFilter>,
        session: Option<&str>,
        now: Instant,
        has_room: impl FnOnce(&SessionFilter) -> bool,
    ) -> bool {
        match (session, filter) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(session), Some(filter)) => match self.binding(session, now) {
                Some(bound) => bound.slot == filter.config.owner_id,
                None => has_room(filter),
            },
        }
    }

    /// Whether the runtime of a fetch may own one more session, if need be in the place of an idle one.
    pub fn has_room(&self, filter: &SessionFilter, now: Instant) -> bool {
        let Some(limit) = &filter.limit else { return true };
        self.count(limit) < limit.most || self.dispensable(limit, now).is_some()
    }

    fn count(&self, limit: &Arc<SessionLimit>) -> usize {
        self.counts.iter().find(|(other, _)| Arc::ptr_eq(other, limit)).map_or(0, |(_, count)| *count)
    }

    fn under<'a>(&'a self, limit: &'a Arc<SessionLimit>) -> impl Iterator<Item = (&'a String, &'a Session)> {
        self.bound.iter().filter(|(_, bound)| bound.limit.as_ref().is_some_and(|own| Arc::ptr_eq(own, limit)))
    }

    /// A session that can make room: one whose lease has ended, or the one that has been idle for longest.
    fn dispensable<'a>(&'a self, limit: &'a Arc<SessionLimit>, now: Instant) -> Option<&'a String> {
        let room = self.under(limit).map(|(session, bound)| (self.makes_room_at(session, bound), session));
        let (at, session) = room.min_by_key(|(at, _)| *at)?;
        (at <= now).then_some(session)
    }

    /// When a session makes room, as far as that is known by now.
    fn makes_room_at(&self, session: &str, bound: &Session) -> Instant {
        if self.activities.contains_key(session) {
            return bound.until;
        }
        bound.until.min(bound.last_active + IDLE_BEFORE_GIVEN_UP)
    }

    /// When the next session makes room under a limit that is reached.
    pub fn next_room(&self) -> Option<Instant> {
        let reached = self.counts.iter().filter(|(limit, count)| *count >= limit.most);
        reached
            .flat_map(|(limit, _)| self.under(limit))
            .map(|(session, bound)| self.makes_room_at(session, bound))
            .min()
    }

    /// Binds a session to the slot of a fetch that takes its activity.
    pub fn bind(&mut self, session: &str, filter: &SessionFilter, now: Instant) {
        let slot = filter.config.owner_id.clone();
        if self.binding(session, now).is_none_or(|bound| bound.slot != slot) {
            self.forget(session);
            if let Some(limit) = &filter.limit {
                while self.count(limit) >= limit.most
                    && let Some(dispensable) = self.dispensable(limit, now).cloned()
                {
                    self.forget(&dispensable);
                }
                self.add_to(limit);
                limit.admit(session);
            }
        }
        let until = now + filter.config.lock_timeout;
        let bound = Session { slot, limit: filter.limit.clone(), until, last_active: now };
        self.bound.insert(session.to_owned(), bound);
    }

    fn add_to(&mut self, limit: &Arc<SessionLimit>) {
        match self.counts.iter_mut().find(|(other, _)| Arc::ptr_eq(other, limit)) {
            Some((_, count)) => *count += 1,
            None => self.counts.push((Arc::clone(limit), 1)),
        }
    }

    fn forget(&mut self, session: &str) {
        let Some(Session { limit: Some(limit), .. }) = self.bound.remove(session) else { return };
        if let Some((_, count)) = self.counts.iter_mut().find(|(other, _)| Arc::ptr_eq(other, &limit)) {
            *count -= 1;
        }
        // The limits of runtimes that have ended go with their last session.
        self.counts.retain(|(_, count)| *count > 0);
    }

    /// Notes that an activity of the session has just run.
    pub fn touch(&mut self, session: &str, now: Instant) {
        if let Some(bound) = self.bound.get_mut(session)
            && bound.until > now
        {
            bound.last_active = now;
        }
    }

    pub fn renew(&mut self, slots: &[&str], until: Instant, idle: Duration, now: Instant) -> usize {
        let mut renewed = 0;
        for bound in self.bound.values_mut() {
            let is_active = now.checked_sub(idle).is_none_or(|cutoff| bound.last_active > cutoff);
            if slots.contains(&bound.slot.as_str()) && bound.until > now && is_active {
                bound.until = until;
                renewed += 1;
            }
        }
        renewed
    }

    /// Removes the sessions whose lease has ended and that have no activity. Returns how many there were.
    pub fn clean(&mut self, now: Instant) -> usize {
        let over = |(session, bound): &(&String, &Session)| {
            bound.until < now && !self.activities.contains_key(session.as_str())
        };
        let over: Vec<String> = self.bound.iter().filter(over).map(|(session, _)| session.clone()).collect();
        for session in &over {
            self.forget(session);
        }
        over.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(slot: &str, limit: &Arc<SessionLimit>) -> SessionFilter {
        let config = SessionFetchConfig { owner_id: slot.to_owned(), lock_timeout: Duration::from_secs(30) };
        SessionFilter { config, limit: Some(Arc::clone(limit)) }
    }

    #[test]
    fn the_slots_of_a_runtime_share_its_limit() {
        let (mut sessions, limit, now) = (Sessions::default(), Arc::new(SessionLimit::new(2)), Instant::now());
        sessions.bind("a", &filter("slot 1", &limit), now);
        assert!(sessions.has_room(&filter("slot 2", &limit), now));

        sessions.bind("b", &filter("slot 2", &limit), now);

        assert!(!sessions.has_room(&filter("slot 3", &limit), now));
        assert!(sessions.has_room(&filter("slot 4", &Arc::new(SessionLimit::new(1))), now));
    }

    #[test]
    fn an_idle_session_makes_room_and_a_busy_one_does_not() {
        let (mut sessions, limit, now) = (Sessions::default(), Arc::new(SessionLimit::new(1)), Instant::now());
        let slot = filter("slot", &limit);
        sessions.add_activity("a");
        sessions.bind("a", &slot, now);
        let later = now + IDLE_BEFORE_GIVEN_UP;
        assert!(!sessions.has_room(&slot, later));

        sessions.remove_activity("a");

        assert_eq!(sessions.next_room(), Some(later));
        assert!(sessions.has_room(&slot, later));
        sessions.bind("b", &slot, later);
        assert!(sessions.bound_until("a", later).is_none());
    }

    #[test]
    fn a_session_whose_lease_has_ended_does_not_count() {
        let (mut sessions, limit, now) = (Sessions::default(), Arc::new(SessionLimit::new(1)), Instant::now());
        let slot = filter("slot", &limit);
        sessions.add_activity("a");
        sessions.bind("a", &slot, now);

        assert!(sessions.has_room(&slot, now + Duration::from_secs(30)));
    }
}
