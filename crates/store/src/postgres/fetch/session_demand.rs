//! The slots that wait for activities of sessions, and the limits of their runtimes, as the server's function gets them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::clock::span_ms;
use crate::postgres::node::prefetch::QueueOwner;
use crate::session_limits::SessionLimit;

/// All lists count from 1.
#[derive(Default)]
pub struct SessionDemand {
    /// The slots of the runtimes, those that wait and those that are busy.
    pub slots: Vec<String>,
    /// The runtime of each slot.
    pub runtimes: Vec<i32>,
    /// The slots that wait, the first of them longest. A slot of a named node may stand here several times.
    pub waiting: Vec<i32>,
    /// How many sessions each runtime may own.
    pub most: Vec<i64>,
    pub lease_ms: i64,
    limits: Vec<Option<Arc<SessionLimit>>>,
}

impl SessionDemand {
    pub fn of(waiting: Vec<QueueOwner>) -> Self {
        let mut demand = Self::default();
        let mut places: HashMap<String, i32> = HashMap::new();
        for QueueOwner { id, lease, limit } in waiting {
            demand.lease_ms = demand.lease_ms.max(span_ms(lease));
            if !places.contains_key(&id) {
                let slots = limit.as_ref().map_or_else(|| vec![id.clone()], |limit| limit.owners());
                demand.add_runtime(limit, slots, &mut places);
            }
            demand.waiting.extend(places.get(&id));
        }
        demand
    }

    fn add_runtime(&mut self, limit: Option<Arc<SessionLimit>>, slots: Vec<String>, places: &mut HashMap<String, i32>) {
        self.most.push(limit.as_ref().and_then(|limit| i64::try_from(limit.most).ok()).unwrap_or(i64::MAX));
        self.limits.push(limit);
        let runtime = i32::try_from(self.most.len()).unwrap_or(i32::MAX);
        for slot in slots {
            self.slots.push(slot.clone());
            self.runtimes.push(runtime);
            places.insert(slot, i32::try_from(self.slots.len()).unwrap_or(i32::MAX));
        }
    }

    /// Notes that a session waits, since the runtime owns as many as it may.
    pub fn hold_back(&self, runtime: i64, session: String) {
        let place = usize::try_from(runtime - 1).unwrap_or(usize::MAX);
        if let Some(Some(limit)) = self.limits.get(place) {
            limit.hold_back([session]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::session_limits::SessionLimits;

    #[test]
    fn busy_slots_of_a_runtime_are_listed_beside_those_that_wait() {
        let (limits, limit) = (SessionLimits::default(), Arc::new(SessionLimit::new(3)));
        limits.apply(&limit, "busy");
        limits.apply(&limit, "waiting");
        let owner = |id: &str, limit| QueueOwner { id: id.to_owned(), lease: Duration::from_secs(1), limit };

        let demand = SessionDemand::of(vec![owner("waiting", Some(limit)), owner("alone", None)]);

        assert_eq!(demand.slots, ["busy", "waiting", "alone"]);
        assert_eq!(demand.runtimes, [1, 1, 2]);
        assert_eq!(demand.waiting, [2, 3]);
        assert_eq!(demand.most, [3, i64::MAX]);
    }
}
